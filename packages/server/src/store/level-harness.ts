/** A LevelStore in a folder of its own, for tests that look at what is on the disk. */

import { cp, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { ClassicLevel } from 'classic-level';
import type { Log } from '../core/ports.ts';
import type { Harness } from './contract-harness.ts';
import { LevelStore, type LevelStoreOptions } from './level.ts';
import type { LevelDb } from './writer.ts';

export interface LevelHarness extends Harness {
  readonly store: LevelStore;
  readonly folder: string;
  /** What was logged as an error. */
  readonly errors: object[];
  /** Closes the store, lets `change` work on what it wrote, and opens it again. */
  between(change: (db: LevelDb) => Promise<void>): Promise<void>;
}

/** Copies a store in use. Again, when LevelDB made or deleted a file meanwhile: then the copy fits no moment. */
async function copyFolder(from: string, to: string): Promise<void> {
  for (;;) {
    const before = await readdir(from);
    try {
      await cp(from, to, { recursive: true });
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
    }
    const after = await readdir(from);
    if (after.sort().join() === before.sort().join() && (await readdir(to)).sort().join() === after.join()) return;
    await rm(to, { recursive: true, force: true });
  }
}

export async function openFolder(options: Partial<LevelStoreOptions> = {}): Promise<LevelHarness> {
  const root = await mkdtemp(join(tmpdir(), 'hawser-store-'));
  const errors: object[] = [];
  const ignore = (): void => undefined;
  const log: Log = { debug: ignore, info: ignore, warn: ignore, error: (fields) => errors.push(fields) };
  const onError = (error: unknown): void => {
    errors.push({ error });
  };
  let lives = 0;
  let folder = join(root, '0');
  const open = (): Promise<LevelStore> => LevelStore.open({ log, onError, ...options, folder });
  let store = await open();
  return {
    get store() {
      return store;
    },
    get folder() {
      return folder;
    },
    errors,
    async reopen() {
      await store.close();
      store = await open();
    },
    async crash() {
      // What a dead process leaves behind is what it has handed to the operating system.
      const copy = join(root, String(++lives));
      await copyFolder(folder, copy);
      folder = copy;
      await store.close();
      store = await open();
    },
    async between(change) {
      await store.close();
      const db: LevelDb = new ClassicLevel(folder, { keyEncoding: 'view', valueEncoding: 'view' });
      await change(db);
      await db.close();
      store = await open();
    },
    async close() {
      await store.close();
      await rm(root, { recursive: true });
    },
  };
}

export async function harnessFor(t: TestContext, options?: Partial<LevelStoreOptions>): Promise<LevelHarness> {
  const harness = await openFolder(options);
  t.after(() => harness.close());
  return harness;
}

/** A raw store beside the adapter, closed after the test. */
export async function rawDb(t: TestContext): Promise<LevelDb> {
  const folder = await mkdtemp(join(tmpdir(), 'hawser-raw-'));
  const db: LevelDb = new ClassicLevel(folder, { keyEncoding: 'view', valueEncoding: 'view' });
  await db.open();
  t.after(async () => {
    await db.close();
    await rm(folder, { recursive: true });
  });
  return db;
}

export async function keysOf(db: LevelDb, kind: string): Promise<Uint8Array[]> {
  const keys = await db.keys().all();
  return keys.filter((key) => key[0] === kind.charCodeAt(0));
}

/** Turns one bit of a stored value. */
export async function flip(db: LevelDb, key: Uint8Array, at: number): Promise<void> {
  const value = Uint8Array.from((await db.get(key)) ?? []);
  value[at]! ^= 0x10;
  await db.put(key, value);
}
