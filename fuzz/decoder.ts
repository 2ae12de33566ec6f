import {
  decodeEnvelope,
  type Envelope,
  FRAME_HEAD_BYTES,
  FrameCutter,
  FrameWriter,
  wireLimits,
} from '@hawser/protocol';
import type { Random } from '../sim/random.ts';
import { Mutator, readBytes, smallerBytes, writeBytes } from './bytes.ts';
import { compareWithProtobufjs } from './protobuf.ts';
import { STREAM_BYTES_MAX, STREAM_WORDS, Streams } from './streams.ts';
import { expect, Finding, type Target } from './target.ts';

/** A stream of more is split at every place of its beginning only, and here and there behind that. */
const EVERY_SPLIT_BYTES_MAX = 300;
const PLACES_BEHIND = 40;
const BODIES_MAX = 256;
/** One input in so many is split at every place, and one in so many is read by protobufjs as well. */
const EVERY_SPLIT_SHARE = 128;
const PROTOBUFJS_SHARE = 16;
/** A body of which only the beginning came may have so much room, or twice what has come. */
const FIRST_ROOM_BYTES = 4096;

/** Limits for bodies: the small one is met often. */
const LIMITS = [40, wireLimits.frameBytesMaxBeforeLogin, wireLimits.frameBytesMax] as const;

/** What `bytes` holds, cut in the plainest way: where bodies begin and end, and how it goes on behind them. */
class Cut {
  count = 0;
  readonly from = new Int32Array(BODIES_MAX);
  readonly to = new Int32Array(BODIES_MAX);
  isTooLong = false;

  of(bytes: Uint8Array, bodyBytesMax: number): this {
    this.count = 0;
    this.isTooLong = false;
    let at = 0;
    while (at + FRAME_HEAD_BYTES <= bytes.length && this.count < BODIES_MAX) {
      // As a sum, where the product shifts: so that no sign can get in.
      const length = bytes[at]! * 0x1000000 + bytes[at + 1]! * 0x10000 + bytes[at + 2]! * 0x100 + bytes[at + 3]!;
      if (length > bodyBytesMax) {
        this.isTooLong = true;
        return this;
      }
      at += FRAME_HEAD_BYTES;
      if (at + length > bytes.length) return this;
      this.from[this.count] = at;
      at += length;
      this.to[this.count++] = at;
    }
    return this;
  }
}

/** Frames from bytes, and envelopes from frames, in all ways that the bytes may be split. */
export class DecoderTarget implements Target<Uint8Array> {
  readonly name = 'decoder';
  readonly about = 'frames, split in any way, and envelopes, beside protobufjs';
  readonly guidedBy = /protocol\/src\/(?:frame|envelope|text)\.ts$/;
  readonly lookEvery = 2_000;
  readonly counts = { bodies: 0, read: 0, splits: 0, 'by protobufjs': 0 };
  readonly #mutator = new Mutator(STREAM_BYTES_MAX, STREAM_WORDS);
  readonly #streams = new Streams();
  readonly #cut = new Cut();
  readonly #writer = new FrameWriter();
  readonly #copy = new Uint8Array(STREAM_BYTES_MAX * 2).fill(0x92);
  #turn = 0;
  /** Of the stream that is being cut. */
  #taken = 0;
  #isTooLong = false;

  create(random: Random): Uint8Array {
    return this.#streams.create(random);
  }

  mutate(input: Uint8Array, other: Uint8Array, random: Random): Uint8Array {
    return this.#mutator.mutate(input, other, random);
  }

  keep(input: Uint8Array): Uint8Array {
    return input.slice();
  }

  check(input: Uint8Array, isThorough: boolean): void {
    const turn = this.#turn++;
    if (isThorough) for (const limit of LIMITS) this.#checkUnder(input, limit, true, true);
    else {
      const limit = LIMITS[turn % LIMITS.length]!;
      this.#checkUnder(input, limit, turn % EVERY_SPLIT_SHARE === 0, turn % PROTOBUFJS_SHARE === 0);
    }
  }

