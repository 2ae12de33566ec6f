import { type ClosingName, closings, type RefusalName, refusals } from '@hawser/protocol';

/** The limits against abuse that count how often they were met; the metrics name them so. */
export const limitNames = [
  'connectionsPerAddress',
  'newConnectionsPerAddress',
  'newConnections',
  'beforeLoginPerAddress',
  'beforeLogin',
  'keyExchangesPerAddress',
  'loginsDelayed',
  'loginsRefused',
  'registrations',
  'newDevices',
  'bindingsDelayed',
  'sessionRate',
  'dispatches',
  'dispatcherConnections',
] as const;

export type LimitName = (typeof limitNames)[number];

/** What the server counts, as plain numbers: the hot path adds, the metrics endpoint reads. */
export class Counters {
  connectionsOpened = 0;
  registrations = 0;
  appLogins = 0;
  deviceLogins = 0;
  takeovers = 0;
  accepted = 0;
  joined = 0;
  /** In a cluster: to the node of their receiver. */
  forwarded = 0;
  pushed = 0;
  redelivered = 0;
  acked = 0;
  stored = 0;
  removed = 0;
  expiredByAge = 0;
  expiredByTtl = 0;
  /** Devices forgotten because they were of no use to anybody. */
  devicesExpired = 0;
  frames = 0;
  bytesReceived = 0;
  bytesSent = 0;
  readonly refused: Record<RefusalName, number> = zeros(refusals);
  readonly limited = Object.fromEntries(limitNames.map((name) => [name, 0])) as Record<LimitName, number>;
  readonly closed: Record<ClosingName | 'gone', number> = { ...zeros(closings), gone: 0 };
}

function zeros<Name extends string>(table: Record<Name, unknown>): Record<Name, number> {
  return Object.fromEntries(Object.keys(table).map((name) => [name, 0])) as Record<Name, number>;
}
