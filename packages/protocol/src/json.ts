/**
 * A validating scanner for JSON in bytes (RFC 8259). It builds no values: it proves that a body is JSON and finds
 * where fields lie, so that a `msg` is passed on byte for byte and never parsed, and so that what reaches receivers
 * is exactly one value.
 *
 * Stricter than `JSON.parse`: the bytes must be UTF-8, an object has no key twice (also when spelled with escapes),
 * and nesting is bounded. It uses no recursion.
 */

import { wireLimits } from './limits.ts';
import { decodeText } from './text.ts';

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;
const OPEN_ARRAY = 0x5b;
const CLOSE_ARRAY = 0x5d;

/** What `scan` returns, and field positions hold, when there is none. */
export const NOT_FOUND = -1;

/** Objects with more keys than this are checked for double keys by a table instead of pair by pair. */
const KEYS_COMPARED_MAX = 16;

/** The keys of the objects that are open, three numbers each: hash, and offsets of the text without quotes. */
let keys = new Int32Array(384);
let keyCount = 0;

/** So many bytes one by one, before four at a time: what reads four costs as much to make. */
const LOOKED_AT_ONE_BY_ONE = 64;

/** Whether the last string scanned has an escape in it. */
let stringEscaped = false;

/** The offset behind the white space at `at`. */
export function skipSpace(bytes: Uint8Array, at: number): number {
  let i = at;
  while (i < bytes.length) {
    const c = bytes[i]!;
    if (c !== 0x20 && c !== 0x0a && c !== 0x0d && c !== 0x09) break;
    i++;
  }
  return i;
}

/** The offset behind the string whose opening quote is at `at`; -1 when it is none. */
export function scanString(bytes: Uint8Array, at: number): number {
  if (bytes[at] !== QUOTE) return NOT_FOUND;
  stringEscaped = false;
  let i = at + 1;
  let stretch = LOOKED_AT_ONE_BY_ONE;
  let stretchEnd = i + stretch;
  for (;;) {
    if (i >= stretchEnd) {
      const from = i;
      i = skipPlain(bytes, from);
      // Where few are plain it is seldom looked for them.
      if (i - from < LOOKED_AT_ONE_BY_ONE) stretch *= 2;
      stretchEnd = i + stretch;
    }
    if (i >= bytes.length) return NOT_FOUND;
    const c = bytes[i]!;
    if (c === QUOTE) return i + 1;
    if (c < 0x20) return NOT_FOUND;
    if (c === BACKSLASH) {
      stringEscaped = true;
      i = scanEscape(bytes, i + 1);
      if (i < 0) return NOT_FOUND;
    } else if (c < 0x80) i++;
    else {
      i = scanUtf8(bytes, i);
      if (i < 0) return NOT_FOUND;
    }
  }
}

/**
 * The offset of the four bytes, or of what is left of them, that are not all plain: ASCII, no quote, no backslash, no
 * control character. What takes one from each byte, or 0x20, borrows its high bit where the byte is less (Warren,
 * "Hacker's Delight", 6-1).
 */
function skipPlain(bytes: Uint8Array, at: number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const last = bytes.length - 4;
  let i = at;
  while (i <= last) {
    const four = view.getInt32(i, true);
    const quotes = (four ^ 0x22222222) - 0x01010101;
    const backslashes = (four ^ 0x5c5c5c5c) - 0x01010101;
    if (((four | (four - 0x20202020) | quotes | backslashes) & 0x80808080) !== 0) return i;
    i += 4;
  }
  return i;
}

function scanEscape(bytes: Uint8Array, at: number): number {
  switch (bytes[at]) {
    case 0x22: // "
    case 0x5c: // \\
    case 0x2f: // /
    case 0x62: // b
    case 0x66: // f
    case 0x6e: // n
    case 0x72: // r
    case 0x74: // t
      return at + 1;
    case 0x75: // u
      for (let i = 1; i <= 4; i++) if (!isHex(bytes[at + i])) return NOT_FOUND;
      return at + 5;
    default:
      return NOT_FOUND;
  }
}

