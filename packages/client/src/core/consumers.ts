import type { Consumer, Handler, Inbox } from './inbox.ts';
import type { Message } from './message.ts';

/** Calls a handler with one message after the other, the next when the one before is done. */
export class HandlerConsumer<T> implements Consumer {
  readonly #inbox: Inbox;
  readonly #handler: Handler<T>;
  readonly #acks: boolean;
  readonly #report: (error: Error) => void;
  #isBusy = false;

  /** @param acks whether a message is acked when its handler is done; otherwise the handler does so by hand */
  constructor(inbox: Inbox, handler: Handler<T>, acks: boolean, report: (error: Error) => void) {
    this.#inbox = inbox;
    this.#handler = handler;
    this.#acks = acks;
    this.#report = report;
  }

  get isReady(): boolean {
    return !this.#isBusy;
  }

  take(message: Message<never>): void {
    let result: unknown;
    try {
      result = this.#handler(message as Message<T>);
    } catch (error) {
      this.#failed(message, error);
      return;
    }
    if (!isThenable(result)) {
      this.#done(message);
      return;
    }
    this.#isBusy = true;
    result.then(
      () => this.#next(() => this.#done(message)),
      (error: unknown) => this.#next(() => this.#failed(message, error)),
    );
  }

  /** A handler stays for the next login. */
  end(): void {}

  #next(settle: () => void): void {
    this.#isBusy = false;
    settle();
    this.#inbox.handOut();
  }

  #done(message: Message<never>): void {
    if (this.#acks) message.ack();
  }

  #failed(message: Message<never>, error: unknown): void {
    message.release();
    this.#report(error instanceof Error ? error : new Error('a handler threw what is not an error', { cause: error }));
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as Partial<PromiseLike<unknown>> | null | undefined)?.then === 'function';
}

interface Asked<T> {
  resolve(result: IteratorResult<Message<T>, undefined>): void;
  reject(error: Error): void;
}

/**
 * Messages as an async iterator. A message is acked when the next one is asked for. When the loop is left, the last one
 * is released: ack it by hand before a `break` if it is done.
 */
export class IteratorConsumer<T> implements Consumer, AsyncIterableIterator<Message<T>, undefined> {
  readonly #inbox: Inbox;
  readonly #signal: AbortSignal | undefined;
  readonly #asked: Asked<T>[] = [];
  #last: Message<never> | undefined;
  #isDone = false;
  #error: Error | undefined;
  readonly #onAbort = (): void => {
    this.#finish(undefined);
  };

  constructor(inbox: Inbox, signal: AbortSignal | undefined) {
    this.#inbox = inbox;
    this.#signal = signal;
    if (signal?.aborted) this.#isDone = true;
    else signal?.addEventListener('abort', this.#onAbort);
  }

  get isReady(): boolean {
    return this.#asked.length > 0;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<Message<T>, undefined>> {
    this.#last?.ack();
    this.#last = undefined;
    if (this.#error !== undefined) {
      const error = this.#error;
      this.#error = undefined;
      return Promise.reject(error);
    }
    if (this.#isDone) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve, reject) => {
      this.#asked.push({ resolve, reject });
      this.#inbox.handOut();
    });
  }

  /** The loop was left while it had a message: whether that was dealt with is not known. */
  return(): Promise<IteratorResult<Message<T>, undefined>> {
    this.#last?.release();
    this.#last = undefined;
    this.#finish(undefined);
    return Promise.resolve({ done: true, value: undefined });
  }

  take(message: Message<never>): void {
    this.#last = message;
    this.#asked.shift()?.resolve({ done: false, value: message as Message<T> });
  }

  end(error: Error | undefined): void {
    this.#finish(error);
  }

  #finish(error: Error | undefined): void {
    if (this.#isDone) return;
    this.#isDone = true;
    this.#signal?.removeEventListener('abort', this.#onAbort);
    this.#inbox.unset(this);
    const [first, ...others] = this.#asked.splice(0);
    if (error !== undefined && first === undefined) this.#error = error;
    else if (error !== undefined) first?.reject(error);
    else first?.resolve({ done: true, value: undefined });
    for (const asked of others) asked.resolve({ done: true, value: undefined });
  }
}
