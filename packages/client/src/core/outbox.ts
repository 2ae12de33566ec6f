import { clientLimits, cmd } from '@hawser/protocol';
import type { Answer } from './answer.ts';
import { fullJitterMs } from './backoff.ts';
import { InvalidError, type Outcome, OverloadedError, RefusedError } from './errors.ts';
import type { SessionOptions } from './options.ts';
import { Pending } from './pending.ts';
import type { Ports, Timer } from './ports.ts';

/** Sends a frame on the connection of now. */
export type Write = (number: number, msgId: string, data: Uint8Array) => void;

interface Outgoing {
  readonly msgId: string;
  readonly to: string;
  readonly data: Uint8Array;
  readonly bytes: number;
  readonly pending: Pending<void>;
}

/**
 * A receiver whose messages are refused for now. Its oldest message is tried again after ever longer waits; the others
 * stay behind it, so that they keep their order.
 */
interface Hold {
  attempt: number;
  /** Runs while the next attempt is waited for. */
  timer: Timer | undefined;
  /** The message that is being tried. */
  probe: Outgoing | undefined;
}

/**
 * Messages that were sent and are not settled, in their order. All of them are written again, with the same msgIds,
 * when there is a new connection. Beyond the bounds of what may be outstanding further ones wait, within bounds too.
 */
export class Outbox {
  readonly #ports: Ports;
  readonly #options: SessionOptions;
  readonly #outstanding = new Map<string, Outgoing>();
  #outstandingBytes = 0;
  /** In the order of their calls. */
  readonly #waiting = new Map<string, Outgoing>();
  #waitingBytes = 0;
  #willAdmit = false;
  readonly #holds = new Map<string, Hold>();
  #write: Write | undefined;

  constructor(ports: Ports, options: SessionOptions) {
    this.#ports = ports;
    this.#options = options;
  }

