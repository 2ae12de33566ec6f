import { addedDevice, isNews, provisionedDevice, seenDevice } from '@hawser/server/core/device-record';
import {
  APPEND,
  type DeviceRecord,
  type Entry,
  type NameRecord,
  type NewMessage,
  type Page,
  type Provision,
  type Store,
  StoreAway,
  type StoredMessage,
} from '@hawser/server/core/ports';
import type { Checker } from './checker.ts';
import type { Change } from './contents.ts';
import { type Disk, DiskError } from './disk.ts';
import type { Process } from './process.ts';
import type { Random } from './random.ts';
import type { Scheduler } from './scheduler.ts';
import type { Trace } from './trace.ts';

/** Removals wait this long for a write to take them along. */
const LAZY_MS = 20;
const POSITIONS_SKIPPED = 1000;
const EMPTY = new Uint8Array(0);

export interface StoreLimits {
  readonly messagesMax: number;
  readonly bytesMax: number;
  readonly senderShare: number;
}

export interface SimStorePorts {
  readonly disk: Disk;
  readonly scheduler: Scheduler;
  readonly random: Random;
  readonly checker: Checker;
  readonly trace: Trace;
  readonly limits: StoreLimits;
  /** The run of the server that it belongs to. */
  readonly process: Process;
}

interface Write {
  /** What to write, by what is stored when its turn has come. */
  readonly prepare: () => readonly Change[];
  readonly done: () => void;
  readonly failed: (error: Error) => void;
}

/** The store as one run of the server sees it: one write at a time, each synced before it resolves. */
export class SimStore implements Store {
  readonly #disk: Disk;
  readonly #scheduler: Scheduler;
  readonly #random: Random;
  readonly #checker: Checker;
  readonly #trace: Trace;
  readonly #limits: StoreLimits;
  readonly #process: Process;
  readonly #writes: Write[] = [];
  #isWriting = false;
  #isAppending = false;
  /** A write has failed, and so will all others. */
  #isBroken = false;
  /** Removals that are not written yet. */
  #lazy: Change[] = [];
  /** Told once that a write has failed: the server must end. */
  onBroken: () => void = () => {};
  /** A deliberate bug: what is written is not synced. */
  neverSyncs = false;

  constructor(ports: SimStorePorts) {
    this.#disk = ports.disk;
    this.#scheduler = ports.scheduler;
    this.#random = ports.random;
    this.#checker = ports.checker;
    this.#trace = ports.trace;
    this.#limits = ports.limits;
    this.#process = ports.process;
    // As with positions leased in blocks: none is given out twice.
    this.#disk.position += POSITIONS_SKIPPED;
  }

  /** A clean end: what waits is written and synced. */
  close(): void {
    this.#flushLazy();
    this.#disk.sync();
  }

  // ---- writing

