import { AbortedError, CertificateError, ConflictError, RefusedError, type State, TimeoutError } from '@hawser/client';
import { fail } from '../output.ts';

/** How `hawser app` and `hawser device` end, for scripts. */
export const exitCode = {
  ok: 0,
  failed: 1,
  usage: 2,
  refused: 3,
  unreachable: 4,
  conflict: 5,
} as const;

export const exitCodesHelp = `
Exit codes:
  0    all is well: what was sent is acked
  1    a message was not acked or not answered, or a request was refused
  2    the command line makes no sense
  3    refused: wrong user name or password, or a name that is taken
  4    no server could be reached in time, or its certificate is not accepted
  5    another client has logged in under the same name
  130  Ctrl-C (143: SIGTERM, 129: SIGHUP)
`;

/** Ends the command with this exit code, after one line on stderr if there is something to say. */
export class ExitError extends Error {
  readonly exitCode: number;

  constructor(code: number, message = '', options?: ErrorOptions) {
    super(message, options);
    this.exitCode = code;
  }
}

/** What the command line was given makes no sense. */
export class UsageError extends ExitError {
  constructor(message: string) {
    super(exitCode.usage, message);
  }
}

export function failWith(error: ExitError): void {
  if (error.message !== '') fail(error);
  process.exitCode = error.exitCode;
}

/** The end of a client that could not log in, or was ended. */
export function loginFailure(name: string, error: unknown): unknown {
  if (error instanceof ConflictError) {
    return new ExitError(exitCode.conflict, `${name} has logged in elsewhere, which ends this session`, {
      cause: error,
    });
  }
  if (error instanceof RefusedError && !error.retry) {
    return new ExitError(exitCode.refused, `${name} is refused: ${error.message} (code ${error.code})`, {
      cause: error,
    });
  }
  if (error instanceof AbortedError && error.cause instanceof CertificateError) {
    return new ExitError(exitCode.unreachable, `${name} could not log in: ${error.cause.message}`, { cause: error });
  }
  // A server that refuses for now, until the time is over, is one that could not be reached.
  if (error instanceof TimeoutError || error instanceof RefusedError) {
    const why = error.cause instanceof Error ? reasonOf(error.cause) : error.message;
    return new ExitError(exitCode.unreachable, `${name} could not log in: ${why}`, { cause: error });
  }
  return error;
}

/** Whether the state is an end that its client did not ask for. */
export function endedBy(name: string, state: State): unknown {
  if (state.phase !== 'offline' || (state.why !== 'conflict' && state.why !== 'refused')) return undefined;
  return loginFailure(name, state.error);
}

/** An error with the cause at its bottom, which is what can be done something about. */
export function reasonOf(error: Error): string {
  let deepest = error;
  while (deepest.cause instanceof Error) deepest = deepest.cause;
  if (deepest === error) return error.message;
  // Where several addresses of a host were tried, the error has a code and no text.
  const bottom = deepest.message || ((deepest as NodeJS.ErrnoException).code ?? deepest.name);
  return `${error.message}: ${bottom}`;
}
