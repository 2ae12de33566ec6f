import { DatabaseError } from 'pg';
import { Fenced, StoreAway } from '../../core/ports.ts';

/** What our own functions raise: PostgreSQL has no class HW. */
export const SQLSTATE = {
  fenced: 'HW001',
  tooLate: 'HW002',
} as const;

/**
 * Classes of errors that come and go: connections, logging in, a transaction that cannot be written here, locks and
 * conflicts, room on the disk, an operator or a failover, the system.
 */
const AWAY_CLASSES = ['08', '25', '28', '3D', '40', '53', '55', '57', '58'];

/** Runs stand that were not expected to. */
export class OthersStand extends Error {}

/** Two transactions were in each other's way: the same again may succeed. */
export function isConflict(error: unknown): boolean {
  return error instanceof DatabaseError && error.code?.startsWith('40') === true;
}

/** The database has answered: whatever was asked has been rolled back, and the connection is good. */
export function isAnswer(error: unknown): boolean {
  return error instanceof DatabaseError && error.severity === 'ERROR';
}

/** A failure of the database as the core is to know it. What is no `StoreAway` must end the server. */
export function storeError(error: unknown): Error {
  if (error instanceof StoreAway || error instanceof Fenced || error instanceof OthersStand) return error;
  // Whatever is no answer of the database is about the way there.
  if (!(error instanceof DatabaseError)) return new StoreAway('the database cannot be reached', { cause: error });
  const code = error.code ?? '';
  if (code === SQLSTATE.fenced) return new Fenced('this run of the node is void', { cause: error });
  if (code === SQLSTATE.tooLate || AWAY_CLASSES.some((each) => code.startsWith(each))) {
    return new StoreAway(`the database cannot do it now (${code})`, { cause: error });
  }
  return error;
}
