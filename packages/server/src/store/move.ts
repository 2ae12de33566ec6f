import { LevelSource } from './level-source.ts';
import { Census, type Contents, recordsIn, sizeOf } from './lot.ts';
import { PostgresTarget } from './postgres/target.ts';
import { StoreUnusable } from './unusable.ts';

export type MoveStep = 'read' | 'copy' | 'verify';

export interface MoveOptions {
  /** The folder of a store on LevelDB, which no server uses. */
  readonly folder: string;
  /** The database that it is moved into. */
  readonly url: string;
  readonly schema?: string;
  readonly recordsAtOnce?: number;
  /** Told now and then how many records are done, of how many; that is not known while they are `read`. */
  readonly onProgress: (step: MoveStep, done: number, total: number | undefined) => void;
}

/** What was moved. */
export interface Moved extends Contents {
  /** When that was done, if it was before. */
  readonly before: Date | undefined;
  /** Damaged records that were set aside: they stay behind. */
  readonly damaged: number;
  /** Users that are locked since their records were damaged. */
  readonly locked: number;
}

/**
 * Copies all that a store on LevelDB holds into a database that has nothing, and verifies it there. The store keeps what it
 * holds. Broken off at any moment, it goes on when it is called again. Rejects with `StoreUnusable`.
 */
export async function moveStore({ folder, url, schema, recordsAtOnce, onProgress }: MoveOptions): Promise<Moved> {
  const source = await LevelSource.open({ folder, ...(recordsAtOnce !== undefined && { recordsAtOnce }) });
  try {
    const contents = await read(source, onProgress);
    const { damaged, locked } = source;
    const target = await PostgresTarget.open({ url, ...(schema !== undefined && { schema }) });
    try {
      const standing = await target.begin(JSON.stringify({ ...contents, ran: source.ran }));
      if (standing.state === 'under way') {
        await copy(source, target, standing, contents, onProgress);
        await verify(target, contents, onProgress);
        await target.finish(source.ran);
      }
      return { ...contents, before: standing.state === 'finished' ? standing.at : undefined, damaged, locked };
    } finally {
      await target.close();
    }
  } finally {
    await source.close();
  }
}

/** Takes stock before anything is written: what cannot be read is known then, and what is to arrive. */
async function read(source: LevelSource, onProgress: MoveOptions['onProgress']): Promise<Contents> {
  const census = new Census();
  for await (const lot of source.lots()) {
    census.add(lot);
    onProgress('read', census.records, undefined);
  }
  return census.contents();
}

async function copy(
  source: LevelSource,
  target: PostgresTarget,
  { after, records }: { readonly after: Uint8Array | undefined; readonly records: number },
  contents: Contents,
  onProgress: MoveOptions['onProgress'],
): Promise<void> {
  let done = records;
  for await (const lot of source.lots(after)) {
    await target.write(lot);
    done += sizeOf(lot);
    await target.note(lot.last, done);
    onProgress('copy', done, recordsIn(contents));
  }
}

async function verify(
  target: PostgresTarget,
  contents: Contents,
  onProgress: MoveOptions['onProgress'],
): Promise<void> {
  const total = recordsIn(contents);
  const arrived = await target.contents((records) => onProgress('verify', records, total));
  if (JSON.stringify(arrived) === JSON.stringify(contents)) return;
  throw new StoreUnusable(
    `what is in the database is not what was moved: ${described(arrived)} for ${described(contents)}; ` +
      'drop the schema hawser and begin anew',
  );
}

function described({ users, devices, bindings, messages, digest }: Contents): string {
  return `${users} users, ${devices} devices, ${bindings} bindings, ${messages} messages, checksum ${digest.slice(0, 16)}`;
}
