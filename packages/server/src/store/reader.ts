import type { LevelDb } from './writer.ts';

/** So many reads are under way at once; further ones wait and go together. */
const READS_AT_ONCE = 2;

interface Waiting {
  readonly key: Uint8Array;
  readonly resolve: (value: Uint8Array | undefined) => void;
  readonly reject: (error: unknown) => void;
}

/** Reads single records. A read is a change of thread, which costs much more than a record: many that come at once share it. */
export class Reader {
  readonly #db: LevelDb;
  #waiting: Waiting[] = [];
  #reads = 0;

  constructor(db: LevelDb) {
    this.#db = db;
  }

  /** Sees all that was written before. */
  get(key: Uint8Array): Promise<Uint8Array | undefined> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ key, resolve, reject });
      if (this.#reads < READS_AT_ONCE) void this.#read();
    });
  }

  async #read(): Promise<void> {
    this.#reads++;
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
    this.#reads--;
  }

  /** One record that cannot be read is nobody else's trouble. */
  async #readAlone(some: readonly Waiting[]): Promise<void> {
    await Promise.all(some.map(({ key, resolve, reject }) => this.#db.get(key).then(resolve, reject)));
  }
}
