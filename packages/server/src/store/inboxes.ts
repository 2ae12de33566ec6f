import { crc32 } from 'node:zlib';
import { encodeText } from '@hawser/protocol';
import { APPEND, type Log, type NewMessage, type Page, type StoredMessage } from '../core/ports.ts';
import { Inbox, type InboxLimits } from './inbox.ts';
import { inboxKey, inboxPrefix, positionOf, range, receiverOf, space } from './record.ts';
import { SegmentReader, SegmentWriter } from './segment.ts';
import type { Late, LevelDb, Operation, Writer } from './writer.ts';

/** Records read from LevelDB at once. */
const READ_AHEAD = 100;
const READ_AHEAD_BYTES = 256 * 1024;
/** Segments that a page reads at first; then twice as many each time. */
const SEGMENTS_AT_FIRST = 4;

export interface InboxesOptions {
  readonly db: LevelDb;
  readonly writer: Writer;
  readonly log: Log;
  readonly limits: InboxLimits;
  /** Told of failures that nobody waits for. */
  readonly onError: (error: unknown) => void;
  /** 32 random bits. */
  readonly seed: number;
  /** Gives the next position; adds to the operations what must be on disk before it may be used. */
  readonly nextPosition: (operations: Operation[]) => number;
  /** What is kept in memory of inboxes that were touched: that many of them, that many messages in them. */
  readonly inboxesCachedMax: number;
  readonly messagesCachedMax: number;
}

/** The removal of a message, as `Store.remove` is told of it. */
export interface Removal {
  readonly to: string;
  readonly from: string;
  readonly msgId: string;
  readonly position: number;
  readonly size: number;
}

interface Placed {
  readonly message: NewMessage;
  readonly position: number;
}

/**
 * All inboxes on LevelDB, as segments. What is in memory of an inbox is the truth while it is there, with the disk
 * behind it: a read goes by it, so it sees every removal at once, though removals are written later.
 */
export class Inboxes {
  readonly #options: InboxesOptions;
  /** Inboxes that were touched, in the order in which they were loaded. */
  readonly #loaded = new Map<string, Inbox>();
  readonly #loading = new Map<string, Promise<void>>();
  /** Removals from inboxes that are being loaded: they take effect with the loading. */
  readonly #early = new Map<string, Removal[]>();
  #messagesCached = 0;
  /** Segments from which something was removed since the last group was written, by receiver. */
  #touched = new Map<string, Set<number>>();
  readonly #segment = new SegmentWriter();
  /** Segments that were set aside because their checksum was wrong. */
  damaged = 0;

  constructor(options: InboxesOptions) {
    this.#options = options;
    options.writer.addLate(() => this.#takeRemovals());
  }

  get inboxesCached(): number {
    return this.#loaded.size;
  }

  get messagesCached(): number {
    return this.#messagesCached;
  }

  // ---- in

  async append(messages: readonly NewMessage[]): Promise<readonly number[]> {
    const inboxes = await this.#pinAll(new Set(messages.map((message) => message.to)));
    try {
      return await this.#appendTo(inboxes, messages);
    } finally {
      for (const inbox of inboxes.values()) inbox.pins--;
      this.#evict();
    }
  }

  async #pinAll(receivers: ReadonlySet<string>): Promise<Map<string, Inbox>> {
    const inboxes = new Map<string, Inbox>();
    const missing: Promise<void>[] = [];
    for (const receiver of receivers) {
      const inbox = this.#pin(receiver);
      if (inbox !== undefined) inboxes.set(receiver, inbox);
      else missing.push(this.#loadAndPin(receiver).then((loaded) => void inboxes.set(receiver, loaded)));
    }
    const failed = (await Promise.allSettled(missing)).find((result) => result.status === 'rejected');
    if (failed !== undefined) {
      for (const inbox of inboxes.values()) inbox.pins--;
      throw failed.reason;
    }
    return inboxes;
  }

  async #appendTo(inboxes: ReadonlyMap<string, Inbox>, messages: readonly NewMessage[]): Promise<number[]> {
    const operations: Operation[] = [];
    const results: number[] = [];
    const placed = new Map<string, Placed[]>();
    for (const message of messages) {
      const inbox = inboxes.get(message.to)!;
      const candidates = inbox.candidates(message);
      const before = placed.get(message.to);
      const known = candidates.length > 0 ? await this.#sameAs(message, candidates, before) : undefined;
      const result = known ?? this.#place(message, inbox, operations);
      results.push(result);
      if (result < 0) continue;
      const others = placed.get(message.to);
      if (others === undefined) placed.set(message.to, [{ message, position: result }]);
      else others.push({ message, position: result });
    }
    if (placed.size === 0) return results;
    const segments: { inbox: Inbox; first: number; count: number }[] = [];
    for (const [receiver, entries] of placed) {
      const inbox = inboxes.get(receiver)!;
      for (const { first, count } of this.#writeSegments(receiver, entries, operations)) {
        segments.push({ inbox, first, count });
      }
    }
    await this.#options.writer.write(operations);
    for (const { inbox, first, count } of segments) inbox.addSegment(first, count);
    return results;
  }

