import { randomInt } from 'node:crypto';
import { decodeText, encodeText, serverLimits } from '@hawser/protocol';
import { ClassicLevel } from 'classic-level';
import {
  APPEND,
  type DeviceRecord,
  type Log,
  type NameRecord,
  type NewMessage,
  type Page,
  type Store,
  type StoredMessage,
} from '../core/ports.ts';
import { Inbox, type InboxLimits } from './inbox.ts';
import { Locks } from './locks.ts';
import {
  decodeMessage,
  decodeName,
  encodeMessage,
  encodeName,
  inboxPrefix,
  messageKey,
  metaKey,
  nameKey,
  pairKey,
  range,
  receiverOf,
  SCHEMA,
  space,
} from './record.ts';
import { type LevelDb, type Operation, Writer } from './writer.ts';

/** Positions are leased on disk in blocks of this many, so that a restart never gives one out again. */
const POSITIONS_LEASED = 1_000_000;
/** Records read from LevelDB at once. */
const READ_AHEAD = 100;
const READ_AHEAD_BYTES = 256 * 1024;
/** Files that LevelDB may keep open: the rest of the descriptors are for connections. */
const OPEN_FILES_MAX = 120;
const WRITE_BUFFER_BYTES = 16 * 1024 * 1024;
/** What is kept in memory of inboxes that were written to: that many inboxes, that many messages in them. */
const INBOXES_CACHED_MAX = 50_000;
const MESSAGES_CACHED_MAX = 4_000_000;

/** The folder cannot be used; the message says why, for the operator. */
export class StoreUnusable extends Error {}

export interface LevelStoreOptions {
  readonly folder: string;
  readonly log: Log;
  /** Told of failed writes that nobody waits for. */
  readonly onError: (error: unknown) => void;
  readonly limits?: InboxLimits;
}

/** The embedded store: LevelDB, synced before anything is acked. */
export class LevelStore implements Store {
  readonly #db: LevelDb;
  readonly #log: Log;
  readonly #limits: InboxLimits;
  readonly #writer: Writer;
  readonly #locks = new Locks();
  readonly #seed = randomInt(2 ** 32);
  /** Inboxes that were touched, the least recently used first. */
  readonly #inboxes = new Map<string, Inbox>();
  #messagesCached = 0;
  /** Messages removed whose deletion is not written yet, by receiver. */
  readonly #removing = new Map<string, Removals>();
  /** Reads under way, each with what was removed from its inbox before and meanwhile. */
  readonly #readers = new Map<string, Set<Removals>>();
  #position = 0;
  #leasedTo = 0;
  #ranBefore = 0;
  /** Records that were set aside because their checksum was wrong. */
  damaged = 0;

  private constructor(db: LevelDb, options: LevelStoreOptions) {
    this.#db = db;
    this.#log = options.log;
    this.#limits = options.limits ?? defaultLimits;
    this.#writer = new Writer(db, options.onError);
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
    if (schema !== undefined && schema !== SCHEMA) {
      throw new StoreUnusable(
        `${folder} was written by another version of Hawser (its format is ${schema}, this version's is ${SCHEMA})`,
      );
    }
    this.#position = Number((await this.#meta(metaKey.positionLease)) ?? 0);
    this.#ranBefore = Number((await this.#meta(metaKey.ran)) ?? 0);
    this.#leasedTo = this.#position + POSITIONS_LEASED;
    await this.#writer.write([{ type: 'put', key: metaKey.schema, value: encodeText(SCHEMA) }, this.#leaseOperation()]);
  }

