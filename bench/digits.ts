// The number of a message, of fixed width, as it stands in ids and payloads.
export const DIGITS = 12;

/** Zero is written nowhere: the template's zeros stand, and numbers only grow. */
export function writeNumber(target: Buffer, start: number, value: number): void {
  let rest = value;
  for (let at = start + DIGITS - 1; rest > 0; at--) {
    const tens = (rest / 10) | 0;
    target[at] = 48 + rest - tens * 10;
    rest = tens;
  }
}

/** -1 when it is none. */
export function readNumber(bytes: Buffer, start: number): number {
  let value = 0;
  for (let at = start; at < start + DIGITS; at++) {
    const digit = bytes[at]! - 48;
    if (digit < 0 || digit > 9) return -1;
    value = value * 10 + digit;
  }
  return value;
}
