/** A folder cannot be used as a store; the message says why, for the operator. */
export class StoreUnusable extends Error {}

/** What went wrong with the store in a folder, in a line that says what to do. */
export function whyFailed(error: unknown, folder: string): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const text = cause instanceof Error ? cause.message : String(cause);
  switch (cause instanceof Error && 'code' in cause ? cause.code : undefined) {
    case 'LEVEL_LOCKED':
      return `${folder} is in use by another process`;
    case 'LEVEL_CORRUPTION':
      return `${folder} is damaged: ${text}: restore a backup`;
    case 'LEVEL_IO_ERROR':
      return `${folder} cannot be read or written: ${text}: make room on the disk, or mend what is wrong with it`;
    default:
      return `${folder} cannot be used: ${text}`;
  }
}
