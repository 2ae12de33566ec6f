/** Copies of a whole store: a backup of one in use, and its way back into an empty data folder. */

import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import { decodeText, encodeText } from '@hawser/protocol';
import { ClassicLevel } from 'classic-level';
import { metaKey, SCHEMA, UNFINISHED } from './record.ts';
import { StoreUnusable } from './unusable.ts';
import type { LevelDb, Operation } from './writer.ts';

/** Where a backup says what it holds; written last, so that an unfinished one is known by its absence. */
const SEAL_KEY = encodeText('!backup');

/** What a backup holds. */
export interface BackupSeal {
  /** By the wall clock, ms. */
  readonly createdAt: number;
  readonly records: number;
  readonly bytes: number;
  /** CRC-32 over all keys and values in order. */
  readonly checksum: number;
}

/** Told now and then: bytes done, and about how many there are. */
export type OnProgress = (doneBytes: number, totalBytes: number) => void;

const RECORDS_AT_ONCE = 1_000;
const BYTES_AT_ONCE = 4 * 1024 * 1024;

/** Copies what `db` holds at this moment into a new folder. Writes that come meanwhile are not in it. */
export async function backUp(db: LevelDb, folder: string, wall: number, onProgress: OnProgress): Promise<BackupSeal> {
  if (existsSync(folder)) throw new StoreUnusable(`${folder} is there already: a backup goes into a new folder`);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const snapshot = db.snapshot();
  const target = await open(folder);
  try {
    const total = await db.approximateSize(FIRST_KEY, LAST_KEY);
    const copied = await copy(entriesOf(db, snapshot), target, (done) => {
      onProgress(done, Math.max(total, done));
    });
    const seal: BackupSeal = { createdAt: wall, ...copied };
    await target.batch([{ type: 'put', key: SEAL_KEY, value: encodeText(JSON.stringify(seal)) }], { sync: true });
    return seal;
  } finally {
    await snapshot.close();
    await target.close();
  }
}

/**
 * Copies a backup into the folder of a store, which must not be there yet, checking that it is whole. Of one that is
 * damaged nothing stays; where the copying was broken off no server opens what is there.
 */
export async function restore(backup: string, folder: string, onProgress: OnProgress): Promise<BackupSeal> {
  if (!existsSync(backup)) throw new StoreUnusable(`${backup} is not there`);
  if (existsSync(folder))
    throw new StoreUnusable(`${folder} is there already: a backup goes into an empty data folder`);
  const source = await open(backup, false);
  try {
    const sealText = await source.get(SEAL_KEY);
    if (sealText === undefined) throw new StoreUnusable(`${backup} is no backup, or one that was not finished`);
    const seal = JSON.parse(decodeText(sealText) ?? '') as BackupSeal;
    const target = await open(folder);
    let isWhole = false;
    try {
      await target.batch([{ type: 'put', key: metaKey.schema, value: encodeText(UNFINISHED) }], { sync: true });
      const copied = await copy(entriesOf(source), target, (done) => {
        onProgress(done, seal.bytes);
      });
      if (copied.records !== seal.records || copied.checksum !== seal.checksum) {
        throw new StoreUnusable(
          `${backup} is damaged: it has ${copied.records} records of ${seal.records}, checksum ${copied.checksum} for ${seal.checksum}`,
        );
      }
      await target.batch([{ type: 'put', key: metaKey.schema, value: encodeText(SCHEMA) }], { sync: true });
      isWhole = true;
    } finally {
      await target.close();
      if (!isWhole) rmSync(folder, { recursive: true, force: true });
    }
    return seal;
  } finally {
    await source.close();
  }
}

const FIRST_KEY = new Uint8Array([0]);
const LAST_KEY = new Uint8Array([0xff]);

async function open(folder: string, createIfMissing = true): Promise<LevelDb> {
  const db: LevelDb = new ClassicLevel(folder, { keyEncoding: 'view', valueEncoding: 'view' });
  try {
    await db.open({ createIfMissing });
  } catch (error) {
    throw new StoreUnusable(`${folder} cannot be opened: ${String((error as Error).cause ?? error)}`, { cause: error });
  }
  return db;
}

type Entries = ReturnType<typeof entriesOf>;

function entriesOf(db: LevelDb, snapshot?: ReturnType<LevelDb['snapshot']>) {
  return db.iterator<Uint8Array, Uint8Array>({ snapshot, highWaterMarkBytes: BYTES_AT_ONCE });
}

/** Copies all but the seal and the schema, the schema being what makes a folder a store. */
async function copy(
  entries: Entries,
  target: LevelDb,
  onProgress: (doneBytes: number) => void,
): Promise<Omit<BackupSeal, 'createdAt'>> {
  let records = 0;
  let bytes = 0;
  let checksum = 0;
  try {
    for (;;) {
      const next = await entries.nextv(RECORDS_AT_ONCE);
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
