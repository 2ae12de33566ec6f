import { type DeviceRecord, LOCKED, type Log } from '../core/ports.ts';
import { asideKey, checked, contentOf, described, metaKey, pairKey, range, type StoredName } from './record.ts';
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
  missing(name: string, standIn: StoredName): void {
    this.count++;
    this.#log.error({ record: 'name', name }, `a record is missing: ${outcomeOf(standIn)}`);
  }
}

/** What a stand-in means for whoever has the name, for the report. */
export function outcomeOf(standIn: StoredName): string {
  if (standIn.kind === 'user') return 'the name is locked';
  return standIn.secret === undefined
    ? 'the device may come as before'
    : 'the device is locked until it gets a new secret, and its pairing code is lost';
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

/** Stands in for a device that had neither secret nor pairing code. */
const plainDevice = {
  kind: 'device',
  version: undefined,
  abilities: undefined,
  createdAt: 0,
  lastSeenAt: 0,
} as const satisfies DeviceRecord;

/** Stands in for a device that may have had a secret or a code: nobody comes as it, and nobody adds it. */
const lockedDevice = { ...plainDevice, secret: LOCKED, code: LOCKED } as const satisfies DeviceRecord;

/**
 * What takes the place of a name's record that is damaged or lost. Only a device has users that added it: it may come as
 * before if no device ever had a secret here, and is locked otherwise. Any other name is locked until an operator decides.
 */
export async function standInFor(
  db: LevelDb,
  name: string,
  hasNoSecrets: (db: LevelDb) => Promise<boolean> = noSecretsIn,
): Promise<StoredName> {
  for (const [key, value] of await db.iterator(range(pairKey('r', name, ''))).all()) {
    if (contentOf(key, value) !== undefined) return (await hasNoSecrets(db)) ? plainDevice : lockedDevice;
  }
  return lockedName;
}

/** What notes that no device ever had a secret or a code. */
export const noSecretsNote = {
  type: 'put',
  key: metaKey.noSecrets,
  value: checked(metaKey.noSecrets, new Uint8Array(0)),
} as const satisfies Operation;

/** Whether the store notes that it never held a secret or a code. Where the note is lost, it may have. */
async function noSecretsIn(db: LevelDb): Promise<boolean> {
  const value = await db.get(metaKey.noSecrets);
  return value !== undefined && contentOf(metaKey.noSecrets, value) !== undefined;
}
