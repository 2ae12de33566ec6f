import { decodeText } from '@hawser/protocol';
import { NAME_FOLLOWS, NAMES_FORGOTTEN, NAMES_KEPT } from './writer.ts';

const NOTHING = new Uint8Array(0);
const NO_INTS = new Int32Array(0);

/** Contents of messages are copied in pieces of so much: one that is kept for long keeps no more than that with it. */
const PIECE_BYTES = 16 * 1024;

/**
 * Reads what a `Writer` wrote, from bytes that anybody may have written. It never throws: behind the first thing that
 * cannot be it has failed, and what it returns means nothing.
 */
export class Reader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;
  #names: string[] = [];
  #nextName = 0;
  /** A copy of what lies from here. */
  #piece = NOTHING;
  #pieceFrom = 0;
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

  /** What `Writer.name` wrote. */
  name(bytesMax: number): string {
    const which = this.byte();
    if (which !== NAME_FOLLOWS && which !== NAMES_FORGOTTEN) {
      const name = this.#names[which - 1];
      if (name === undefined) this.fail();
      return name ?? '';
    }
    if (which === NAMES_FORGOTTEN) {
      this.#names = [];
      this.#nextName = 0;
    }
    const name = this.text(bytesMax);
    this.#names[this.#nextName] = name;
    this.#nextName = (this.#nextName + 1) % NAMES_KEPT;
    return name;
  }

  /** A copy, which may be part of one that others have a part in, too. */
  bytes(bytesMax: number): Uint8Array {
    const at = this.#skip(4);
    const length = at === undefined ? 0 : this.#view.getUint32(at);
    if (length > bytesMax) this.fail();
    const from = this.#skip(length);
    if (from === undefined || length === 0) return NOTHING;
    if (from + length > this.#pieceFrom + this.#piece.length) this.#copy(from, Math.max(length, PIECE_BYTES));
    return this.#piece.subarray(from - this.#pieceFrom, from - this.#pieceFrom + length);
  }

  #copy(from: number, length: number): void {
    // `slice` of a Buffer would share its memory.
    this.#piece = new Uint8Array(this.#bytes.subarray(from, from + length));
    this.#pieceFrom = from;
  }

  /** As many as there are said to be, or until it has failed: no room is made for what has not been read. */
  list<Item>(read: () => Item): Item[] {
    const count = this.uint();
    const items: Item[] = [];
    for (let i = 0; i < count && !this.hasFailed; i++) items.push(read());
    return items;
  }
}
