/**
 * Frames: `| 4-byte length | body |`, big-endian, unsigned, the length counting the body only.
 */

/** Bytes of the length before each body. */
export const FRAME_HEAD_BYTES = 4;

/** A body that comes in pieces gets room as it arrives, so that a length alone makes nobody allocate. */
const FIRST_PIECE_BYTES = 4096;

const EMPTY: Uint8Array = new Uint8Array(0);

/**
 * Cuts a stream of bytes into frame bodies, without a socket: `push` bytes in, take bodies out with `next`.
 *
 * Bodies are views into what was pushed, valid until the next `push`. A body that came in several pieces is collected
 * in a buffer that grows with what arrives; nothing is allocated for a frame before its length has been checked.
 */
export class FrameCutter {
  #chunk: Uint8Array = EMPTY;
  #at = 0;
  /** The length bytes of a frame whose head was cut off: at most three are kept. */
  #headBytes = 0;
  #head = 0;
  /** The body being collected over several chunks: room for it, how much of it is there, and how long it will be. */
  #body: Uint8Array | undefined;
  #filled = 0;
  #length = 0;

  /** Adds what was received. Everything pushed before must have been taken with `next` until it gave nothing. */
  push(chunk: Uint8Array): void {
    if (this.#at < this.#chunk.length) throw new Error('frames of the last chunk are still to be taken');
    this.#chunk = chunk;
    this.#at = 0;
  }

  /**
   * The next whole body; `undefined` when more bytes are needed; `'too long'` when the length exceeds
   * `bodyBytesMax`, after which the stream cannot be cut any further.
   */
  next(bodyBytesMax: number): Uint8Array | undefined | 'too long' {
    if (this.#body) return this.#collect(this.#body);
    const chunk = this.#chunk;
    let length: number;
    if (this.#headBytes === 0 && chunk.length - this.#at >= FRAME_HEAD_BYTES) {
      const at = this.#at;
      length = ((chunk[at]! << 24) | (chunk[at + 1]! << 16) | (chunk[at + 2]! << 8) | chunk[at + 3]!) >>> 0;
      this.#at = at + FRAME_HEAD_BYTES;
    } else {
      while (this.#headBytes < FRAME_HEAD_BYTES) {
        if (this.#at === chunk.length) return this.#release();
        this.#head = ((this.#head << 8) | chunk[this.#at++]!) >>> 0;
        this.#headBytes++;
      }
      length = this.#head;
      this.#head = 0;
      this.#headBytes = 0;
    }
    if (length > bodyBytesMax) return 'too long';
    const from = this.#at;
    if (chunk.length - from >= length) {
      this.#at = from + length;
      // Not `subarray`: of Node's Buffer that makes another, at twice the cost, and so does each view of it.
      return new Uint8Array(chunk.buffer, chunk.byteOffset + from, length);
    }
    this.#length = length;
    this.#body = new Uint8Array(Math.min(length, FIRST_PIECE_BYTES));
    this.#filled = 0;
    return this.#collect(this.#body);
  }

  /** Whether a frame has begun and not ended. */
  get midFrame(): boolean {
    return this.#headBytes > 0 || this.#body !== undefined;
  }

  /** Room taken for a body that has not arrived whole, bytes. */
  get unfinishedBytes(): number {
    return this.#body?.length ?? 0;
  }

  /** Bytes pushed and not yet taken as part of a body. */
  get hasInput(): boolean {
    return this.#at < this.#chunk.length;
  }

  /** The same, counted. */
  get inputBytes(): number {
    return this.#chunk.length - this.#at;
  }

  /** All that was pushed and not yet taken is zeros, as frames without a body are. */
  get isSilent(): boolean {
    return !this.midFrame && this.#chunk.subarray(this.#at).every((byte) => byte === 0);
  }

  #collect(room: Uint8Array): Uint8Array | undefined {
    const chunk = this.#chunk;
    const taken = Math.min(this.#length - this.#filled, chunk.length - this.#at);
    const filled = this.#filled + taken;
    let body = room;
    if (filled > room.length) {
      body = new Uint8Array(Math.min(this.#length, Math.max(filled, room.length * 2)));
      body.set(room.subarray(0, this.#filled));
    }
    body.set(chunk.subarray(this.#at, this.#at + taken), this.#filled);
    this.#filled = filled;
    this.#at += taken;
    if (filled < this.#length) {
      this.#body = body;
      return this.#release();
    }
    this.#body = undefined;
    return body;
  }

  /** Lets go of a chunk that is used up, so that an idle connection holds no buffer. */
  #release(): undefined {
    this.#chunk = EMPTY;
    this.#at = 0;
    return undefined;
  }
}

/** Writes the length of a body at `at`; returns the offset behind it. */
export function writeFrameHead(into: Uint8Array, at: number, bodyBytes: number): number {
  into[at] = bodyBytes >>> 24;
  into[at + 1] = bodyBytes >>> 16;
  into[at + 2] = bodyBytes >>> 8;
  into[at + 3] = bodyBytes;
  return at + FRAME_HEAD_BYTES;
}
