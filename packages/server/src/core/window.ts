import { serverLimits } from '@hawser/protocol';
import type { Message } from './message.ts';
import { MessageTable } from './message-table.ts';
import { Parked } from './parked.ts';

/**
 * The unacked pushes of one session by msgId: an ack names nothing else. Those that have not moved for `stuckAfterMs` and
 * lie in the store are parked; one that is asked for is a `Message` again.
 */
export class Window {
  readonly #table = new MessageTable();
  #parked: Parked | undefined;

  get size(): number {
    return this.#table.size + this.parkedSize;
  }

  get parkedSize(): number {
    return this.#parked?.size ?? 0;
  }

  /** Bytes of content of those parked. */
  get parkedBytes(): number {
    return this.#parked?.bytes ?? 0;
  }

  get(msgId: string): Message | undefined {
    const message = this.#table.get(msgId);
    if (message !== undefined || this.#parked === undefined) return message;
    return this.#unparked(this.#parked.take(msgId));
  }

  has(msgId: string): boolean {
    return this.#table.has(msgId) || this.#parked?.has(msgId) === true;
  }

  /** No message with this msgId may be in it. */
  add(message: Message): void {
    this.#table.add(message);
  }

  /** Does nothing when it is not in it. */
  delete(message: Message): void {
    this.#table.delete(message);
  }

  /** Those that are not parked, in the order in which they were made. */
  inOrder(): Message[] {
    return this.#table.inOrder();
  }

  /** Parks what has not moved; called about once a second. */
  park(now: number): void {
    if (this.#table.size === 0) {
      this.#table.trim();
      return;
    }
    const still: Message[] = [];
    this.#table.forEach((message) => {
      if (now - message.pushedAt >= serverLimits.stuckAfterMs && Parked.takes(message)) still.push(message);
    });
    for (const message of still.sort((one, other) => one.number - other.number)) {
      this.#parked ??= new Parked(message.mailbox);
      this.#table.delete(message);
      message.inWindow = false;
      this.#parked.add(message);
    }
  }

  /** How many places are held by what does not move, and the bytes that they have and that are not in memory, or soon will not. */
  stuck(now: number): { count: number; bytes: number } {
    let count = this.parkedSize;
    let bytes = this.parkedBytes;
    this.#table.forEach((message) => {
      if (!message.acked && (message.pushedAt === 0 || now - message.pushedAt < serverLimits.stuckAfterMs)) return;
      count++;
      if (message.acked || message.msg === undefined) bytes += message.size;
    });
    return { count, bytes };
  }

  /** Positions of parked messages for which `isDue` is true of when each was pushed, how often, and its bytes. */
  parkedDue(isDue: (pushedAt: number, pushes: number, bytes: number) => boolean): number[] {
    return this.#parked?.due(isDue) ?? [];
  }

  /** These are about to be pushed again. */
  parkedPushed(positions: readonly number[], now: number): void {
    this.#parked?.pushed(positions, now);
  }

  /** The parked message at this position, which is not parked any more; `undefined` when it was acked meanwhile. */
  unpark(position: number): Message | undefined {
    return this.#unparked(this.#parked?.takeAt(position));
  }

  #unparked(message: Message | undefined): Message | undefined {
    if (message !== undefined) this.#table.add(message);
    return message;
  }
}
