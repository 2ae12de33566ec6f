import { encodeText, serverLimits } from '@hawser/protocol';
import { APPEND, type Log, type NewMessage, type Page, type StoredMessage } from '../core/ports.ts';
import { Ahead, type ReadSegment } from './ahead.ts';
import { Inbox, type InboxLimits } from './inbox.ts';
import {
  asideKey,
  checked,
  contentOf,
  inboxKey,
  inboxPrefix,
  isInboxKey,
  positionOf,
  range,
  receiverOf,
  space,
} from './record.ts';
import { allOf, firstOf, portionsOf } from './scan.ts';
import { SegmentReader, SegmentWriter } from './segment.ts';
import type { Late, LevelDb, Operation, Writer } from './writer.ts';

/** What is read from LevelDB at once. */
const READ_AHEAD_BYTES = 256 * 1024;
/**
 * Segments that a page reads at first, since how large they are shows only then; then up to twice as many each time. Of an
 * inbox that is small as a whole it takes all that it needs.
 */
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
  /** What may be kept in memory of inboxes that were touched. */
  readonly knownBytesMax: number;
}

/** The removal of a message, as `Store.remove` is told of it. */
export interface Removal {
  readonly to: string;
  readonly from: string;
  readonly msgId: string;
  readonly position: number;
  readonly size: number;
}

/** What one append brings for one receiver: the first and the last of its messages, by their place among all. */
interface Lot {
  readonly inbox: Inbox;
  first: number;
  last: number;
  count: number;
}

const NO_MESSAGE = -1;

