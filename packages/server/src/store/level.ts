import { randomInt } from 'node:crypto';
import { decodeText, encodeText, serverLimits } from '@hawser/protocol';
import { ClassicLevel } from 'classic-level';
import type { DeviceRecord, Entry, Log, NewMessage, Page, Provision, Store, StoredMessage } from '../core/ports.ts';
import { Aside, noSecretsNote } from './aside.ts';
import { type BackupSeal, backUp, type OnProgress } from './backup.ts';
import { defaultInboxLimits, type InboxLimits } from './inbox.ts';
import { Inboxes, type Removal } from './inboxes.ts';
import { migrate } from './migrations.ts';
import { Names } from './names.ts';
import { Owners } from './owners.ts';
import { checked, contentOf, described, metaKey, positionOf, range, SCHEMA, type StoredName, space } from './record.ts';
import { SegmentReader } from './segment.ts';
import type { DamagedRecord, ServedStore } from './served.ts';
import { StoreUnusable, whyFailed } from './unusable.ts';
import { type LevelDb, type Operation, Writer } from './writer.ts';

/** Positions are leased on disk in blocks of this many, so that a restart never gives one out again. */
const POSITIONS_LEASED = 1_000_000;
/** Files that LevelDB may keep open: the rest of the descriptors are for connections. */
const OPEN_FILES_MAX = 120;
/**
 * LevelDB has two in memory. With 4 MiB it sorted and wrote a steady megabyte a second of single messages 2.4 times, for 60 ms
 * of CPU; with 16 it is 38.
 */
const WRITE_BUFFER_BYTES = 16 * 1024 * 1024;

const DAMAGED_AT_ONCE = 1_000;

export interface LevelStoreOptions {
  readonly folder: string;
  readonly log: Log;
  /** Told of failed writes that nobody waits for. */
  readonly onError: (error: unknown) => void;
  readonly limits?: InboxLimits;
  readonly inboxesKnownBytesMax?: number;
  readonly ownersLookupsMax?: number;
  readonly positionsLeased?: number;
}

/** The embedded store: LevelDB, synced before anything is acked. */
export class LevelStore implements ServedStore {
  readonly #db: LevelDb;
  readonly #writer: Writer;
  readonly #owners: Owners;
  readonly #names: Names;
  readonly #inboxes: Inboxes;
  readonly #aside: Aside;
  readonly #log: Log;
  readonly #positionsLeased: number;
  #damagedBefore = 0;
  #position = 0;
  #leasedTo = 0;
  #ranBefore = 0;

