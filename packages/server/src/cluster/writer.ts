const FIRST_BYTES = 4096;
/** A buffer that has grown beyond this is not kept for the next batch. */
const KEPT_BYTES_MAX = 256 * 1024;

/** Makes bytes of numbers, texts and bytes; the numbers are whole and not negative unless they are floats. */
export class Writer {
  #buffer = Buffer.allocUnsafeSlow(FIRST_BYTES);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  #room(bytes: number): void {
    if (this.#length + bytes <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(this.#buffer.length * 2, this.#length + bytes));
    this.#buffer.copy(larger, 0, 0, this.#length);
    this.#buffer = larger;
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
    for (const value of values) this.#length = this.#buffer.writeInt32BE(value, this.#length);
  }

  float(value: number): void {
    this.#room(8);
    this.#buffer.writeDoubleBE(value, this.#length);
    this.#length += 8;
  }

  text(text: string): void {
    this.#room(2 + text.length * 3);
    const length = this.#buffer.write(text, this.#length + 2, 'utf8');
    this.#buffer.writeUInt16BE(length, this.#length);
    this.#length += 2 + length;
  }

  bytes(bytes: Uint8Array): void {
    this.#room(4 + bytes.length);
    this.#buffer.writeUInt32BE(bytes.length, this.#length);
    this.#buffer.set(bytes, this.#length + 4);
    this.#length += 4 + bytes.length;
  }

  /** Takes back what was written beyond this length. */
  cut(length: number): void {
    this.#length = length;
  }

  /** What was written, in memory of its own; the writer is empty then. */
  take(): Buffer {
    const taken = Buffer.from(this.#buffer.subarray(0, this.#length));
    this.#length = 0;
    if (this.#buffer.length > KEPT_BYTES_MAX) this.#buffer = Buffer.allocUnsafeSlow(FIRST_BYTES);
    return taken;
  }
}