function isHex(c: number | undefined): boolean {
  return c !== undefined && ((c >= 0x30 && c <= 0x39) || (c >= 0x41 && c <= 0x46) || (c >= 0x61 && c <= 0x66));
}

/** The offset behind one character of two to four bytes; -1 for what RFC 3629 forbids. */
function scanUtf8(bytes: Uint8Array, at: number): number {
  const lead = bytes[at]!;
  const second = bytes[at + 1] ?? 0;
  let length: number;
  let low = 0x80;
  let high = 0xbf;
  if (lead >= 0xc2 && lead <= 0xdf) length = 2;
  else if (lead >= 0xe0 && lead <= 0xef) {
    length = 3;
    if (lead === 0xe0) low = 0xa0;
    else if (lead === 0xed) high = 0x9f;
  } else if (lead >= 0xf0 && lead <= 0xf4) {
    length = 4;
    if (lead === 0xf0) low = 0x90;
    else if (lead === 0xf4) high = 0x8f;
  } else return NOT_FOUND;
  if (second < low || second > high) return NOT_FOUND;
  for (let i = 2; i < length; i++) {
    const c = bytes[at + i] ?? 0;
    if (c < 0x80 || c > 0xbf) return NOT_FOUND;
  }
  return at + length;
}

function scanNumber(bytes: Uint8Array, at: number): number {
  let i = at;
  if (bytes[i] === 0x2d) i++;
  if (bytes[i] === 0x30) i++;
  else {
    const digits = scanDigits(bytes, i);
    if (digits === i) return NOT_FOUND;
    i = digits;
  }
  if (bytes[i] === 0x2e) {
    const digits = scanDigits(bytes, i + 1);
    if (digits === i + 1) return NOT_FOUND;
    i = digits;
  }
  if (bytes[i] === 0x65 || bytes[i] === 0x45) {
    i++;
    if (bytes[i] === 0x2b || bytes[i] === 0x2d) i++;
    const digits = scanDigits(bytes, i);
    if (digits === i) return NOT_FOUND;
    i = digits;
  }
  return i;
}

function scanDigits(bytes: Uint8Array, at: number): number {
  let i = at;
  while (i < bytes.length && bytes[i]! >= 0x30 && bytes[i]! <= 0x39) i++;
  return i;
}

const TRUE = [0x74, 0x72, 0x75, 0x65];
const FALSE = [0x66, 0x61, 0x6c, 0x73, 0x65];
const NULL = [0x6e, 0x75, 0x6c, 0x6c];

function scanWord(bytes: Uint8Array, at: number, word: readonly number[]): number {
  for (let i = 0; i < word.length; i++) if (bytes[at + i] !== word[i]) return NOT_FOUND;
  return at + word.length;
}

function scanScalar(bytes: Uint8Array, at: number): number {
  switch (bytes[at]) {
    case QUOTE:
      return scanString(bytes, at);
    case 0x74:
      return scanWord(bytes, at, TRUE);
    case 0x66:
      return scanWord(bytes, at, FALSE);
    case 0x6e:
      return scanWord(bytes, at, NULL);
    default:
      return scanNumber(bytes, at);
  }
}

/** The keys of one object seen so far: from `firstKey` on, and once they are many also in a table. */
interface OpenObject {
  readonly firstKey: number;
  /** Open addressing by hash; indexes into `keys` plus one, 0 where there is none. */
  table: Int32Array | undefined;
}

/**
 * The offset behind the value at `at` (which white space may not precede); -1 when it is not valid JSON or nests
 * deeper than `depthMax`.
 */
export function scanValue(bytes: Uint8Array, at: number, depthMax: number = wireLimits.jsonDepthMax): number {
  const first = bytes[at];
  if (first !== OPEN_OBJECT && first !== OPEN_ARRAY) return scanScalar(bytes, at);
  const keysBefore = keyCount;
  const end = scanNested(bytes, at, depthMax);
  keyCount = keysBefore;
  return end;
}

