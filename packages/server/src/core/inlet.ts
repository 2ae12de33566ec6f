import { serverLimits } from '@hawser/protocol';
import { FinishedPush, FinishedPushes, type Push } from './finished.ts';
import type { Hop, Message } from './message.ts';
import { Numbered } from './numbered.ts';
import type { Finished, Forward } from './packets.ts';

/** A stream from another node, which it may begin when it is told the number. */
interface Stream {
  readonly number: number;
  next: number;
  /** Nothing more is taken of it. */
  isRefused: boolean;
  /**
   * Senders of whom something was read from the store since the stream might begin. So the other node stored for them,
   * and what still comes of theirs in the stream is late: it lies in the store as well, or has been acked.
   */
  readonly late: Set<string>;
  /** Of this stream: acked by the receiver, and perhaps not yet known to be by the node that sent them. */
  readonly acked: Numbered<FinishedPush>;
}

/**
 * What comes to a receiver from other nodes, as its owner sees it: streams of messages, of which none may be missing,
 * and news of what was stored.
 *
 * A message that the receiver has acked may be stored all the same, by a node that had not heard of the ack. It is
 * remembered until that can no longer be, so that it is not pushed again when it is read.
 */
export class Inlet {
  readonly #streams = new Map<string, Stream>();
  readonly #finished = new FinishedPushes();
  readonly #nudges = new Map<string, number>();

  /** The number of the stream that a node may begin. */
  grant(node: string, newNumber: () => number): number {
    const known = this.#streams.get(node);
    // Who was late for the last one need not be for a new one, which begins behind all that has been read by now.
    if (known !== undefined && !known.isRefused && known.next === 0 && known.late.size === 0) return known.number;
    const number = newNumber();
    this.#streams.set(node, { number, next: 0, isRefused: false, late: new Set(), acked: new Numbered() });
    return number;
  }

  /** Something of this sender was read from the store. */
  read(sender: string): void {
    for (const stream of this.#streams.values()) {
      if (stream.late.size >= serverLimits.receiversPerSenderMax) stream.isRefused = true;
      else stream.late.add(sender);
    }
  }

  /** Whether a forwarded message is the next of its stream; if not, whether the sending node is to be told so. */
  admit({ stream, seq, finishedTo, isSettled, from }: Forward, node: string): 'next' | 'refuse' | 'ignore' {
    const known = this.#streams.get(node);
    if (known?.number !== stream) return 'refuse';
    if (known.isRefused) return 'ignore';
    if (seq !== known.next || known.late.has(from)) {
      known.isRefused = true;
      return 'refuse';
    }
    if (seq === 0 && isSettled) this.#forgetOlder(node, stream);
    known.next++;
    if (finishedTo > known.acked.first) known.acked.takeBelow(Math.min(finishedTo, seq), this.#forget);
    return 'next';
  }

  /** Takes neither this message of the stream nor anything behind it; false when that was so before. */
  refuse({ node, stream, seq }: Hop): boolean {
    const known = this.#streams.get(node);
    if (known?.number !== stream || known.isRefused) return false;
    known.isRefused = true;
    known.next = seq;
    return true;
  }

  /** The first message of a stream that was not taken; 0 when it is not known, so that no ack of it will come. */
  taken(node: string, stream: number): number {
    const known = this.#streams.get(node);
    return known?.number === stream ? known.next : 0;
  }

  /** A new stream begins when all of the older ones is stored and has been read, or was never stored. */
  #forgetOlder(node: string, stream: number): void {
    if (this.#finished.size === 0) return;
    for (const push of this.#finished.inOrder()) {
      if (push.node === node && push.stream < stream) this.#finished.forget(push);
    }
  }

  // ---- acked, and perhaps stored

  /** The receiver has acked a forwarded message, whose place in the store is not known. */
  finish(message: Message, now: number): void {
    const { hop } = message;
    const push = new FinishedPush(message, hop?.node ?? '', hop?.stream ?? 0, now);
    this.#finished.add(push);
    if (hop === undefined) return;
    const stream = this.#streams.get(hop.node);
    if (stream?.number === hop.stream && hop.seq >= stream.acked.first) stream.acked.put(hop.seq, push);
  }

  readonly #forget = (push: FinishedPush): void => this.#finished.forget(push);

  /** Whether the receiver has acked this message already. */
  hasFinished({ from, msgId, hash }: Push): boolean {
    return this.#finished.get(from, msgId)?.hash === hash;
  }

  /** What the node knew that had the receiver before. */
  inherit(finished: readonly Finished[], now: number): void {
    const all = this.#finished.inOrder();
    for (const push of all) this.#finished.forget(push);
    for (const push of finished) all.push(new FinishedPush(push, '', 0, now - push.ago));
    for (const push of all.sort((one, other) => one.at - other.at)) this.#finished.add(push);
  }

  finished(now: number): Finished[] {
    return this.#finished.inOrder().map(({ from, msgId, hash, at }) => {
      return { from, msgId, hash, ago: Math.max(0, Math.round(now - at)) };
    });
  }

  /** By then no node can be about to store what it accepted so long ago. */
  age(now: number): void {
    this.#finished.forgetBefore(now - serverLimits.finishedPushesKeptMs);
  }

  get isEmpty(): boolean {
    return this.#finished.size === 0;
  }

  // ---- news of the store

  nudged(node: string, news: number): void {
    this.#nudges.set(node, Math.max(news, this.#nudges.get(node) ?? 0));
  }

  /** Who is to be told that all has been read. */
  takeNudges(): readonly (readonly [node: string, news: number])[] {
    if (this.#nudges.size === 0) return NONE;
    const nudges = [...this.#nudges];
    this.#nudges.clear();
    return nudges;
  }

  // ---- the session

  /** The session ended: returns the streams that are to be refused. */
  end(): readonly (readonly [node: string, stream: number])[] {
    const streams = [...this.#streams].filter(([, { isRefused }]) => !isRefused);
    this.#streams.clear();
    this.#nudges.clear();
    return streams.map(([node, { number }]) => [node, number] as const);
  }
}

const NONE: readonly (readonly [string, number])[] = [];
