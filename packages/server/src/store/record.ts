/** How messages, names and keys look on disk. */

import { crc32 } from 'node:zlib';
import { decodeText, encodeText } from '@hawser/protocol';
import type { NameRecord, NewMessage, StoredMessage } from '../core/ports.ts';

/** Version of all that is written here; a store of another one is not opened. */
export const SCHEMA = '1';

/** First byte of each key: what kind of record it is. */
export const space = {
  meta: '!',
  name: 'n',
  /** user NUL device */
  binding: 'b',
  /** device NUL user: the same bindings, to be found from the other side */
  reverse: 'r',
  /** receiver NUL position */
  message: 'm',
  /** records whose checksum was wrong, under 'x' and their former key */
  damaged: 'x',
} as const;

export const metaKey = {
  schema: encodeText('!schema'),
  /** Positions below this may have been used. */
  positionLease: encodeText('!position'),
  /** How long the store has been in service, ms. */
  ran: encodeText('!ran'),
} as const;

export function nameKey(name: string): Uint8Array {
  return encodeText(space.name + name);
}

export function pairKey(kind: 'b' | 'r', first: string, second: string): Uint8Array {
  return encodeText(`${kind}${first}\0${second}`);
}

/** The keys that begin with `prefix` lie from the first, inclusive, to the second, exclusive. */
export function range(prefix: Uint8Array): { gte: Uint8Array; lt: Uint8Array } {
  const lt = prefix.slice();
  // Keys end in UTF-8 or NUL, so the last byte is never 0xff.
  lt[lt.length - 1]!++;
  return { gte: prefix, lt };
}

export function inboxPrefix(receiver: string): Uint8Array {
  return encodeText(`${space.message}${receiver}\0`);
}

const POSITION_BYTES = 8;

export function messageKey(receiver: string, position: number): Uint8Array {
  const prefix = inboxPrefix(receiver);
  const key = new Uint8Array(prefix.length + POSITION_BYTES);
  key.set(prefix);
  const view = new DataView(key.buffer);
  view.setUint32(prefix.length, Math.floor(position / 2 ** 32));
  view.setUint32(prefix.length + 4, position >>> 0);
  return key;
}

/** The position in a message's key. */
export function positionOf(key: Uint8Array): number {
  const view = new DataView(key.buffer, key.byteOffset + key.length - POSITION_BYTES);
  return view.getUint32(0) * 2 ** 32 + view.getUint32(4);
}

/** The receiver in a message's key. */
export function receiverOf(key: Uint8Array): string {
  return decodeText(key, 1, key.length - POSITION_BYTES - 1) ?? '';
}

export function encodeName(record: NameRecord): Uint8Array {
  return encodeText(JSON.stringify(record));
}

export function decodeName(value: Uint8Array): NameRecord {
  return JSON.parse(decodeText(value) ?? '') as NameRecord;
}

/**
 * A message: format (1 byte), CRC-32 of the rest (4), wall (8), ran (8), ttl (4), then `from` and `msgId` with a
 * length byte each, then `msg` to the end. Receiver and position are in the key.
 */
const FORMAT = 1;
const HEAD_BYTES = 25;
const CRC_AT = 1;
const CHECKED_FROM = 5;

export function encodeMessage(message: NewMessage): Uint8Array {
  const { msg } = message;
  if (msg === undefined) throw new Error('a message without its content cannot be stored');
  const from = encodeText(message.from);
  const msgId = encodeText(message.msgId);
  const value = new Uint8Array(HEAD_BYTES + 2 + from.length + msgId.length + msg.length);
  const view = new DataView(value.buffer);
  value[0] = FORMAT;
  view.setFloat64(5, message.wall);
  view.setFloat64(13, message.ran);
  view.setUint32(21, message.ttl);
  let at = HEAD_BYTES;
  value[at++] = from.length;
  value.set(from, at);
  at += from.length;
  value[at++] = msgId.length;
  value.set(msgId, at);
  value.set(msg, at + msgId.length);
  view.setUint32(CRC_AT, crc32(value.subarray(CHECKED_FROM)));
  return value;
}

/** A stored message; `undefined` when the record is damaged. */
export function decodeMessage(key: Uint8Array, value: Uint8Array): StoredMessage | undefined {
  if (value.length < HEAD_BYTES + 2 || value[0] !== FORMAT) return undefined;
  const view = new DataView(value.buffer, value.byteOffset, value.length);
  if (view.getUint32(CRC_AT) !== crc32(value.subarray(CHECKED_FROM))) return undefined;
  const fromAt = HEAD_BYTES + 1;
  const msgIdAt = fromAt + value[HEAD_BYTES]! + 1;
  const msgAt = msgIdAt + value[msgIdAt - 1]!;
  return {
    position: positionOf(key),
    to: receiverOf(key),
    from: decodeText(value, fromAt, msgIdAt - 1) ?? '',
    msgId: decodeText(value, msgIdAt, msgAt) ?? '',
    wall: view.getFloat64(5),
    ran: view.getFloat64(13),
    ttl: view.getUint32(21),
    msg: value.subarray(msgAt),
  };
}
