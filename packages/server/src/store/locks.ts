import { StoreAway } from '../core/ports.ts';

/** Lets work on the same names go one at a time, in the order asked for. */
export class Locks {
  readonly #last = new Map<string, Promise<void>>();
  #isClosed = false;

  /** Lets nothing more in; resolves when all that was let in is done. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.all(this.#last.values());
  }

  /**
   * Runs `work` when nothing asked for earlier holds any of `names`. Its place is taken for all of them at once, so the
   * order is the same on each and nobody waits in a circle.
   */
  async hold<Result>(names: readonly string[], work: () => Promise<Result>): Promise<Result> {
    if (this.#isClosed) throw new StoreAway('the store is being closed');
    const { promise, resolve } = Promise.withResolvers<void>();
    const before = names.map((name) => this.#last.get(name));
    for (const name of names) this.#last.set(name, promise);
    try {
      if (before.some((each) => each !== undefined)) await Promise.all(before);
      return await work();
    } finally {
      for (const name of names) if (this.#last.get(name) === promise) this.#last.delete(name);
      resolve();
    }
  }
}