  private constructor(db: LevelDb, options: LevelStoreOptions) {
    this.#db = db;
    this.#positionsLeased = options.positionsLeased ?? POSITIONS_LEASED;
    this.#writer = new Writer(db, options.onError);
    this.#log = options.log;
    this.#aside = new Aside(options.log);
    this.#owners = new Owners(db, this.#writer, options.log, options.ownersLookupsMax);
    this.#names = new Names(db, this.#writer, this.#aside, this.#owners);
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
      throw new StoreUnusable(whyFailed(error, options.folder), { cause: error });
    }
    const store = new LevelStore(db, options);
    try {
      await store.#start(options.folder);
    } catch (error) {
      await db.close();
      if (error instanceof StoreUnusable) throw error;
      throw new StoreUnusable(whyFailed(error, options.folder), { cause: error });
    }
    return store;
  }

  async #start(folder: string): Promise<void> {
    const value = await this.#db.get(metaKey.schema);
    const schema = value && (decodeText(value) ?? '?');
    if (schema !== undefined) await migrate(schema, { db: this.#db, folder, log: this.#log });
    else if ((await this.#db.keys({ limit: 1 }).all()).length > 0) {
      throw new StoreUnusable(`${folder} is damaged, or no store: it has records, but does not say their format`);
    }
    this.#damagedBefore = (await this.#db.keys(range(encodeText(space.damaged))).all()).length;
    const isNew = schema === undefined;
    const [position, ran] = [await this.#note(metaKey.positionLease, isNew), await this.#note(metaKey.ran, isNew)];
    const isWhole = position !== 'damaged' && ran !== 'damaged';
    const found = isWhole ? undefined : await this.#lastUsed();
    this.#position = position === 'damaged' ? found!.position + this.#positionsLeased : position;
    this.#ranBefore = ran === 'damaged' ? found!.ran : ran;
    this.#leasedTo = this.#position + this.#positionsLeased;
    await this.#writer.write([
      { type: 'put', key: metaKey.schema, value: encodeText(String(SCHEMA)) },
      this.#leaseOperation(),
      noteOperation(metaKey.ran, this.#ranBefore),
      ...(isNew ? [noSecretsNote] : []),
    ]);
  }

  /** A number that the store noted; 0 in a new one. Its key may be damaged as well: then it is not there. */
  async #note(key: Uint8Array, isNew: boolean): Promise<number | 'damaged'> {
    const value = await this.#db.get(key);
    if (value === undefined) return isNew ? 0 : 'damaged';
    const content = contentOf(key, value);
    if (content !== undefined) return Number(decodeText(content));
    await this.#writer.write([this.#aside.keep(key, value, 'it is taken anew from the messages')]);
    return 'damaged';
  }

  /** The last position and the time in service that any message has: what a damaged note cannot tell. */
  async #lastUsed(): Promise<{ position: number; ran: number }> {
    const last = { position: 0, ran: 0 };
    for (const kind of [space.segment, space.removed, space.damaged]) {
      for await (const [key, value] of this.#db.iterator(range(encodeText(kind)))) {
        const isOfInbox = kind !== space.damaged || described(key.subarray(1)).isOfInbox;
        // A position that cannot be is of a damaged key.
        if (isOfInbox && Number.isSafeInteger(positionOf(key)))
          last.position = Math.max(last.position, positionOf(key));
        const reader = kind === space.segment ? SegmentReader.open('', key, value) : undefined;
        while (reader?.next()) last.ran = Math.max(last.ran, reader.message().ran);
      }
    }
    return last;
  }

  /** Writes what is waiting, and closes. */
  async close(): Promise<void> {
    await this.#inboxes.settle();
    await this.#names.close();
    await this.#owners.stop();
    await this.#writer.flush();
    await this.#db.close();
  }

  /** How long the store had been in service when it was opened, ms. */
  get ranBefore(): number {
    return this.#ranBefore;
  }

  /** Notes how long the store has been in service by now; not synced. */
  noteRan(ms: number): void {
    this.#writer.writeLazily([noteOperation(metaKey.ran, Math.floor(ms))]);
  }

  /** Batches and records written since start, what is kept in memory, and how many damaged records are set aside. */
  get stats(): {
    batches: number;
    operations: number;
    inboxesCached: number;
    messagesCached: number;
    inboxesKnownBytes: number;
    inboxesAheadBytes: number;
    damaged: number;
  } {
    const { batches, operations } = this.#writer;
    const {
      inboxesCached,
      messagesCached,
      knownBytes: inboxesKnownBytes,
      aheadBytes: inboxesAheadBytes,
    } = this.#inboxes;
    const damaged = this.#damagedBefore + this.#inboxes.damaged + this.#aside.count;
    return { batches, operations, inboxesCached, messagesCached, inboxesKnownBytes, inboxesAheadBytes, damaged };
  }

  /** The process is running out of memory, or no longer. */
  set isMemoryShort(isShort: boolean) {
    this.#inboxes.isMemoryShort = isShort;
  }

  /** Damaged records that are set aside, in the order of their keys behind `after`. */
  async damaged(after: Uint8Array | undefined, count: number): Promise<DamagedRecord[]> {
    const { gte, lt } = range(encodeText(space.damaged));
    const entries = this.#db.iterator({ ...(after === undefined ? { gte } : { gt: after }), lt, limit: count });
    const records: DamagedRecord[] = [];
    for await (const [key, value] of entries) {
      const { record, name } = described(key.subarray(1));
      records.push({ key, record, name, bytes: value.length });
    }
    return records;
  }

  /** Deletes the damaged records that are set aside; returns how many. */
  async forgetDamaged(): Promise<number> {
    let forgotten = 0;
    for (;;) {
      const records = await this.damaged(undefined, DAMAGED_AT_ONCE);
      if (records.length === 0) break;
      await this.#writer.write(records.map(({ key }) => ({ type: 'del', key })));
      forgotten += records.length;
    }
    this.#damagedBefore = 0;
    this.#aside.count = 0;
    this.#inboxes.damaged = 0;
    return forgotten;
  }

  #nextPosition(operations: Operation[]): number {
    if (this.#position === this.#leasedTo) {
      this.#leasedTo += this.#positionsLeased;
      operations.push(this.#leaseOperation());
    }
    return ++this.#position;
  }

  #leaseOperation(): Operation {
    return noteOperation(metaKey.positionLease, this.#leasedTo);
  }

  /** Copies what is stored at this moment into a new folder; see `backup.ts`. */
  backUp(folder: string, wall: number, onProgress: OnProgress): Promise<BackupSeal> {
    return backUp(this.#db, folder, wall, onProgress);
  }

  // ---- names

  name(name: string): Promise<StoredName | undefined> {
    return this.#names.name(name);
  }

  names(names: readonly string[]): Promise<readonly (StoredName | undefined)[]> {
    return this.#names.names(names);
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
    entry?: Entry,
  ): ReturnType<Store['deviceSeen']> {
    return this.#names.deviceSeen(name, says, wall, entry);
  }

  bind(user: string, device: string, wall: number, code?: string): ReturnType<Store['bind']> {
    return this.#names.bind(user, device, wall, code);
  }

  provision(name: string, provision: Provision, wall: number, which: 'new' | 'known'): ReturnType<Store['provision']> {
    return this.#names.provision(name, provision, wall, which);
  }

  dropUnused(name: string, wallBefore: number, ranBefore: number): Promise<boolean> {
    return this.#names.dropUnused(name, wallBefore, ranBefore);
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

  list(kind: 'user' | 'device', after: string, count: number): ReturnType<Names['list']> {
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

function noteOperation(key: Uint8Array, value: number): Operation {
  return { type: 'put', key, value: checked(key, encodeText(String(value))) };
}
