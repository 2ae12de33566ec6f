import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { callControl, controlPath, isServed } from './admin/control.ts';
import type { Log } from './core/ports.ts';
import { type Operation, OperatorError, operateOn, type StoreState } from './operator.ts';
import { dataPath, makeFolder, openParts, storePath } from './parts.ts';
import { readSettings } from './settings.ts';
import { type BackupSeal, type OnProgress, restore } from './store/backup.ts';
import { survey } from './store/survey.ts';
import { isStoreFailure, StoreUnusable, whyFailed } from './store/unusable.ts';

/** Operations on a data folder, until it is let go. */
export interface Operations extends AsyncDisposable {
  /** The path of the data folder. */
  readonly data: string;
  /** The data folder was not there before. */
  readonly isNew: boolean;
  /** Rejects with `OperatorError` when it cannot be done. */
  run(operation: Operation, argument: object): Promise<unknown>;
}

export interface OpenOptions {
  readonly makes?: boolean;
  /** The database that the store is in, where no server runs. */
  readonly postgres?: string | undefined;
  /** Told, in a line, what the log of a server would say in earnest. */
  readonly onWarning?: (text: string) => void;
}

/**
 * Opens a data folder for operations: they go to the server that runs on it, or to its store when none runs. A folder
 * that is no data folder is refused, unless `makes` is set: then it becomes one.
 */
export async function openOperations(
  folder: string,
  { makes = false, postgres, onWarning = () => {} }: OpenOptions = {},
): Promise<Operations> {
  const data = dataPath(folder);
  if (await isServed(controlPath(data)).catch(rejectAsOperator)) {
    return {
      data,
      isNew: false,
      run: (operation, argument) => callControl(controlPath(data), operation, argument).catch(rejectAsOperator),
      async [Symbol.asyncDispose]() {},
    };
  }
  const isNew = postgres === undefined && !existsSync(storePath(data));
  if (isNew && !makes) throw new OperatorError(`--data: ${data} is not the data folder of a server`);
  const { promise: failed, reject: fail } = Promise.withResolvers<never>();
  failed.catch(() => {});
  const parts = await openParts(
    makeFolder(folder),
    readSettings({ data, ...(postgres !== undefined && { postgres }) }, {}),
    warningLog(onWarning),
    fail,
  );
  const operate = operateOn(parts);
  const rejectAsFailed = (error: unknown): never => {
    if (!isStoreFailure(error)) throw error;
    throw new OperatorError(whyFailed(error, parts.storeName), { cause: error });
  };
  return {
    data,
    isNew,
    run: (operation, argument) => Promise.race([operate(operation, argument), failed]).catch(rejectAsFailed),
    [Symbol.asyncDispose]: parts.close,
  };
}

/** A log of which only warnings and errors are heard. */
function warningLog(onWarning: (text: string) => void): Log {
  const tell = (fields: object, text: string): void => {
    const said = Object.entries(fields).map(([key, value]) => `${key} ${String(value)}`);
    onWarning(said.length === 0 ? text : `${text} (${said.join(', ')})`);
  };
  return { debug() {}, info() {}, warn: tell, error: tell };
}

/** Copies a backup into a data folder that has no store yet. Rejects with `OperatorError` when it cannot be done. */
export async function restoreBackup(backup: string, folder: string, onProgress: OnProgress): Promise<BackupSeal> {
  try {
    return await restore(resolve(backup), storePath(makeFolder(folder)), onProgress);
  } catch (error) {
    if (error instanceof StoreUnusable) return rejectAsOperator(error);
    throw error;
  }
}

/**
 * Looks at the store in a data folder, through the server that runs on it if one does; `undefined` when there is none
 * yet. Rejects with `OperatorError`.
 */
export async function examineStore(folder: string): Promise<{ damaged: number; willBeMigrated: boolean } | undefined> {
  const data = dataPath(folder);
  if (await serverRuns(data)) {
    const { damaged } = (await callControl(controlPath(data), 'storeState', {}).catch(rejectAsOperator)) as StoreState;
    return { damaged, willBeMigrated: false };
  }
  if (!existsSync(storePath(data))) return undefined;
  const { damaged, isOlder } = await survey(storePath(data)).catch(rejectAsOperator);
  return { damaged, willBeMigrated: isOlder };
}

/** Whether a server is running on this data folder; false also when that cannot be told. */
export function serverRuns(folder: string): Promise<boolean> {
  return isServed(controlPath(dataPath(folder))).catch(() => false);
}

function rejectAsOperator(error: Error): never {
  throw new OperatorError(error.message, { cause: error });
}
