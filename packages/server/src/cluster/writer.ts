const FIRST_BYTES = 4096;
/** A buffer that has grown beyond this is not kept for the next batch. */
const KEPT_BYTES_MAX = 256 * 1024;

/** Names of one batch that are written once: most packets have the names of the one before. */
export const NAMES_KEPT = 4;
/** In place of one of these: the name follows, and is kept. Behind it: it is the only one that is kept. */
export const NAME_FOLLOWS = 0;
export const NAMES_FORGOTTEN = NAMES_KEPT + 1;

/** Makes bytes of numbers, texts and bytes; the numbers are whole and not negative unless they are floats. */
export class Writer {
  #buffer = Buffer.allocUnsafeSlow(FIRST_BYTES);
  #view = new DataView(this.#buffer.buffer);
  #length = 0;
  /** Where the next new name is kept, and whether the reader may have other names there. */
  #names: string[] = [];
  #nextName = 0;
  #areNamesUnknown = false;

  get length(): number {
    return this.#length;
  }

  #room(bytes: number): void {
    if (this.#length + bytes <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(this.#buffer.length * 2, this.#length + bytes));
    this.#buffer.copy(larger, 0, 0, this.#length);
    this.#use(larger);
  }

  #use(buffer: Buffer<ArrayBuffer>): void {
    this.#buffer = buffer;
    this.#view = new DataView(buffer.buffer);
  }

  byte(value: number): void {
    this.#room(1);
    this.#buffer[this.#length++] = value;
  }

  /** Seven bits a byte, the lowest first. */
  uint(value: number): void {
    this.#room(8);
    let rest = value;
    while (rest >= 0x80) {
      this.#buffer[this.#length++] = (rest % 0x80) | 0x80;
      // Not by shifts: positions and claims have more than 32 bits.
      rest = Math.floor(rest / 0x80);
    }
    this.#buffer[this.#length++] = rest;
  }

  /** Four bytes each, behind their number. */
  ints(values: Int32Array): void {
    this.uint(values.length);
    this.#room(values.length * 4);
    for (const value of values) {
      this.#view.setInt32(this.#length, value);
      this.#length += 4;
    }
  }

  float(value: number): void {
    this.#room(8);
    this.#view.setFloat64(this.#length, value);
    this.#length += 8;
  }

  text(text: string): void {
    this.#room(2 + text.length * 3);
    const length = this.#buffer.write(text, this.#length + 2, 'utf8');
    this.#view.setUint16(this.#length, length);
    this.#length += 2 + length;
  }

  /** A text that is likely to be one of those before. */
  name(name: string): void {
    const known = this.#areNamesUnknown ? -1 : this.#names.indexOf(name);
    if (known >= 0) {
      this.byte(known + 1);
      return;
    }
    this.byte(this.#areNamesUnknown ? NAMES_FORGOTTEN : NAME_FOLLOWS);
    if (this.#areNamesUnknown) this.#forgetNames();
    this.text(name);
    this.#names[this.#nextName] = name;
    this.#nextName = (this.#nextName + 1) % NAMES_KEPT;
  }

  #forgetNames(): void {
    this.#names = [];
    this.#nextName = 0;
    this.#areNamesUnknown = false;
  }

  bytes(bytes: Uint8Array): void {
    this.#room(4 + bytes.length);
    this.#view.setUint32(this.#length, bytes.length);
    this.#buffer.set(bytes, this.#length + 4);
    this.#length += 4 + bytes.length;
  }

  /** Takes back what was written beyond this length. */
  cut(length: number): void {
    this.#length = length;
    // Some of them may have been written there.
    this.#areNamesUnknown = true;
  }

  /** What was written, in memory of its own; the writer is empty then. */
  take(): Buffer {
    const taken = Buffer.from(this.#buffer.subarray(0, this.#length));
    this.#length = 0;
    this.#forgetNames();
    if (this.#buffer.length > KEPT_BYTES_MAX) this.#use(Buffer.allocUnsafeSlow(FIRST_BYTES));
    return taken;
  }
}
