import { FRAME_HEAD_BYTES, writeFrameHead } from './frame.ts';
import { decodeText, utf8Length, writeText } from './text.ts';

/**
 * The body of a frame:
 *
 *     message BaseMsgPb { int32 cmd = 1; string msgId = 2; bool isEncrypt = 3; bytes data = 4; }
 *
 * Written by hand because four fields need no library and this is read and written once per message. It recurses into
 * nothing, allocates nothing beyond its results, and refuses what protobuf refuses; the tests compare it with
 * protobufjs.
 */

export interface Envelope {
  readonly cmd: number;
  readonly msgId: string;
  readonly isEncrypt: boolean;
  /** A view into the body that was decoded; what it says takes its place when it is decrypted. */
  data: Uint8Array;
}

const EMPTY: Uint8Array = new Uint8Array(0);
const VARINT_BYTES_MAX = 10;

/** Wire types of protobuf. Groups (3 and 4) are refused, 6 and 7 do not exist. */
const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

/** Where the last `readVarint` ended; -1 when it failed. */
let varintEnd = 0;

/** The low 32 bits of a varint, as an unsigned number; sets `varintEnd`. */
function readVarint(bytes: Uint8Array, from: number): number {
  let value = 0;
  for (let i = 0; i < VARINT_BYTES_MAX; i++) {
    if (from + i >= bytes.length) break;
    const byte = bytes[from + i]!;
    // The tenth byte has room for one bit of the 64.
    if (i === VARINT_BYTES_MAX - 1 && byte > 1) break;
    if (i < 5) value |= (byte & 0x7f) << (7 * i);
    if (byte < 0x80) {
      varintEnd = from + i + 1;
      return value >>> 0;
    }
  }
  varintEnd = -1;
  return 0;
}

/** Whether a varint that ended at `varintEnd` has any bit set: bools are 64 bits wide on the wire. */
function isNonZero(bytes: Uint8Array, from: number, to: number): boolean {
  for (let i = from; i < to; i++) if ((bytes[i]! & 0x7f) !== 0) return true;
  return false;
}

/** Whether a varint is more than a tag or a length may be: five bytes, the fifth with four bits. */
function exceeds32Bits(bytes: Uint8Array, from: number, to: number): boolean {
  return to - from > 5 || (to - from === 5 && bytes[to - 1]! > 15);
}

/**
 * Decodes a body; `undefined` when it is not protobuf (truncated, a varint of more than ten bytes, a tag or length of
 * more than 32 bits, field number 0, a group, `msgId` that is not UTF-8). Unknown fields, and known ones of another wire
 * type, are skipped; of repeated fields the last wins.
 */
export function decodeEnvelope(body: Uint8Array): Envelope | undefined {
  let cmd = 0;
  let msgId = '';
  let isEncrypt = false;
  let data: Uint8Array = EMPTY;
  let at = 0;
  const end = body.length;
  while (at < end) {
    const tagFrom = at;
    const tag = readVarint(body, at);
    at = varintEnd;
    if (at < 0 || exceeds32Bits(body, tagFrom, at) || tag >>> 3 === 0) return undefined;
    const field = tag >>> 3;
    switch (tag & 7) {
      case VARINT: {
        const from = at;
        const value = readVarint(body, from);
        at = varintEnd;
        if (at < 0) return undefined;
        if (field === 1) cmd = value | 0;
        else if (field === 3) isEncrypt = isNonZero(body, from, at);
        break;
      }
      case BYTES: {
        const lengthFrom = at;
        const length = readVarint(body, at);
        at = varintEnd;
        if (at < 0 || exceeds32Bits(body, lengthFrom, at) || length > end - at) return undefined;
        const from = at;
        at += length;
        if (field === 2) {
          const text = decodeText(body, from, at);
          if (text === undefined) return undefined;
          msgId = text;
        } else if (field === 4) data = body.subarray(from, at);
        break;
      }
      case FIXED64:
        at += 8;
        break;
      case FIXED32:
        at += 4;
        break;
      default:
        return undefined;
    }
    if (at > end) return undefined;
  }
  return { cmd, msgId, isEncrypt, data };
}

