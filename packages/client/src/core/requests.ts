import { clientLimits, code } from '@hawser/protocol';
import type { Answer } from './answer.ts';
import { type Outcome, OverloadedError, RefusedError } from './errors.ts';
import type { Write } from './outbox.ts';
import { Pending } from './pending.ts';
import type { Time } from './ports.ts';

export interface Request {
  readonly cmd: number;
  readonly msgId: string;
  readonly data: Uint8Array;
  /**
   * The code that says that it is so already. It counts as success when the request was sent before on a connection
   * that broke: then it is its own doing, or might as well be.
   */
  readonly alreadyCode?: number;
}

interface OpenRequest extends Request {
  readonly pending: Pending<Uint8Array>;
}

/** Requests with an answer of their own, other than messages. They are sent again when there is a new connection. */
export class Requests {
  readonly #time: Time;
  readonly #open = new Map<string, OpenRequest>();
  #write: Write | undefined;

  constructor(time: Time) {
    this.#time = time;
  }

  get isAwaiting(): boolean {
    for (const { pending } of this.#open.values()) if (pending.isWritten) return true;
    return false;
  }

  /** Resolves with the data of the answer, when its code is 100. */
  send(request: Request, timeoutMs: number, signal: AbortSignal | undefined): Promise<Uint8Array> {
    if (this.#open.size >= clientLimits.requestsMax) {
      return Promise.reject(new OverloadedError(`${this.#open.size} requests are unanswered`));
    }
    const pending = new Pending<Uint8Array>(`cmd ${request.cmd}`, this.#time, timeoutMs, signal);
    if (pending.isSettled) return pending.promise;
    const open: OpenRequest = { ...request, pending };
    pending.onEnd = () => this.#open.delete(request.msgId);
    this.#open.set(request.msgId, open);
    this.#send(open);
    return pending.promise;
  }

  online(write: Write): void {
    this.#write = write;
    for (const request of this.#open.values()) this.#send(request);
  }

  offline(): void {
    this.#write = undefined;
    for (const { pending } of this.#open.values()) pending.connectionLost();
  }

  fail(errorOf: (outcome: Outcome) => Error): void {
    for (const { pending } of [...this.#open.values()]) pending.fail(errorOf(pending.outcome));
  }

  /** Whether the answer was for one of these. */
  answered(msgId: string, answer: Answer, data: Uint8Array): boolean {
    const request = this.#open.get(msgId);
    if (request === undefined) return false;
    const { pending, alreadyCode } = request;
    const isDone = answer.code === code.ok || (pending.isUncertain && answer.code === alreadyCode);
    if (isDone) pending.succeed(data.slice());
    else
      pending.fail(
        new RefusedError(answer.msg, answer.code, answer.retry, pending.isUncertain ? 'unknown' : 'refused'),
      );
    return true;
  }

  #send(request: OpenRequest): void {
    if (this.#write === undefined) return;
    request.pending.isWritten = true;
    this.#write(request.cmd, request.msgId, request.data);
  }
}
