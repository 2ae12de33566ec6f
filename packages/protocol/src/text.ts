/**
 * UTF-8, strict in both directions. Ids are short and nearly always ASCII: where Node's Buffer is there, its native
 * copy costs half of what TextDecoder does for them; elsewhere the standard classes serve.
 */

type Latin1Slice = (this: Uint8Array, from: number, to: number) => string;
type Utf8Write = (this: Uint8Array, text: string, at: number) => number;

const native = (globalThis as { Buffer?: { prototype: { latin1Slice?: Latin1Slice; utf8Write?: Utf8Write } } }).Buffer
  ?.prototype;
const latin1Slice = native?.latin1Slice;
const utf8Write = native?.utf8Write;
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();

/** The text of `bytes[from..to)`; `undefined` when it is not UTF-8. */
export function decodeText(bytes: Uint8Array, from = 0, to = bytes.length): string | undefined {
  if (latin1Slice !== undefined && isAscii(bytes, from, to)) return latin1Slice.call(bytes, from, to);
  try {
    return decoder.decode(bytes.subarray(from, to));
  } catch {
    return undefined;
  }
}

function isAscii(bytes: Uint8Array, from: number, to: number): boolean {
  let seen = 0;
  for (let i = from; i < to; i++) seen |= bytes[i]!;
  return seen < 0x80;
}

/** The text as UTF-8. */
export function encodeText(text: string): Uint8Array<ArrayBuffer> {
  return encoder.encode(text);
}

/** Writes `text` at `at`, where 3 bytes must be free for each UTF-16 unit; returns the offset behind it. */
export function writeText(into: Uint8Array, at: number, text: string): number {
  if (utf8Write !== undefined) return at + utf8Write.call(into, text, at);
  return at + encoder.encodeInto(text, into.subarray(at)).written;
}

/** Length as UTF-8, in bytes; a lone surrogate counts as the three bytes that would replace it. */
export function utf8Length(text: string): number {
  let bytes = text.length;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit >= 0x80) bytes += unit < 0x800 || isSurrogatePair(text, i) ? 1 : 2;
    if (isSurrogatePair(text, i)) {
      // Two units, four bytes: two more than the units, one of them counted above.
      bytes += 1;
      i++;
    }
  }
  return bytes;
}

function isSurrogatePair(text: string, at: number): boolean {
  return (text.charCodeAt(at) & 0xfc00) === 0xd800 && (text.charCodeAt(at + 1) & 0xfc00) === 0xdc00;
}
