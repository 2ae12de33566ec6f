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
  readonly #shares = new Map<string, Share>();
  readonly #ids = new Fingerprints();
  readonly #seed: number;
  readonly #segments = new Segments();
  /** Positions removed from segments that still have others, by the first position of the segment. */
  readonly #gone = new Map<number, Set<number>>();

  /** Segments of which the disk knows that something is gone, by their first position. */
  readonly noted = new Set<number>();

  /** @param seed 32 random bits, so that nobody can choose ids that collide */
  constructor(seed: number) {
    this.#seed = seed;
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

  add(from: string, msgId: string, bytes: number, position: number): void {
    this.messages++;
    this.bytes += bytes;
    const share = this.#shares.get(from);
    if (share === undefined) this.#shares.set(from, { messages: 1, bytes });
    else {
      share.messages++;
      share.bytes += bytes;
    }
    this.#ids.add(fingerprint(this.#seed, from, msgId), position);
  }

  /** Positions at which a message of this sender and msgId may lie: rarely one by mere chance. */
  candidates(message: Pick<NewMessage, 'from' | 'msgId'>): number[] {
    if (!this.#shares.has(message.from)) return [];
    return this.#ids.find(fingerprint(this.#seed, message.from, message.msgId));
  }

  /** Removes a message; returns the first position of its segment, `undefined` when the message is not there. */
  remove(from: string, msgId: string, bytes: number, position: number): number | undefined {
    if (!this.#ids.remove(fingerprint(this.#seed, from, msgId), position)) return undefined;
    this.messages--;
    this.bytes -= bytes;
    const share = this.#shares.get(from);
    if (share !== undefined) {
      share.messages--;
      share.bytes -= bytes;
      if (share.messages === 0) this.#shares.delete(from);
    }
    const first = this.#segments.holding(position);
    if (first === undefined) return undefined;
    if (this.#segments.takeOne(first)) this.#gone.delete(first);
    else this.#goneOf(first).add(position);
    return first;
  }

  #goneOf(first: number): Set<number> {
    const gone = this.#gone.get(first) ?? new Set();
    this.#gone.set(first, gone);
    return gone;
  }

  // ---- segments

  /** Adds a segment behind all others; `gone` are the positions of it that were removed. */
  addSegment(first: number, count: number, gone?: ReadonlySet<number>): void {
    this.#segments.add(first, count - (gone?.size ?? 0));
    if (gone !== undefined && gone.size > 0) this.#gone.set(first, new Set(gone));
  }

  /** Forgets a segment that cannot be read. */
  dropSegment(first: number): void {
    this.#segments.drop(first);
    this.#gone.delete(first);
  }

  hasSegment(first: number): boolean {
    return this.#segments.has(first);
  }

  /** What is gone of a segment that is still there. */
  gone(first: number): ReadonlySet<number> | undefined {
    return this.#gone.get(first);
  }

  /** First positions of segments in order, from the one that may hold `position`, holding about `messages` messages. */
  segmentsFrom(position: number, messages: number): number[] {
    return this.#segments.from(position, messages, false);
  }

  /** The same, from the one behind the segment that begins at `first`. */
  segmentsBehind(first: number, messages: number): number[] {
    return this.#segments.from(first, messages, true);
  }

  /** The segment that may hold a position. */
  segmentHolding(position: number): number | undefined {
    return this.#segments.holding(position);
  }
}

const FIRST_SEGMENTS = 4;
/** Segments listed at once, at most. */
const SEGMENTS_LISTED_MAX = 64;

/** Where segments begin and how many messages each still has, in order: 10 bytes a segment. */
class Segments {
  #firsts = new Float64Array(FIRST_SEGMENTS);
  #live = new Uint16Array(FIRST_SEGMENTS);
  /** Those in use lie from `#from` to `#to`; empty ones may lie among them. */
  #from = 0;
  #to = 0;
  #empty = 0;

  add(first: number, live: number): void {
    if (this.#to === this.#firsts.length) this.#rebuild();
    this.#firsts[this.#to] = first;
    this.#live[this.#to++] = live;
    if (live === 0) this.#empty++;
  }

  /** The last segment that begins at or before `position`, if it has messages. */
  holding(position: number): number | undefined {
    const at = this.#at(position);
    return at >= this.#from && this.#live[at]! > 0 ? this.#firsts[at] : undefined;
  }

  has(first: number): boolean {
    return this.holding(first) === first;
  }

  /** One message of the segment is gone; true when it was the last. */
  takeOne(first: number): boolean {
    const at = this.#at(first);
    if (--this.#live[at]! > 0) return false;
    this.#emptied();
    return true;
  }

  drop(first: number): void {
    const at = this.#at(first);
    if (this.#firsts[at] !== first || this.#live[at] === 0) return;
    this.#live[at] = 0;
    this.#emptied();
  }

  #emptied(): void {
    this.#empty++;
    while (this.#from < this.#to && this.#live[this.#from] === 0) {
      this.#from++;
      this.#empty--;
    }
  }

  from(position: number, messages: number, isBehind: boolean): number[] {
    const listed: number[] = [];
    let found = 0;
    const holding = this.#at(position);
    for (let at = Math.max(this.#from, isBehind ? holding + 1 : holding); at < this.#to && found < messages; at++) {
      if (this.#live[at] === 0) continue;
      listed.push(this.#firsts[at]!);
      found += this.#live[at]!;
      if (listed.length === SEGMENTS_LISTED_MAX) break;
    }
    return listed;
  }

  /** The index of the last segment that begins at or before `position`; less than `#from` when there is none. */
  #at(position: number): number {
    let low = this.#from;
    let high = this.#to;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#firsts[middle]! <= position) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  /** Makes room: leaves out what is empty, and doubles when that is not enough. */
  #rebuild(): void {
    const kept = this.#to - this.#from - this.#empty;
    const slots = Math.max(FIRST_SEGMENTS, kept * 2);
    const firsts = new Float64Array(slots);
    const live = new Uint16Array(slots);
    let to = 0;
    for (let at = this.#from; at < this.#to; at++) {
      if (this.#live[at] === 0) continue;
      firsts[to] = this.#firsts[at]!;
      live[to++] = this.#live[at]!;
    }
    this.#firsts = firsts;
    this.#live = live;
    this.#from = 0;
    this.#to = to;
    this.#empty = 0;
  }
}

/**
 * 32 bits from a secret start. FNV-1a with one more mixing, without which a bit of the text would reach only the bits
 * above it, and ids could be chosen to collide under every seed.
 */
function fingerprint(seed: number, from: string, msgId: string): number {
  let hash = seed;
  for (let i = 0; i < from.length; i++) hash = mix(hash, from.charCodeAt(i));
  hash = mix(hash, 0);
  for (let i = 0; i < msgId.length; i++) hash = mix(hash, msgId.charCodeAt(i));
  return hash >>> 0;
}

function mix(hash: number, unit: number): number {
  const product = Math.imul(hash ^ unit, 0x01000193);
  return product ^ (product >>> 15);
}

const FIRST_SLOTS = 8;
const EMPTY = 0;
const REMOVED = -1;

/**
 * A multimap from 32-bit hashes to positions, open addressing in typed arrays: 12 bytes a slot, where a `Map` takes
 * about 60. Inboxes may hold a hundred thousand messages, and there are many.
 */
class Fingerprints {
  #hashes = new Uint32Array(FIRST_SLOTS);
  #positions = new Float64Array(FIRST_SLOTS);
  /** Slots that are not empty, removed ones included. */
  #used = 0;
  #size = 0;

  add(hash: number, position: number): void {
    if ((this.#used + 1) * 4 > this.#positions.length * 3) this.#rebuild();
    this.#place(hash, position);
    this.#size++;
  }

  remove(hash: number, position: number): boolean {
    const mask = this.#positions.length - 1;
    for (let slot = hash & mask; this.#positions[slot] !== EMPTY; slot = (slot + 1) & mask) {
      if (this.#positions[slot] === position) {
        this.#positions[slot] = REMOVED;
        this.#size--;
        return true;
      }
    }
    return false;
  }

  find(hash: number): number[] {
    const found: number[] = [];
    const mask = this.#positions.length - 1;
    for (let slot = hash & mask; this.#positions[slot] !== EMPTY; slot = (slot + 1) & mask) {
      if (this.#hashes[slot] === hash && this.#positions[slot]! > 0) found.push(this.#positions[slot]!);
    }
    return found;
  }

  #place(hash: number, position: number): void {
    const mask = this.#positions.length - 1;
    let slot = hash & mask;
    while (this.#positions[slot] !== EMPTY) slot = (slot + 1) & mask;
    this.#hashes[slot] = hash;
    this.#positions[slot] = position;
    this.#used++;
  }

  /** Makes room, and sweeps out what was removed. */
  #rebuild(): void {
    let slots = FIRST_SLOTS;
    while (this.#size * 2 >= slots) slots *= 2;
    const hashes = this.#hashes;
    const positions = this.#positions;
    this.#hashes = new Uint32Array(slots);
    this.#positions = new Float64Array(slots);
    this.#used = 0;
    for (let i = 0; i < positions.length; i++) if (positions[i]! > 0) this.#place(hashes[i]!, positions[i]!);
  }
}
