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

/** Objects with more keys than this are checked for double keys with a set instead of pair by pair. */
const KEYS_COMPARED_MAX = 16;

/** The keys of the objects that are open: offsets of their text, without quotes, in pairs. */
let keyOffsets = new Int32Array(256);
let keyCount = 0;

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
  for (;;) {
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

/** The keys of one object seen so far: pairs of offsets first, a set of their texts once they are many or escaped. */
interface OpenObject {
  readonly firstKey: number;
  names: Set<string> | undefined;
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
      const object = c === OPEN_OBJECT ? { firstKey: keyCount, names: undefined } : undefined;
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
  if (object.names === undefined && (stringEscaped || keyCount - object.firstKey >= KEYS_COMPARED_MAX)) {
    object.names = new Set();
    for (let k = object.firstKey; k < keyCount; k++) {
      object.names.add(stringText(bytes, keyOffsets[2 * k]!, keyOffsets[2 * k + 1]!));
    }
    keyCount = object.firstKey;
  }
  if (object.names !== undefined) {
    const before = object.names.size;
    object.names.add(stringText(bytes, from, to));
    return object.names.size > before;
  }
  for (let k = object.firstKey; k < keyCount; k++) {
    if (sameBytes(bytes, keyOffsets[2 * k]!, keyOffsets[2 * k + 1]!, from, to)) return false;
  }
  if (2 * keyCount === keyOffsets.length) {
    const larger = new Int32Array(keyOffsets.length * 2);
    larger.set(keyOffsets);
    keyOffsets = larger;
  }
  keyOffsets[2 * keyCount] = from;
  keyOffsets[2 * keyCount + 1] = to;
  keyCount++;
  return true;
}

function sameBytes(bytes: Uint8Array, from: number, to: number, otherFrom: number, otherTo: number): boolean {
  if (to - from !== otherTo - otherFrom) return false;
  for (let i = from, k = otherFrom; i < to; i++, k++) if (bytes[i] !== bytes[k]) return false;
  return true;
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
    const object: OpenObject = { firstKey: keyCount, names: undefined };
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