function newLot(inbox: Inbox): Lot {
  return { inbox, first: NO_MESSAGE, last: NO_MESSAGE, count: 0 };
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
  #knownBytes = 0;
  #isMemoryShort = false;
  /** Segments from which something was removed since the last group was written, by receiver. */
  #touched = new Map<string, Set<number>>();
  /** Missing while an append uses it. */
  #segments: SegmentWriter | undefined = new SegmentWriter();
  readonly #ahead = new Ahead();
  /** Keys of records that are being set aside. */
  readonly #leaving = new Set<string>();
  /** Records that were set aside because their checksum was wrong. */
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

  get knownBytes(): number {
    return this.#knownBytes;
  }

  /** Bytes kept of what was read ahead. */
  get aheadBytes(): number {
    return this.#ahead.bytes;
  }

  /** The process is running out of memory, or no longer: meanwhile little is kept that can be read again. */
  set isMemoryShort(isShort: boolean) {
    this.#isMemoryShort = isShort;
    this.#ahead.isShut = isShort;
    for (let left = this.#loaded.size; left > 0 && this.#isTooMuch; left -= EVICTION_LOOKS) this.#evict();
  }

  // ---- in

  async append(messages: readonly NewMessage[]): Promise<readonly number[]> {
    const lots = await this.#pinAll(messages);
    try {
      return await this.#appendTo(lots, messages);
    } finally {
      for (const [receiver, { inbox }] of lots) {
        inbox.pins--;
        this.#recount(receiver, inbox);
      }
      this.#evict();
    }
  }

  async #pinAll(messages: readonly NewMessage[]): Promise<Map<string, Lot>> {
    const lots = new Map<string, Lot>();
    const missing = new Set<string>();
    for (const { to } of messages) {
      if (lots.has(to) || missing.has(to)) continue;
      const inbox = this.#pin(to);
      if (inbox !== undefined) lots.set(to, newLot(inbox));
      else missing.add(to);
    }
    if (missing.size === 0) return lots;
    const loading = [...missing].map(async (to) => lots.set(to, newLot(await this.#loadAndPin(to))));
    const failed = (await Promise.allSettled(loading)).find((result) => result.status === 'rejected');
    if (failed !== undefined) {
      for (const { inbox } of lots.values()) inbox.pins--;
      throw failed.reason;
    }
    return lots;
  }

  async #appendTo(lots: ReadonlyMap<string, Lot>, messages: readonly NewMessage[]): Promise<number[]> {
    const operations: Operation[] = [];
    const results = new Array<number>(messages.length);
    const next = new Int32Array(messages.length).fill(NO_MESSAGE);
    for (let i = 0; i < messages.length; i++) {
      const message = messages[i]!;
      const lot = lots.get(message.to)!;
      const candidates = lot.inbox.candidates(message);
      let known: number | undefined;
      if (candidates.length > 0) {
        const placed: NewMessage[] = [];
        for (let at = lot.first; at !== NO_MESSAGE; at = next[at]!) {
          if (candidates.includes(results[at]!)) placed.push(messages[at]!);
        }
        known = await this.#sameAs(message, candidates, placed);
      }
      const result = known ?? this.#place(message, lot.inbox, operations);
      results[i] = result;
      if (result < 0) continue;
      if (lot.count++ === 0) lot.first = i;
      else next[lot.last] = i;
      lot.last = i;
    }
    const segments = this.#segments ?? new SegmentWriter();
    this.#segments = undefined;
    for (const [receiver, lot] of lots) {
      for (let at = lot.first; at !== NO_MESSAGE; at = next[at]!) {
        if (segments.count === 0) lot.inbox.beginSegment(results[at]!);
        segments.add(messages[at]!, results[at]!);
        if (!segments.isFull && next[at] !== NO_MESSAGE) continue;
        const { first, key, value } = segments.take(receiver);
        lot.inbox.setRecordBytes(first, value.length);
        operations.push({ type: 'put', key, value });
      }
    }
    if (operations.length > 0) await this.#options.writer.write(operations);
    for (const { inbox, count } of lots.values()) inbox.show(count);
    segments.clear();
    this.#segments = segments;
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

  /** Whether a message stored, or placed by the same call, has the sender's msgId; `undefined` when none has. */
  async #sameAs(
    message: NewMessage,
    positions: readonly number[],
    placed: readonly NewMessage[],
  ): Promise<number | undefined> {
    for (const { from, msgId, msg } of [...placed, ...(await this.read(message.to, positions))]) {
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
    const first = await firstOf(this.#options.db.keys({ ...range(inboxPrefix('m', receiver)), limit: 1 }));
    return first !== undefined && (await this.#use(receiver, (inbox) => Promise.resolve(inbox.messages > 0)));
  }

  page(receiver: string, after: number, count: number, bytes: number): Promise<Page> {
    return this.#use(receiver, async (inbox) => {
      let mayKeep = false;
      try {
        const page = await this.#pageOf(receiver, inbox, after, count, bytes, this.#ahead);
        mayKeep = this.#loaded.get(receiver) === inbox;
        return page;
      } finally {
        // It was forgotten meanwhile, or could not be read: nobody would come for what is kept of it.
        if (!mayKeep) this.#ahead.forget(inbox);
      }
    });
  }

  /** @param ahead where to begin with what was read before, and to keep what is read beyond the page; if at all */
  async #pageOf(
    receiver: string,
    inbox: Inbox,
    after: number,
    count: number,
    bytes: number,
    ahead: Ahead | undefined,
  ): Promise<Page> {
    const messages: StoredMessage[] = [];
    let left = bytes;
    let slice = inbox.bytes > serverLimits.readAheadInboxBytesMax ? SEGMENTS_AT_FIRST : Number.POSITIVE_INFINITY;
    let segments = ahead?.take(inbox, after);
    let last = segments?.at(-1)?.first;
    for (;;) {
      if (segments === undefined) {
        const needed = count - messages.length + 1;
        const most = ahead?.reserve(inbox) ? Math.max(needed, messagesAhead(inbox)) : needed;
        const listed = last === undefined ? inbox.segmentsFrom(after, most) : inbox.segmentsBehind(last, most);
        const firsts = listed.slice(0, slice);
        last = firsts.at(-1);
        if (last === undefined) {
          ahead?.forget(inbox);
          return { messages, end: true };
        }
        segments = await this.#readSegments(receiver, inbox, firsts);
      }
      for (let i = 0; i < segments.length; i++) {
        const { first, reader } = segments[i]!;
        if (!inbox.hasSegment(first)) continue;
        const gone = inbox.goneBehind(first, after);
        while (reader.next()) {
          const { position } = reader;
          if (position <= after || gone?.has(position)) continue;
          if (messages.length === count || (left <= 0 && messages.length > 0)) {
            reader.hold();
            ahead?.keep(inbox, messages.at(-1)?.position ?? after, segments.slice(i));
            return { messages, end: false };
          }
          messages.push(reader.message());
          left -= reader.size;
        }
      }
      slice = nextSlice(slice, segments, left);
      segments = undefined;
    }
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
      for (let left = [...firsts]; left.length > 0; ) {
        const some = inbox.atOnce(left);
        left = left.slice(some.length);
        for (const { first, reader } of await this.#readSegments(receiver, inbox, some)) {
          const gone = inbox.gone(first);
          while (reader.next()) {
            if (wanted.has(reader.position) && !gone?.has(reader.position)) messages.push(reader.message());
          }
        }
      }
      return messages;
    });
  }

  /** Segments that are still there when they have been read; damaged ones are set aside. */
  async #readSegments(receiver: string, inbox: Inbox, firsts: readonly number[]): Promise<ReadSegment[]> {
    const keys = firsts.map((first) => inboxKey('m', receiver, first));
    const values = await this.#options.db.getMany(keys);
    const read: ReadSegment[] = [];
    for (let i = 0; i < firsts.length; i++) {
      const first = firsts[i]!;
      const value = values[i];
      if (value === undefined || !inbox.hasSegment(first)) continue;
      const reader = SegmentReader.open(receiver, keys[i]!, value);
      if (reader !== undefined) read.push({ first, reader });
      else {
        this.#setAside(keys[i]!, value);
        inbox.dropSegment(first);
      }
    }
    return read;
  }

  /** A damaged record is reported, once, and never served. */
  #setAside(key: Uint8Array, value: Uint8Array): void {
    const id = String.fromCharCode(...key);
    if (this.#leaving.has(id)) return;
    this.#leaving.add(id);
    this.damaged++;
    const fields = { receiver: receiverOf(key), position: positionOf(key), bytes: value.length };
    this.#options.log.error(fields, 'a damaged record was set aside');
    const operations: Operation[] = [
      { type: 'put', key: asideKey(key), value },
      { type: 'del', key },
    ];
    this.#options.writer.writeLazily(operations, () => this.#leaving.delete(id));
  }

  /** The first message of each inbox behind a receiver; reads no more than that. */
  async oldest(afterReceiver: string, count: number): Promise<readonly StoredMessage[]> {
    const heads: StoredMessage[] = [];
    const { gte, lt } = range(encodeText(space.segment));
    let from = afterReceiver === '' ? gte : range(inboxPrefix('m', afterReceiver)).lt;
    while (heads.length < count) {
      const key = await firstOf(this.#options.db.keys({ gte: from, lt, limit: 1 }));
      if (key === undefined) break;
      if (isInboxKey(key)) {
        const receiver = receiverOf(key);
        const head = await this.#headOf(receiver, key);
        if (head !== undefined) heads.push(head);
        from = range(inboxPrefix('m', receiver)).lt;
      } else {
        // No inbox has this key: nothing else would come upon it.
        const value = await this.#options.db.get(key);
        if (value !== undefined) this.#setAside(key, value);
        from = new Uint8Array([...key, 0]);
      }
    }
    return heads;
  }

  async #headOf(receiver: string, key: Uint8Array): Promise<StoredMessage | undefined> {
    if (!this.#loaded.has(receiver) && !this.#early.has(receiver)) {
      const value = await this.#options.db.get(key);
      const gone = await this.#options.db.get(inboxKey('d', receiver, positionOf(key)));
      const reader = value && gone === undefined ? SegmentReader.open(receiver, key, value) : undefined;
      if (reader?.next()) return reader.message();
    }
    // Nobody comes back for what is behind it, and what is kept for a reader stays.
    const page = await this.#use(receiver, (inbox) => this.#pageOf(receiver, inbox, 0, 1, 1, undefined));
    return page.messages[0];
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
    const inboxes = new Map<string, Inbox>();
    for (const [receiver, firsts] of touched) {
      const inbox = this.#loaded.get(receiver);
      if (inbox === undefined) continue;
      inboxes.set(receiver, inbox);
      for (const first of firsts) {
        const goneKey = inboxKey('d', receiver, first);
        const gone = inbox.gone(first);
        if (inbox.hasSegment(first) && gone !== undefined) {
          operations.push({ type: 'put', key: goneKey, value: encodeGone(goneKey, first, gone) });
          inbox.note(first);
        } else {
          operations.push({ type: 'del', key: inboxKey('m', receiver, first) });
          if (inbox.unnote(first)) operations.push({ type: 'del', key: goneKey });
        }
      }
    }
    return {
      operations,
      done: () => {
        for (const [receiver, inbox] of inboxes) {
          inbox.pins--;
          this.#recount(receiver, inbox);
        }
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
    let gone: ReadonlyMap<number, ReadonlySet<number>> | undefined;
    const segments = db.iterator({ ...range(inboxPrefix('m', receiver)), highWaterMarkBytes: READ_AHEAD_BYTES });
    for await (const entries of portionsOf(segments)) {
      // Where there are no segments nothing can be gone of them.
      gone ??= await this.#readGone(receiver);
      for (const [key, value] of entries) {
        const reader = SegmentReader.open(receiver, key, value);
        if (reader === undefined) this.#setAside(key, value);
        else addSegment(inbox, reader, positionOf(key), gone.get(positionOf(key)));
      }
    }
    this.#messagesCached += inbox.messages;
    this.#loaded.set(receiver, inbox);
    this.#recount(receiver, inbox);
    const early = this.#early.get(receiver) ?? [];
    this.#early.delete(receiver);
    for (const removal of early) this.#removeFrom(inbox, removal);
    this.#evict(receiver);
  }

  /** Positions gone of segments that still have others, by their first. */
  async #readGone(receiver: string): Promise<ReadonlyMap<number, ReadonlySet<number>>> {
    const gone = new Map<number, ReadonlySet<number>>();
    for (const [key, value] of await allOf(this.#options.db.iterator(range(inboxPrefix('d', receiver))))) {
      const first = positionOf(key);
      const positions = decodeGone(key, first, value);
      if (positions === undefined) this.#setAside(key, value);
      else gone.set(first, positions);
    }
    return gone;
  }

  #forget(receiver: string): void {
    const inbox = this.#loaded.get(receiver);
    if (inbox === undefined) return;
    this.#messagesCached -= inbox.messages;
    this.#knownBytes -= inbox.countedBytes;
    this.#loaded.delete(receiver);
    this.#ahead.forget(inbox);
  }

  /** Takes into account how much the inbox has grown or shrunk. */
  #recount(receiver: string, inbox: Inbox): void {
    if (this.#loaded.get(receiver) !== inbox) return;
    const bytes = inbox.memoryBytes;
    this.#knownBytes += bytes - inbox.countedBytes;
    inbox.countedBytes = bytes;
  }

  get #isTooMuch(): boolean {
    const { knownBytesMax } = this.#options;
    return this.#knownBytes > (this.#isMemoryShort ? knownBytesMax / SHORT_OF_MEMORY_SHARE : knownBytesMax);
  }

  /** Keeps within the limit: those touched longest ago go first, unless they are in use. */
  #evict(except?: string): void {
    if (!this.#isTooMuch) return;
    let looks = EVICTION_LOOKS;
    for (const [receiver, inbox] of this.#loaded) {
      if (looks-- === 0) return;
      if (inbox.pins > 0 || receiver === except) {
        // In use now, so not the least recently used.
        this.#loaded.delete(receiver);
        this.#loaded.set(receiver, inbox);
      } else this.#forget(receiver);
      if (!this.#isTooMuch) return;
    }
  }
}

