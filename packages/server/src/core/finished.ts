import { serverLimits } from '@hawser/protocol';
import { digest } from './digest.ts';
import type { Finished } from './packets.ts';

export type Push = Pick<Finished, 'from' | 'msgId' | 'hash'>;

const FIRST_BUCKETS = 8;

/** A push that its receiver has acked, and that may be stored all the same. */
export class FinishedPush {
  readonly from: string;
  readonly msgId: string;
  readonly hash: number;
  /** The stream that it came by, and from which node; 0 for none. */
  readonly node: string;
  readonly stream: number;
  /** When it was acked. */
  readonly at: number;
  /** Its bucket. */
  readonly low: number;
  /** The next one in its bucket, and its neighbours in the order of acks. */
  next: FinishedPush | undefined;
  older: FinishedPush | undefined;
  newer: FinishedPush | undefined;
  isRemembered = false;

  constructor({ from, msgId, hash }: Push, node: string, stream: number, at: number) {
    this.from = from;
    this.msgId = msgId;
    this.hash = hash;
    this.node = node;
    this.stream = stream;
    this.at = at;
    digest.of(msgId);
    this.low = digest.low;
  }
}

/**
 * Pushes that were acked and may be stored all the same: by sender and msgId, and in the order of their acks. In a node at
 * work each is here for some milliseconds, so there is no `Map` (decision 29), and one that is forgotten names no other.
 */
export class FinishedPushes {
  #buckets: (FinishedPush | undefined)[] = NO_BUCKETS;
  #oldest: FinishedPush | undefined;
  #newest: FinishedPush | undefined;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get(from: string, msgId: string): FinishedPush | undefined {
    if (this.#size === 0) return undefined;
    digest.of(msgId);
    let push = this.#buckets[digest.low & (this.#buckets.length - 1)];
    while (push !== undefined && !(push.msgId === msgId && push.from === from)) push = push.next;
    return push;
  }

  /** Adds it as the one that was acked last, in place of an earlier one of the same sender and msgId. */
  add(push: FinishedPush): void {
    const earlier = this.get(push.from, push.msgId);
    if (earlier !== undefined) this.forget(earlier);
    if (this.#size >= this.#buckets.length) this.#grow();
    this.#size++;
    push.isRemembered = true;
    this.#place(push);
    push.older = this.#newest;
    if (this.#newest === undefined) this.#oldest = push;
    else this.#newest.newer = push;
    this.#newest = push;
    if (this.#size > serverLimits.finishedPushesMax && this.#oldest !== undefined) this.forget(this.#oldest);
  }

  #place(push: FinishedPush): void {
    const bucket = push.low & (this.#buckets.length - 1);
    push.next = this.#buckets[bucket];
    this.#buckets[bucket] = push;
  }

  #grow(): void {
    this.#buckets = new Array<FinishedPush | undefined>(Math.max(FIRST_BUCKETS, this.#buckets.length * 2)).fill(
      undefined,
    );
    for (let push = this.#oldest; push !== undefined; push = push.newer) this.#place(push);
  }

  /** Does nothing when it is not remembered. */
  forget(push: FinishedPush): void {
    if (!push.isRemembered) return;
    push.isRemembered = false;
    this.#size--;
    this.#displace(push);
    const { older, newer } = push;
    if (older === undefined) this.#oldest = newer;
    else older.newer = newer;
    if (newer === undefined) this.#newest = older;
    else newer.older = older;
    push.older = undefined;
    push.newer = undefined;
    if (this.#size === 0) this.#buckets = NO_BUCKETS;
  }

  #displace(push: FinishedPush): void {
    const bucket = push.low & (this.#buckets.length - 1);
    let before = this.#buckets[bucket];
    if (before === push) this.#buckets[bucket] = push.next;
    else {
      while (before !== undefined && before.next !== push) before = before.next;
      if (before !== undefined) before.next = push.next;
    }
    push.next = undefined;
  }

  /** Those first that were acked first. */
  inOrder(): FinishedPush[] {
    const pushes: FinishedPush[] = [];
    for (let push = this.#oldest; push !== undefined; push = push.newer) pushes.push(push);
    return pushes;
  }

  /** Forgets those that were acked before. */
  forgetBefore(at: number): void {
    while (this.#oldest !== undefined && this.#oldest.at <= at) this.forget(this.#oldest);
  }
}

const NO_BUCKETS: undefined[] = [];
