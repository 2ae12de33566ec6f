import type { LevelDb } from './writer.ts';

interface Waiting {
  readonly key: Uint8Array;
  readonly resolve: (value: Uint8Array | undefined) => void;
  readonly reject: (error: unknown) => void;
}

/** Reads single records. A read is a change of thread, which costs much more than a record: many that come at once share it. */
export class Reader {
  readonly #db: LevelDb;
  #waiting: Waiting[] = [];
  #isReading = false;

  constructor(db: LevelDb) {
    this.#db = db;
  }

  /** Sees all that was written before. */
  get(key: Uint8Array): Promise<Uint8Array | undefined> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ key, resolve, reject });
      if (this.#isReading) return;
      this.#isReading = true;
      // Others of this turn of the event loop go with it.
      setImmediate(() => this.#read());
    });
  }

  async #read(): Promise<void> {
    while (this.#waiting.length > 0) {
      const some = this.#waiting;
      this.#waiting = [];
      try {
        const values = await this.#db.getMany(some.map(({ key }) => key));
        for (const [i, { resolve }] of some.entries()) resolve(values[i]);
      } catch (error) {
        if (some.length === 1) some[0]!.reject(error);
        else await this.#readAlone(some);
      }
    }
    this.#isReading = false;
  }

  /** One record that cannot be read is nobody else's trouble. */
  async #readAlone(some: readonly Waiting[]): Promise<void> {
    await Promise.all(some.map(({ key, resolve, reject }) => this.#db.get(key).then(resolve, reject)));
  }
}
