import { controlPath, isServed } from './admin/control.ts';
import { OperatorError } from './operator.ts';
import { dataPath, storePath } from './parts.ts';
import { type Moved, type MoveOptions, moveStore } from './store/move.ts';
import { StoreUnusable } from './store/unusable.ts';

export type { Moved, MoveStep } from './store/move.ts';

/**
 * Copies all that is stored in a data folder, on which no server may run, into a PostgreSQL database that has nothing; see
 * `store/move.ts`. Rejects with `OperatorError` when it cannot be done.
 */
export async function moveToPostgres(
  folder: string,
  url: string,
  onProgress: MoveOptions['onProgress'],
): Promise<Moved> {
  const data = dataPath(folder);
  if (await isServed(controlPath(data)).catch(() => false)) {
    throw new OperatorError(`a server is running on ${data}: stop it first`);
  }
  try {
    return await moveStore({ folder: storePath(data), url, onProgress });
  } catch (error) {
    if (error instanceof StoreUnusable) throw new OperatorError(error.message, { cause: error });
    throw error;
  }
}
