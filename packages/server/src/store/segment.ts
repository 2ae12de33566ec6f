/**
 * A segment: what one commit brought for one receiver, as one record. An inbox is a row of them, so that a flood costs
 * the store a record per receiver and commit instead of one per message.
 *
 *     format (1)  CRC-32 of key and rest (4)  number of messages (2)
 *     each message: position less that of the first (4)  wall (8)  ran (8)  ttl (4)
 *                   length of from (1)  of msgId (1)  of msg (4)  from  msgId  msg
 *
 * Receiver and first position are in the key.
 */

import { decodeText, writeText } from '@hawser/protocol';
import type { NewMessage, StoredMessage } from '../core/ports.ts';
import { checksumOf, positionOf, writeInboxKey } from './record.ts';

/** A segment takes no further message beyond this many, or once it has this many bytes. */
export const SEGMENT_MESSAGES_MAX = 256;
export const SEGMENT_BYTES_MAX = 128 * 1024;

/** 1, in stores of version 1, had a checksum that left out the key. */
const FORMAT = 2;
const CRC_AT = 1;
const CHECKED_FROM = 5;
const COUNT_AT = 5;
const HEAD_BYTES = 7;
const ENTRY_BYTES = 30;
/** Names and msgIds are at most 128 bytes of UTF-8, so at most 128 UTF-16 units of at most 3 bytes each. */
const TEXT_ROOM_BYTES = 2 * 3 * 128;
/** The same for the receiver's name, and the position. */
const KEY_ROOM_BYTES = 1 + 3 * 128 + 1 + 8;

/** The buffer in which segments are built; it is larger only while a commit needs that. */
const BUFFER_BYTES = 512 * 1024;

export interface Segment {
  readonly first: number;
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

/**
 * Builds the segments of a commit, one behind the other in one buffer: an array of its own for every record would be
 * most of what a small message costs.
 */
export class SegmentWriter {
  #bytes = new Uint8Array(BUFFER_BYTES);
  #view = new DataView(this.#bytes.buffer);
  #start = 0;
  #end = HEAD_BYTES;
  #first = 0;
  count = 0;

  get isFull(): boolean {
    return this.count >= SEGMENT_MESSAGES_MAX || this.#end - this.#start >= SEGMENT_BYTES_MAX;
  }

