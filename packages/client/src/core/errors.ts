/**
 * Every error of this package. They are told apart by class (`instanceof`), or by `name`, which stays as it is when code
 * is minified. `cause` holds what lies behind.
 */

/**
 * What is known of an operation that failed:
 * - `not sent`: nothing of it has left; it has had no effect and will have none
 * - `refused`: the server has said no; it has had no effect
 * - `unknown`: it was sent, and whether it took effect cannot be known. A message may still arrive, or have arrived; also
 *   one that was refused for now, for its receiver may have been pushed it before.
 *   To send it again and have it arrive once, use the same `msgId`.
 */
export type Outcome = 'not sent' | 'refused' | 'unknown';

/** The class of all errors of this package. */
export class HawserError extends Error {
  override readonly name: string = 'HawserError';
}

/** An operation that failed. */
export class OperationError extends HawserError {
  override readonly name: string = 'OperationError';
  readonly outcome: Outcome;

  constructor(message: string, outcome: Outcome, options?: ErrorOptions) {
    super(message, options);
    this.outcome = outcome;
  }
}

/**
 * The server has refused. `outcome` is `refused`, or `unknown` when an earlier copy was sent on a connection that broke
 * before its answer, and for a message that was refused for now.
 */
export class RefusedError extends OperationError {
  override readonly name = 'RefusedError';
  /** The answer's code: 200 for an exception, 1001 name taken, 1002 wrong credentials, 2001 already added, 2002 not added. */
  readonly code: number;
  /** Whether the reason may go away by itself. The client has already tried again until the timeout. */
  readonly retry: boolean;

  constructor(message: string, code: number, retry: boolean, outcome: Outcome = 'refused') {
    super(message, outcome);
    this.code = code;
    this.retry = retry;
  }
}

/** No answer in time. `outcome` is `not sent` or `unknown`. */
export class TimeoutError extends OperationError {
  override readonly name = 'TimeoutError';
}

/** The caller's `AbortSignal` was aborted; `cause` is its reason. `outcome` is `not sent` or `unknown`. */
export class AbortedError extends OperationError {
  override readonly name = 'AbortError';
}

/**
 * The client was closed, logged out, or ended by a conflict or a refusal, which is then the `cause`. `outcome` is
 * `not sent` or `unknown`.
 */
export class ClosedError extends OperationError {
  override readonly name = 'ClosedError';
}

/** More sends wait for room than may. Nothing was sent: slow down. */
export class OverloadedError extends OperationError {
  override readonly name = 'OverloadedError';

  constructor(message: string) {
    super(message, 'not sent');
  }
}

/** What was to be sent cannot be: too large, not JSON, a name that is none. Nothing was sent. */
export class InvalidError extends OperationError {
  override readonly name = 'InvalidError';

  constructor(message: string, options?: ErrorOptions) {
    super(message, 'not sent', options);
  }
}

/** The call makes no sense now, such as a send before any login. Nothing was sent. */
export class StateError extends OperationError {
  override readonly name = 'StateError';

  constructor(message: string) {
    super(message, 'not sent');
  }
}

/** Another client has logged in under this name. This one does not reconnect: tell the user. */
export class ConflictError extends HawserError {
  override readonly name = 'ConflictError';
}

/** The dispatcher has no server now (1000), or could not be asked. The client tries again. */
export class DispatcherError extends HawserError {
  override readonly name = 'DispatcherError';
  /** The answer's code; `undefined` when there was no answer that makes sense. */
  readonly code: number | undefined;

  constructor(message: string, code?: number, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** A connection could not be made, or is lost. The client reconnects. */
export class ConnectionError extends HawserError {
  override readonly name: string = 'ConnectionError';
}

/**
 * The certificate of a server, or of the dispatcher, is not accepted, or the server does not accept this client's. The client
 * tries again, since a clock may be wrong or a network foreign only for now, and reports each time (`onError`).
 */
export class CertificateError extends ConnectionError {
  override readonly name = 'CertificateError';
}

/** The server has sent what is not the protocol. The client reconnects. */
export class ProtocolError extends ConnectionError {
  override readonly name = 'ProtocolError';
}
