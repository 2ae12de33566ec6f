/**
 * The session cipher as a port: AES-ECB with PKCS#7 padding, under the key that the client sent with cmd 2.
 * `cipher-node.ts` is the adapter for Node.
 */
export interface Cipher {
  /**
   * Encrypts `bytes[from..to)`. The padding is written into `bytes` behind `to`, so 16 bytes must be free there;
   * the result is a buffer of its own.
   */
  encrypt(bytes: Uint8Array, from: number, to: number): Uint8Array;

  /** The plain bytes, without padding; `undefined` when the data has no whole blocks or wrong padding. */
  decrypt(data: Uint8Array): Uint8Array | undefined;

  /** The same for several pieces of data, independent of each other, at little more than the cost of one. */
  decryptAll(pieces: readonly Uint8Array[]): (Uint8Array | undefined)[];

  /** Lets go of what can be made again: nothing was encrypted or decrypted for some time. */
  rest?(): void;
}

/** AES works on blocks of this many bytes. */
export const BLOCK_BYTES = 16;

/** Key sizes that cmd 2 may carry. */
export function isKeyLength(bytes: number): boolean {
  return bytes === 16 || bytes === 24 || bytes === 32;
}

/** Writes PKCS#7 padding behind `to`, for data that began at `from`; returns the padded end. */
export function pad(bytes: Uint8Array, from: number, to: number): number {
  const count = BLOCK_BYTES - ((to - from) % BLOCK_BYTES);
  bytes.fill(count, to, to + count);
  return to + count;
}

/** The length of `padded[from..to)` without its PKCS#7 padding; -1 when the padding is wrong. */
export function unpaddedLength(padded: Uint8Array, from = 0, to: number = padded.length): number {
  const count = to > from ? padded[to - 1]! : 0;
  if (count === 0 || count > BLOCK_BYTES || count > to - from) return -1;
  for (let i = to - count; i < to; i++) if (padded[i] !== count) return -1;
  return to - count - from;
}