function scanNested(bytes: Uint8Array, at: number, depthMax: number): number {
  /** The open brackets, innermost last: an object's keys, or `undefined` for an array. */
  const open: (OpenObject | undefined)[] = [];
  let i = at;
  for (;;) {
    // A value begins at `i`.
    const c = bytes[i];
    if (c === OPEN_OBJECT || c === OPEN_ARRAY) {
      if (open.length === depthMax) return NOT_FOUND;
      i = skipSpace(bytes, i + 1);
      const object = c === OPEN_OBJECT ? { firstKey: keyCount, table: undefined } : undefined;
      open.push(object);
      if (object !== undefined && bytes[i] !== CLOSE_OBJECT) {
        i = scanKey(bytes, i, object);
        if (i < 0) return NOT_FOUND;
        continue;
      }
      if (object === undefined && bytes[i] !== CLOSE_ARRAY) continue;
    } else {
      i = scanScalar(bytes, i);
      if (i < 0) return NOT_FOUND;
      i = skipSpace(bytes, i);
    }
    // A value, or an opening bracket with nothing in it, ended before `i`: close brackets, or go to the next element.
    for (;;) {
      const object = open[open.length - 1];
      if (bytes[i] === COMMA) {
        i = skipSpace(bytes, i + 1);
        if (object !== undefined) {
          i = scanKey(bytes, i, object);
          if (i < 0) return NOT_FOUND;
        }
        break;
      }
      if (bytes[i] !== (object === undefined ? CLOSE_ARRAY : CLOSE_OBJECT)) return NOT_FOUND;
      i++;
      open.pop();
      if (object !== undefined) keyCount = object.firstKey;
      if (open.length === 0) return i;
      i = skipSpace(bytes, i);
    }
  }
}

/** Takes a key and its colon; the offset of the value, -1 when it is malformed or the object has the key already. */
function scanKey(bytes: Uint8Array, at: number, object: OpenObject): number {
  const to = scanString(bytes, at);
  if (to < 0) return NOT_FOUND;
  if (!addKey(bytes, at + 1, to - 1, object)) return NOT_FOUND;
  const colon = skipSpace(bytes, to);
  if (bytes[colon] !== COLON) return NOT_FOUND;
  return skipSpace(bytes, colon + 1);
}

/** Notes the key `bytes[from..to)`; false when the object has it. */
function addKey(bytes: Uint8Array, from: number, to: number, object: OpenObject): boolean {
  const hash = stringEscaped ? hashEscaped(bytes, from, to) : hashBytes(bytes, from, to);
  if (keyCount * 3 === keys.length) {
    const larger = new Int32Array(keys.length * 2);
    larger.set(keys);
    keys = larger;
  }
  const at = keyCount * 3;
  keys[at] = hash;
  keys[at + 1] = from;
  keys[at + 2] = to;
  const count = keyCount - object.firstKey;
  if (count < KEYS_COMPARED_MAX) {
    for (let k = object.firstKey; k < keyCount; k++) if (keys[3 * k] === hash && isSameKey(bytes, k)) return false;
  } else {
    if (object.table === undefined || count * 2 >= object.table.length) object.table = tableOf(object.firstKey);
    if (!enter(bytes, object.table)) return false;
  }
  keyCount++;
  return true;
}

/** A table of the keys from `firstKey` on, with room for as many again. */
function tableOf(firstKey: number): Int32Array {
  let slots = 4 * KEYS_COMPARED_MAX;
  while (slots < 4 * (keyCount - firstKey)) slots *= 2;
  const table = new Int32Array(slots);
  for (let k = firstKey; k < keyCount; k++) {
    let slot = keys[3 * k]! & (slots - 1);
    while (table[slot] !== 0) slot = (slot + 1) & (slots - 1);
    table[slot] = k + 1;
  }
  return table;
}