  /** Whether a written message awaits its answer. */
  get isAwaiting(): boolean {
    for (const { pending } of this.#outstanding.values()) if (pending.isWritten) return true;
    return false;
  }

  /** Resolves when the server has acked the message. */
  send(msgId: string, to: string, data: Uint8Array, timeoutMs: number, signal: AbortSignal | undefined): Promise<void> {
    if (this.#outstanding.has(msgId) || this.#waiting.has(msgId)) {
      return Promise.reject(new InvalidError(`a message with the msgId ${JSON.stringify(msgId)} is on its way`));
    }
    const bytes = data.length + clientLimits.messageOverheadBytes;
    const isWaiting = this.#waiting.size > 0 || !this.#hasRoom(bytes);
    if (isWaiting && !this.#mayWait(bytes)) {
      return Promise.reject(new OverloadedError(`${this.#waiting.size} messages wait to be sent`));
    }
    const pending = new Pending<void>('a message', this.#ports.time, timeoutMs, signal);
    if (pending.isSettled) return pending.promise;
    const message: Outgoing = { msgId, to, data, bytes, pending };
    pending.onEnd = () => this.#ended(message);
    if (isWaiting) {
      this.#waiting.set(msgId, message);
      this.#waitingBytes += bytes;
    } else this.#admit(message);
    return pending.promise;
  }

  // ---- the connection

  /** Logged in: everything goes out, again where it was sent before. */
  online(write: Write): void {
    this.#write = write;
    for (const message of this.#outstanding.values()) this.#send(message);
  }

  /** Whom to hold back is forgotten: the next connection tries all again. */
  offline(): void {
    this.#write = undefined;
    this.#clearHolds();
    for (const { pending } of this.#outstanding.values()) pending.connectionLost();
  }

  /** Gives up all messages. */
  fail(errorOf: (outcome: Outcome) => Error): void {
    for (const messages of [this.#waiting, this.#outstanding]) {
      for (const { pending } of [...messages.values()]) pending.fail(errorOf(pending.outcome));
    }
  }

  // ---- answers

  /** Also one that waits for room may be acked, by an earlier attempt under its msgId. */
  acked(msgId: string): void {
    const message = this.#outstanding.get(msgId) ?? this.#waiting.get(msgId);
    message?.pending.succeed();
  }

  refused(msgId: string, answer: Answer): void {
    const message = this.#outstanding.get(msgId);
    if (message === undefined) return;
    const { pending } = message;
    pending.isWritten = false;
    // Refused for now, for want of room or of the store, it may have been pushed, and its receiver may take it.
    pending.isUncertain ||= answer.retry;
    const outcome = pending.isUncertain ? 'unknown' : 'refused';
    const error = new RefusedError(answer.msg, answer.code, answer.retry, outcome);
    if (!answer.retry) pending.fail(error);
    else {
      pending.refusal = pending.trouble = error;
      this.#hold(message);
    }
  }

  // ---- room

  #hasRoom(bytes: number): boolean {
    if (this.#outstanding.size === 0) return true;
    const { outstandingMessagesMax, outstandingBytesMax } = this.#options;
    return this.#outstanding.size < outstandingMessagesMax && this.#outstandingBytes + bytes <= outstandingBytesMax;
  }

  #mayWait(bytes: number): boolean {
    const { waitingMessagesMax, waitingBytesMax } = this.#options;
    return this.#waiting.size < waitingMessagesMax && this.#waitingBytes + bytes <= waitingBytesMax;
  }

  #admit(message: Outgoing): void {
    this.#outstanding.set(message.msgId, message);
    this.#outstandingBytes += message.bytes;
    this.#send(message);
  }

  #send(message: Outgoing): void {
    if (this.#write === undefined || this.#holds.has(message.to)) return;
    this.#writeNow(this.#write, message);
  }

  #writeNow(write: Write, message: Outgoing): void {
    message.pending.isWritten = true;
    write(cmd.message, message.msgId, message.data);
  }

  /** A message is settled, by whatever: those that waited behind it may go. Not within this turn, which may end them. */
  #ended(message: Outgoing): void {
    if (this.#waiting.delete(message.msgId)) this.#waitingBytes -= message.bytes;
    if (this.#outstanding.delete(message.msgId)) {
      this.#outstandingBytes -= message.bytes;
      this.#releaseBehind(message);
    }
    if (this.#waiting.size === 0 || this.#willAdmit) return;
    this.#willAdmit = true;
    this.#ports.time.endOfTurn(() => this.#admitWaiting());
  }

  #admitWaiting(): void {
    this.#willAdmit = false;
    for (const next of this.#waiting.values()) {
      if (!this.#hasRoom(next.bytes)) break;
      this.#waiting.delete(next.msgId);
      this.#waitingBytes -= next.bytes;
      this.#admit(next);
    }
  }

  // ---- refused for now

  #hold(message: Outgoing): void {
    const hold = this.#holds.get(message.to);
    if (hold === undefined) {
      const begun: Hold = { attempt: 0, timer: undefined, probe: undefined };
      this.#holds.set(message.to, begun);
      this.#planProbe(message.to, begun);
    } else if (hold.probe === message) {
      hold.probe = undefined;
      hold.attempt++;
      this.#planProbe(message.to, hold);
    }
  }

  #planProbe(to: string, hold: Hold): void {
    const { resendBaseMs, resendMsMax } = clientLimits;
    const waitMs = fullJitterMs(hold.attempt, resendBaseMs, resendMsMax, this.#ports.random.fraction());
    hold.timer = this.#ports.time.after(waitMs, () => {
      hold.timer = undefined;
      hold.probe = this.#oldestHeld(to);
      if (hold.probe === undefined) this.#holds.delete(to);
      else if (this.#write !== undefined) this.#writeNow(this.#write, hold.probe);
    });
  }

  #oldestHeld(to: string): Outgoing | undefined {
    for (const message of this.#outstanding.values()) {
      if (message.to === to && !message.pending.isWritten) return message;
    }
    return undefined;
  }

  /** The message that was tried is settled: the receiver's others go out, in order. */
  #releaseBehind(message: Outgoing): void {
    const hold = this.#holds.get(message.to);
    if (hold === undefined || hold.probe !== message) return;
    this.#holds.delete(message.to);
    for (const each of this.#outstanding.values()) {
      if (each.to === message.to && !each.pending.isWritten) this.#send(each);
    }
  }

  #clearHolds(): void {
    for (const hold of this.#holds.values()) hold.timer?.cancel();
    this.#holds.clear();
  }
}
