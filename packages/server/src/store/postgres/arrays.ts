/** Arrays in PostgreSQL's binary form: as text they would be twice as long, and escaped and parsed byte by byte. */

const OID = { bytea: 17, int8: 20, int4: 23, text: 25, float8: 701 } as const;
const HEADER_BYTES = 20;

/** An array of values that take so many bytes in all, and where the first of them is to be written. */
function arrayOf(oid: number, count: number, bytes: number): { array: Buffer; at: number } {
  if (count === 0) {
    const array = Buffer.alloc(12);
    array.writeInt32BE(oid, 8);
    return { array, at: 12 };
  }
  const array = Buffer.allocUnsafe(HEADER_BYTES + 4 * count + bytes);
  // One dimension, no nulls, counted from 1.
  array.writeInt32BE(1, 0);
  array.writeInt32BE(0, 4);
  array.writeInt32BE(oid, 8);
  array.writeInt32BE(count, 12);
  array.writeInt32BE(1, 16);
  return { array, at: HEADER_BYTES };
}

export function int4s(values: readonly number[]): Buffer {
  let { array, at } = arrayOf(OID.int4, values.length, 4 * values.length);
  for (const value of values) {
    array.writeInt32BE(4, at);
    array.writeInt32BE(value, at + 4);
    at += 8;
  }
  return array;
}

/** Whole numbers up to 2⁵³. */
export function int8s(values: readonly number[]): Buffer {
  let { array, at } = arrayOf(OID.int8, values.length, 8 * values.length);
  for (const value of values) {
    array.writeInt32BE(8, at);
    array.writeInt32BE(Math.floor(value / 2 ** 32), at + 4);
    array.writeUInt32BE(value % 2 ** 32, at + 8);
    at += 12;
  }
  return array;
}

export function float8s(values: readonly number[]): Buffer {
  let { array, at } = arrayOf(OID.float8, values.length, 8 * values.length);
  for (const value of values) {
    array.writeInt32BE(8, at);
    array.writeDoubleBE(value, at + 4);
    at += 12;
  }
  return array;
}

export function texts(values: readonly string[]): Buffer {
  return strings(OID.text, values);
}

/** The UTF-8 of texts that may hold U+0000, which PostgreSQL's own texts may not. */
export function utf8s(values: readonly string[]): Buffer {
  return strings(OID.bytea, values);
}

function strings(oid: number, values: readonly string[]): Buffer {
  let bytes = 0;
  for (const value of values) bytes += Buffer.byteLength(value);
  let { array, at } = arrayOf(oid, values.length, bytes);
  for (const value of values) {
    const size = array.write(value, at + 4);
    array.writeInt32BE(size, at);
    at += 4 + size;
  }
  return array;
}

export function byteas(values: readonly Uint8Array[]): Buffer {
  let bytes = 0;
  for (const value of values) bytes += value.length;
  let { array, at } = arrayOf(OID.bytea, values.length, bytes);
  for (const value of values) {
    array.writeInt32BE(value.length, at);
    array.set(value, at + 4);
    at += 4 + value.length;
  }
  return array;
}
