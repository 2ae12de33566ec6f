import {
  AbortedError,
  ClosedError,
  OperationError,
  OverloadedError,
  RefusedError,
  type State,
  TimeoutError,
} from '@hawser/client/core';
import { cmd } from '@hawser/protocol';
import type { Checker } from './checker.ts';
import type { ServerFrame } from './frames.ts';
import type { SentMessage } from './message.ts';
import type { Rule } from './rules.ts';

/** What the client's timers may be late by. */
const SLACK_MS = 1;

/** What the server answered under one msgId, as far as the client has read it. */
interface Answers {
  ackedAt: number;
  isRefused: boolean;
  isRefusedForNow: boolean;
  codes: Set<number>;
}

/** A call of `send`, `addDevice` or `removeDevice`. */
export interface Call {
  readonly what: string;
  readonly msgId: string;
  /** Undefined for a device added or removed. */
  readonly message: SentMessage | undefined;
  readonly at: number;
  readonly until: number;
  /** Nothing was ever sent under this msgId before. */
  readonly isFirst: boolean;
  /** Connections on which it was written. */
  written: number;
  isAborted: boolean;
  isSettled: boolean;
}

/**
 * Judges one life of a client that is the package: whether what it tells its user is so, by what it wrote and read. It
 * knows nothing of how the package does it.
 */
export class SdkChecker {
  readonly #checker: Checker;
  readonly #now: () => number;
  readonly #name: string;
  readonly #answers = new Map<string, Answers>();
  readonly #open = new Map<string, Call>();
  /** Calls of `send` with a msgId of their own, by receiver, in their order. */
  readonly #sends = new Map<string, Call[]>();

  /** Pushed here, and neither handed out nor dropped, in order; by sender and msgId. */
  readonly #waiting = new Map<string, SentMessage>();
  /** As the login had ended; a loop that had taken one of them just before gets it all the same. */
  readonly #dropped = new Set<string>();
  readonly #inHand = new Set<string>();
  readonly #handled = new Set<string>();
  readonly #handledIds = new Set<string>();
  /** Under each msgId, what was pushed last on the connection of now. */
  readonly #lastPushed = new Map<string, string>();
  #isToldOfConflict = false;
  /** The user ended the login, or something did of which the user was told. */
  #isOffline = true;

  constructor(checker: Checker, name: string, now: () => number) {
    this.#checker = checker;
    this.#name = name;
    this.#now = now;
  }

