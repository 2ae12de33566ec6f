import { randomInt } from 'node:crypto';
import { decodeText, encodeText, serverLimits } from '@hawser/protocol';
import { ClassicLevel } from 'classic-level';
import type { DeviceRecord, Log, NameRecord, NewMessage, Page, Store, StoredMessage } from '../core/ports.ts';
import { type BackupSeal, backUp, type OnProgress } from './backup.ts';
import { defaultInboxLimits, type InboxLimits } from './inbox.ts';
import { Inboxes, type Removal } from './inboxes.ts';
import { Names } from './names.ts';
import { metaKey, SCHEMA, UNFINISHED } from './record.ts';
import { StoreUnusable } from './unusable.ts';
import { type LevelDb, type Operation, Writer } from './writer.ts';

/** Positions are leased on disk in blocks of this many, so that a restart never gives one out again. */
const POSITIONS_LEASED = 1_000_000;
/** Files that LevelDB may keep open: the rest of the descriptors are for connections. */
const OPEN_FILES_MAX = 120;
const WRITE_BUFFER_BYTES = 16 * 1024 * 1024;

export interface LevelStoreOptions {
  readonly folder: string;
  readonly log: Log;
  /** Told of failed writes that nobody waits for. */
  readonly onError: (error: unknown) => void;
  readonly limits?: InboxLimits;
  readonly inboxesKnownBytesMax?: number;
  readonly positionsLeased?: number;
}

/** The embedded store: LevelDB, synced before anything is acked. */
export class LevelStore implements Store {
  readonly #db: LevelDb;
  readonly #writer: Writer;
  readonly #names: Names;
  readonly #inboxes: Inboxes;
  readonly #positionsLeased: number;
  #position = 0;
  #leasedTo = 0;
  #ranBefore = 0;

