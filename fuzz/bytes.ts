/** What targets have in common whose input is bytes: changing them, taking away from them, writing them down. */

import type { Random } from '../sim/random.ts';

const INTERESTING = [0, 1, 2, 7, 8, 9, 10, 13, 0x20, 0x22, 0x2c, 0x5c, 0x5d, 0x7d, 0x7f, 0x80, 0xc0, 0xed, 0xf4, 0xff];
const CHANGES_MAX = 4;
const COPIED_MAX = 64;

/** Changes bytes in a buffer that is used again and again. */
export class Mutator {
  readonly #room: Uint8Array;
  readonly #words: readonly Uint8Array[];

  /** @param words what is often put in as a whole */
  constructor(bytesMax: number, words: readonly Uint8Array[]) {
    this.#room = new Uint8Array(bytesMax + 2 * COPIED_MAX);
    this.#words = words;
  }

  mutate(input: Uint8Array, other: Uint8Array, random: Random): Uint8Array {
    const room = this.#room;
    const bytesMax = room.length - 2 * COPIED_MAX;
    let length = Math.min(input.length, bytesMax);
    room.set(input.length > length ? input.subarray(0, length) : input);
    for (let left = 1 + random.below(CHANGES_MAX); left > 0; left--) {
      length = Math.min(this.#change(length, other, random), bytesMax);
    }
    return room.subarray(0, length);
  }

  #change(length: number, other: Uint8Array, random: Random): number {
    const room = this.#room;
    const at = random.below(length + 1);
    switch (random.below(8)) {
      case 0:
        room[at] = room[at]! ^ (1 << random.below(8));
        return length;
      case 1:
        room[at] = random.below(256);
        return Math.max(length, at + 1);
      case 2:
        room[at] = random.pick(INTERESTING);
        return Math.max(length, at + 1);
      case 3: {
        const count = Math.min(length - at, 1 + random.below(8));
        room.copyWithin(at, at + count, length);
        return length - count;
      }
      case 4: {
        const from = random.below(length + 1);
        return this.#insert(length, at, room.slice(from, Math.min(length, from + 1 + random.below(COPIED_MAX - 1))));
      }
      case 5: {
        const from = random.below(other.length + 1);
        return this.#insert(length, at, other.subarray(from, from + 1 + random.below(COPIED_MAX - 1)));
      }
      case 6:
        return this.#words.length === 0 ? at : this.#insert(length, at, random.pick(this.#words));
      default:
        return random.chance(0.3) ? at : length;
    }
  }

  #insert(length: number, at: number, bytes: Uint8Array): number {
    const piece = bytes.length > COPIED_MAX ? bytes.subarray(0, COPIED_MAX) : bytes;
    const end = Math.min(length, this.#room.length - piece.length);
    this.#room.copyWithin(at + piece.length, at, end);
    this.#room.set(piece, at);
    return end + piece.length;
  }
}

/** The same with a piece taken out, larger pieces first; then with each byte made plainer. */
export function* smallerBytes(input: Uint8Array): Generator<Uint8Array> {
  for (let piece = input.length; piece > 0; piece = Math.floor(piece / 2)) {
    for (let at = 0; at + piece <= input.length; at += Math.max(1, Math.floor(piece / 2))) {
      const rest = new Uint8Array(input.length - piece);
      rest.set(input.subarray(0, at));
      rest.set(input.subarray(at + piece), at);
      yield rest;
    }
  }
}

const PRINTABLE = /^[\x20-\x7e]*$/;

/** Printable ASCII as it is, behind `text:`; anything else in hexadecimal. */
export function writeBytes(input: Uint8Array): string {
  const latin = Buffer.from(input).toString('latin1');
  return PRINTABLE.test(latin) ? `text:${latin}` : Buffer.from(input).toString('hex');
}

/** Reads what `writeBytes` wrote. White space in hexadecimal is for the eye, `#` begins a comment. */
export function readBytes(text: string): Uint8Array {
  if (text.startsWith('text:')) return new Uint8Array(Buffer.from(text.slice(5), 'latin1'));
  const hex = text.replaceAll(/#.*$/gm, '').replaceAll(/\s/g, '');
  if (!/^(?:[0-9a-f]{2})*$/i.test(hex)) throw new Error('an input is "text:…", or hexadecimal');
  return new Uint8Array(Buffer.from(hex, 'hex'));
}