  /** Gives the message its position, or says that there is no room. */
  #place(message: NewMessage, inbox: Inbox, operations: Operation[]): number {
    const bytes = message.msg?.length ?? 0;
    if (!inbox.hasRoom(message.from, bytes, this.#options.limits)) return APPEND.full;
    const position = this.#options.nextPosition(operations);
    inbox.add(message.from, message.msgId, bytes, position);
    this.#messagesCached++;
    return position;
  }

  #writeSegments(
    receiver: string,
    entries: readonly Placed[],
    operations: Operation[],
  ): { first: number; count: number }[] {
    const written: { first: number; count: number }[] = [];
    const segment = this.#segment;
    for (let i = 0; i < entries.length; i++) {
      const { message, position } = entries[i]!;
      segment.add(message, position);
      if (!segment.isFull && i < entries.length - 1) continue;
      const { count } = segment;
      const { first, value } = segment.take();
      operations.push({ type: 'put', key: inboxKey('m', receiver, first), value });
      written.push({ first, count });
    }
    return written;
  }

  /** Whether a message stored, or placed by the same call, has the sender's msgId; `undefined` when none has. */
  async #sameAs(
    message: NewMessage,
    positions: readonly number[],
    placed: readonly Placed[] = [],
  ): Promise<number | undefined> {
    const before = placed.filter(({ position }) => positions.includes(position)).map((entry) => entry.message);
    for (const { from, msgId, msg } of [...before, ...(await this.read(message.to, positions))]) {
      if (from !== message.from || msgId !== message.msgId) continue;
      const isSame = msg !== undefined && message.msg !== undefined && Buffer.compare(msg, message.msg) === 0;
      return isSame ? APPEND.duplicate : APPEND.conflict;
    }
    return undefined;
  }

  // ---- out

  hasBacklog(receiver: string): Promise<boolean> {
    const inbox = this.#loaded.get(receiver);
    if (inbox !== undefined) return Promise.resolve(inbox.messages > 0);
    return this.#hasSegments(receiver);
  }

  /** Whether anything lies there, without reading it all: most who log in have nothing. */
  async #hasSegments(receiver: string): Promise<boolean> {
    const keys = await this.#options.db.keys({ ...range(inboxPrefix('m', receiver)), limit: 1 }).all();
    return keys.length > 0 && (await this.#use(receiver, (inbox) => Promise.resolve(inbox.messages > 0)));
  }

  page(receiver: string, after: number, count: number, bytes: number): Promise<Page> {
    return this.#use(receiver, async (inbox) => {
      const messages: StoredMessage[] = [];
      let left = bytes;
      // A few at first: how large they are shows only then, and large ones fill a page soon.
      let slice = SEGMENTS_AT_FIRST;
      let firsts = inbox.segmentsFrom(after, count + 1).slice(0, slice);
      for (;;) {
        const last = firsts.at(-1);
        if (last === undefined) return { messages, end: true };
        for (const segment of await this.#readSegments(receiver, inbox, firsts)) {
          const gone = inbox.gone(segment.first);
          while (segment.reader.next()) {
            const { position } = segment.reader;
            if (position <= after || gone?.has(position)) continue;
            if (messages.length === count || (left <= 0 && messages.length > 0)) return { messages, end: false };
            messages.push(segment.reader.message());
            left -= segment.reader.size;
          }
        }
        slice *= 2;
        firsts = inbox.segmentsBehind(last, count - messages.length + 1).slice(0, slice);
      }
    });
  }

  read(receiver: string, positions: readonly number[]): Promise<readonly StoredMessage[]> {
    return this.#use(receiver, async (inbox) => {
      const wanted = new Set(positions);
      const firsts = new Set<number>();
      for (const position of positions) {
        const first = inbox.segmentHolding(position);
        if (first !== undefined) firsts.add(first);
      }
      const messages: StoredMessage[] = [];
      for (const { first, reader } of await this.#readSegments(receiver, inbox, [...firsts])) {
        const gone = inbox.gone(first);
        while (reader.next()) {
          if (wanted.has(reader.position) && !gone?.has(reader.position)) messages.push(reader.message());
        }
      }
      return messages;
    });
  }

  /** Segments that are still there when they have been read; damaged ones are set aside. */
  async #readSegments(
    receiver: string,
    inbox: Inbox,
    firsts: readonly number[],
  ): Promise<{ first: number; reader: SegmentReader }[]> {
    const values = await this.#options.db.getMany(firsts.map((first) => inboxKey('m', receiver, first)));
    const read: { first: number; reader: SegmentReader }[] = [];
    for (let i = 0; i < firsts.length; i++) {
      const first = firsts[i]!;
      const value = values[i];
      if (value === undefined || !inbox.hasSegment(first)) continue;
      const reader = SegmentReader.open(receiver, first, value);
      if (reader !== undefined) read.push({ first, reader });
      else {
        this.#setAside(inboxKey('m', receiver, first), value);
        inbox.dropSegment(first);
      }
    }
    return read;
  }

  /** A damaged record is reported and never served. */
  #setAside(key: Uint8Array, value: Uint8Array): void {
    this.damaged++;
    const fields = { receiver: receiverOf(key), position: positionOf(key), bytes: value.length };
    this.#options.log.error(fields, 'a damaged record was set aside');
    const aside = new Uint8Array(key.length + 1);
    aside[0] = space.damaged.charCodeAt(0);
    aside.set(key, 1);
    this.#options.writer.writeLazily([
      { type: 'put', key: aside, value },
      { type: 'del', key },
    ]);
  }

  /** The first message of each inbox behind a receiver; reads no more than that. */
  async oldest(afterReceiver: string, count: number): Promise<readonly StoredMessage[]> {
    const heads: StoredMessage[] = [];
    const { gte, lt } = range(encodeText(space.segment));
    let from = afterReceiver === '' ? gte : range(inboxPrefix('m', afterReceiver)).lt;
    while (heads.length < count) {
      const [key] = await this.#options.db.keys({ gte: from, lt, limit: 1 }).all();
      if (key === undefined) break;
      const receiver = receiverOf(key);
      const head = await this.#headOf(receiver, key);
      if (head !== undefined) heads.push(head);
      from = range(inboxPrefix('m', receiver)).lt;
    }
    return heads;
  }

  async #headOf(receiver: string, key: Uint8Array): Promise<StoredMessage | undefined> {
    if (!this.#loaded.has(receiver) && !this.#early.has(receiver)) {
      const first = positionOf(key);
      const value = await this.#options.db.get(key);
      const gone = await this.#options.db.get(inboxKey('d', receiver, first));
      const reader = value && gone === undefined ? SegmentReader.open(receiver, first, value) : undefined;
      if (reader?.next()) return reader.message();
    }
    return (await this.page(receiver, 0, 1, 1)).messages[0];
  }

  // ---- removal

  remove(removal: Removal): void {
    const inbox = this.#loaded.get(removal.to);
    if (inbox !== undefined) this.#removeFrom(inbox, removal);
    else {
      const early = this.#early.get(removal.to);
      if (early === undefined) this.#early.set(removal.to, [removal]);
      else early.push(removal);
      this.#load(removal.to).catch(this.#options.onError);
    }
  }

  /** Resolves when no removal waits for its inbox to be loaded. */
  async settle(): Promise<void> {
    while (this.#early.size > 0) await Promise.all([...this.#early.keys()].map((receiver) => this.#load(receiver)));
  }

  #removeFrom(inbox: Inbox, { to, from, msgId, size, position }: Removal): void {
    const first = inbox.remove(from, msgId, size, position);
    if (first === undefined) return;
    this.#messagesCached--;
    const touched = this.#touched.get(to);
    if (touched !== undefined) touched.add(first);
    else {
      this.#touched.set(to, new Set([first]));
      // Until it is written the disk does not tell: the inbox stays in memory.
      inbox.pins++;
    }
    this.#options.writer.lateSoon();
  }

  /** The removals since the last group: segments that are empty now, and what is gone of others. */
  #takeRemovals(): Late | undefined {
    if (this.#touched.size === 0) return undefined;
    const touched = this.#touched;
    this.#touched = new Map();
    const operations: Operation[] = [];
    const inboxes: Inbox[] = [];
    for (const [receiver, firsts] of touched) {
      const inbox = this.#loaded.get(receiver);
      if (inbox === undefined) continue;
      inboxes.push(inbox);
      for (const first of firsts) {
        const goneKey = inboxKey('d', receiver, first);
        const gone = inbox.gone(first);
        if (inbox.hasSegment(first) && gone !== undefined) {
          operations.push({ type: 'put', key: goneKey, value: encodeGone(first, gone) });
          inbox.noted.add(first);
        } else {
          operations.push({ type: 'del', key: inboxKey('m', receiver, first) });
          if (inbox.noted.delete(first)) operations.push({ type: 'del', key: goneKey });
        }
      }
    }
    return {
      operations,
      done: () => {
        for (const inbox of inboxes) inbox.pins--;
      },
    };
  }

  /** What deletes an inbox whole. When that is written it is to be forgotten, with `forget`. */
  async dropAll(receiver: string): Promise<Operation[]> {
    const operations: Operation[] = [];
    for (const kind of ['m', 'd'] as const) {
      for await (const key of this.#options.db.keys(range(inboxPrefix(kind, receiver)))) {
        operations.push({ type: 'del', key });
      }
    }
    // Removals that wait to be written would write to what is deleted.
    this.#touched.delete(receiver);
    return operations;
  }

  /** Forgets an inbox, also one that is being loaded as it was before. */
  async forget(receiver: string): Promise<void> {
    await this.#loading.get(receiver);
    this.#forget(receiver);
    this.#touched.delete(receiver);
  }

  // ---- what is in memory

  /** Works with an inbox, loading it first when it is not in memory. */
  async #use<Result>(receiver: string, work: (inbox: Inbox) => Promise<Result>): Promise<Result> {
    const inbox = this.#pin(receiver) ?? (await this.#loadAndPin(receiver));
    try {
      return await work(inbox);
    } finally {
      inbox.pins--;
    }
  }

  #pin(receiver: string): Inbox | undefined {
    const inbox = this.#loaded.get(receiver);
    if (inbox !== undefined) inbox.pins++;
    return inbox;
  }

  async #loadAndPin(receiver: string): Promise<Inbox> {
    for (;;) {
      await this.#load(receiver);
      // It may have been let go of between its loading and this turn.
      const inbox = this.#pin(receiver);
      if (inbox !== undefined) return inbox;
    }
  }

  #load(receiver: string): Promise<void> {
    let loading = this.#loading.get(receiver);
    if (loading === undefined) {
      loading = this.#read(receiver).finally(() => this.#loading.delete(receiver));
      this.#loading.set(receiver, loading);
    }
    return loading;
  }

  async #read(receiver: string): Promise<void> {
    const { db, seed } = this.#options;
    const inbox = new Inbox(seed);
    const gone = new Map<number, Set<number>>();
    for (const [key, value] of await db.iterator(range(inboxPrefix('d', receiver))).all()) {
      const positions = decodeGone(positionOf(key), value);
      if (positions === undefined) this.#setAside(key, value);
      else gone.set(positionOf(key), positions);
    }
    const iterator = db.iterator({ ...range(inboxPrefix('m', receiver)), highWaterMarkBytes: READ_AHEAD_BYTES });
    try {
      for (;;) {
        const entries = await iterator.nextv(READ_AHEAD);
        if (entries.length === 0) break;
        for (const [key, value] of entries) {
          const reader = SegmentReader.open(receiver, positionOf(key), value);
          if (reader === undefined) this.#setAside(key, value);
          else addSegment(inbox, reader, positionOf(key), gone.get(positionOf(key)));
        }
      }
    } finally {
      await iterator.close();
    }
    this.#messagesCached += inbox.messages;
    this.#loaded.set(receiver, inbox);
    const early = this.#early.get(receiver) ?? [];
    this.#early.delete(receiver);
    for (const removal of early) this.#removeFrom(inbox, removal);
    this.#evict(receiver);
  }

  #forget(receiver: string): void {
    this.#messagesCached -= this.#loaded.get(receiver)?.messages ?? 0;
    this.#loaded.delete(receiver);
  }

  /** Keeps within the limits: those touched longest ago go first, unless they are in use. */
  #evict(except?: string): void {
    const { inboxesCachedMax, messagesCachedMax } = this.#options;
    if (this.#loaded.size <= inboxesCachedMax && this.#messagesCached <= messagesCachedMax) return;
    let looks = EVICTION_LOOKS;
    for (const [receiver, inbox] of this.#loaded) {
      if (looks-- === 0) return;
      if (inbox.pins > 0 || receiver === except) {
        // In use now, so not the least recently used.
        this.#loaded.delete(receiver);
        this.#loaded.set(receiver, inbox);
      } else this.#forget(receiver);
      if (this.#loaded.size <= inboxesCachedMax && this.#messagesCached <= messagesCachedMax) return;
    }
  }
}