  private constructor(db: LevelDb, options: LevelStoreOptions) {
    this.#db = db;
    this.#positionsLeased = options.positionsLeased ?? POSITIONS_LEASED;
    this.#writer = new Writer(db, options.onError);
    this.#names = new Names(db, this.#writer);
    this.#inboxes = new Inboxes({
      db,
      writer: this.#writer,
      log: options.log,
      onError: options.onError,
      limits: options.limits ?? defaultInboxLimits,
      seed: randomInt(2 ** 32),
      nextPosition: (operations) => this.#nextPosition(operations),
      knownBytesMax: options.inboxesKnownBytesMax ?? serverLimits.inboxesKnownBytesMax,
    });
  }

  /** Opens the folder, making it when it is not there. Rejects with `StoreUnusable` when it cannot be used. */
  static async open(options: LevelStoreOptions): Promise<LevelStore> {
    const db: LevelDb = new ClassicLevel(options.folder, { keyEncoding: 'view', valueEncoding: 'view' });
    try {
      await db.open({ maxOpenFiles: OPEN_FILES_MAX, writeBufferSize: WRITE_BUFFER_BYTES });
    } catch (error) {
      throw new StoreUnusable(whyNotOpened(error, options.folder), { cause: error });
    }
    const store = new LevelStore(db, options);
    try {
      await store.#start(options.folder);
    } catch (error) {
      await db.close();
      throw error;
    }
    return store;
  }

  async #start(folder: string): Promise<void> {
    const schema = await this.#meta(metaKey.schema);
    if (schema === UNFINISHED) throw new StoreUnusable(`${folder}: a restore broke off: delete it and restore again`);
    if (schema !== undefined && schema !== SCHEMA) {
      throw new StoreUnusable(
        `${folder} was written by another version of Hawser (its format is ${schema}, this version's is ${SCHEMA})`,
      );
    }
    this.#position = Number((await this.#meta(metaKey.positionLease)) ?? 0);
    this.#ranBefore = Number((await this.#meta(metaKey.ran)) ?? 0);
    this.#leasedTo = this.#position + this.#positionsLeased;
    await this.#writer.write([{ type: 'put', key: metaKey.schema, value: encodeText(SCHEMA) }, this.#leaseOperation()]);
  }

  async #meta(key: Uint8Array): Promise<string | undefined> {
    const value = await this.#db.get(key);
    return value && decodeText(value);
  }

  /** Writes what is waiting, and closes. */
  async close(): Promise<void> {
    await this.#inboxes.settle();
    await this.#names.close();
    await this.#writer.flush();
    await this.#db.close();
  }

  /** How long the store had been in service when it was opened, ms. */
  get ranBefore(): number {
    return this.#ranBefore;
  }

  /** Notes how long the store has been in service by now; not synced. */
  noteRan(ms: number): void {
    this.#writer.writeLazily([{ type: 'put', key: metaKey.ran, value: encodeText(String(Math.floor(ms))) }]);
  }

  /** Batches and records written since start, and what is kept in memory. */
  get stats(): {
    batches: number;
    operations: number;
    inboxesCached: number;
    messagesCached: number;
    inboxesKnownBytes: number;
    damaged: number;
  } {
    const { batches, operations } = this.#writer;
    const { inboxesCached, messagesCached, knownBytes, damaged } = this.#inboxes;
    return { batches, operations, inboxesCached, messagesCached, inboxesKnownBytes: knownBytes, damaged };
  }

  /** The process is running out of memory, or no longer. */
  set isMemoryShort(isShort: boolean) {
    this.#inboxes.isMemoryShort = isShort;
  }

  #nextPosition(operations: Operation[]): number {
    if (this.#position === this.#leasedTo) {
      this.#leasedTo += this.#positionsLeased;
      operations.push(this.#leaseOperation());
    }
    return ++this.#position;
  }

  #leaseOperation(): Operation {
    return { type: 'put', key: metaKey.positionLease, value: encodeText(String(this.#leasedTo)) };
  }

  /** Copies what is stored at this moment into a new folder; see `backup.ts`. */
  backUp(folder: string, wall: number, onProgress: OnProgress): Promise<BackupSeal> {
    return backUp(this.#db, folder, wall, onProgress);
  }

  // ---- names

  name(name: string): Promise<NameRecord | undefined> {
    return this.#names.name(name);
  }

  createUser(name: string, passwordHash: string, wall: number): Promise<'created' | 'exists'> {
    return this.#names.createUser(name, passwordHash, wall);
  }

  setPassword(name: string, passwordHash: string): Promise<boolean> {
    return this.#names.setPassword(name, passwordHash);
  }

  deviceSeen(
    name: string,
    says: Pick<DeviceRecord, 'version' | 'abilities'>,
    wall: number,
  ): ReturnType<Store['deviceSeen']> {
    return this.#names.deviceSeen(name, says, wall);
  }

  bind(user: string, device: string, wall: number): ReturnType<Store['bind']> {
    return this.#names.bind(user, device, wall);
  }

  unbind(user: string, device: string): Promise<boolean> {
    return this.#names.unbind(user, device);
  }

  peers(name: string, kind: 'user' | 'device'): Promise<readonly string[]> {
    return this.#names.peers(name, kind);
  }

  async removeName(name: string): Promise<boolean> {
    const isRemoved = await this.#names.remove(name, () => this.#inboxes.dropAll(name));
    if (isRemoved) await this.#inboxes.forget(name);
    return isRemoved;
  }

  list(kind: 'user' | 'device', after: string, count: number): ReturnType<Store['list']> {
    return this.#names.list(kind, after, count);
  }

  // ---- inboxes

  append(messages: readonly NewMessage[]): Promise<readonly number[]> {
    return this.#inboxes.append(messages);
  }

  hasBacklog(receiver: string): Promise<boolean> {
    return this.#inboxes.hasBacklog(receiver);
  }

  page(receiver: string, after: number, count: number, bytes: number): Promise<Page> {
    return this.#inboxes.page(receiver, after, count, bytes);
  }

  read(receiver: string, positions: readonly number[]): Promise<readonly StoredMessage[]> {
    return this.#inboxes.read(receiver, positions);
  }

  remove(removal: Removal): void {
    this.#inboxes.remove(removal);
  }

  /** There is no other node. */
  whenRemoved(): Promise<void> {
    return Promise.resolve();
  }

  oldest(afterReceiver: string, count: number): Promise<readonly StoredMessage[]> {
    return this.#inboxes.oldest(afterReceiver, count);
  }
}

function whyNotOpened(error: unknown, folder: string): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
  if (code === 'LEVEL_LOCKED') return `${folder} is in use by another process`;
  if (code === 'LEVEL_CORRUPTION') return `${folder} is damaged: ${String(cause)}`;
  return `${folder} cannot be opened: ${cause instanceof Error ? cause.message : String(cause)}`;
}