/** Enters the key at `keyCount`; false when the table has it. */
function enter(bytes: Uint8Array, table: Int32Array): boolean {
  const mask = table.length - 1;
  const hash = keys[3 * keyCount]!;
  let slot = hash & mask;
  while (table[slot] !== 0) {
    const k = table[slot]! - 1;
    if (keys[3 * k] === hash && isSameKey(bytes, k)) return false;
    slot = (slot + 1) & mask;
  }
  table[slot] = keyCount + 1;
  return true;
}

/** Whether the key at `keyCount` is the one at `k`. Asked only where their hashes are the same. */
function isSameKey(bytes: Uint8Array, k: number): boolean {
  const other = stringText(bytes, keys[3 * k + 1]!, keys[3 * k + 2]!);
  return other === stringText(bytes, keys[3 * keyCount + 1]!, keys[3 * keyCount + 2]!);
}

/** A start that differs from run to run, so that nobody can choose keys that collide. */
const HASH_SEED = crypto.getRandomValues(new Int32Array(1))[0]!;

/** FNV-1a, with its bits mixed at the end, over the bytes of a key. */
function hashBytes(bytes: Uint8Array, from: number, to: number): number {
  let hash = HASH_SEED;
  for (let i = from; i < to; i++) hash = Math.imul(hash ^ bytes[i]!, 0x01000193);
  return mixed(hash);
}

/** The same for a key spelled with escapes, over the bytes that it would have without them. */
function hashEscaped(bytes: Uint8Array, from: number, to: number): number {
  let hash = HASH_SEED;
  for (let i = from; i < to; i++) {
    if (bytes[i] !== BACKSLASH) {
      hash = Math.imul(hash ^ bytes[i]!, 0x01000193);
      continue;
    }
    i++;
    let code = SHORT_ESCAPES.get(bytes[i]!) ?? bytes[i]!;
    if (bytes[i] === 0x75) {
      code = hexUnit(bytes, i + 1);
      i += 4;
      const isPair = (code & 0xfc00) === 0xd800 && bytes[i + 1] === BACKSLASH && bytes[i + 2] === 0x75;
      const low = isPair ? hexUnit(bytes, i + 3) : 0;
      if ((low & 0xfc00) === 0xdc00) {
        code = 0x10000 + ((code & 0x3ff) << 10) + (low & 0x3ff);
        i += 6;
      }
    }
    hash = hashCodePoint(hash, code);
  }
  return mixed(hash);
}

/** \\b \\f \\n \\r \\t; all others stand for themselves. */
const SHORT_ESCAPES: ReadonlyMap<number, number> = new Map([
  [0x62, 0x08],
  [0x66, 0x0c],
  [0x6e, 0x0a],
  [0x72, 0x0d],
  [0x74, 0x09],
]);

function hexUnit(bytes: Uint8Array, at: number): number {
  let unit = 0;
  for (let i = at; i < at + 4; i++) {
    const c = bytes[i]!;
    unit = (unit << 4) | (c <= 0x39 ? c - 0x30 : (c | 0x20) - 0x57);
  }
  return unit;
}

/** Hashes the bytes of one character. */
function hashCodePoint(hash: number, code: number): number {
  if (code < 0x80) return Math.imul(hash ^ code, 0x01000193);
  const tail = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  let next = Math.imul(hash ^ (LEAD[tail]! | (code >>> (6 * tail))), 0x01000193);
  for (let k = tail - 1; k >= 0; k--) next = Math.imul(next ^ (0x80 | ((code >>> (6 * k)) & 0x3f)), 0x01000193);
  return next;
}

/** The bits of the first byte in UTF-8 that say how many follow. */
const LEAD = [0, 0xc0, 0xe0, 0xf0] as const;

