import { decodeText, encodeText } from '@hawser/protocol';
import { ClassicLevel } from 'classic-level';
import { metaKey, range, SCHEMA, space } from './record.ts';
import { StoreUnusable, whyFailed } from './unusable.ts';
import type { LevelDb } from './writer.ts';

/** What can be told of a store that nobody uses. */
export interface Survey {
  readonly schema: string;
  /** Opening it will migrate it. */
  readonly isOlder: boolean;
  /** Records set aside for their wrong checksum. */
  readonly damaged: number;
}

/** Looks at a store without changing what it holds. Rejects with `StoreUnusable` when it cannot be opened. */
export async function survey(folder: string): Promise<Survey> {
  const db: LevelDb = new ClassicLevel(folder, { keyEncoding: 'view', valueEncoding: 'view' });
  try {
    await db.open({ createIfMissing: false });
    const value = await db.get(metaKey.schema);
    const schema = (value && decodeText(value)) ?? 'unknown';
    const damaged = (await db.keys(range(encodeText(space.damaged))).all()).length;
    return { schema, isOlder: Number.parseInt(schema, 10) < SCHEMA, damaged };
  } catch (error) {
    throw new StoreUnusable(whyFailed(error, folder), { cause: error });
  } finally {
    await db.close();
  }
}
