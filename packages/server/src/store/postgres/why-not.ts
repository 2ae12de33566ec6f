import { StoreAway } from '../../core/ports.ts';
import { isAnswer } from './errors.ts';

/** Why the database could not be used, without the URL, which may hold a password. */
export function whyNot(error: unknown): string {
  const cause = error instanceof StoreAway && error.cause instanceof Error ? error.cause : error;
  if (!(cause instanceof Error)) return String(cause);
  const first = cause instanceof AggregateError ? cause.errors[0] : cause;
  const text = first instanceof Error ? first.message : String(first);
  return isAnswer(cause) ? `the database says: ${text}` : text;
}
