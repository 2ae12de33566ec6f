import { AbortedError, type Outcome, TimeoutError } from './errors.ts';
import type { Time, Timer } from './ports.ts';

/** How long to wait for an operation, and how to call it off. */
export interface WaitOptions {
  /** Milliseconds from the call until it is told that time is up. Default 60,000; `Infinity` waits for ever. */
  readonly timeoutMs?: number;
  /** Calls it off; the promise is then rejected with `AbortedError`. What was sent stays sent. */
  readonly signal?: AbortSignal;
}

/**
 * An operation that somebody awaits: it settles once, by its answer, its timeout, or its signal. `onEnd` is called
 * before it settles, with the error if it fails.
 */
export class Pending<T> {
  readonly promise: Promise<T>;
  /** Written to a connection that still stands. */
  isWritten = false;
  /** Written to a connection that broke before the answer, or refused for now: it may have had an effect all the same. */
  isUncertain = false;
  /** It was refused for now, and not written since. */
  refusal: Error | undefined;
  /** Why it would time out, as far as it is known. */
  trouble: Error | undefined;
  onEnd: (error?: Error) => void = () => {};
  #resolve!: (value: T) => void;
  #reject!: (error: Error) => void;
  #timer: Timer | undefined;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = (): void => {
    this.fail(new AbortedError('aborted', this.outcome, { cause: this.#signal?.reason }));
  };
  #isSettled = false;

  constructor(what: string, time: Time, timeoutMs: number, signal: AbortSignal | undefined) {
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.#signal = signal;
    if (signal?.aborted) {
      this.#onAbort();
      return;
    }
    signal?.addEventListener('abort', this.#onAbort);
    if (timeoutMs < Number.POSITIVE_INFINITY) {
      this.#timer = time.after(timeoutMs, () => this.fail(this.#timedOut(what, timeoutMs)));
    }
  }

  get isSettled(): boolean {
    return this.#isSettled;
  }

  get outcome(): Outcome {
    return this.isWritten || this.isUncertain ? 'unknown' : 'not sent';
  }

  succeed(value: T): void {
    if (this.#end()) this.#resolve(value);
  }

  fail(error: Error): void {
    if (this.#end(error)) this.#reject(error);
  }

  /** The connection is gone: what was written may have had an effect. */
  connectionLost(): void {
    this.isUncertain ||= this.isWritten;
    if (this.isWritten) this.refusal = undefined;
    this.isWritten = false;
  }

  #timedOut(what: string, timeoutMs: number): Error {
    // That is known, and more than a timeout says.
    if (!this.isWritten && this.refusal !== undefined) return this.refusal;
    const cause = this.trouble;
    return new TimeoutError(`${what}: no answer within ${timeoutMs} ms`, this.outcome, cause && { cause });
  }

  #end(error?: Error): boolean {
    if (this.#isSettled) return false;
    this.#isSettled = true;
    this.#timer?.cancel();
    this.#signal?.removeEventListener('abort', this.#onAbort);
    this.onEnd(error);
    return true;
  }
}