/** While memory is short, one in this many of the bytes otherwise allowed is kept. */
const SHORT_OF_MEMORY_SHARE = 16;

/** Inboxes looked at for one that may go, each time. */
const EVICTION_LOOKS = 64;

/** About so many messages of an inbox are read at once where there is room: no more than may be kept of it. */
function messagesAhead({ bytes, messages }: Inbox): number {
  const { readAheadMessagesMax, readAheadInboxBytesMax } = serverLimits;
  return Math.min(readAheadMessagesMax, (readAheadInboxBytesMax * messages) / Math.max(1, bytes));
}

/** How many segments to read next: as many as make up what is left of the page, if they are like those just read. */
function nextSlice(slice: number, segments: readonly ReadSegment[], left: number): number {
  let bytes = 0;
  for (const { reader } of segments) bytes += reader.bytes;
  return bytes === 0 ? 2 * slice : Math.max(1, Math.min(2 * slice, Math.ceil((left * segments.length) / bytes)));
}

function addSegment(inbox: Inbox, reader: SegmentReader, first: number, gone: ReadonlySet<number> | undefined): void {
  if (gone !== undefined) inbox.note(first);
  while (reader.next()) {
    if (gone?.has(reader.position)) inbox.addGone(reader.position);
    else inbox.add(reader.from, reader.msgId, reader.size, reader.position);
  }
  inbox.beginSegment(first);
  inbox.setRecordBytes(first, reader.bytes);
  inbox.show(reader.count);
}

/** What is gone of a segment: positions, each less that of its first (4). */
function encodeGone(key: Uint8Array, first: number, gone: ReadonlySet<number>): Uint8Array {
  const content = new Uint8Array(gone.size * 4);
  const view = new DataView(content.buffer);
  let at = 0;
  for (const position of gone) {
    view.setUint32(at, position - first);
    at += 4;
  }
  return checked(key, content);
}

/** `undefined` when the record is damaged: then what was removed comes back, rather than that something is lost. */
export function decodeGone(key: Uint8Array, first: number, value: Uint8Array): Set<number> | undefined {
  const content = contentOf(key, value);
  if (content === undefined || content.length % 4 !== 0) return undefined;
  const view = new DataView(content.buffer, content.byteOffset, content.length);
  const gone = new Set<number>();
  for (let at = 0; at < content.length; at += 4) gone.add(first + view.getUint32(at));
  return gone;
}
