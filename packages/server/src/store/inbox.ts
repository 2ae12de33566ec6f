import type { NewMessage } from '../core/ports.ts';

/** How much an inbox may hold; a sender may fill one part in `senderShare`. */
export interface InboxLimits {
  readonly messagesMax: number;
  readonly bytesMax: number;
  readonly senderShare: number;
}

interface Share {
  messages: number;
  bytes: number;
}

/**
 * What must be known of a stored inbox before more goes in: its fill, each sender's share, and which messages it has.
 * Derived from the inbox itself when it is first touched, so that nothing beside the messages is written.
 */
export class Inbox {
  messages = 0;
  bytes = 0;
  readonly #shares = new Map<string, Share>();
  readonly #ids = new Fingerprints();
  readonly #seed: number;

  /** @param seed 32 random bits, so that nobody can choose ids that collide */
  constructor(seed: number) {
    this.#seed = seed;
  }

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

  /** False when the message is not there. */
  remove(from: string, msgId: string, bytes: number, position: number): boolean {
    if (!this.#ids.remove(fingerprint(this.#seed, from, msgId), position)) return false;
    this.messages--;
    this.bytes -= bytes;
    const share = this.#shares.get(from);
    if (share !== undefined) {
      share.messages--;
      share.bytes -= bytes;
      if (share.messages === 0) this.#shares.delete(from);
    }
    return true;
  }

  /** Positions at which a message of this sender and msgId may lie: rarely one by mere chance. */
  candidates(message: Pick<NewMessage, 'from' | 'msgId'>): number[] {
    if (!this.#shares.has(message.from)) return [];
    return this.#ids.find(fingerprint(this.#seed, message.from, message.msgId));
  }
}

/** FNV-1a, 32 bits, from a secret start. */
function fingerprint(seed: number, from: string, msgId: string): number {
  let hash = seed;
  for (let i = 0; i < from.length; i++) hash = Math.imul(hash ^ from.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ 0, 0x01000193);
  for (let i = 0; i < msgId.length; i++) hash = Math.imul(hash ^ msgId.charCodeAt(i), 0x01000193);
  return hash >>> 0;
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
