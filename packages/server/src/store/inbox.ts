import { serverLimits } from '@hawser/protocol';
import type { NewMessage } from '../core/ports.ts';

/** How much an inbox may hold; a sender may fill one part in `senderShare`. */
export interface InboxLimits {
  readonly messagesMax: number;
  readonly bytesMax: number;
  readonly senderShare: number;
}

export const defaultInboxLimits: InboxLimits = {
  messagesMax: serverLimits.inboxMessagesMax,
  bytesMax: serverLimits.inboxBytesMax,
  senderShare: serverLimits.inboxSenderShare,
};

interface Share {
  messages: number;
  bytes: number;
}

/**
 * What must be known of a stored inbox before more goes in or comes out: its fill, each sender's share, which messages
 * it has, and where its segments begin. Derived from the inbox itself when it is first touched, so that nothing beside
 * the messages is written.
 */
export class Inbox {
  messages = 0;
  bytes = 0;
  /** Work that needs it in memory. */
  pins = 0;
  /** What of its `memoryBytes` is accounted for. */
  countedBytes = 0;
  readonly #shares = new Map<string, Share>();
  readonly #entries = new Entries();
  readonly #seed: number;
  /** Segments of which the disk knows that something is gone, by their first position. */
  #noted: Set<number> | undefined;
  /** Segments whose records are large, by their first position, with their bytes. They may hold little that is not gone. */
  #large: Map<number, number> | undefined;

  /** @param seed 32 random bits, so that nobody can choose ids that collide */
  constructor(seed: number) {
    this.#seed = seed;
  }

  /** About what it takes in memory. */
  get memoryBytes(): number {
    const large = this.#large === undefined ? 0 : LARGE_MAP_MEMORY_BYTES + LARGE_MEMORY_BYTES * this.#large.size;
    return INBOX_MEMORY_BYTES + SHARE_MEMORY_BYTES * this.#shares.size + large + this.#entries.memoryBytes;
  }

  // ---- messages

  /** Whether a message of this size may come in from this sender. An empty inbox takes any one message. */
  hasRoom(from: string, bytes: number, limits: InboxLimits): boolean {
    if (this.messages === 0) return true;
    if (this.messages >= limits.messagesMax || this.bytes + bytes > limits.bytesMax) return false;
    const share = this.#shares.get(from);
    if (share === undefined) return true;
    return (
      share.messages < Math.max(1, limits.messagesMax / limits.senderShare) &&
      share.bytes + bytes <= limits.bytesMax / limits.senderShare
    );
  }

  /** Adds a message behind all others. It belongs to no segment until `beginSegment` and `show`. */
  add(from: string, msgId: string, bytes: number, position: number): void {
    this.messages++;
    this.bytes += bytes;
    const share = this.#shares.get(from);
    if (share === undefined) this.#shares.set(from, { messages: 1, bytes });
    else {
      share.messages++;
      share.bytes += bytes;
    }
    this.#entries.add(position, fingerprint(this.#seed, from, msgId));
  }

  /** Adds the place of a message that was removed. */
  addGone(position: number): void {
    this.#entries.add(position, GONE);
  }

