/**
 * The answer codes of the wire protocol, and of the dispatcher. In a file of their own for browsers, which need the numbers
 * and not the tables of `codes.ts`.
 */
export const code = {
  ok: 100,
  exception: 200,
  notLoggedIn: 300,
  noServer: 1000,
  userExists: 1001,
  wrongCredentials: 1002,
  deviceAlreadyAdded: 2001,
  deviceNotAdded: 2002,
} as const;

export type Code = (typeof code)[keyof typeof code];