  #broken(rule: Rule, text: string, message?: SentMessage): void {
    this.#checker.broken(rule, `the client of ${this.#name} ${text}`, message);
  }

  /** Messages whose handler threw, and that are to be pushed again. */
  readonly released = new Set<string>();

  // ---- sessions

  loginAsked(): void {
    this.#isToldOfConflict = false;
    this.#isOffline = false;
  }

  stateChanged(state: State): void {
    if (state.phase !== 'offline') return;
    this.#isOffline = true;
    // What was not handed out is the server's again.
    for (const key of this.#waiting.keys()) this.#dropped.add(key);
    this.#waiting.clear();
  }

  connecting(): void {
    if (this.#isToldOfConflict) this.#broken('conflict fought', 'connects after a conflict, unasked');
    this.#lastPushed.clear();
  }

  /** A conflict was read on a connection that the client had not left. */
  conflictRead(state: State): void {
    this.#isToldOfConflict = true;
    if (state.phase === 'offline' && state.why === 'conflict' && state.error?.name === 'ConflictError') return;
    this.#broken('conflict fought', `was told of a conflict and is ${state.phase}`);
  }

  // ---- what it writes and reads

  wroteMessage(msgId: string, message: SentMessage | undefined): void {
    if (message === undefined || message.from !== this.#name || message.msgId !== msgId) {
      this.#broken('another msgId', `wrote ${message ?? 'what nobody sent'} as ${JSON.stringify(msgId)}`, message);
      return;
    }
    const call = this.#open.get(msgId);
    if (call === undefined) this.#broken('untrue', `wrote ${message} after it had settled`, message);
    else call.written++;
  }

  wroteRequest(msgId: string): void {
    const call = this.#open.get(msgId);
    if (call !== undefined) call.written++;
  }

  wroteAcks(msgIds: readonly string[]): void {
    for (const msgId of msgIds) {
      const key = this.#lastPushed.get(msgId);
      const isHandled = key === undefined ? this.#handledIds.has(msgId) : this.#handled.has(key);
      if (!isHandled) {
        this.#broken('acked unhandled', `acks ${JSON.stringify(key ?? msgId)}, whose handler has not returned`);
      }
    }
  }

  /** Frames that the client is about to read. */
  arriving(frames: readonly ServerFrame[]): void {
    for (const frame of frames) {
      if (frame.cmd === cmd.push) {
        for (const message of frame.pushes) if (message !== undefined) this.#pushed(message);
      } else if (frame.msgId !== '') this.#answered(frame);
    }
  }

  #pushed(message: SentMessage): void {
    const key = keyOf(message);
    this.released.delete(key);
    this.#lastPushed.set(message.msgId, key);
    if (this.#handled.has(key) || this.#inHand.has(key) || this.#waiting.has(key)) return;
    this.#waiting.set(key, message);
  }

  #answered(frame: ServerFrame): void {
    const answers = this.#answers.get(frame.msgId) ?? {
      ackedAt: Number.NEGATIVE_INFINITY,
      isRefused: false,
      isRefusedForNow: false,
      codes: new Set(),
    };
    this.#answers.set(frame.msgId, answers);
    const isAck = frame.cmd === cmd.message && (frame.isEmpty || frame.code === 100);
    if (isAck) answers.ackedAt = this.#now();
    else if (frame.isRetry) answers.isRefusedForNow = true;
    else answers.isRefused = true;
    if (frame.code !== undefined) answers.codes.add(frame.code);
  }

  // ---- what is sent

  called(what: string, msgId: string, message: SentMessage | undefined, timeoutMs: number, isFirst: boolean): Call {
    const at = this.#now();
    const call: Call = {
      what,
      msgId,
      message,
      at,
      until: at + timeoutMs,
      isFirst,
      written: 0,
      isAborted: false,
      isSettled: false,
    };
    this.#open.set(msgId, call);
    if (message !== undefined && isFirst) {
      const sends = this.#sends.get(message.to) ?? [];
      this.#sends.set(message.to, sends);
      sends.push(call);
    }
    return call;
  }

  /** To be called when its time has been up for a moment. */
  checkSettled(call: Call): void {
    if (!call.isSettled) this.#broken('not settled', `has not settled ${call.what} in its time`, call.message);
  }

  succeeded(call: Call): void {
    this.#settled(call);
    const answers = this.#answers.get(call.msgId);
    if (call.message === undefined) {
      // Sent twice, "already so" may be its own doing.
      const isDone =
        answers?.codes.has(100) || (call.written > 1 && (answers?.codes.has(2001) || answers?.codes.has(2002)));
      if (!isDone) this.#broken('untrue', `says that ${call.what} has succeeded`);
      return;
    }
    const isAcked = call.message.isAcked && answers !== undefined && answers.ackedAt >= call.at;
    if (!isAcked) this.#broken('untrue', `says that ${call.message} is acked, which it is not`, call.message);
    if (call.isFirst) this.#checkOrder(call, call.message);
  }

  /** Later calls to the same receiver must not have been taken before, but where this one was refused for now. */
  #checkOrder(call: Call, message: SentMessage): void {
    if (message.isTurnedAway || message.isStoreRefused) return;
    const sends = this.#sends.get(message.to)!;
    for (let i = sends.indexOf(call) + 1; i < sends.length; i++) {
      const later = sends[i]!.message!;
      if (later.acceptances > 0 && later.firstPlace < message.firstPlace) {
        this.#broken('sent out of order', `sent ${message} after ${later}`, message);
        return;
      }
    }
  }

  failed(call: Call, error: unknown): void {
    this.#settled(call);
    const { message, what, msgId } = call;
    if (!(error instanceof OperationError)) {
      this.#broken('untrue', `rejected ${what} with ${String(error)}`, message);
      return;
    }
    const answers = this.#answers.get(msgId);
    const told = `${error.name} (${error.outcome})`;
    // A refusal may still come of an earlier attempt under the same msgId.
    const isOfThis = call.isFirst || !(error instanceof RefusedError);
    if (message !== undefined && answers !== undefined && answers.ackedAt >= call.at && isOfThis) {
      this.#broken('untrue', `told of ${message} as ${told}, after it was acked`, message);
    }
    if (!this.#isSo(call, error, answers)) {
      this.#broken('untrue', `told of ${message ?? what} as ${told}: ${error.message}, which is not so`, message);
    }
    if (error.outcome === 'not sent' && call.written > 0) {
      this.#broken('untrue', `says of ${message ?? what} that it was not sent, which it was`, message);
    }
    const isTaken = message !== undefined && message.acceptances > 0;
    if (error.outcome !== 'unknown' && call.isFirst && isTaken) {
      this.#broken('untrue', `told of ${message} as ${told}, but the server took it`, message);
    }
  }

  #isSo(call: Call, error: OperationError, answers: Answers | undefined): boolean {
    const now = this.#now();
    if (error instanceof RefusedError) {
      if (!answers?.codes.has(error.code)) return false;
      return error.retry ? answers.isRefusedForNow : answers.isRefused;
    }
    if (error instanceof TimeoutError) return now >= call.until - SLACK_MS;
    if (error instanceof AbortedError) return call.isAborted;
    if (error instanceof ClosedError) return this.#isOffline;
    return error instanceof OverloadedError && call.written === 0;
  }

  #settled(call: Call): void {
    if (call.isSettled) this.#broken('untrue', `has settled ${call.what} twice`, call.message);
    if (this.#now() > call.until + SLACK_MS) this.#broken('not settled', `settled ${call.what} late`, call.message);
    call.isSettled = true;
    this.#open.delete(call.msgId);
  }

  // ---- what is handed to the handler

  handed(from: string, msgId: string, json: string, message: SentMessage | undefined): void {
    const key = keyOf({ from, msgId });
    if (message === undefined || message.text !== json || message.from !== from || message.msgId !== msgId) {
      this.#broken('wrong party', `handed out what nobody sent: ${from}, ${msgId}`);
      return;
    }
    if (this.#handled.has(key) || this.#inHand.has(key)) {
      this.#broken('handled twice', `handed out ${message} again`, message);
    } else if (!this.#waiting.has(key) && !this.#dropped.has(key)) {
      this.#broken('handled twice', `handed out ${message}, which was not pushed to it again`, message);
    }
    for (const [each, earlier] of this.#waiting) {
      if (earlier.from !== from) continue;
      if (each !== key && !this.#dropped.has(key))
        this.#broken('handled out of order', `handed out ${message} before ${earlier}`, message);
      break;
    }
    this.#waiting.delete(key);
    this.#dropped.delete(key);
    this.#inHand.add(key);
  }

  /** The handler has returned, or called `ack`. */
  handled(message: SentMessage): void {
    const key = keyOf(message);
    this.#inHand.delete(key);
    this.#handled.add(key);
    this.#handledIds.add(message.msgId);
    message.receiverHasIt = true;
  }

  /** The handler threw, or left the message: it comes again. */
  left(message: SentMessage): void {
    const key = keyOf(message);
    this.#inHand.delete(key);
    this.released.add(key);
  }
}

function keyOf(message: { readonly from: string; readonly msgId: string }): string {
  return `${message.from}\n${message.msgId}`;
}
