/** Copies of a whole store: a backup of one in use, and its way back into an empty data folder. */

import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { crc32 } from 'node:zlib';
import { decodeText, encodeText } from '@hawser/protocol';
import { ClassicLevel } from 'classic-level';
import { metaKey, SCHEMA } from './record.ts';
import { StoreUnusable, whyFailed } from './unusable.ts';
import type { LevelDb, Operation } from './writer.ts';

/** Where a backup says what it holds; written last, so that an unfinished one is known by its absence. */
const SEAL_KEY = encodeText('!backup');

/** What a backup holds. */
export interface BackupSeal {
  /** By the wall clock, ms. */
  readonly createdAt: number;
  /** Version of the records; not set in the first one's. */
  readonly schema?: number;
  readonly records: number;
  readonly bytes: number;
  /** CRC-32 over all keys and values in order. */
  readonly checksum: number;
}

/** Told now and then: bytes done, and about how many there are. */
export type OnProgress = (doneBytes: number, totalBytes: number) => void;

const RECORDS_AT_ONCE = 1_000;
const BYTES_AT_ONCE = 4 * 1024 * 1024;

/**
 * Copies what `db` holds at this moment into a new folder. Writes that come meanwhile are not in it. Nothing stays of a
 * backup that fails.
 */
export async function backUp(db: LevelDb, folder: string, wall: number, onProgress: OnProgress): Promise<BackupSeal> {
  if (existsSync(folder)) throw new StoreUnusable(`${folder} is there already: a backup goes into a new folder`);
  const snapshot = db.snapshot();
  try {
    return await fill(folder, async (target) => {
      const total = await db.approximateSize(FIRST_KEY, LAST_KEY);
      const copied = await copy(db, snapshot, target, (done) => onProgress(done, Math.max(total, done)));
      const seal: BackupSeal = { createdAt: wall, schema: SCHEMA, ...copied };
      await target.batch([{ type: 'put', key: SEAL_KEY, value: encodeText(JSON.stringify(seal)) }], { sync: true });
      return seal;
    });
  } finally {
    await snapshot.close();
  }
}

/**
 * Copies a backup into the folder of a store, which must not be there yet, checking that it is whole. Nothing stays of
 * one that is damaged.
 */
export async function restore(backup: string, folder: string, onProgress: OnProgress): Promise<BackupSeal> {
  if (!existsSync(backup)) throw new StoreUnusable(`${backup} is not there`);
  if (!statSync(backup).isDirectory()) throw new StoreUnusable(`${backup} is no backup: it is not a folder`);
  if (existsSync(folder))
    throw new StoreUnusable(`${folder} is there already: a backup goes into an empty data folder`);
  const source = await openSource(backup);
  try {
    const seal = await readSeal(source, backup);
    return await fill(folder, async (target) => {
      const copied = await copy(source, undefined, target, (done) => onProgress(done, seal.bytes));
      if (copied.records !== seal.records || copied.checksum !== seal.checksum) {
        throw new StoreUnusable(
          `${backup} is damaged: ` +
            `it has ${copied.records} records of ${seal.records}, checksum ${copied.checksum} for ${seal.checksum}`,
        );
      }
      // Records of an older version are migrated when the store is opened.
      const schema = encodeText(String(seal.schema ?? FIRST_SCHEMA));
      await target.batch([{ type: 'put', key: metaKey.schema, value: schema }], { sync: true });
      return seal;
    });
  } finally {
    await source.close();
  }
}

/** Backups of the first version do not say which it is. */
const FIRST_SCHEMA = 1;

/** A backup that is no LevelDB folder is told apart from a damaged one: opening it must not leave files behind. */
async function openSource(backup: string): Promise<LevelDb> {
  if (!existsSync(join(backup, 'CURRENT'))) throw new StoreUnusable(notABackup(backup));
  return await open(backup, false);
}