const TAG_CMD = 0x08;
const TAG_MSG_ID = 0x12;
const TAG_IS_ENCRYPT = 0x18;
const TAG_DATA = 0x22;

/** Room that a frame needs beside its msgId and data: head, four tags, cmd, flag and two lengths. */
const FRAME_OVERHEAD_BYTES = FRAME_HEAD_BYTES + 1 + VARINT_BYTES_MAX + 1 + 5 + 2 + 1 + 5;
const FIRST_ROOM_BYTES = 4096;

/**
 * Collects frames to be sent, in a buffer that is used again and again: take what `bytes` holds up to `length`, copy
 * it, and `clear`.
 */
export class FrameWriter {
  bytes: Uint8Array = new Uint8Array(FIRST_ROOM_BYTES);
  length = 0;

  clear(): void {
    this.length = 0;
  }

  /** Adds a frame. Fields at their defaults are left out, as proto3 does: a bare heartbeat is an empty body. */
  frame(cmd: number, msgId: string, isEncrypt: boolean, data: Uint8Array): void {
    this.#reserve(FRAME_OVERHEAD_BYTES + msgId.length * 3 + data.length);
    const bytes = this.bytes;
    const head = this.length;
    let at = head + FRAME_HEAD_BYTES;
    if (cmd !== 0) {
      bytes[at++] = TAG_CMD;
      at = cmd < 0 ? writeNegative(bytes, at, cmd) : writeVarint(bytes, at, cmd);
    }
    if (msgId !== '') {
      bytes[at++] = TAG_MSG_ID;
      const to = writeText(bytes, at + 1, msgId);
      const count = to - at - 1;
      if (count < 0x80) {
        bytes[at] = count;
        at = to;
      } else {
        at = writeVarint(bytes, at, utf8Length(msgId));
        at = writeText(bytes, at, msgId);
      }
    }
    if (isEncrypt) {
      bytes[at++] = TAG_IS_ENCRYPT;
      bytes[at++] = 1;
    }
    if (data.length > 0) {
      bytes[at++] = TAG_DATA;
      at = writeVarint(bytes, at, data.length);
      bytes.set(data, at);
      at += data.length;
    }
    writeFrameHead(bytes, head, at - head - FRAME_HEAD_BYTES);
    this.length = at;
  }

  /** Adds frames that are encoded already. */
  raw(encoded: Uint8Array): void {
    this.#reserve(encoded.length);
    this.bytes.set(encoded, this.length);
    this.length += encoded.length;
  }

  /** Lets go of a buffer that grew beyond `bytes`. Call when it is empty or taken. */
  shrink(bytes: number): void {
    if (this.bytes.length > bytes) this.bytes = new Uint8Array(FIRST_ROOM_BYTES);
  }

  #reserve(more: number): void {
    const needed = this.length + more;
    if (needed <= this.bytes.length) return;
    const larger = new Uint8Array(Math.max(needed, this.bytes.length * 2));
    larger.set(this.bytes.subarray(0, this.length));
    this.bytes = larger;
  }
}

function writeVarint(into: Uint8Array, at: number, value: number): number {
  let rest = value;
  let end = at;
  while (rest >= 0x80) {
    into[end++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  into[end++] = rest;
  return end;
}

/** A negative int32 is sign-extended to 64 bits, so it takes ten bytes. */
function writeNegative(into: Uint8Array, at: number, value: number): number {
  let end = at;
  for (let i = 0; i < 4; i++) into[end++] = ((value >>> (7 * i)) & 0x7f) | 0x80;
  into[end++] = (value >>> 28) | 0xf0;
  for (let i = 0; i < 4; i++) into[end++] = 0xff;
  into[end++] = 0x01;
  return end;
}

/** One frame as bytes of its own. */
export function encodeFrame(cmd: number, msgId: string, isEncrypt: boolean, data: Uint8Array): Uint8Array {
  const writer = new FrameWriter();
  writer.frame(cmd, msgId, isEncrypt, data);
  return writer.bytes.slice(0, writer.length);
}