  #checkUnder(input: Uint8Array, limit: number, everySplit: boolean, compares: boolean): void {
    const cut = this.#cut.of(input, limit);
    for (let i = 0; i < cut.count; i++) {
      const body = input.subarray(cut.from[i]!, cut.to[i]!);
      const envelope = decodeEnvelope(body);
      this.counts.bodies++;
      if (envelope !== undefined) this.#checkEnvelope(body, envelope);
      this.#checkAlone(body, envelope);
      if (compares) {
        this.counts['by protobufjs']++;
        compareWithProtobufjs(body, envelope);
      }
    }
    this.#checkSplit(input, limit, cut, input.length, input.length);
    if (!everySplit) {
      // One place, and one more behind it: another for each input.
      const at = this.#turn % (input.length + 1);
      this.#checkSplit(input, limit, cut, at, at + ((this.#turn >> 4) & 7));
      return;
    }
    const beginning = Math.min(input.length, EVERY_SPLIT_BYTES_MAX);
    for (let at = 0; at <= beginning; at++) this.#checkSplit(input, limit, cut, at, at);
    for (let at = 1; at < beginning; at++) this.#checkSplit(input, limit, cut, at, at + 1);
    for (let i = 1; beginning < input.length && i <= PLACES_BEHIND; i++) {
      const at = Math.floor((i * input.length) / (PLACES_BEHIND + 1));
      this.#checkSplit(input, limit, cut, at, at + i);
    }
    this.#checkBytewise(input, limit, cut);
  }

  /** What was read makes sense, and written again it is read the same. */
  #checkEnvelope(body: Uint8Array, { cmd, msgId, isEncrypt, data }: Envelope): void {
    this.counts.read++;
    expect((cmd | 0) === cmd && typeof msgId === 'string', () => `cmd ${cmd}, msgId ${msgId}`);
    const isInside =
      data.length === 0 ||
      (data.buffer === body.buffer &&
        data.byteOffset >= body.byteOffset &&
        data.byteOffset + data.length <= body.byteOffset + body.length);
    expect(isInside, () => 'data is no view into the body');
    expect(msgId.length <= body.length, () => 'msgId is longer than the body');
    const writer = this.#writer;
    writer.clear();
    writer.frame(cmd, msgId, isEncrypt, data);
    const again = decodeEnvelope(writer.bytes.subarray(FRAME_HEAD_BYTES, writer.length));
    const isSame =
      again !== undefined &&
      again.cmd === cmd &&
      again.msgId === msgId &&
      again.isEncrypt === isEncrypt &&
      isEqual(again.data, data);
    expect(isSame, () => 'written again it is read otherwise');
  }

  /** What lies before and behind a body makes no difference. */
  #checkAlone(body: Uint8Array, envelope: Envelope | undefined): void {
    const room = this.#copy;
    room.set(body, 8);
    for (let i = 8 + body.length; i < 20 + body.length; i++) room[i] = 0x88;
    const alone = decodeEnvelope(room.subarray(8, 8 + body.length));
    const isSame =
      alone === undefined || envelope === undefined
        ? alone === envelope
        : alone.cmd === envelope.cmd && alone.msgId === envelope.msgId && isEqual(alone.data, envelope.data);
    expect(isSame, () => 'a body is read otherwise when other bytes are around it');
  }

  /** Cuts the stream when it comes in up to three pieces: `[0, first)`, `[first, second)`, and the rest. */
  #checkSplit(input: Uint8Array, limit: number, cut: Cut, first: number, second: number): void {
    const cutter = this.#begin();
    let from = 0;
    for (const to of [first, Math.min(second, input.length), input.length]) {
      if (to < from || (to === from && from > 0)) continue;
      cutter.push(input.subarray(from, to));
      from = to;
      this.#takeAll(cutter, input, limit, cut);
      if (this.#isTooLong) break;
      const room = cutter.unfinishedBytes;
      if (room > FIRST_ROOM_BYTES && room > 2 * to) throw new Finding(`${room} bytes of room after ${to} bytes`);
    }
    expectEnd(cut, this.#taken, this.#isTooLong, cutter, input);
  }

  #checkBytewise(input: Uint8Array, limit: number, cut: Cut): void {
    const cutter = this.#begin();
    for (let at = 0; at < input.length && !this.#isTooLong; at++) {
      cutter.push(input.subarray(at, at + 1));
      this.#takeAll(cutter, input, limit, cut);
    }
    expectEnd(cut, this.#taken, this.#isTooLong, cutter, input);
  }

  #begin(): FrameCutter {
    this.counts.splits++;
    this.#taken = 0;
    this.#isTooLong = false;
    return new FrameCutter();
  }

  #takeAll(cutter: FrameCutter, input: Uint8Array, limit: number, cut: Cut): void {
    for (;;) {
      const body = cutter.next(limit);
      if (body === undefined) return;
      if (body === 'too long') {
        this.#isTooLong = true;
        return;
      }
      expectBody(input, cut, this.#taken++, body);
    }
  }

  *smaller(input: Uint8Array): Iterable<Uint8Array> {
    yield* smallerBytes(input);
  }

  write(input: Uint8Array): string {
    return Buffer.from(input).toString('hex');
  }

  read(text: string): Uint8Array {
    return readBytes(text);
  }
}

function expectBody(input: Uint8Array, cut: Cut, index: number, body: Uint8Array): void {
  expect(index < cut.count, () => `a body too many, of ${body.length} bytes: ${writeBytes(body)}`);
  const from = cut.from[index]!;
  expect(body.length === cut.to[index]! - from, () => `body ${index} has ${body.length} bytes`);
  // A view of what was pushed has nothing to compare.
  if (body.buffer === input.buffer && body.byteOffset === input.byteOffset + from) return;
  for (let i = 0; i < body.length; i++) {
    if (body[i] !== input[from + i]) throw new Finding(`body ${index} differs at ${i}`);
  }
}

function expectEnd(cut: Cut, taken: number, isTooLong: boolean, cutter: FrameCutter, input: Uint8Array): void {
  expect(taken === cut.count, () => `${taken} bodies, not ${cut.count}`);
  expect(isTooLong === cut.isTooLong, () => (isTooLong ? 'too long, at a length that is not' : 'a length too long'));
  if (isTooLong) return;
  const rest = input.length - (cut.count === 0 ? 0 : cut.to[cut.count - 1]!);
  expect(cutter.midFrame === rest > 0, () => `${rest} bytes of a frame have come, and it says otherwise`);
}

function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
