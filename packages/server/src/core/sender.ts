import { serverLimits } from '@hawser/protocol';
import type { Message } from './message.ts';
import type { Session } from './session.ts';

/**
 * What is kept of a sender: its messages on their way, and the ids of those settled, to recognise a resend.
 *
 * Settled ids lie in two generations. When the newer has `rememberedIdsPerSender` ids or is `rememberedForMs` old, it
 * becomes the older and what was the older is dropped whole: between one and two times as much is remembered as the
 * protocol asks, and forgetting costs nothing per id.
 */
export class Sender {
  readonly name: string;
  /** The sender's present session: where acks go. */
  session: Session | undefined;
  /** Accepted, neither acked nor refused. */
  readonly pending = new Map<string, Message>();
  pendingBytes = 0;
  #newer = new Map<string, number>();
  #older = new Map<string, number>();
  #newerSince = 0;

  constructor(name: string) {
    this.name = name;
  }

  /** The content hash of a settled message; `undefined` when the id is not remembered. */
  remembered(msgId: string): number | undefined {
    return this.#newer.get(msgId) ?? this.#older.get(msgId);
  }

  /** Returns by how much the number of remembered ids changed. */
  remember(msgId: string, hash: number, now: number): number {
    let change = 1;
    if (this.#newer.size >= serverLimits.rememberedIdsPerSender) change -= this.#retire(now);
    else if (this.#newer.size === 0) this.#newerSince = now;
    this.#newer.set(msgId, hash);
    return change;
  }

  /** Retires generations past their age; returns how many ids were forgotten. */
  age(now: number): number {
    return now - this.#newerSince >= serverLimits.rememberedForMs ? this.#retire(now) : 0;
  }

  /** Forgets everything settled; returns how many ids. */
  forget(now: number): number {
    return this.#retire(now) + this.#retire(now);
  }

  #retire(now: number): number {
    const forgotten = this.#older.size;
    this.#older = this.#newer;
    this.#newer = new Map();
    this.#newerSince = now;
    return forgotten;
  }

  get ids(): number {
    return this.#newer.size + this.#older.size;
  }

  get isIdle(): boolean {
    return this.session === undefined && this.pending.size === 0 && this.ids === 0;
  }

  /** Whether reading from this sender may go on after it was full: at half, so that it does not stutter. */
  get hasRoom(): boolean {
    return (
      this.pending.size <= serverLimits.senderPendingMessagesMax / 2 &&
      this.pendingBytes <= serverLimits.senderPendingBytesMax / 2
    );
  }

  /** Whether reading from this sender should pause. */
  get isFull(): boolean {
    return (
      this.pending.size >= serverLimits.senderPendingMessagesMax ||
      this.pendingBytes >= serverLimits.senderPendingBytesMax
    );
  }
}
