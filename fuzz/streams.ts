/** Streams of frames, and envelopes in them, by their grammar and with a slip here and there. */

import { FRAME_HEAD_BYTES } from '@hawser/protocol';
import type { Random } from '../sim/random.ts';

export const STREAM_BYTES_MAX = 16 * 1024;
/** What takes its time is made once in so many fields. */
const RARE = 0.0003;

const utf8 = new TextEncoder();
/** Tags, lengths and varints on either side of what is allowed, and characters that are and are not. */
export const STREAM_WORDS: readonly Uint8Array[] = [
  ...['00', '00000000', '00000001', '00000028', '00000029', '00004000', '00004001', '00100000', '00100001'],
  ...['7fffffff', '80000000', 'ffffffff', '474554202f', '160301', '08c801', '0801', '1200', '1801', '1800', '2200'],
  ...['0b', '0c', '130414', '23', '24', '0d00000000', '090000000000000000', '07', '06', '2a00', '3000'],
  ...['ffffffffffffffffff01', 'ffffffffffffffffff02', 'ffffffffffffffffffff01', '80808080808080808000', '8080808010'],
  ...['ffffffff0f', 'ffffffff1f', '808080808001', '12ffffffff0f', '22ffffffff07', '8000', '888000', '1203eda080'],
  ...['1202c080', '1203efbbbf', '1204f0908080', '1204f4908080', '1203f09f98', '120161', '2a80808080808080808080'],
].map((hex) => new Uint8Array(Buffer.from(hex, 'hex')));

/** Makes them in a buffer that is used again and again. */
export class Streams {
  readonly #bytes = new Uint8Array(2 * STREAM_BYTES_MAX);
  #at = 0;

  create(random: Random): Uint8Array {
    this.#at = 0;
    for (let left = random.chance(0.5) ? 1 : 2; left > 0; left--) this.#frame(random);
    if (random.chance(0.2)) this.#at -= random.below(Math.min(this.#at, 6) + 1);
    return this.#bytes.subarray(0, this.#at);
  }

  #frame(random: Random): void {
    const head = this.#at;
    this.#at += FRAME_HEAD_BYTES;
    for (let left = random.below(5); left > 0; left--) this.#field(random);
    let length = this.#at - head - FRAME_HEAD_BYTES;
    if (random.chance(0.02)) length = random.pick(LENGTHS);
    else if (random.chance(0.05)) length += random.below(5) - 2;
    this.#bytes[head] = length >>> 24;
    this.#bytes[head + 1] = length >>> 16;
    this.#bytes[head + 2] = length >>> 8;
    this.#bytes[head + 3] = length;
  }

  #field(random: Random): void {
    const kind = random.below(16);
    if (random.chance(RARE)) this.#largeData(random);
    else if (kind === 0) this.#put(random.pick(STREAM_WORDS));
    else if (kind < 4) {
      this.#byte(0x08);
      this.#varint(random);
    } else if (kind < 7) {
      this.#byte(0x18);
      this.#varint(random);
    } else if (kind < 10) {
      this.#byte(0x12);
      const text = random.pick(random.chance(0.98) ? TEXTS : RARE_TEXTS);
      this.#length(text.length, random);
      this.#put(text);
    } else if (kind < 13) {
      this.#byte(0x22);
      const count = random.below(random.chance(0.02) ? 200 : 8);
      this.#length(count, random);
      for (let i = 0; i < count; i++) this.#byte(random.below(256));
    } else {
      // Any field of any wire type, also one that is known under another, with as much behind it as it may want.
      this.#byte(random.below(64));
      if (random.chance(0.2)) this.#byte(random.below(256));
      for (let left = random.below(10); left > 0; left--) this.#byte(random.below(256));
    }
  }

  /** More than a cutter makes room for at first. */
  #largeData(random: Random): void {
    const count = Math.min(3_000 + random.below(7_000), STREAM_BYTES_MAX - this.#at);
    if (count < 0x80) return;
    this.#byte(0x22);
    this.#byte(0x80 | (count & 0x7f));
    this.#byte(count >>> 7);
    const bytes = this.#bytes.subarray(this.#at, this.#at + count);
    for (let i = 0; i < count; i++) bytes[i] = i;
    this.#at += count;
  }

  #varint(random: Random): void {
    if (random.chance(0.02)) {
      // Around the most that there may be.
      for (let left = 8 + random.below(4); left > 0; left--) this.#byte(0xff);
      this.#byte(random.below(4));
      return;
    }
    for (let left = random.below(random.chance(0.1) ? 12 : 4); left > 0; left--) this.#byte(0x80 | random.below(256));
    this.#byte(random.chance(0.9) ? random.below(128) : random.below(256));
  }

  #length(bytes: number, random: Random): void {
    if (random.chance(0.01)) {
      // More bytes than a length may have, most of them saying nothing.
      this.#byte(0x80 | bytes);
      for (let left = 3 + random.below(4); left > 0; left--) this.#byte(0x80);
      this.#byte(random.below(2));
      return;
    }
    const length = random.chance(0.05) ? bytes + random.below(4) : bytes;
    if (length < 0x80 && random.chance(0.95)) {
      this.#byte(length);
      return;
    }
    this.#byte(0x80 | (length & 0x7f));
    if (random.chance(0.2)) {
      this.#byte(0x80 | (length >>> 7));
      this.#byte(0);
    } else this.#byte(length >>> 7);
  }

  #put(bytes: Uint8Array): void {
    this.#bytes.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  #byte(value: number): void {
    this.#bytes[this.#at++] = value;
  }
}

const LENGTHS = [0, 1, 39, 40, 41, 16_383, 16_384, 16_385, 2 ** 20 - 1, 2 ** 20, 2 ** 20 + 1, 2 ** 31, 2 ** 32 - 1];

const TEXTS: readonly Uint8Array[] = [
  utf8.encode(''),
  utf8.encode('1'),
  utf8.encode('0f8fad5b-d9cb'),
  utf8.encode('constructor'),
];

/** Long ones, others than ASCII, and what is no UTF-8: all take their time. */
const RARE_TEXTS: readonly Uint8Array[] = [
  utf8.encode('é€😀'),
  utf8.encode('\ufeff\u0000\u2028'),
  utf8.encode('x'.repeat(127)),
  utf8.encode('x'.repeat(128)),
  utf8.encode('é'.repeat(64)),
  Uint8Array.of(0xed, 0xa0, 0x80),
  Uint8Array.of(0xc0, 0xaf),
  Uint8Array.of(0xf4, 0x90, 0x80, 0x80),
  Uint8Array.of(0x61, 0xe2, 0x82),
];
