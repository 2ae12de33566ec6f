/** Texts that are JSON, or nearly: with spellings, white space, numbers, keys and depths that parsers disagree about. */

import type { Random } from '../sim/random.ts';

const NUMBERS = ['0', '-0', '1', '12', '9007199254740993', '1e999', '-1E-7', '0.10', '1.0', '100e0', '2592000'];
const NO_NUMBERS = ['01', '+1', '.5', '1.', '1e', '-', '0x1', '1_0', 'NaN', 'Infinity', '２'];
const STRINGS = ['', 'a', 'lamp-1', 'é', '😀', '\u2028', '\ufeff', '\u007f', '\u0000', '"', '\\', '/', '\ud800', '},{'];
const NO_STRINGS = ['"\\x"', '"\t"', '"\u001f"', '"a\nb"', '"\u0000"', '"\\u12g4"', '"\\u123"', '"', '"\\"', "'a'"];
const KEYS = ['a', 'b', '', '__proto__', 'constructor', 'toString', 'hasOwnProperty', 'é', '"', '\\', 'to ', 'To'];
const SPACES = ['', '', '', '', ' ', '\n', '\r\n', '\t', '  '];
const NO_SPACES = ['\u00a0', '\f', '\v', '\ufeff', '/**/', '\u0000'];

/** A string in quotes, some of it in escapes. */
export function spelled(text: string, random: Random): string {
  if (random.chance(0.7)) return JSON.stringify(text);
  let written = '"';
  for (const unit of text.split('')) {
    const digits = unit.charCodeAt(0).toString(16).padStart(4, '0');
    written += random.chance(0.5) ? `\\u${random.chance(0.5) ? digits : digits.toUpperCase()}` : escaped(unit, random);
  }
  return `${written}"`;
}

function escaped(unit: string, random: Random): string {
  if (unit === '/') return random.chance(0.5) ? '\\/' : '/';
  const code = unit.charCodeAt(0);
  return code >= 0xd800 && code < 0xe000 ? `\\u${code.toString(16)}` : JSON.stringify(unit).slice(1, -1);
}

export function space(random: Random): string {
  return random.chance(0.995) ? random.pick(SPACES) : random.pick(NO_SPACES);
}

/** A value; one in some dozens is none. */
export function anyValue(random: Random, depth: number): string {
  const kind = random.below(depth > 0 ? 12 : 8);
  if (kind < 2) return random.chance(0.97) ? random.pick(NUMBERS) : random.pick(NO_NUMBERS);
  if (kind < 5) return random.chance(0.98) ? spelled(random.pick(STRINGS), random) : random.pick(NO_STRINGS);
  if (kind < 7) return random.pick(['true', 'false', 'null']);
  if (kind === 7) return random.chance(0.9) ? '[]' : deep(random);
  if (kind < 10) {
    const count = random.below(4);
    return `[${space(random)}${Array.from({ length: count }, () => anyValue(random, depth - 1) + space(random)).join(',')}]`;
  }
  return anyObject(random, depth);
}

export function anyObject(random: Random, depth: number): string {
  // Beyond sixteen keys a table looks for double ones.
  const count = random.chance(0.05) ? 15 + random.below(25) : random.below(4);
  const members = Array.from({ length: count }, (_, i): [string, string] => {
    const key = count > 8 ? `k${random.chance(0.97) ? i : random.below(i + 1)}` : random.pick(KEYS);
    return [key, anyValue(random, count > 8 ? 0 : depth - 1)];
  });
  return objectOf(members, random);
}

/** An object of these members, whose values are JSON text. */
export function objectOf(members: readonly (readonly [string, string])[], random: Random): string {
  const written = members.map(
    ([key, value]) => `${spelled(key, random)}${space(random)}:${space(random)}${value}${space(random)}`,
  );
  const comma = random.chance(0.99) ? ',' : random.pick([',,', '', ';', ', ,']);
  return `{${space(random)}${written.join(comma + space(random))}}`;
}

/** Around the depth that is allowed. */
function deep(random: Random): string {
  const levels = random.chance(0.8) ? 505 + random.below(12) : 5_000;
  const open = random.chance(0.5) ? '[' : '{"a":';
  const close = open === '[' ? ']' : '}';
  return open.repeat(levels) + (open === '[' ? '' : '1') + close.repeat(levels - (random.chance(0.95) ? 0 : 1));
}

const utf8 = new TextEncoder();
/** What no text holds: bytes that are no UTF-8. */
const NO_TEXT = [[0x80], [0xc0, 0xaf], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xe2, 0x82], [0xff]].map(
  (bytes) => Uint8Array.from(bytes),
);

/** The bytes of a text, now and then with some put in that are no UTF-8. */
export function bytesOf(text: string, random: Random): Uint8Array {
  const bytes = utf8.encode(text);
  if (random.chance(0.97)) return bytes;
  const piece = random.pick(NO_TEXT);
  const at = random.below(bytes.length + 1);
  const more = new Uint8Array(bytes.length + piece.length);
  more.set(bytes.subarray(0, at));
  more.set(piece, at);
  more.set(bytes.subarray(at), at + piece.length);
  return more;
}

/** What a mutation puts in. */
export const JSON_WORDS: readonly Uint8Array[] = [
  ...['"', '\\', '{', '}', '[', ']', ':', ',', '{}', '[]', '""', '\\u', '\\u0041', '\\ud83d\\ude00', '\\ud800', '\\"'],
  ...['null', 'true', 'false', '-', '0', '1e', '.', '9007199254740993', ' ', '\n', '\t', '"to":', '"msg":', '"msgid":'],
  ...['"from":', '"ttl":', '"nack":', '"id":', '"version":', '"abilities":', '"username":', '"password":', '"ts":'],
  ...[
    '"deviceId":',
    '"after":',
    '"secret":',
    '"code":',
    '},{',
    '"},{"from":"x","to":"y","msg":1,"msgid":"z"}',
    '"__proto__":',
    '\ufeff',
    '\u2028',
  ],
]
  .map((text) => utf8.encode(text))
  .concat(NO_TEXT);
