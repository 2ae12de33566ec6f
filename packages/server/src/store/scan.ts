/**
 * Reading ranges of LevelDB. Its binding makes room for as many entries as an iterator is asked for, 64 bytes each, and keeps
 * it until the iterator is collected: few are asked for at first, since most ranges have hardly any.
 */

const FIRST_ENTRIES = 4;
const ENTRIES_MAX = 1_000;
/** Each portion is so many times the one before. */
const GROWTH = 8;

interface Cursor<Entry> {
  nextv(size: number): Promise<Entry[]>;
  close(): Promise<void>;
}

/** What lies in the range, in portions. */
export async function* portionsOf<Entry>(cursor: Cursor<Entry>): AsyncGenerator<Entry[]> {
  try {
    for (let size = FIRST_ENTRIES; ; size = Math.min(size * GROWTH, ENTRIES_MAX)) {
      const entries = await cursor.nextv(size);
      if (entries.length === 0) return;
      yield entries;
    }
  } finally {
    await cursor.close();
  }
}

/** All that lies in a range that cannot be long. */
export async function allOf<Entry>(cursor: Cursor<Entry>): Promise<Entry[]> {
  const all: Entry[] = [];
  for await (const entries of portionsOf(cursor)) all.push(...entries);
  return all;
}

/** What lies first. */
export async function firstOf<Entry>(cursor: Cursor<Entry>): Promise<Entry | undefined> {
  try {
    const [first] = await cursor.nextv(1);
    return first;
  } finally {
    await cursor.close();
  }
}