  #write(prepare: () => readonly Change[]): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#writes.push({ prepare, done: resolve, failed: reject });
      this.#next();
    });
  }

  #later(ms: number, call: () => void): void {
    this.#process.after(ms, call);
  }

  #next(): void {
    const write = this.#writes[0];
    if (this.#isWriting || write === undefined) return;
    this.#isWriting = true;
    this.#later(this.#disk.writeMs(), () => this.#put(write));
  }

  #put(write: Write): void {
    const { trouble } = this.#disk;
    if (trouble === 'away') {
      this.#settle(write, new StoreAway('the store is away'));
      return;
    }
    const changes = write.prepare();
    if (trouble === 'failing' || trouble === 'full' || this.#isBroken) {
      // A write that failed may lie on the disk all the same; no other will, as with LevelDB.
      if (trouble === 'failing' && !this.#isBroken && this.#random.chance(0.5)) this.#disk.write(changes);
      if (!this.#isBroken) this.onBroken();
      this.#isBroken = true;
      this.#settle(write, new DiskError(trouble === 'full' ? 'ENOSPC' : 'EIO'));
      return;
    }
    this.#flushLazy();
    if (changes.length > 0) this.#disk.write(changes);
    if (this.neverSyncs) {
      this.#finish(write, changes);
      return;
    }
    this.#later(changes.length === 0 ? 0 : this.#disk.syncMs(), () => {
      this.#disk.sync();
      this.#finish(write, changes);
    });
  }

  #finish(write: Write, changes: readonly Change[]): void {
    for (const change of changes) this.#disk.seen.apply(change);
    // From the thread that synced to the one that waits.
    this.#later(this.#random.magnitude(0.01, 2), () => this.#settle(write, undefined));
  }

  #settle(write: Write, error: Error | undefined): void {
    this.#writes.shift();
    this.#isWriting = false;
    this.#scheduler.settled = true;
    if (error === undefined) write.done();
    else write.failed(error);
    this.#next();
  }

  #flushLazy(): void {
    if (this.#lazy.length > 0) this.#disk.write(this.#lazy);
    this.#lazy = [];
  }

  #writeLazily(change: Change): void {
    if (this.#lazy.push(change) === 1) this.#later(LAZY_MS, () => this.#flushLazy());
  }

  // ---- reading

  /** What is read is true at some moment between the call and the answer. */
  #read<Result>(read: () => Result): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.#later(this.#disk.readMs(), () => {
        if (this.#disk.trouble === 'away') {
          this.#scheduler.settled = true;
          reject(new StoreAway('the store is away'));
          return;
        }
        const result = read();
        this.#later(this.#random.chance(0.5) ? 0 : this.#disk.readMs(), () => {
          this.#scheduler.settled = true;
          resolve(result);
        });
      });
    });
  }

  // ---- names

  name(name: string): Promise<NameRecord | undefined> {
    return this.#read(() => this.#disk.seen.names.get(name));
  }

  names(names: readonly string[]): Promise<readonly (NameRecord | undefined)[]> {
    return this.#read(() => names.map((name) => this.#disk.seen.names.get(name)));
  }

  async createUser(name: string, passwordHash: string, wall: number): Promise<'created' | 'exists'> {
    let exists = false;
    await this.#write(() => {
      exists = this.#disk.seen.names.has(name);
      return exists ? [] : [{ type: 'name', name, record: { kind: 'user', passwordHash, createdAt: wall } }];
    });
    return exists ? 'exists' : 'created';
  }

  async setPassword(name: string, passwordHash: string): Promise<boolean> {
    let isUser = false;
    await this.#write(() => {
      const record = this.#disk.seen.names.get(name);
      isUser = record?.kind === 'user';
      return record?.kind === 'user' ? [{ type: 'name', name, record: { ...record, passwordHash } }] : [];
    });
    return isUser;
  }

  async deviceSeen(
    name: string,
    says: Pick<DeviceRecord, 'version' | 'abilities'>,
    wall: number,
    entry?: Entry,
  ): ReturnType<Store['deviceSeen']> {
    let result: Awaited<ReturnType<Store['deviceSeen']>> = 'known';
    await this.#write(() => {
      const known = this.#disk.seen.names.get(name);
      const record = seenDevice(known, says, wall, entry);
      if (typeof record === 'string') {
        result = record;
        return [];
      }
      if (known === undefined) result = 'new';
      if (isNews(known, record)) return [{ type: 'name', name, record }];
      this.#writeLazily({ type: 'name', name, record });
      return [];
    });
    return result;
  }

  async provision(
    name: string,
    provision: Provision,
    wall: number,
    which: 'new' | 'known',
  ): ReturnType<Store['provision']> {
    let result: Awaited<ReturnType<Store['provision']>> = 'done';
    await this.#write(() => {
      const record = provisionedDevice(this.#disk.seen.names.get(name), provision, wall, which);
      if (typeof record !== 'string') return [{ type: 'name', name, record }];
      result = record;
      return [];
    });
    return result;
  }

  async bind(user: string, device: string, wall: number, code?: string): ReturnType<Store['bind']> {
    let result: 'bound' | 'already' | 'is a user' | 'changed' = 'bound';
    this.#disk.beginChange(user, device);
    try {
      await this.#write(() => {
        const known = this.#disk.seen.names.get(device);
        if (known?.kind === 'user') result = 'is a user';
        else if (this.#disk.seen.areBound(user, device)) result = 'already';
        else if (known?.code !== code) result = 'changed';
        if (result !== 'bound') return [];
        const changes: Change[] = [{ type: 'bind', user, device }];
        if (known === undefined) changes.push({ type: 'name', name: device, record: addedDevice(wall) });
        return changes;
      });
    } finally {
      this.#disk.endChange(user, device, this.#scheduler.now);
    }
    this.#trace.note('binding', -1, -1, `${result} ${user} ${device}`);
    return result;
  }

  async unbind(user: string, device: string): Promise<boolean> {
    let wasBound = false;
    this.#disk.beginChange(user, device);
    try {
      await this.#write(() => {
        wasBound = this.#disk.seen.areBound(user, device);
        return wasBound ? [{ type: 'unbind', user, device }] : [];
      });
    } finally {
      this.#disk.endChange(user, device, this.#scheduler.now);
    }
    this.#trace.note('binding', -1, -1, `${wasBound ? 'removed' : 'not there'} ${user} ${device}`);
    return wasBound;
  }

  peers(name: string): Promise<readonly string[]> {
    return this.#read(() => {
      this.#trace.note('binding', -1, -1, `read ${name}`);
      return [...(this.#disk.seen.peers.get(name) ?? [])];
    });
  }

  async dropUnused(): Promise<boolean> {
    throw new Error('no simulated name is forgotten yet');
  }

  async removeName(): Promise<boolean> {
    throw new Error('no simulated operator removes names yet');
  }

  list(): Promise<readonly (readonly [string, NameRecord])[]> {
    return this.#read(() => []);
  }

  // ---- messages

  append(messages: readonly NewMessage[]): Promise<readonly number[]> {
    if (this.#isAppending) this.#checker.misused('append was called while another was under way');
    this.#isAppending = true;
    this.#trace.note('append', messages.length);
    let results: number[] = [];
    return this.#write(() => {
      const batch = new Batch();
      results = messages.map((message) => this.#place(message, batch));
      return batch.changes;
    }).then(
      () => {
        this.#isAppending = false;
        return results;
      },
      (error: unknown) => {
        this.#isAppending = false;
        for (const message of messages) this.#checker.notStored(message, 'failed', String(error));
        throw error;
      },
    );
  }

  #place(message: NewMessage, batch: Batch): number {
    const msg = message.msg;
    if (msg === undefined) this.#checker.misused('a message was to be stored without its content');
    const same = this.#disk.seen.find(message) ?? batch.find(message);
    if (same !== undefined) {
      this.#checker.foundStored(message);
      return Buffer.compare(same.msg, msg ?? EMPTY) === 0 ? APPEND.duplicate : APPEND.conflict;
    }
    if (!this.#hasRoom(message, batch)) {
      this.#checker.notStored(message, 'full');
      return APPEND.full;
    }
    const position = ++this.#disk.position;
    const { from, to, msgId, wall, ran, ttl } = message;
    batch.add({ from, to, msgId, msg: msg ?? EMPTY, wall, ran, ttl, position });
    return position;
  }

  #hasRoom(message: NewMessage, batch: Batch): boolean {
    const { messagesMax, bytesMax, senderShare } = this.#limits;
    const inbox = this.#disk.seen.inboxes.get(message.to);
    const messages = (inbox?.messages.size ?? 0) + batch.messagesTo(message.to);
    if (messages === 0) return true;
    const bytes = (inbox?.bytes ?? 0) + batch.bytesTo(message.to) + (message.msg?.length ?? 0);
    if (messages >= messagesMax || bytes > bytesMax) return false;
    // A share cannot be full when the whole holds less than that.
    if (messages < messagesMax / senderShare) return true;
    let share = batch.messagesTo(message.to, message.from);
    for (const other of inbox?.messages.values() ?? []) if (other.from === message.from) share++;
    return share < Math.max(1, messagesMax / senderShare);
  }

  hasBacklog(receiver: string): Promise<boolean> {
    return this.#read(() => this.#disk.seen.inboxes.has(receiver));
  }

  page(receiver: string, after: number, count: number, bytes: number): Promise<Page> {
    return this.#read(() => {
      const messages: StoredMessage[] = [];
      let left = bytes;
      for (const message of this.#disk.seen.inboxes.get(receiver)?.messages.values() ?? []) {
        if (message.position <= after) continue;
        if (messages.length === count || (left <= 0 && messages.length > 0)) return { messages, end: false };
        messages.push({ ...message });
        left -= message.msg.length;
      }
      this.#trace.note('paged', messages.length, after, receiver);
      return { messages, end: true };
    });
  }

  read(receiver: string, positions: readonly number[]): Promise<readonly StoredMessage[]> {
    return this.#read(() => {
      const inbox = this.#disk.seen.inboxes.get(receiver);
      return positions.flatMap((position) => {
        const message = inbox?.messages.get(position);
        return message === undefined ? [] : [{ ...message }];
      });
    });
  }

  remove(message: Pick<StoredMessage, 'to' | 'from' | 'msgId' | 'position'> & { readonly size: number }): void {
    const { to, position } = message;
    const stored = this.#disk.seen.inboxes.get(to)?.messages.get(position);
    if (stored === undefined) return;
    this.#checker.removed(stored);
    this.#disk.seen.delete(to, position);
    this.#writeLazily({ type: 'delete', to, position });
  }

  whenRemoved(): Promise<void> {
    return Promise.resolve();
  }

  oldest(afterReceiver: string, count: number): Promise<readonly StoredMessage[]> {
    return this.#read(() => {
      const receivers = [...this.#disk.seen.inboxes.keys()].filter((name) => name > afterReceiver).sort();
      return receivers.slice(0, count).flatMap((name) => {
        for (const message of this.#disk.seen.inboxes.get(name)?.messages.values() ?? []) return [{ ...message }];
        return [];
      });
    });
  }
}

/** The messages of one append so far. */
class Batch {
  readonly changes: Change[] = [];
  readonly #byId = new Map<string, StoredMessage>();
  readonly #counts = new Map<string, number>();
  readonly #bytes = new Map<string, number>();

  add(message: StoredMessage): void {
    const { to, from, msgId, msg } = message;
    this.changes.push({ type: 'put', message });
    this.#byId.set(`${to}\n${from}\n${msgId}`, message);
    this.#counts.set(to, this.messagesTo(to) + 1);
    this.#counts.set(`${to}\n${from}`, this.messagesTo(to, from) + 1);
    this.#bytes.set(to, this.bytesTo(to) + msg.length);
  }

  find(message: NewMessage): StoredMessage | undefined {
    return this.#byId.get(`${message.to}\n${message.from}\n${message.msgId}`);
  }

  messagesTo(to: string, from?: string): number {
    return this.#counts.get(from === undefined ? to : `${to}\n${from}`) ?? 0;
  }

  bytesTo(to: string): number {
    return this.#bytes.get(to) ?? 0;
  }
}
