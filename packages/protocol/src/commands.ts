/** Who a connection is logged in as. */
export type Role = 'app' | 'device';

/** The numbers of the protocol. */
export const cmd = {
  heartbeat: 0,
  serverKey: 1,
  clientKey: 2,
  internalError: 3,
  login: 100,
  authenticate: 101,
  register: 102,
  conflict: 103,
  logout: 104,
  message: 200,
  push: 201,
  fetch: 202,
  addDevice: 203,
  removeDevice: 204,
  /** An extension: only a client that sends it gets it. */
  devices: 205,
} as const;

export type Cmd = (typeof cmd)[keyof typeof cmd];

/** From here upward a command needs a login. */
export const FIRST_CMD_AFTER_LOGIN = 200;

/** Commands whose frames are never encrypted, in either direction. */
export function isNeverEncrypted(number: number): boolean {
  return (
    number === cmd.serverKey || number === cmd.clientKey || number === cmd.internalError || number === cmd.conflict
  );
}
