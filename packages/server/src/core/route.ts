import { serverLimits } from '@hawser/protocol';
import { type Message, stage } from './message.ts';
import { Numbered } from './numbered.ts';
import type { Forward } from './packets.ts';

/**
 * The way to a receiver whose session is on another node, as the node sees it that accepts messages for it.
 *
 *     through store ──the owner has pushed all that was stored──▶ direct
 *          ▲                                                        │
 *          └──no room, refused, not acked in time, ─────────────────┘
 *             or the first message of a sender's session
 *
 * - through store: what comes is stored, and the owner of the receiver is nudged to read it.
 * - direct: what comes is forwarded in a stream, of which the owner takes each message after all those before it. When
 *   the stream ends all of it that is not acked is stored, in order, and so is all that comes after.
 */
export class Route {
  /** The node that holds the receiver; `undefined` until it has been found. */
  owner: string | undefined;
  /** The last news that were out when the owner was asked for: it may have changed since. */
  ownerAsOf = 0;
  /** The one before it was looked for again. */
  lastOwner: string | undefined;
  /** It is being found. */
  isSeeking = false;
  /** The last position that this node has stored, or may have stored, since the owner last caught up. */
  storedTo = 0;
  /** The number of the last news: that something was stored, or may have been. */
  news = 0;
  /** Since when the owner has not answered a nudge, 0 when it owes none; and how often it was nudged again. */
  silentSince = 0;
  nudges = 0;
  /** When a message last went this way. */
  usedAt = 0;
  /** 0: through store. */
  #stream = 0;
  #isSettled = true;
  #next = 0;
  #bytes = 0;
  /** Of the present stream, not acked. */
  #forwarded = new Numbered<Message>();
  /** The same of streams that ended: they are being stored, and may be acked yet. */
  readonly #ended = new Map<number, Numbered<Message>>();
  /** Those of them that are stored: an ack of them is one to remove, until the owner has read to there. */
  #stored = new Map<number, Map<number, Message>>();

  get isDirect(): boolean {
    return this.#stream > 0;
  }

  get stream(): number {
    return this.#stream;
  }

  /** Nothing of it is on its way. */
  get isIdle(): boolean {
    return this.#forwarded.size === 0 && this.#ended.size === 0;
  }

  /** @param isSettled nothing of older streams is in doubt (`Forward`) */
  begin(stream: number, isSettled: boolean): void {
    this.#stream = stream;
    this.#isSettled = isSettled;
    this.#next = 0;
    this.#bytes = 0;
    this.nudges = 0;
    this.storedTo = 0;
    this.#stored = new Map();
  }

  hasRoom(bytes: number): boolean {
    if (this.#forwarded.size === 0) return true;
    const { size, span } = this.#forwarded;
    const { routeMessagesMax, routeSpanMax, routeBytesMax } = serverLimits;
    return size < routeMessagesMax && span < routeSpanMax && this.#bytes + bytes <= routeBytesMax;
  }

  /** Takes the message into the stream; returns what is to be sent to the owner. */
  forward(message: Message, msg: Uint8Array, now: number): Forward {
    const stream = this.#stream;
    const seq = this.#next++;
    message.hop = { node: this.owner ?? '', stream, seq };
    message.wasForwarded = true;
    this.#forwarded.put(seq, message);
    this.#bytes += message.size;
    this.usedAt = now;
    const finishedTo = this.#forwarded.first;
    const { to, from, msgId, wall, ran, ttl } = message;
    const isSettled = this.#isSettled;
    return { type: 'forward', to, stream, seq, finishedTo, isSettled, from, msgId, msg, wall, ran, ttl };
  }

  /** Ends the stream, if there is one; returns what is not acked, in order: it is to be stored. */
  end(): readonly Message[] {
    if (this.#stream === 0) return [];
    const unacked = this.#forwarded;
    if (unacked.size > 0) this.#ended.set(this.#stream, unacked);
    this.#forwarded = new Numbered();
    this.#stream = 0;
    return unacked.inOrder();
  }

  /** The owner has not taken these of a stream, or no ack of them will come: they are waited for no more. */
  untaken(stream: number, from: number): void {
    const ended = this.#ended.get(stream);
    for (const message of ended?.inOrder() ?? []) {
      const { hop } = message;
      if (hop === undefined || hop.seq < from) continue;
      ended?.take(hop.seq);
      message.hop = undefined;
    }
    if (ended?.size === 0) this.#ended.delete(stream);
    const stored = this.#stored.get(stream);
    for (const [seq, message] of stored ?? []) {
      if (seq < from) continue;
      stored?.delete(seq);
      message.hop = undefined;
    }
  }

  /**
   * A node says that these were acked; returns those that still mattered. Each node numbers streams by itself: what one says
   * late, the receiver having gone to another, is not about a stream to that.
   */
  acked(node: string, stream: number, seqs: readonly number[]): readonly Message[] {
    const unacked = stream === this.#stream ? this.#forwarded : this.#ended.get(stream);
    const stored = this.#stored.get(stream);
    const messages: Message[] = [];
    for (const seq of seqs) {
      const message = unacked?.get(seq);
      const late = message ?? stored?.get(seq);
      if (late?.hop?.node !== node) continue;
      messages.push(late);
      if (message === undefined || unacked === undefined) stored?.delete(seq);
      else {
        unacked.take(seq);
        this.#taken(message, stream, unacked);
      }
    }
    return messages;
  }

  /** Whether the message is in the present stream, and not acked. */
  isStreaming(message: Message): boolean {
    return message.hop?.stream === this.#stream && this.#forwarded.get(message.hop.seq) === message;
  }

  /** Whether the owner may yet say that this message was acked. */
  expects(message: Message): boolean {
    const { hop } = message;
    if (hop === undefined) return false;
    const unacked = hop.stream === this.#stream ? this.#forwarded : this.#ended.get(hop.stream);
    return unacked?.get(hop.seq) === message;
  }

  /** Messages for which there was no room in the inbox, and which the receiver has not acked for so long either. */
  overdue(now: number, waitMs: number): Message[] {
    const messages: Message[] = [];
    for (const unacked of this.#ended.values()) {
      for (const message of unacked.inOrder()) {
        // Not what is on its way to the store once more: there may be room by now.
        if (message.stage !== stage.accepted || message.refusedAt === 0) continue;
        if (now - message.refusedAt >= waitMs) messages.push(message);
      }
    }
    return messages;
  }

  /** The message was stored, or is given up. */
  left(message: Message): void {
    const { hop } = message;
    const unacked = hop && this.#ended.get(hop.stream);
    if (hop === undefined || unacked?.get(hop.seq) !== message) return;
    unacked.take(hop.seq);
    this.#taken(message, hop.stream, unacked);
    if (message.stage !== stage.stored || message.acked) return;
    const stored = this.#stored.get(hop.stream);
    if (stored === undefined) this.#stored.set(hop.stream, new Map([[hop.seq, message]]));
    else stored.set(hop.seq, message);
  }

  /** The receiver is on another node now, which numbers streams anew. */
  forgetStored(): void {
    this.#stored = new Map();
  }

  #taken(message: Message, stream: number, unacked: Numbered<Message>): void {
    if (stream === this.#stream) this.#bytes -= message.size;
    else if (unacked.size === 0) this.#ended.delete(stream);
  }
}
