/**
 * Brings stores of older versions to the present one, when they are opened. Each migration leads from one version to
 * the next and walks the records it changes in batches. A batch holds the key it came to, so that after a crash the
 * migration goes on where it was: no record is changed twice, and none is left out.
 */

import { crc32 } from 'node:zlib';
import { decodeText, encodeText, isName } from '@hawser/protocol';
import type { Log, NameRecord } from '../core/ports.ts';
import { Aside, noSecretsNote, outcomeOf, standInFor } from './aside.ts';
import {
  checked,
  checksumOf,
  encodeName,
  isInboxKey,
  metaKey,
  pairKey,
  range,
  SCHEMA,
  type StoredName,
  space,
  textOf,
} from './record.ts';
import { StoreUnusable } from './unusable.ts';
import type { LevelDb, Operation } from './writer.ts';

export interface Migration {
  readonly from: number;
  readonly to: number;
  /** What is new, for the operator. */
  readonly brings: string;
  /** Kinds of records, by the first byte of their keys, in the order in which they are converted. */
  readonly kinds: readonly string[];
  /** What a record becomes. */
  convert(key: Uint8Array, value: Uint8Array, db: LevelDb, aside: Aside): Promise<readonly Operation[]>;
  /** What is written with the new version, at the end. */
  finish(db: LevelDb): Promise<readonly Operation[]>;
}

/** Version 2: each record has a checksum, over key and content. Version 1 had one for messages alone, without the key. */
const checksums: Migration = {
  from: 1,
  to: 2,
  brings: 'a checksum for every record, over its key too',
  // Bindings first: by them it is told what a name is whose record cannot be read.
  kinds: [space.binding, space.reverse, space.name, space.segment, space.removed],
  async convert(key, value, db, aside) {
    const kind = String.fromCharCode(key[0]!);
    if (kind === space.name) return convertName(key, value, db, aside);
    if (kind === space.segment || kind === space.removed) return convertOfInbox(key, value, aside);
    const [first = '', second = ''] = (textOf(key) ?? '').split('\0');
    const twin = pairKey(key[0] === space.binding.charCodeAt(0) ? 'r' : 'b', second, first);
    const isWhole = value.length === 0 && (await db.has(twin));
    if (isWhole) return [{ type: 'put', key, value: checked(key, value) }];
    return [aside.keep(key, value, 'the binding is lost'), { type: 'del', key }];
  },
  async finish(db) {
    const operations: Operation[] = [];
    for (const key of [metaKey.positionLease, metaKey.ran]) {
      const value = await db.get(key);
      if (value !== undefined) operations.push({ type: 'put', key, value: checked(key, value) });
    }
    return operations;
  },
};

async function convertName(key: Uint8Array, value: Uint8Array, db: LevelDb, aside: Aside): Promise<Operation[]> {
  const name = textOf(key);
  if (name === undefined || !isName(name)) {
    return [aside.keep(key, value, 'no name has this key'), { type: 'del', key }];
  }
  const record = nameOfVersion1(value);
  if (record !== undefined) return [{ type: 'put', key, value: encodeName(key, record) }];
  // No device had a secret then.
  const standIn: StoredName = await standInFor(db, name, () => Promise.resolve(true));
  return [aside.keep(key, value, outcomeOf(standIn)), { type: 'put', key, value: encodeName(key, standIn) }];
}

function nameOfVersion1(value: Uint8Array): NameRecord | undefined {
  try {
    const record = JSON.parse(decodeText(value) ?? '') as NameRecord;
    const isUser = record.kind === 'user' && typeof record.passwordHash === 'string';
    return isUser || record.kind === 'device' ? record : undefined;
  } catch {
    return undefined;
  }
}

/** A segment, or a note of what is gone of it. Only the checksum is new, and the format of a segment, which tells it. */
function convertOfInbox(key: Uint8Array, value: Uint8Array, aside: Aside): Operation[] {
  const isSegment = key[0] === space.segment.charCodeAt(0);
  const checksumAt = isSegment ? 1 : 0;
  const converted = value.slice();
  const content = converted.subarray(checksumAt + 4);
  const view = new DataView(converted.buffer);
  const isWhole =
    isInboxKey(key) &&
    value.length >= checksumAt + 4 &&
    (!isSegment || value[0] === 1) &&
    view.getUint32(checksumAt) === crc32(content);
  if (!isWhole) {
    const outcome = isSegment ? 'the messages are lost' : 'what was removed comes back';
    return [aside.keep(key, value, outcome), { type: 'del', key }];
  }
  if (isSegment) converted[0] = 2;
  view.setUint32(checksumAt, checksumOf(key, content));
  return [{ type: 'put', key, value: converted }];
}