/** Inboxes looked at for one that may go, each time. */
const EVICTION_LOOKS = 64;

function addSegment(inbox: Inbox, reader: SegmentReader, first: number, gone: ReadonlySet<number> | undefined): void {
  inbox.addSegment(first, reader.count, gone);
  if (gone !== undefined) inbox.noted.add(first);
  while (reader.next()) {
    if (!gone?.has(reader.position)) inbox.add(reader.from, reader.msgId, reader.size, reader.position);
  }
}

/** CRC-32 of the rest (4), then positions that are gone, each less that of the segment's first (4). */
function encodeGone(first: number, gone: ReadonlySet<number>): Uint8Array {
  const value = new Uint8Array(4 + gone.size * 4);
  const view = new DataView(value.buffer);
  let at = 4;
  for (const position of gone) {
    view.setUint32(at, position - first);
    at += 4;
  }
  view.setUint32(0, crc32(value.subarray(4)));
  return value;
}

/** `undefined` when the record is damaged: then what was removed comes back, rather than that something is lost. */
function decodeGone(first: number, value: Uint8Array): Set<number> | undefined {
  if (value.length % 4 !== 0 || value.length === 0) return undefined;
  const view = new DataView(value.buffer, value.byteOffset, value.length);
  if (view.getUint32(0) !== crc32(value.subarray(4))) return undefined;
  const gone = new Set<number>();
  for (let at = 4; at < value.length; at += 4) gone.add(first + view.getUint32(at));
  return gone;
}
