import { decodeText } from '@hawser/protocol';

const NOTHING = new Uint8Array(0);
const NO_INTS = new Int32Array(0);

/**
 * Reads what a `Writer` wrote, from bytes that anybody may have written. It never throws: behind the first thing that
 * cannot be it has failed, and what it returns means nothing.
 */
export class Reader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;
  hasFailed = false;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get isAtEnd(): boolean {
    return this.#at >= this.#bytes.length;
  }

  fail(): void {
    this.hasFailed = true;
  }

  /** Where the next `length` bytes begin; fails when they are not there. */
  #skip(length: number): number | undefined {
    if (this.hasFailed || length > this.#bytes.length - this.#at) {
      this.hasFailed = true;
      return undefined;
    }
    const from = this.#at;
    this.#at += length;
    return from;
  }

  byte(): number {
    const at = this.#skip(1);
    return at === undefined ? 0 : (this.#bytes[at] ?? 0);
  }

  uint(): number {
    let value = 0;
    for (let factor = 1; factor <= 2 ** 49; factor *= 0x80) {
      const byte = this.byte();
      value += (byte & 0x7f) * factor;
      if (byte >= 0x80) continue;
      if (!Number.isSafeInteger(value)) this.fail();
      return value;
    }
    this.fail();
    return 0;
  }

  ints(): Int32Array {
    const count = this.uint();
    const at = this.#skip(count * 4);
    if (at === undefined) return NO_INTS;
    return Int32Array.from({ length: count }, (_, i) => this.#view.getInt32(at + i * 4));
  }

  float(): number {
    const at = this.#skip(8);
    const value = at === undefined ? 0 : this.#view.getFloat64(at);
    if (!Number.isFinite(value)) this.fail();
    return value;
  }

  text(bytesMax: number): string {
    const at = this.#skip(2);
    const length = at === undefined ? 0 : this.#view.getUint16(at);
    if (length > bytesMax) this.fail();
    const from = this.#skip(length);
    const text = from === undefined ? '' : decodeText(this.#bytes, from, from + length);
    if (text === undefined) this.fail();
    return text ?? '';
  }

  bytes(bytesMax: number): Uint8Array {
    const at = this.#skip(4);
    const length = at === undefined ? 0 : this.#view.getUint32(at);
    if (length > bytesMax) this.fail();
    const from = this.#skip(length);
    // `slice` of a Buffer would share its memory.
    return from === undefined ? NOTHING : new Uint8Array(this.#bytes.subarray(from, from + length));
  }

  /** As many as there are said to be, or until it has failed: no room is made for what has not been read. */
  list<Item>(read: () => Item): Item[] {
    const count = this.uint();
    const items: Item[] = [];
    for (let i = 0; i < count && !this.hasFailed; i++) items.push(read());
    return items;
  }
}
