/** Lets work on the same names go one at a time, in the order asked for. */
export class Locks {
  readonly #last = new Map<string, Promise<void>>();

  /** Runs `work` when nothing else holds any of `names`. Taken in one order by all, so nobody waits in a circle. */
  async hold<Result>(names: readonly string[], work: () => Promise<Result>): Promise<Result> {
    const releases: (() => void)[] = [];
    try {
      for (const name of [...new Set(names)].sort()) releases.push(await this.#take(name));
      return await work();
    } finally {
      for (const release of releases) release();
    }
  }

  async #take(name: string): Promise<() => void> {
    const before = this.#last.get(name);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#last.set(name, promise);
    await before;
    return () => {
      if (this.#last.get(name) === promise) this.#last.delete(name);
      resolve();
    };
  }
}
