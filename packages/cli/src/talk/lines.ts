import { createInterface } from 'node:readline';

/** The lines of standard input, one after the other; also a last one that nothing ends. */
export class Lines {
  readonly #input: NodeJS.ReadableStream;
  /** Begun by the first who asks: until then others may read the terminal. */
  #lines: AsyncIterator<string> | undefined;

  constructor(input: NodeJS.ReadableStream) {
    this.#input = input;
  }

  /** The next line; `undefined` at the end. */
  async next(): Promise<string | undefined> {
    this.#lines ??= createInterface({ input: this.#input, crlfDelay: Number.POSITIVE_INFINITY })[
      Symbol.asyncIterator
    ]();
    const { done, value } = await this.#lines.next();
    return done ? undefined : value;
  }
}