async function readSeal(source: LevelDb, backup: string): Promise<BackupSeal> {
  const text = await reading(backup, source.get(SEAL_KEY));
  if (text === undefined) throw new StoreUnusable(notABackup(backup));
  let seal: BackupSeal;
  try {
    seal = JSON.parse(decodeText(text) ?? '') as BackupSeal;
  } catch (error) {
    throw new StoreUnusable(`${backup} is damaged: what it says of itself cannot be read`, { cause: error });
  }
  if ((seal.schema ?? FIRST_SCHEMA) <= SCHEMA) return seal;
  throw new StoreUnusable(
    `${backup} was made by a newer version of Hawser (its format is ${seal.schema}, this version's is ${SCHEMA}): run that`,
  );
}

function notABackup(backup: string): string {
  return `${backup} is no backup, or one that was not finished`;
}

/**
 * Makes a store in a new folder and fills it. It has its name only when it is whole: what is broken off lies beside it,
 * and what fails is deleted.
 */
async function fill(folder: string, work: (target: LevelDb) => Promise<BackupSeal>): Promise<BackupSeal> {
  const unfinished = `${folder}.unfinished`;
  if (existsSync(unfinished)) throw new StoreUnusable(`${unfinished} is left of one that was broken off: delete it`);
  try {
    mkdirSync(unfinished, { recursive: true, mode: 0o700 });
    const target = await open(unfinished);
    let seal: BackupSeal;
    try {
      seal = await work(target);
    } finally {
      await target.close();
    }
    renameSync(unfinished, folder);
    syncFolder(dirname(folder));
    return seal;
  } catch (error) {
    rmSync(unfinished, { recursive: true, force: true });
    if (error instanceof StoreUnusable) throw error;
    throw new StoreUnusable(whyFailed(error, folder), { cause: error });
  }
}

/** So that a name in it is still there after a power failure. */
function syncFolder(folder: string): void {
  const descriptor = openSync(folder, 'r');
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

async function reading<Result>(folder: string, read: Promise<Result>): Promise<Result> {
  try {
    return await read;
  } catch (error) {
    throw new StoreUnusable(whyFailed(error, folder), { cause: error });
  }
}

const FIRST_KEY = new Uint8Array([0]);
const LAST_KEY = new Uint8Array([0xff]);

async function open(folder: string, createIfMissing = true): Promise<LevelDb> {
  const db: LevelDb = new ClassicLevel(folder, { keyEncoding: 'view', valueEncoding: 'view' });
  try {
    await db.open({ createIfMissing });
  } catch (error) {
    throw new StoreUnusable(whyFailed(error, folder), { cause: error });
  }
  return db;
}

/** Copies all but the seal and the schema, the schema being what makes a folder a store. */
async function copy(
  source: LevelDb,
  snapshot: ReturnType<LevelDb['snapshot']> | undefined,
  target: LevelDb,
  onProgress: (doneBytes: number) => void,
): Promise<Pick<BackupSeal, 'records' | 'bytes' | 'checksum'>> {
  const entries = source.iterator<Uint8Array, Uint8Array>({ snapshot, highWaterMarkBytes: BYTES_AT_ONCE });
  let records = 0;
  let bytes = 0;
  let checksum = 0;
  try {
    for (;;) {
      const next = await reading(source.location, entries.nextv(RECORDS_AT_ONCE));
      if (next.length === 0) return { records, bytes, checksum };
      const operations: Operation[] = [];
      for (const [key, value] of next) {
        const isOwn = Buffer.compare(key, SEAL_KEY) === 0 || Buffer.compare(key, metaKey.schema) === 0;
        if (isOwn) continue;
        operations.push({ type: 'put', key, value });
        records++;
        bytes += key.length + value.length;
        checksum = crc32(value, crc32(key, checksum));
      }
      await target.batch(operations);
      onProgress(bytes);
    }
  } finally {
    await entries.close();
  }
}
