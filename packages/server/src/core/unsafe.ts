import type { Message } from './message.ts';

/**
 * Messages that are in memory alone, in the order in which they are to be stored unless they are acked before. A list
 * linked through its messages: one that is acked leaves it at once, and is soon forgotten. In an array it would wait for
 * its time, live past two collections of V8's young generation, and cost a collection of the old one.
 */
export class Unsafe {
  oldest: Message | undefined;
  #newest: Message | undefined;

  /** Adds it as the newest; one that is in the list already changes its place. */
  add(message: Message): void {
    this.remove(message);
    message.isUnsafe = true;
    message.olderUnsafe = this.#newest;
    if (this.#newest === undefined) this.oldest = message;
    else this.#newest.newerUnsafe = message;
    this.#newest = message;
  }

  /** Does nothing when it is not in the list. */
  remove(message: Message): void {
    if (!message.isUnsafe) return;
    message.isUnsafe = false;
    const { olderUnsafe: older, newerUnsafe: newer } = message;
    if (older === undefined) this.oldest = newer;
    else older.newerUnsafe = newer;
    if (newer === undefined) this.#newest = older;
    else newer.olderUnsafe = older;
    message.olderUnsafe = undefined;
    message.newerUnsafe = undefined;
  }
}
