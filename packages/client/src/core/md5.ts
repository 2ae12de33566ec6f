/** MD5 (RFC 1321), for passwords as the protocol wants them: browsers have none. Not for anything else. */

const SHIFTS = [7, 12, 17, 22, 5, 9, 14, 20, 4, 11, 16, 23, 6, 10, 15, 21] as const;

/** The sines that RFC 1321, 3.4, defines. */
function sine(step: number): number {
  return Math.floor(Math.abs(Math.sin(step + 1)) * 2 ** 32);
}

/** The digest of the text as UTF-8: 32 hex digits. */
export function md5Hex(text: string): string {
  const words = paddedWords(new TextEncoder().encode(text));
  const state = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476];
  for (let at = 0; at < words.length; at += 16) addBlock(state, words.subarray(at, at + 16));
  const digest = new DataView(new ArrayBuffer(16));
  for (const [index, word] of state.entries()) digest.setUint32(4 * index, word, true);
  let hex = '';
  for (let at = 0; at < 16; at++) hex += digest.getUint8(at).toString(16).padStart(2, '0');
  return hex;
}

/** The bytes, a one bit, zeros, and the length in bits: whole blocks of 16 words, little-endian. */
function paddedWords(bytes: Uint8Array): Uint32Array {
  const blocks = Math.ceil((bytes.length + 9) / 64);
  const words = new Uint32Array(blocks * 16);
  for (const [at, byte] of bytes.entries()) words[at >> 2]! |= byte << (8 * (at & 3));
  words[bytes.length >> 2]! |= 0x80 << (8 * (bytes.length & 3));
  words[words.length - 2] = bytes.length << 3;
  words[words.length - 1] = bytes.length / 2 ** 29;
  return words;
}

function addBlock(state: number[], words: Uint32Array): void {
  let [a, b, c, d] = state as [number, number, number, number];
  for (let step = 0; step < 64; step++) {
    const round = step >> 4;
    let mix: number;
    let word: number;
    if (round === 0) [mix, word] = [(b & c) | (~b & d), step];
    else if (round === 1) [mix, word] = [(d & b) | (~d & c), (5 * step + 1) & 15];
    else if (round === 2) [mix, word] = [b ^ c ^ d, (3 * step + 5) & 15];
    else [mix, word] = [c ^ (b | ~d), (7 * step) & 15];
    const sum = (a + mix + sine(step) + words[word]!) | 0;
    const shift = SHIFTS[round * 4 + (step & 3)]!;
    [a, d, c, b] = [d, c, b, (b + ((sum << shift) | (sum >>> (32 - shift)))) | 0];
  }
  for (const [index, value] of [a, b, c, d].entries()) state[index] = (state[index]! + value) | 0;
}