  async #meta(key: Uint8Array): Promise<string | undefined> {
    const value = await this.#db.get(key);
    return value && decodeText(value);
  }

  /** Writes what is waiting, and closes. */
  async close(): Promise<void> {
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
  get stats(): { batches: number; operations: number; inboxesCached: number; messagesCached: number } {
    const { batches, operations } = this.#writer;
    return { batches, operations, inboxesCached: this.#inboxes.size, messagesCached: this.#messagesCached };
  }

  // ---- names

  async name(name: string): Promise<NameRecord | undefined> {
    const value = await this.#db.get(nameKey(name));
    return value && decodeName(value);
  }

  #putName(name: string, record: NameRecord): Operation {
    return { type: 'put', key: nameKey(name), value: encodeName(record) };
  }

  createUser(name: string, passwordHash: string, wall: number): Promise<'created' | 'exists'> {
    return this.#locks.hold([name], async () => {
      if ((await this.name(name)) !== undefined) return 'exists';
      await this.#writer.write([this.#putName(name, { kind: 'user', passwordHash, createdAt: wall })]);
      return 'created';
    });
  }

  setPassword(name: string, passwordHash: string): Promise<boolean> {
    return this.#locks.hold([name], async () => {
      const record = await this.name(name);
      if (record?.kind !== 'user') return false;
      await this.#writer.write([this.#putName(name, { ...record, passwordHash })]);
      return true;
    });
  }

  deviceSeen(
    name: string,
    says: Pick<DeviceRecord, 'version' | 'abilities'>,
    wall: number,
  ): Promise<'ok' | 'is a user'> {
    return this.#locks.hold([name], async () => {
      const known = await this.name(name);
      if (known?.kind === 'user') return 'is a user';
      const { version, abilities } = says;
      const createdAt = known?.createdAt ?? wall;
      const seen = [this.#putName(name, { kind: 'device', version, abilities, createdAt, lastSeenAt: wall })];
      const isNews = known === undefined || known.version !== version || known.abilities !== abilities;
      // Only the time is new: that may be lost.
      if (isNews) await this.#writer.write(seen);
      else this.#writer.writeLazily(seen);
      return 'ok';
    });
  }

  bind(
    user: string,
    device: string,
    wall: number,
  ): Promise<'bound' | 'already' | 'is a user' | 'user full' | 'device full'> {
    return this.#locks.hold([user, device], async () => {
      const known = await this.name(device);
      if (known?.kind === 'user') return 'is a user';
      const [devices, users] = await Promise.all([this.#pairs('b', user), this.#pairs('r', device)]);
      if (devices.includes(device)) return 'already';
      if (devices.length >= serverLimits.devicesPerUserMax) return 'user full';
      if (users.length >= serverLimits.usersPerDeviceMax) return 'device full';
      const operations: Operation[] = [
        { type: 'put', key: pairKey('b', user, device), value: EMPTY },
        { type: 'put', key: pairKey('r', device, user), value: EMPTY },
      ];
      if (known === undefined) operations.push(this.#putName(device, { ...newDevice, createdAt: wall }));
      await this.#writer.write(operations);
      return 'bound';
    });
  }

  unbind(user: string, device: string): Promise<boolean> {
    return this.#locks.hold([user, device], async () => {
      if (!(await this.#db.has(pairKey('b', user, device)))) return false;
      await this.#writer.write([
        { type: 'del', key: pairKey('b', user, device) },
        { type: 'del', key: pairKey('r', device, user) },
      ]);
      return true;
    });
  }

  async peers(name: string): Promise<readonly string[]> {
    // A name is a user or a device, so one of the two is empty.
    const [devices, users] = await Promise.all([this.#pairs('b', name), this.#pairs('r', name)]);
    return devices.length > 0 ? devices : users;
  }

  async #pairs(kind: 'b' | 'r', first: string): Promise<string[]> {
    const prefix = pairKey(kind, first, '');
    const keys = await this.#db.keys(range(prefix)).all();
    return keys.map((key) => decodeText(key, prefix.length) ?? '');
  }

  removeName(name: string): Promise<boolean> {
    return this.#locks.hold([name], async () => {
      if ((await this.name(name)) === undefined) return false;
      const operations: Operation[] = [{ type: 'del', key: nameKey(name) }];
      for (const [kind, other] of [['b', 'r'] as const, ['r', 'b'] as const]) {
        for (const peer of await this.#pairs(kind, name)) {
          operations.push({ type: 'del', key: pairKey(kind, name, peer) });
          operations.push({ type: 'del', key: pairKey(other, peer, name) });
        }
      }
      for await (const key of this.#db.keys(range(inboxPrefix(name)))) operations.push({ type: 'del', key });
      this.#dropInbox(name);
      await this.#writer.write(operations);
      return true;
    });
  }

  async list(
    kind: 'user' | 'device',
    after: string,
    count: number,
  ): Promise<readonly (readonly [string, NameRecord])[]> {
    const found: [string, NameRecord][] = [];
    const { lt } = range(encodeText(space.name));
    for await (const [key, value] of this.#db.iterator({ gt: nameKey(after), lt })) {
      const record = decodeName(value);
      if (record.kind === kind) found.push([decodeText(key, 1) ?? '', record]);
      if (found.length === count) break;
    }
    return found;
  }

  // ---- inboxes

  async append(messages: readonly NewMessage[]): Promise<readonly number[]> {
    for (const receiver of new Set(messages.map((message) => message.to))) {
      if (!this.#inboxes.has(receiver)) await this.#loadInbox(receiver);
    }
    const operations: Operation[] = [];
    const results: number[] = [];
    for (const message of messages) {
      const result = this.#place(message, operations);
      results.push(typeof result === 'number' ? result : await result);
    }
    if (operations.length > 0) {
      if (this.#position > this.#leasedTo - POSITIONS_LEASED / 2) {
        this.#leasedTo = this.#position + POSITIONS_LEASED;
        operations.push(this.#leaseOperation());
      }
      await this.#writer.write(operations);
    }
    this.#evictInboxes();
    return results;
  }

  #leaseOperation(): Operation {
    return { type: 'put', key: metaKey.positionLease, value: encodeText(String(this.#leasedTo)) };
  }

  /** Gives the message its position and adds it to the operations, or says why not. */
  #place(message: NewMessage, operations: Operation[]): number | Promise<number> {
    const inbox = this.#touchInbox(message.to);
    const candidates = inbox.candidates(message);
    if (candidates.length > 0) {
      return this.#sameAsStored(message, candidates).then((same) => same ?? this.#put(message, inbox, operations));
    }
    return this.#put(message, inbox, operations);
  }

  #put(message: NewMessage, inbox: Inbox, operations: Operation[]): number {
    const bytes = message.msg?.length ?? 0;
    if (!inbox.hasRoom(message.from, bytes, this.#limits)) return APPEND.full;
    const position = ++this.#position;
    operations.push({ type: 'put', key: messageKey(message.to, position), value: encodeMessage(message) });
    inbox.add(message.from, message.msgId, bytes, position);
    this.#messagesCached++;
    return position;
  }

  /** Whether one of the stored messages has the sender's msgId; `undefined` when none has. */
  async #sameAsStored(message: NewMessage, positions: readonly number[]): Promise<number | undefined> {
    for (const stored of await this.read(message.to, positions)) {
      if (stored.from !== message.from || stored.msgId !== message.msgId) continue;
      const isSame = message.msg !== undefined && Buffer.compare(stored.msg, message.msg) === 0;
      return isSame ? APPEND.duplicate : APPEND.conflict;
    }
    return undefined;
  }

  async hasBacklog(receiver: string): Promise<boolean> {
    const inbox = this.#inboxes.get(receiver);
    if (inbox !== undefined) return inbox.messages > 0;
    return (await this.page(receiver, 0, 1, 1)).messages.length > 0;
  }

  page(receiver: string, after: number, count: number, bytes: number): Promise<Page> {
    return this.#reading(receiver, async (removed) => {
      const messages: StoredMessage[] = [];
      let left = bytes;
      const { lt } = range(inboxPrefix(receiver));
      const limit = count + removed.size + READ_AHEAD;
      const iterator = this.#db.iterator({
        gt: messageKey(receiver, after),
        lt,
        limit,
        highWaterMarkBytes: READ_AHEAD_BYTES,
      });
      let seen = 0;
      try {
        for (;;) {
          const entries = await iterator.nextv(Math.min(READ_AHEAD, count - messages.length + 1));
          if (entries.length === 0) return { messages, end: seen < limit };
          seen += entries.length;
          for (const [key, value] of entries) {
            if (messages.length === count || (left <= 0 && messages.length > 0)) return { messages, end: false };
            const message = this.#decode(key, value);
            if (message === undefined || removed.has(message.position)) continue;
            messages.push(message);
            left -= message.msg.length;
          }
        }
      } finally {
        await iterator.close();
      }
    });
  }

  read(receiver: string, positions: readonly number[]): Promise<readonly StoredMessage[]> {
    return this.#reading(receiver, async (removed) => {
      const keys = positions.map((position) => messageKey(receiver, position));
      const values = await this.#db.getMany(keys);
      const messages: StoredMessage[] = [];
      for (let i = 0; i < keys.length; i++) {
        const value = values[i];
        const message = value && this.#decode(keys[i]!, value);
        if (message && !removed.has(message.position)) messages.push(message);
      }
      return messages;
    });
  }

  remove(message: Removal): void {
    const { to, from, msgId, position, size } = message;
    const removing = this.#removing.get(to) ?? new Map<number, Removal>();
    if (removing.has(position)) return;
    const removal = { to, from, msgId, position, size };
    removing.set(position, removal);
    this.#removing.set(to, removing);
    for (const removed of this.#readers.get(to) ?? []) removed.set(position, removal);
    if (this.#inboxes.get(to)?.remove(from, msgId, size, position)) this.#messagesCached--;
    this.#writer.writeLazily([{ type: 'del', key: messageKey(to, position) }], () => {
      removing.delete(position);
      if (removing.size === 0 && this.#removing.get(to) === removing) this.#removing.delete(to);
    });
  }

  async oldest(afterReceiver: string, count: number): Promise<readonly StoredMessage[]> {
    const heads: StoredMessage[] = [];
    let after = afterReceiver === '' ? encodeText(space.message) : range(inboxPrefix(afterReceiver)).lt;
    const { lt } = range(encodeText(space.message));
    while (heads.length < count) {
      const [key] = await this.#db.keys({ gte: after, lt, limit: 1 }).all();
      if (key === undefined) break;
      const receiver = receiverOf(key);
      const { messages } = await this.page(receiver, 0, 1, 1);
      if (messages[0] !== undefined) heads.push(messages[0]);
      after = range(inboxPrefix(receiver)).lt;
    }
    return heads;
  }

  /** Reads an inbox, told of all that was removed from it before and meanwhile. */
  async #reading<Result>(receiver: string, read: (removed: Removals) => Promise<Result>): Promise<Result> {
    const removed: Removals = new Map(this.#removing.get(receiver));
    const readers = this.#readers.get(receiver) ?? new Set();
    readers.add(removed);
    this.#readers.set(receiver, readers);
    try {
      return await read(removed);
    } finally {
      readers.delete(removed);
      if (readers.size === 0) this.#readers.delete(receiver);
    }
  }

  /** A message as it was stored. A damaged record is set aside, reported, and never served. */
  #decode(key: Uint8Array, value: Uint8Array): StoredMessage | undefined {
    const message = decodeMessage(key, value);
    if (message !== undefined) return message;
    this.damaged++;
    this.#log.error({ receiver: receiverOf(key) }, 'a damaged record was set aside');
    const aside = new Uint8Array(key.length + 1);
    aside[0] = space.damaged.charCodeAt(0);
    aside.set(key, 1);
    this.#writer.writeLazily([
      { type: 'put', key: aside, value },
      { type: 'del', key },
    ]);
    return undefined;
  }

  // ---- what is known of inboxes

  #touchInbox(receiver: string): Inbox {
    const inbox = this.#inboxes.get(receiver) ?? new Inbox(this.#seed);
    this.#inboxes.delete(receiver);
    this.#inboxes.set(receiver, inbox);
    return inbox;
  }

  async #loadInbox(receiver: string): Promise<void> {
    const inbox = new Inbox(this.#seed);
    await this.#reading(receiver, async (removed) => {
      const iterator = this.#db.iterator({ ...range(inboxPrefix(receiver)), highWaterMarkBytes: READ_AHEAD_BYTES });
      try {
        for (;;) {
          const entries = await iterator.nextv(READ_AHEAD);
          if (entries.length === 0) break;
          for (const [key, value] of entries) {
            const message = this.#decode(key, value);
            if (message !== undefined) inbox.add(message.from, message.msgId, message.msg.length, message.position);
          }
        }
      } finally {
        await iterator.close();
      }
      // Removed before or while it was read: it may or may not have been seen.
      for (const gone of removed.values()) inbox.remove(gone.from, gone.msgId, gone.size, gone.position);
    });
    this.#messagesCached += inbox.messages;
    this.#inboxes.set(receiver, inbox);
  }

  #dropInbox(receiver: string): void {
    this.#messagesCached -= this.#inboxes.get(receiver)?.messages ?? 0;
    this.#inboxes.delete(receiver);
  }

  #evictInboxes(): void {
    for (const receiver of this.#inboxes.keys()) {
      if (this.#inboxes.size <= INBOXES_CACHED_MAX && this.#messagesCached <= MESSAGES_CACHED_MAX) return;
      this.#dropInbox(receiver);
    }
  }
}

type Removal = Parameters<Store['remove']>[0];
type Removals = Map<number, Removal>;

const EMPTY = new Uint8Array(0);

const newDevice = {
  kind: 'device',
  version: undefined,
  abilities: undefined,
  createdAt: 0,
  lastSeenAt: 0,
} as const satisfies DeviceRecord;

const defaultLimits: InboxLimits = {
  messagesMax: serverLimits.inboxMessagesMax,
  bytesMax: serverLimits.inboxBytesMax,
  senderShare: serverLimits.inboxSenderShare,
};

function whyNotOpened(error: unknown, folder: string): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
  if (code === 'LEVEL_LOCKED') return `${folder} is in use by another process`;
  if (code === 'LEVEL_CORRUPTION') return `${folder} is damaged: ${String(cause)}`;
  return `${folder} cannot be opened: ${cause instanceof Error ? cause.message : String(cause)}`;
}
