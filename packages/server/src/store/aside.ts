import type { DeviceRecord, Log } from '../core/ports.ts';
import { asideKey, contentOf, described, pairKey, range, type StoredName } from './record.ts';
import type { LevelDb, Operation } from './writer.ts';

/** Reports damaged records. They are kept, under a key of their own, for whoever wants to look into them. */
export class Aside {
  readonly #log: Log;
  /** Records set aside since start. */
  count = 0;

  constructor(log: Log) {
    this.#log = log;
  }

  /** What keeps a damaged record; the caller deletes or replaces it in the same batch. `outcome` ends the report. */
  keep(key: Uint8Array, value: Uint8Array, outcome: string): Operation {
    this.count++;
    const { record, name } = described(key);
    this.#log.error({ record, name, bytes: value.length }, `a damaged record was set aside: ${outcome}`);
    return { type: 'put', key: asideKey(key), value };
  }

  /** The record of a name is not there, though there are bindings or messages of it. */
  missing(name: string, kind: string): void {
    this.count++;
    const outcome = kind === 'device' ? 'the device may come as before' : 'the name is locked';
    this.#log.error({ record: 'name', name }, `a record is missing: ${outcome}`);
  }
}

/** A hash in the form of all others, at their cost, of which nobody knows a password. */
const NOBODYS_HASH = `$argon2id$v=19$m=19456,t=2,p=1$${'A'.repeat(22)}$${'A'.repeat(43)}`;

/** Stands in for a user, or for a name of which the kind is lost: taken, and closed to everybody. */
export const lockedName = {
  kind: 'user',
  passwordHash: NOBODYS_HASH,
  createdAt: 0,
  locked: true,
} as const satisfies StoredName;

/** Stands in for a device, or begins one. */
export const newDevice = {
  kind: 'device',
  version: undefined,
  abilities: undefined,
  createdAt: 0,
  lastSeenAt: 0,
} as const satisfies DeviceRecord;

/**
 * What takes the place of a name's record that is damaged or lost. Only a device has users that added it, and a device
 * has no secret that could be lost: it may come as before. Any other name is locked until an operator decides.
 */
export async function standInFor(db: LevelDb, name: string): Promise<StoredName> {
  for (const [key, value] of await db.iterator(range(pairKey('r', name, ''))).all()) {
    if (contentOf(key, value) !== undefined) return newDevice;
  }
  return lockedName;
}
