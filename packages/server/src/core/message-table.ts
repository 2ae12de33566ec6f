import { digest } from './digest.ts';
import type { Message } from './message.ts';

const FIRST_SLOTS = 8;
/** Of all tables that are new: most clients are idle. */
const NO_SLOTS: (Message | undefined)[] = [];
/** What an empty table may keep: about the room for what a busy client has in flight. */
const EMPTY_SLOTS_MAX = 64;

/**
 * Messages by msgId: open addressing in one array. A `Map` from which as much is taken as is put into it makes a new table
 * all the time, to which each old one points: V8 then takes every message for one that has grown old, and collects them
 * all the expensive way (measured: a quarter of the time at full speed).
 */
export class MessageTable {
  #slots: (Message | undefined)[] = NO_SLOTS;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get(msgId: string): Message | undefined {
    if (this.#size === 0) return undefined;
    digest.of(msgId);
    const { low, high } = digest;
    const slots = this.#slots;
    const mask = slots.length - 1;
    for (let slot = low & mask; ; slot = (slot + 1) & mask) {
      const message = slots[slot];
      if (message === undefined) return undefined;
      if (message.idLow === low && message.idHigh === high && message.msgId === msgId) return message;
    }
  }

  has(msgId: string): boolean {
    return this.get(msgId) !== undefined;
  }

  /** No message with this msgId may be in it. */
  add(message: Message): void {
    if ((this.#size + 1) * 2 > this.#slots.length) this.#grow();
    this.#size++;
    place(this.#slots, message);
  }

  #grow(): void {
    const slots = empty(Math.max(FIRST_SLOTS, this.#slots.length * 2));
    for (const message of this.#slots) if (message !== undefined) place(slots, message);
    this.#slots = slots;
  }

  /** Does nothing when this very message is not in it. */
  delete(message: Message): void {
    if (this.#size === 0) return;
    const slots = this.#slots;
    const mask = slots.length - 1;
    let hole = message.idLow & mask;
    while (slots[hole] !== message) {
      if (slots[hole] === undefined) return;
      hole = (hole + 1) & mask;
    }
    this.#size--;
    // Whatever would not be found any more across the hole moves into it.
    for (let slot = (hole + 1) & mask; ; slot = (slot + 1) & mask) {
      const next = slots[slot];
      if (next === undefined) break;
      const home = next.idLow & mask;
      if (((slot - home) & mask) < ((slot - hole) & mask)) continue;
      slots[hole] = next;
      hole = slot;
    }
    slots[hole] = undefined;
  }

  /** In any order; none may be added or deleted meanwhile. */
  forEach(call: (message: Message) => void): void {
    if (this.#size === 0) return;
    for (const message of this.#slots) if (message !== undefined) call(message);
  }

  /** All of them, in the order in which they were made. */
  inOrder(): Message[] {
    const all: Message[] = [];
    this.forEach((message) => {
      all.push(message);
    });
    return all.sort((one, other) => one.number - other.number);
  }

  /** Gives back the room that a burst took, once it is over. */
  trim(): void {
    if (this.#size === 0 && this.#slots.length > EMPTY_SLOTS_MAX) this.#slots = NO_SLOTS;
  }
}

function empty(slots: number): (Message | undefined)[] {
  return new Array<Message | undefined>(slots).fill(undefined);
}

function place(slots: (Message | undefined)[], message: Message): void {
  const mask = slots.length - 1;
  let slot = message.idLow & mask;
  while (slots[slot] !== undefined) slot = (slot + 1) & mask;
  slots[slot] = message;
}
