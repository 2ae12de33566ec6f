import { serverLimits } from '@hawser/protocol';

/** The limits against abuse; what an operator set differently is in place of the default. */
export type AbuseLimits = { readonly [Name in AbuseLimitName]: number };

const names = [
  'connectionsMax',
  'connectionsPerAddressMax',
  'handshakesPerAddressPerSecondMax',
  'connectionsPerSecondMax',
  'beforeLoginPerAddressMax',
  'beforeLoginMax',
  'bucketsMax',
  'loginFailuresPerAddressPerHourMax',
  'registrationsPerAddressPerHourMax',
  'registrationsPerHourMax',
  'newNamesPerAddressPerMinuteMax',
  'sessionFramesPerSecondMax',
  'sessionBytesPerSecondMax',
  'dispatchesPerAddressPerSecondMax',
  'dispatchesPerSecondMax',
] as const satisfies readonly (keyof typeof serverLimits)[];

type AbuseLimitName = (typeof names)[number];

const defaults = Object.fromEntries(names.map((name) => [name, serverLimits[name]])) as AbuseLimits;

export function abuseLimits(set: Partial<AbuseLimits> = {}): AbuseLimits {
  return { ...defaults, ...set };
}
