/** How messages, names and keys look on disk. */

import { crc32 } from 'node:zlib';
import { decodeText, encodeText, isName, writeText } from '@hawser/protocol';
import type { NameRecord } from '../core/ports.ts';

/**
 * Version of all that is written here. Older stores are migrated (`migrations.ts`), newer ones are not opened. There is no
 * version 3: a turned bit must not make an older version of this one.
 */
export const SCHEMA = 4;

/** First byte of each key: what kind of record it is. */
export const space = {
  meta: '!',
  name: 'n',
  /** user NUL device */
  binding: 'b',
  /** device NUL user: the same bindings, to be found from the other side */
  reverse: 'r',
  /** receiver NUL position: a segment of an inbox */
  segment: 'm',
  /** receiver NUL position: which messages of the segment there are gone */
  removed: 'd',
  /** records whose checksum was wrong, under 'x' and their former key */
  damaged: 'x',
} as const;

export const metaKey = {
  /** The version as plain text, that any other version can read; `1-2` while a store is being migrated. */
  schema: encodeText('!schema'),
  /** The last key that the migration under way has done. */
  migrated: encodeText('!migrated'),
  /** Positions below this may have been used. */
  positionLease: encodeText('!position'),
  /** How long the store has been in service, ms. */
  ran: encodeText('!ran'),
  /** There while no device ever had a secret or a pairing code. */
  noSecrets: encodeText('!nosecrets'),
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

export function inboxPrefix(kind: 'm' | 'd', receiver: string): Uint8Array {
  return encodeText(`${kind}${receiver}\0`);
}

const POSITION_BYTES = 8;

/** Keys of one inbox sort by position, and no inbox's keys lie among another's: names hold no NUL. */
export function inboxKey(kind: 'm' | 'd', receiver: string, position: number): Uint8Array {
  const prefix = inboxPrefix(kind, receiver);
  const key = new Uint8Array(prefix.length + POSITION_BYTES);
  key.set(prefix);
  const view = new DataView(key.buffer);
  view.setUint32(prefix.length, Math.floor(position / 2 ** 32));
  view.setUint32(prefix.length + 4, position >>> 0);
  return key;
}

/** Writes the same key at `at`, where there is room for 3 bytes a UTF-16 unit; returns the offset behind it. */
export function writeInboxKey(
  into: Uint8Array,
  view: DataView,
  at: number,
  kind: 'm' | 'd',
  receiver: string,
  position: number,
): number {
  into[at] = kind.charCodeAt(0);
  const end = writeText(into, at + 1, receiver);
  into[end] = 0;
  view.setUint32(end + 1, Math.floor(position / 2 ** 32));
  view.setUint32(end + 5, position >>> 0);
  return end + 1 + POSITION_BYTES;
}

/** The position in a key of an inbox. */
export function positionOf(key: Uint8Array): number {
  const view = new DataView(key.buffer, key.byteOffset + key.length - POSITION_BYTES);
  return view.getUint32(0) * 2 ** 32 + view.getUint32(4);
}

/** The receiver in a key of an inbox. */
export function receiverOf(key: Uint8Array): string {
  return decodeText(key, 1, key.length - POSITION_BYTES - 1) ?? '';
}

/** Whether an inbox can have this key: 'm' or 'd', a name, NUL, a position. */
export function isInboxKey(key: Uint8Array): boolean {
  const nulAt = key.length - POSITION_BYTES - 1;
  return nulAt > 0 && key[nulAt] === 0 && isName(receiverOf(key));
}

// ---- checksums

/** CRC-32 of a record. It covers the key too: a record under another key than its own is damaged. */
export function checksumOf(key: Uint8Array, content: Uint8Array): number {
  return crc32(content, crc32(key));
}

// ---- all records but segments: their checksum (4), content

const CRC_BYTES = 4;

/** A record's value. */
export function checked(key: Uint8Array, content: Uint8Array): Uint8Array {
  const value = new Uint8Array(CRC_BYTES + content.length);
  value.set(content, CRC_BYTES);
  new DataView(value.buffer).setUint32(0, checksumOf(key, content));
  return value;
}

/** What `checked` was given; `undefined` when the record is damaged. */
export function contentOf(key: Uint8Array, value: Uint8Array): Uint8Array | undefined {
  if (value.length < CRC_BYTES) return undefined;
  const content = value.subarray(CRC_BYTES);
  const view = new DataView(value.buffer, value.byteOffset, CRC_BYTES);
  return view.getUint32(0) === checksumOf(key, content) ? content : undefined;
}

/** A name as it is stored. A locked one stands in for a record that was damaged: nobody knows its password. */
export type StoredName = NameRecord & { readonly locked?: true };

export function encodeName(key: Uint8Array, record: StoredName): Uint8Array {
  return checked(key, encodeText(JSON.stringify(record)));
}

/** `undefined` when the record is damaged. */
export function decodeName(key: Uint8Array, value: Uint8Array): StoredName | undefined {
  const content = contentOf(key, value);
  return content && (JSON.parse(decodeText(content) ?? '') as StoredName);
}

/** The text after the first byte of a key; `undefined` when it is none. */
export function textOf(key: Uint8Array): string | undefined {
  return decodeText(key, 1);
}

/** A damaged record goes under this key. */
export function asideKey(key: Uint8Array): Uint8Array {
  const aside = new Uint8Array(key.length + 1);
  aside[0] = space.damaged.charCodeAt(0);
  aside.set(key, 1);
  return aside;
}

const kinds: Readonly<Record<string, string>> = {
  [space.meta]: 'note of the store',
  [space.name]: 'name',
  [space.binding]: 'binding',
  [space.reverse]: 'binding',
  [space.segment]: 'messages',
  [space.removed]: 'note of removed messages',
};

/** What a key is of, for the operator: the kind of record, and whose it is. */
export function described(key: Uint8Array): { record: string; name: string; isOfInbox: boolean } {
  const kind = String.fromCharCode(key[0] ?? 0);
  const isOfInbox = kind === space.segment || kind === space.removed;
  const text = (isOfInbox ? receiverOf(key) : textOf(key)) ?? '';
  return { record: kinds[kind] ?? 'unknown', name: text.replace('\0', ' and '), isOfInbox };
}