  /** Positions at which a message of this sender and msgId may lie: rarely one by mere chance. */
  candidates(message: Pick<NewMessage, 'from' | 'msgId'>): number[] {
    if (!this.#shares.has(message.from)) return NONE;
    return this.#entries.find(fingerprint(this.#seed, message.from, message.msgId));
  }

  /** Removes a message; returns the first position of its segment, `undefined` when the message is not there. */
  remove(from: string, msgId: string, bytes: number, position: number): number | undefined {
    const first = this.#entries.remove(position, fingerprint(this.#seed, from, msgId));
    if (first === undefined) return undefined;
    this.messages--;
    this.bytes -= bytes;
    const share = this.#shares.get(from);
    if (share !== undefined) {
      share.messages--;
      share.bytes -= bytes;
      if (share.messages === 0) this.#shares.delete(from);
    }
    return first;
  }

  // ---- segments

  /** A segment begins at this message. */
  beginSegment(first: number): void {
    this.#entries.begin(first);
  }

  /** The record of a segment has so many bytes. */
  setRecordBytes(first: number, bytes: number): void {
    if (bytes <= serverLimits.inboxRecordBytesFree) return;
    this.#large ??= new Map();
    this.#large.set(first, bytes);
  }

  #forgetRecordBytes(first: number): void {
    this.#large?.delete(first);
    if (this.#large?.size === 0) this.#large = undefined;
  }

  /** The next so many messages are written: their segments can be read. */
  show(messages: number): void {
    this.#entries.show(messages);
  }

  /** Forgets a segment that cannot be read. */
  dropSegment(first: number): void {
    this.#forgetRecordBytes(first);
    this.#entries.drop(first);
  }

  hasSegment(first: number): boolean {
    return this.#entries.holding(first) === first;
  }

  /** Positions gone of a segment that still has others. */
  gone(first: number): ReadonlySet<number> | undefined {
    return this.#entries.gone(first);
  }

  /** The same, of those behind a position only. */
  goneBehind(first: number, after: number): ReadonlySet<number> | undefined {
    return this.#entries.goneBehind(first, after);
  }

  /** The disk knows from now on that something of this segment is gone. */
  note(first: number): void {
    this.#noted ??= new Set();
    this.#noted.add(first);
  }

  /** The record of a segment is being deleted, as nothing is left of it: whether the disk knew that something was gone. */
  unnote(first: number): boolean {
    this.#forgetRecordBytes(first);
    return this.#noted?.delete(first) ?? false;
  }

  /**
   * First positions of segments in order, from the one that may hold `position`: as many as hold about `messages` messages and
   * may be read at once, one at least.
   */
  segmentsFrom(position: number, messages: number): number[] {
    return this.atOnce(this.#entries.segments(position, messages, false));
  }

  /** The same, from the one behind the segment that begins at `first`. */
  segmentsBehind(first: number, messages: number): number[] {
    return this.atOnce(this.#entries.segments(first, messages, true));
  }

  /** Of these segments, from the first of them on, as many as may be read at once; one at least. */
  atOnce(firsts: number[]): number[] {
    if (this.#large === undefined) return firsts;
    let bytes = 0;
    for (let i = 0; i < firsts.length; i++) {
      bytes += this.#large.get(firsts[i]!) ?? 0;
      if (bytes > serverLimits.inboxReadBytesMax) return firsts.slice(0, Math.max(1, i));
    }
    return firsts;
  }

  /** The segment that may hold a position. */
  segmentHolding(position: number): number | undefined {
    return this.#entries.holding(position);
  }
}

const NONE: number[] = [];
/** Objects, names and places in maps; measured. */
const INBOX_MEMORY_BYTES = 600;
const SHARE_MEMORY_BYTES = 100;
const LARGE_MAP_MEMORY_BYTES = 150;
const LARGE_MEMORY_BYTES = 40;

/** Stands for the fingerprint of a message that was removed. */
const GONE = 0;
/** Marks the first message of a segment: the lowest bit, beside the fingerprint. */
const BEGINS = 1;
const FIRST_ENTRIES = 8;
const NO_ENTRY = -1;
/** With more than this an index leads from fingerprints to messages; a look at so few costs no more. */
const UNINDEXED_MAX = 128;
/** Segments listed at once, at most. */
const SEGMENTS_LISTED_MAX = 64;
const WORD = 2 ** 32;

/** An inbox for which two bytes tell each entry has the smaller one: it has fewer entries than slots. */
type Index = Uint16Array | Uint32Array;

/**
 * The messages of an inbox in order of position, in one typed array: 8 bytes each, where a `Map` takes about 60. There
 * are many inboxes, and one may hold a hundred thousand messages.
 *
 *     position less the base (4)  fingerprint (31 bits), begins a segment (1 bit)
 *     and where 32 bits do not hold all positions: their upper half (4)
 *
 * A message that is removed stays as a place that is gone until its whole segment is. Entries from `#from` to `#shown`
 * lie in segments; those behind are being written.
 */
class Entries {
  #words = new Uint32Array(FIRST_ENTRIES * 2);
  #stride: 2 | 3 = 2;
  #base = 0;
  #from = 0;
  #shown = 0;
  #to = 0;
  /** The entry that was removed last and the one with which its segment begins: messages leave in order, mostly. */
  #removedAt = NO_ENTRY;
  #removedStart = NO_ENTRY;
  /** Open addressing: entries by fingerprint, each plus one. What is gone stays until the next `#rebuild`. */
  #index: Index | undefined;

  get memoryBytes(): number {
    return this.#words.byteLength + (this.#index?.byteLength ?? 0);
  }

  #position(at: number): number {
    const words = this.#words;
    if (this.#stride === 2) return this.#base + words[at * 2]!;
    return this.#base + words[at * 3]! + words[at * 3 + 2]! * WORD;
  }

  #isGone(at: number): boolean {
    return this.#words[at * this.#stride + 1]! <= BEGINS;
  }

  #begins(at: number): boolean {
    return (this.#words[at * this.#stride + 1]! & BEGINS) !== 0;
  }

  // ---- in

  add(position: number, fingerprint: number): void {
    if (this.#to === 0) this.#base = position;
    const isTooFar = this.#stride === 2 && position - this.#base >= WORD;
    if (isTooFar || (this.#to + 1) * this.#stride > this.#words.length) this.#rebuild(position);
    const at = this.#to++;
    write(this.#words, at, this.#stride, position - this.#base, fingerprint);
    if (fingerprint === GONE) return;
    if (this.#index !== undefined) this.#place(this.#index, fingerprint, at);
    else if (this.#to - this.#from > UNINDEXED_MAX) this.#makeIndex();
  }

  /** Makes room for `position`: leaves out segments that are gone whole, and grows by half of what is left. */
  #rebuild(position: number): void {
    let kept = 0;
    let base = position;
    for (let at = this.#from, end = at; at < this.#to; at = end) {
      end = this.#spanEnd(at);
      if (!this.#isKept(at, end)) continue;
      if (kept === 0) base = this.#position(at);
      kept += end - at;
    }
    const stride = position - base < WORD ? 2 : 3;
    const words = new Uint32Array((kept + Math.max(FIRST_ENTRIES, kept >> 1)) * stride);
    let to = 0;
    let shown = 0;
    for (let at = this.#from, end = at; at < this.#to; at = end) {
      end = this.#spanEnd(at);
      if (!this.#isKept(at, end)) continue;
      for (let each = at; each < end; each++) {
        write(words, to++, stride, this.#position(each) - base, this.#words[each * this.#stride + 1]!);
      }
      if (at < this.#shown) shown = to;
    }
    this.#removedAt = NO_ENTRY;
    this.#words = words;
    this.#stride = stride;
    this.#base = base;
    this.#from = 0;
    this.#shown = shown;
    this.#to = to;
    this.#index = undefined;
    if (to > UNINDEXED_MAX) this.#makeIndex();
  }

  /** Where the segment that begins at `at` ends; what is in none goes together. */
  #spanEnd(at: number): number {
    return at < this.#shown ? this.#endOf(at) : this.#to;
  }

  #isKept(at: number, end: number): boolean {
    return at >= this.#shown || this.#hasMessages(at, end);
  }

  // ---- by fingerprint

  find(fingerprint: number): number[] {
    let found = NONE;
    const words = this.#words;
    const stride = this.#stride;
    const index = this.#index;
    if (index === undefined) {
      for (let at = this.#from * stride + 1; at < this.#to * stride; at += stride) {
        if ((words[at]! & ~BEGINS) >>> 0 === fingerprint) found = [...found, this.#position((at - 1) / stride)];
      }
      return found;
    }
    found = [];
    const mask = index.length - 1;
    for (let slot = slotOf(fingerprint, mask); index[slot] !== 0; slot = (slot + 1) & mask) {
      const at = index[slot]! - 1;
      if ((words[at * stride + 1]! & ~BEGINS) >>> 0 === fingerprint) found.push(this.#position(at));
    }
    return found;
  }

  /** For all that the array has room for, at a load of half to a quarter less. */
  #makeIndex(): void {
    let slots = 2 * UNINDEXED_MAX;
    while (slots * 3 < (this.#words.length / this.#stride) * 4) slots *= 2;
    const index = slots > 2 ** 16 ? new Uint32Array(slots) : new Uint16Array(slots);
    for (let at = this.#from; at < this.#to; at++) {
      if (!this.#isGone(at)) this.#place(index, (this.#words[at * this.#stride + 1]! & ~BEGINS) >>> 0, at);
    }
    this.#index = index;
  }

  #place(index: Index, fingerprint: number, at: number): void {
    const mask = index.length - 1;
    let slot = slotOf(fingerprint, mask);
    while (index[slot] !== 0) slot = (slot + 1) & mask;
    index[slot] = at + 1;
  }

  // ---- by position

  /** The last entry at or before `position` among those from `#from` to `to`; less than `#from` when there is none. */
  #at(position: number, to: number): number {
    let low = this.#from;
    let high = to;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#position(middle) <= position) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  /**
   * The first position of the segment in which the message was, also when it was the last of it; `undefined` when no
   * message with this fingerprint is there.
   */
  remove(position: number, fingerprint: number): number | undefined {
    let at = this.#removedAt + 1;
    const isNext = at > this.#from && at < this.#shown && this.#position(at) === position;
    if (!isNext) at = this.#at(position, this.#shown);
    if (at < this.#from || this.#position(at) !== position) return undefined;
    const word = at * this.#stride + 1;
    if ((this.#words[word]! & ~BEGINS) >>> 0 !== fingerprint) return undefined;
    this.#words[word]! &= BEGINS;
    const start = isNext && !this.#begins(at) ? this.#removedStart : this.#startOf(at);
    this.#removedAt = at;
    this.#removedStart = start;
    const first = this.#position(start);
    // While there is one behind this in its segment, nothing more is to be done.
    const next = at + 1;
    if (next === this.#shown || this.#begins(next) || this.#isGone(next)) this.#sweep();
    return first;
  }

  // ---- segments

  begin(first: number): void {
    const at = this.#at(first, this.#to);
    this.#words[at * this.#stride + 1]! |= BEGINS;
  }

  show(count: number): void {
    this.#shown += count;
  }

  #startOf(at: number): number {
    let start = at;
    while (start > this.#from && !this.#begins(start)) start--;
    return start;
  }

  #endOf(start: number): number {
    let end = start + 1;
    while (end < this.#shown && !this.#begins(end)) end++;
    return end;
  }

  /** From behind: messages leave in order, mostly. */
  #hasMessages(start: number, end: number): boolean {
    for (let at = end - 1; at >= start; at--) if (!this.#isGone(at)) return true;
    return false;
  }

  /** The first position of the segment in which `position` lies, if the segment has messages. */
  holding(position: number): number | undefined {
    const at = this.#at(position, this.#shown);
    if (at < this.#from) return undefined;
    const start = this.#startOf(at);
    return this.#hasMessages(start, this.#endOf(start)) ? this.#position(start) : undefined;
  }

  gone(first: number): Set<number> | undefined {
    const start = this.#at(first, this.#shown);
    if (start < this.#from || this.#position(start) !== first) return undefined;
    const end = this.#endOf(start);
    let gone: Set<number> | undefined;
    for (let at = start; at < end; at++) {
      if (!this.#isGone(at)) continue;
      gone ??= new Set();
      gone.add(this.#position(at));
    }
    return gone?.size === end - start ? undefined : gone;
  }

  goneBehind(first: number, after: number): Set<number> | undefined {
    const start = this.#at(first, this.#shown);
    if (start < this.#from || this.#position(start) !== first) return undefined;
    const end = this.#endOf(start);
    let gone: Set<number> | undefined;
    for (let at = Math.max(start, this.#at(after, this.#shown) + 1); at < end; at++) {
      if (!this.#isGone(at)) continue;
      gone ??= new Set();
      gone.add(this.#position(at));
    }
    return gone;
  }

  segments(position: number, messages: number, isBehind: boolean): number[] {
    const listed: number[] = [];
    let found = 0;
    const holding = this.#at(position, this.#shown);
    let at = holding < this.#from ? this.#from : this.#startOf(holding);
    if (isBehind && holding >= this.#from) at = this.#endOf(at);
    while (at < this.#shown && found < messages && listed.length < SEGMENTS_LISTED_MAX) {
      const end = this.#endOf(at);
      if (this.#hasMessages(at, end)) listed.push(this.#position(at));
      for (let each = at; each < end; each++) if (!this.#isGone(each)) found++;
      at = end;
    }
    return listed;
  }

  drop(first: number): void {
    const start = this.#at(first, this.#shown);
    if (start < this.#from || this.#position(start) !== first) return;
    const end = this.#endOf(start);
    for (let at = start; at < end; at++) this.#words[at * this.#stride + 1]! &= BEGINS;
    this.#sweep();
  }

  /** Lets go of segments at the front that are gone whole, and of the room of an inbox that is empty. */
  #sweep(): void {
    while (this.#from < this.#shown) {
      const end = this.#endOf(this.#from);
      if (this.#hasMessages(this.#from, end)) return;
      this.#from = end;
    }
    if (this.#from < this.#to) return;
    this.#removedAt = NO_ENTRY;
    this.#from = 0;
    this.#shown = 0;
    this.#to = 0;
    this.#index = undefined;
    this.#stride = 2;
    if (this.#words.length > FIRST_ENTRIES * 2) this.#words = new Uint32Array(FIRST_ENTRIES * 2);
  }
}

function write(words: Uint32Array, at: number, stride: 2 | 3, offset: number, word: number): void {
  const start = at * stride;
  words[start] = offset;
  words[start + 1] = word;
  if (stride === 3) words[start + 2] = Math.floor(offset / WORD);
}

/** The lowest bit of a fingerprint is always clear. */
function slotOf(fingerprint: number, mask: number): number {
  return (fingerprint >>> 1) & mask;
}

/**
 * 31 bits from a secret start, above a bit that is clear; never all clear. FNV-1a with one more mixing, without which a
 * bit of the text would reach only the bits above it, and ids could be chosen to collide under every seed.
 */
function fingerprint(seed: number, from: string, msgId: string): number {
  let hash = seed;
  for (let i = 0; i < from.length; i++) hash = mix(hash, from.charCodeAt(i));
  hash = mix(hash, 0);
  for (let i = 0; i < msgId.length; i++) hash = mix(hash, msgId.charCodeAt(i));
  return (hash & ~BEGINS) >>> 0 || 2;
}

function mix(hash: number, unit: number): number {
  const product = Math.imul(hash ^ unit, 0x01000193);
  return product ^ (product >>> 15);
}
