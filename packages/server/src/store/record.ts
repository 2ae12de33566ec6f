/** How messages, names and keys look on disk. */

import { decodeText, encodeText, writeText } from '@hawser/protocol';
import type { NameRecord } from '../core/ports.ts';

/** Version of all that is written here; a store of another one is not opened. */
export const SCHEMA = '1';

/** Stands for the version while a backup is copied in. */
export const UNFINISHED = 'unfinished';

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

export function encodeName(record: NameRecord): Uint8Array {
  return encodeText(JSON.stringify(record));
}

export function decodeName(value: Uint8Array): NameRecord {
  return JSON.parse(decodeText(value) ?? '') as NameRecord;
}
