/** What the adapter's `arrays.ts` wrote, read back. */

const HEADER_BYTES = 20;

function elements<Item>(array: unknown, read: (bytes: Buffer) => Item): Item[] {
  if (!Buffer.isBuffer(array)) throw new Error('an array of PostgreSQL is in bytes');
  if (array.readInt32BE(0) === 0) return [];
  const items: Item[] = [];
  let at = HEADER_BYTES;
  for (let left = array.readInt32BE(12); left > 0; left--) {
    const length = array.readInt32BE(at);
    items.push(read(array.subarray(at + 4, at + 4 + length)));
    at += 4 + length;
  }
  return items;
}

export const texts = (array: unknown): string[] => elements(array, (bytes) => bytes.toString());
export const int4s = (array: unknown): number[] => elements(array, (bytes) => bytes.readInt32BE());
export const int8s = (array: unknown): number[] => elements(array, (bytes) => Number(bytes.readBigInt64BE()));
export const float8s = (array: unknown): number[] => elements(array, (bytes) => bytes.readDoubleBE());
/** In memory of their own. */
export const byteas = (array: unknown): Buffer[] => elements(array, (bytes) => Buffer.from(bytes));
