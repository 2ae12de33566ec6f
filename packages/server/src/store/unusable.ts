/** A folder cannot be used as a store; the message says why, for the operator. */
export class StoreUnusable extends Error {}

/** Whether this comes from the files of a store, and not from a defect. */
export function isStoreFailure(error: unknown): boolean {
  return codeOf(error).startsWith('LEVEL_');
}

/** What went wrong with the store in a folder, in a line that says what to do. */
export function whyFailed(error: unknown, folder: string): string {
  const text = textOf(error);
  switch (codeOf(error)) {
    case 'LEVEL_LOCKED':
      return `${folder} is in use by another process`;
    case 'LEVEL_CORRUPTION':
      return `${folder} is damaged (${text}): restore a backup`;
    case 'LEVEL_IO_ERROR':
      return `${folder} cannot be read or written (${text}): make room on that disk, or mend what is wrong with it`;
    default:
      return `${folder} cannot be used (${text})`;
  }
}

/** LevelDB's own error is the cause of some of its wrapper's. */
function rootOf(error: unknown): unknown {
  return error instanceof Error && error.cause instanceof Error ? error.cause : error;
}

function codeOf(error: unknown): string {
  const root = rootOf(error);
  return root instanceof Error && 'code' in root ? String(root.code) : '';
}

function textOf(error: unknown): string {
  const root = rootOf(error);
  return root instanceof Error ? root.message : String(root);
}