/** Version 4: devices may have secrets and pairing codes, which older versions would not ask for. No record changes. */
const secrets: Migration = {
  from: 2,
  to: 4,
  brings: 'secrets and pairing codes of devices',
  kinds: [],
  convert: () => Promise.resolve([]),
  finish: () => Promise.resolve([noSecretsNote]),
};

/** In order, without a gap, up to the present version. */
export const migrations: readonly Migration[] = [checksums, secrets];

const RECORDS_AT_ONCE = 1_000;
/** Beyond this a batch takes no further record. */
const BYTES_AT_ONCE = 1024 * 1024;
const PROGRESS_EVERY_MS = 5_000;

export interface MigrateOptions {
  readonly db: LevelDb;
  readonly folder: string;
  readonly log: Log;
  readonly recordsAtOnce?: number;
}

/** Brings a store with this schema record to the present version. Rejects with `StoreUnusable` when that cannot be. */
export async function migrate(schema: string, options: MigrateOptions): Promise<void> {
  const [, from = '', to] = /^(\d+)(?:-(\d+))?$/.exec(schema) ?? [];
  if (from === '' || Number(to ?? from) > SCHEMA) throw new StoreUnusable(newerOrDamaged(options.folder, schema));
  for (let version = Number(from); version < SCHEMA; ) {
    const migration = migrations.find((each) => each.from === version);
    if (migration === undefined) throw new StoreUnusable(newerOrDamaged(options.folder, schema));
    await run(migration, version === Number(from) && to !== undefined, options);
    version = migration.to;
  }
}

function newerOrDamaged(folder: string, schema: string): string {
  return (
    `${folder} was written by another version of Hawser ` +
    `(its format is ${schema}, this version's is ${SCHEMA}): run that version, or a newer one`
  );
}

async function run(migration: Migration, isUnderWay: boolean, options: MigrateOptions): Promise<void> {
  const { db, folder, log } = options;
  const { to } = migration;
  const fields = { folder, from: migration.from, to, brings: migration.brings };
  if (isUnderWay) log.info(fields, 'the migration of the store goes on where it was broken off');
  else {
    log.warn(
      fields,
      'the store is migrated: an older version of Hawser can use a backup made before, but no longer this',
    );
    await db.batch([put(metaKey.schema, `${migration.from}-${to}`)], { sync: true });
  }
  const records = await convertAll(migration, options);
  const last = await migration.finish(db);
  await db.batch([...last, put(metaKey.schema, String(to)), { type: 'del', key: metaKey.migrated }], { sync: true });
  log.info({ ...fields, records }, 'the store is migrated');
}

/** Returns how many records were converted. */
async function convertAll(migration: Migration, options: MigrateOptions): Promise<number> {
  const { db, log, recordsAtOnce = RECORDS_AT_ONCE } = options;
  const aside = new Aside(log);
  const done = await db.get(metaKey.migrated);
  const kinds = migration.kinds.slice(done === undefined ? 0 : migration.kinds.indexOf(String.fromCharCode(done[0]!)));
  let records = 0;
  let saidAt = performance.now();
  for (const kind of kinds) {
    const { gte, lt } = range(encodeText(kind));
    const from = done !== undefined && String.fromCharCode(done[0]!) === kind ? { gt: done } : { gte };
    const entries = db.iterator<Uint8Array, Uint8Array>({ ...from, lt, highWaterMarkBytes: BYTES_AT_ONCE });
    try {
      for (;;) {
        const next = await entries.nextv(recordsAtOnce);
        const last = next.at(-1);
        if (last === undefined) break;
        const operations: Operation[] = [{ type: 'put', key: metaKey.migrated, value: last[0] }];
        for (const [key, value] of next) operations.push(...(await migration.convert(key, value, db, aside)));
        // Not synced: what is lost is done again, and the end is synced.
        await db.batch(operations);
        records += next.length;
        if (performance.now() - saidAt < PROGRESS_EVERY_MS) continue;
        saidAt = performance.now();
        log.info({ records }, 'records migrated so far');
      }
    } finally {
      await entries.close();
    }
  }
  return records;
}

function put(key: Uint8Array, text: string): Operation {
  return { type: 'put', key, value: encodeText(text) };
}