/** The finalizer of MurmurHash3. */
function mixed(hash: number): number {
  let mixing = hash;
  mixing = Math.imul(mixing ^ (mixing >>> 16), 0x85ebca6b);
  mixing = Math.imul(mixing ^ (mixing >>> 13), 0xc2b2ae35);
  return mixing ^ (mixing >>> 16);
}

/** The text of a scanned string between its quotes, escapes resolved. */
function stringText(bytes: Uint8Array, from: number, to: number): string {
  const text = decodeText(bytes, from, to) ?? '';
  return text.includes('\\') ? (JSON.parse(`"${text}"`) as string) : text;
}

/** The string value in `bytes[from..to)`, quotes included; `undefined` when the value is not a string. */
export function stringValue(bytes: Uint8Array, from: number, to: number): string | undefined {
  return bytes[from] === QUOTE ? stringText(bytes, from + 1, to - 1) : undefined;
}

/** Fields to look for in an object, their names in ASCII. */
export class FieldSet {
  readonly names: readonly string[];
  /** After `find`: where each field's value begins and ends, in pairs; -1 for a field that is not there. */
  readonly spans: Int32Array;
  readonly #bytes: readonly Uint8Array[];

  constructor(names: readonly string[]) {
    this.names = names;
    this.spans = new Int32Array(names.length * 2);
    this.#bytes = names.map((name) => Uint8Array.from(name, (c) => c.charCodeAt(0)));
  }

  /**
   * Scans the object at `at`, filling `spans`. Returns the offset behind it; -1 when it is not a valid object, or nests
   * deeper than `depthMax`, itself counted. Keys that are not looked for are ignored.
   */
  find(bytes: Uint8Array, at: number, depthMax: number = wireLimits.jsonDepthMax): number {
    const spans = this.spans.fill(NOT_FOUND);
    if (bytes[at] !== OPEN_OBJECT) return NOT_FOUND;
    let i = skipSpace(bytes, at + 1);
    if (bytes[i] === CLOSE_OBJECT) return i + 1;
    const object: OpenObject = { firstKey: keyCount, table: undefined };
    for (;;) {
      const keyFrom = i + 1;
      i = scanKey(bytes, i, object);
      if (i < 0) break;
      const field = this.#fieldAt(bytes, keyFrom);
      const from = i;
      i = scanValue(bytes, from, depthMax - 1);
      if (i < 0) break;
      if (field >= 0) {
        spans[2 * field] = from;
        spans[2 * field + 1] = i;
      }
      i = skipSpace(bytes, i);
      if (bytes[i] === COMMA) {
        i = skipSpace(bytes, i + 1);
        continue;
      }
      i = bytes[i] === CLOSE_OBJECT ? i + 1 : NOT_FOUND;
      break;
    }
    keyCount = object.firstKey;
    return i;
  }

  /** Which of the fields the key that begins at `from` (behind its quote) names. */
  #fieldAt(bytes: Uint8Array, from: number): number {
    for (let f = 0; f < this.#bytes.length; f++) {
      const name = this.#bytes[f]!;
      let k = 0;
      while (k < name.length && bytes[from + k] === name[k]) k++;
      if (k === name.length && bytes[from + k] === QUOTE) return f;
    }
    return this.#escapedFieldAt(bytes, from);
  }

  /** A key may be spelled with escapes; rare, so it is decoded only when one is there. */
  #escapedFieldAt(bytes: Uint8Array, from: number): number {
    let to = from;
    let escaped = false;
    while (bytes[to] !== QUOTE) {
      if (bytes[to] === BACKSLASH) {
        escaped = true;
        to++;
      }
      to++;
    }
    return escaped ? this.names.indexOf(stringText(bytes, from, to)) : NOT_FOUND;
  }
}

/** Whether the whole of `bytes` is one JSON value, white space around it allowed. */
export function isJson(bytes: Uint8Array): boolean {
  const end = scanValue(bytes, skipSpace(bytes, 0));
  return end >= 0 && skipSpace(bytes, end) === bytes.length;
}