  add(message: NewMessage, position: number): void {
    const { msg } = message;
    if (msg === undefined) throw new Error('a message without its content cannot be stored');
    this.#reserve(ENTRY_BYTES + TEXT_ROOM_BYTES + msg.length);
    if (this.count++ === 0) this.#first = position;
    const bytes = this.#bytes;
    const view = this.#view;
    const at = this.#end;
    view.setUint32(at, position - this.#first);
    view.setFloat64(at + 4, message.wall);
    view.setFloat64(at + 12, message.ran);
    view.setUint32(at + 20, message.ttl);
    const msgIdAt = writeText(bytes, at + ENTRY_BYTES, message.from);
    const msgAt = writeText(bytes, msgIdAt, message.msgId);
    bytes[at + 24] = msgIdAt - at - ENTRY_BYTES;
    bytes[at + 25] = msgAt - msgIdAt;
    view.setUint32(at + 26, msg.length);
    bytes.set(msg, msgAt);
    this.#end = msgAt + msg.length;
  }

  /** The segment with its key, valid until `clear`. */
  take(receiver: string): Segment {
    this.#reserve(KEY_ROOM_BYTES);
    const bytes = this.#bytes;
    const start = this.#start;
    const keyAt = this.#end;
    bytes[start] = FORMAT;
    this.#view.setUint16(start + COUNT_AT, this.count);
    const end = writeInboxKey(bytes, this.#view, keyAt, 'm', receiver, this.#first);
    const key = bytes.subarray(keyAt, end);
    this.#view.setUint32(start + CRC_AT, checksumOf(key, bytes.subarray(start + CHECKED_FROM, keyAt)));
    const segment = { first: this.#first, key, value: bytes.subarray(start, keyAt) };
    this.count = 0;
    this.#start = end;
    this.#end = end + HEAD_BYTES;
    return segment;
  }

  /** What was taken is no longer needed. */
  clear(): void {
    this.count = 0;
    this.#start = 0;
    this.#end = HEAD_BYTES;
    if (this.#bytes.length > BUFFER_BYTES) this.#use(new Uint8Array(BUFFER_BYTES));
  }

  /** Makes room in another buffer when this one is full: what was taken stays where it is. */
  #reserve(more: number): void {
    if (this.#end + more <= this.#bytes.length) return;
    const begun = this.#bytes.subarray(this.#start, this.#end);
    this.#use(new Uint8Array(Math.max(BUFFER_BYTES, (begun.length + more) * 2)));
    this.#bytes.set(begun);
    this.#start = 0;
    this.#end = begun.length;
  }

  #use(bytes: Uint8Array<ArrayBuffer>): void {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer);
  }
}

/** Reads a segment: message by message, in order. */
export class SegmentReader {
  readonly #receiver: string;
  readonly #first: number;
  readonly #value: Uint8Array;
  readonly #view: DataView;
  #at = HEAD_BYTES;
  /** Its place among the messages of the segment, from 0. */
  #ordinal = -1;
  #isHeld = false;
  /** The sender that was asked for last, and where in the record it is. */
  #from = '';
  #fromAt = 0;
  #fromLength = -1;
  readonly count: number;

  private constructor(receiver: string, first: number, value: Uint8Array) {
    this.#receiver = receiver;
    this.#first = first;
    this.#value = value;
    this.#view = new DataView(value.buffer, value.byteOffset, value.length);
    this.count = this.#view.getUint16(COUNT_AT);
  }

  /** `undefined` when the record is damaged, or lies under another key than its own. */
  static open(receiver: string, key: Uint8Array, value: Uint8Array): SegmentReader | undefined {
    if (value.length < HEAD_BYTES || value[0] !== FORMAT) return undefined;
    const view = new DataView(value.buffer, value.byteOffset, value.length);
    if (view.getUint32(CRC_AT) !== checksumOf(key, value.subarray(CHECKED_FROM))) return undefined;
    return new SegmentReader(receiver, positionOf(key), value);
  }

  /** Goes to the next message; false behind the last. */
  next(): boolean {
    if (this.#isHeld) {
      this.#isHeld = false;
      return true;
    }
    if (this.#ordinal >= 0) this.#at = this.#msgAt + this.size;
    return ++this.#ordinal < this.count;
  }

  /** The present message comes once more. */
  hold(): void {
    this.#isHeld = true;
  }

  /** Bytes of the record. */
  get bytes(): number {
    return this.#value.length;
  }

  get ordinal(): number {
    return this.#ordinal;
  }

  get position(): number {
    return this.#first + this.#view.getUint32(this.#at);
  }

  /** Bytes of `msg`. */
  get size(): number {
    return this.#view.getUint32(this.#at + 26);
  }

  /** Mostly that of the message before: then it is the same string. */
  get from(): string {
    const at = this.#at + ENTRY_BYTES;
    const length = this.#value[this.#at + 24]!;
    if (!this.#isSameFrom(at, length)) {
      this.#from = decodeText(this.#value, at, at + length) ?? '';
      this.#fromAt = at;
      this.#fromLength = length;
    }
    return this.#from;
  }

  #isSameFrom(at: number, length: number): boolean {
    if (length !== this.#fromLength) return false;
    const value = this.#value;
    const before = this.#fromAt;
    for (let i = 0; i < length; i++) if (value[at + i] !== value[before + i]) return false;
    return true;
  }

  get msgId(): string {
    const to = this.#msgAt;
    return decodeText(this.#value, to - this.#value[this.#at + 25]!, to) ?? '';
  }

  get #msgAt(): number {
    return this.#at + ENTRY_BYTES + this.#value[this.#at + 24]! + this.#value[this.#at + 25]!;
  }

  /** The present message; its `msg` is a view into the segment. */
  message(): StoredMessage {
    const at = this.#at;
    const msgAt = this.#msgAt;
    return {
      position: this.position,
      to: this.#receiver,
      from: this.from,
      msgId: this.msgId,
      wall: this.#view.getFloat64(at + 4),
      ran: this.#view.getFloat64(at + 12),
      ttl: this.#view.getUint32(at + 20),
      // Of the plain class: a view of Node's own costs several times as much to make.
      msg: new Uint8Array(this.#view.buffer, this.#view.byteOffset + msgAt, this.size),
    };
  }
}
