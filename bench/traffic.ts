// Messages over many pairs, lean: what one event-loop turn reads is decrypted by one call, what it sends is encrypted by
// one call, and each connection gets one write. No promise, closure or cipher object per message.
import type { Histogram } from './histogram.ts';
import type { Link, LinkOwner } from './link.ts';
import { textOf } from './link.ts';
import type { Load } from './load.ts';
import { Mixed } from './mixed.ts';
import { type Pair, pairIndexOf } from './pair.ts';
import { AES_BLOCK, CMD, type Envelope, frameSize, type Keys, paddedSize, writeHead } from './wire.ts';

const ARENA_SIZE = 1 << 20;
const VIOLATIONS_KEPT = 10;
const VIOLATION_TEXT_MAX = 300;
/** The slot of a link that several pairs share, to send or to receive: what comes is told apart by its ids. */
export const SHARED = -1;

/** A buffer that is filled anew in every turn. */
class Scratch {
  bytes: Buffer = Buffer.allocUnsafeSlow(ARENA_SIZE);
  size = 0;

  reserve(more: number): void {
    if (this.size + more <= this.bytes.length) return;
    const larger = Buffer.allocUnsafeSlow(2 * (this.size + more));
    this.bytes.copy(larger, 0, 0, this.size);
    this.bytes = larger;
  }
}

export class Traffic implements LinkOwner, Load<Pair> {
  readonly pairs: readonly Pair[];
  readonly violations: string[] = [];
  /** Ack latencies in ms go here while it is not null. */
  latencies: Histogram | null = null;
  acked: number;
  delivered = 0;
  sent: number;
  lastAckAtMs = 0;
  lastDeliveryAtMs = 0;
  readonly #keys: Keys;
  readonly #links: readonly Link[];
  readonly #mixed: Mixed;
  #running = false;
  #turnDue = false;
  readonly #turn = () => this.#endOfTurn();
  /** Ciphertexts of pushes read in this turn, one after the other. */
  readonly #pushed = new Scratch();
  readonly #pushLinks: Link[] = [];
  readonly #pushEnds: number[] = [];
  readonly #queued: Pair[] = [];
  /** Plaintexts to be sent at this turn's end: first the acks of `#pushLinks`, then the messages of `#queued`. */
  readonly #plain = new Scratch();
  readonly #ackEnds: number[] = [];
  readonly #messageCounts: number[] = [];
  #arena: Buffer = Buffer.allocUnsafeSlow(ARENA_SIZE);
  #arenaAt = 0;

  /**
   * The links' slots are the places of their pairs, or `SHARED`; then a pair's index must be its place. Links that are given
   * belong to it from now on.
   */
  constructor(keys: Keys, pairs: readonly Pair[], links: readonly Link[] = []) {
    for (const link of links) link.owner = this;
    this.#links = links;
    this.#keys = keys;
    this.pairs = pairs;
    this.#mixed = new Mixed(pairs);
    this.sent = pairs.reduce((sum, pair) => sum + pair.sent, 0);
    this.acked = pairs.reduce((sum, pair) => sum + pair.acked, 0);
  }

  start(): void {
    this.#running = true;
    for (const pair of this.pairs) this.#queue(pair);
  }

  /** One more message from this pair, as soon as its window has room. */
  offer(pair: Pair): void {
    pair.limit++;
    this.#queue(pair);
  }

  /** No new messages; what is in flight is still received and acked. */
  stop(): void {
    this.#running = false;
  }

  violation(text: string): void {
    if (this.violations.length < VIOLATIONS_KEPT) this.violations.push(text.slice(0, VIOLATION_TEXT_MAX));
  }

  ready(): void {}

  closed(link: Link, reason: string): void {
    if (reason !== '') this.violation(`pair ${link.slot}: ${reason}`);
  }

  frame(link: Link, bytes: Buffer, envelope: Envelope): void {
    if (envelope.cmd === CMD.message) this.#ack(link, bytes, envelope);
    else if (envelope.cmd === CMD.push) this.#gather(link, bytes, envelope);
    else if (envelope.cmd !== CMD.heartbeat) {
      this.violation(`pair ${link.slot}: cmd ${envelope.cmd}: ${textOf(link, bytes, envelope)}`);
    }
  }

  #ack(link: Link, bytes: Buffer, envelope: Envelope): void {
    const pair = this.pairs[link.slot === SHARED ? pairIndexOf(bytes, envelope.idStart) : link.slot];
    if (envelope.dataEnd > envelope.dataStart) {
      this.violation(`pair ${link.slot}: refused: ${textOf(link, bytes, envelope)}`);
      return;
    }
    const sentAtMs = pair?.ack(bytes, envelope.idStart, envelope.idEnd) ?? -1;
    if (pair === undefined || sentAtMs < 0) {
      this.violation(
        `pair ${link.slot}: an ack of nothing unacked: ${bytes.toString('latin1', envelope.idStart, envelope.idEnd)}`,
      );
      return;
    }
    this.acked++;
    this.lastAckAtMs = performance.now();
    this.latencies?.record(this.lastAckAtMs - sentAtMs);
    this.#queue(pair);
  }

  #queue(pair: Pair): void {
    if (pair.queued || !this.#running) return;
    pair.queued = true;
    this.#queued.push(pair);
    this.#endTurnSoon();
  }

  #gather(link: Link, bytes: Buffer, envelope: Envelope): void {
    const size = envelope.dataEnd - envelope.dataStart;
    if (!envelope.encrypted || size === 0 || size % AES_BLOCK !== 0) {
      this.violation(`pair ${link.slot}: a push of ${size} bytes, encrypted: ${envelope.encrypted}`);
      return;
    }
    const pushed = this.#pushed;
    pushed.reserve(size);
    bytes.copy(pushed.bytes, pushed.size, envelope.dataStart, envelope.dataEnd);
    pushed.size += size;
    this.#pushLinks.push(link);
    this.#pushEnds.push(pushed.size);
    this.#endTurnSoon();
  }

  #endTurnSoon(): void {
    if (this.#turnDue) return;
    this.#turnDue = true;
    setImmediate(this.#turn);
  }

  #endOfTurn(): void {
    this.#turnDue = false;
    this.#plain.size = 0;
    if (this.#pushLinks.length > 0) this.#bookPushes();
    if (this.#queued.length > 0) this.#bookMessages();
    if (this.#plain.size > 0) this.#writeAll(this.#keys.ecb.encrypt(this.#plain.bytes.subarray(0, this.#plain.size)));
    this.#pushLinks.length = 0;
    this.#pushEnds.length = 0;
    this.#pushed.size = 0;
    this.#queued.length = 0;
  }

  #bookPushes(): void {
    const texts = this.#keys.ecb.decrypt(this.#pushed.bytes.subarray(0, this.#pushed.size));
    const plain = this.#plain;
    plain.reserve(texts.length + this.#pushLinks.length * AES_BLOCK);
    let start = 0;
    for (let i = 0; i < this.#pushLinks.length; i++) {
      const end = this.#pushEnds[i]!;
      const ackEnd = this.#receive(this.#pushLinks[i]!, texts, start, end - texts[end - 1]!);
      if (ackEnd < 0) this.violation(`a push that is not what was sent: ${texts.toString('utf8', start, end)}`);
      else {
        const ackSize = ackEnd - plain.size;
        const total = paddedSize(ackSize);
        plain.bytes.fill(total - ackSize, ackEnd, plain.size + total);
        plain.size += total;
      }
      this.#ackEnds[i] = plain.size;
      start = end;
    }
    this.lastDeliveryAtMs = performance.now();
  }

  /** Books one push; returns where its ack ends in `#plain`, -1 when the push is not what was sent. */
  #receive(link: Link, texts: Buffer, start: number, end: number): number {
    const { bytes, size } = this.#plain;
    if (link.slot === SHARED) {
      const before = this.#mixed.received;
      const ackEnd = this.#mixed.receive(texts.toString('utf8', start, end), bytes, size);
      this.delivered += this.#mixed.received - before;
      return ackEnd;
    }
    const pair = this.pairs[link.slot]!;
    const before = pair.delivered;
    const ackEnd = pair.receive(texts, start, end, bytes, size);
    this.delivered += pair.delivered - before;
    return ackEnd;
  }

  #bookMessages(): void {
    const plain = this.#plain;
    const nowMs = performance.now();
    for (let i = 0; i < this.#queued.length; i++) {
      const pair = this.#queued[i]!;
      const template = pair.plain;
      let count = 0;
      while (this.#running && pair.wantsToSend) {
        pair.next(nowMs);
        plain.reserve(template.length);
        template.copy(plain.bytes, plain.size);
        plain.size += template.length;
        count++;
      }
      pair.queued = false;
      this.#messageCounts[i] = count;
      this.sent += count;
    }
  }

  #writeAll(sealed: Buffer): void {
    let at = 0;
    for (let i = 0; i < this.#pushLinks.length; i++) {
      const end = this.#ackEnds[i]!;
      if (end > at) this.#writeAck(this.#pushLinks[i]!, sealed, at, end);
      at = end;
    }
    const corked: Link[] = [];
    for (let i = 0; i < this.#queued.length; i++) {
      const count = this.#messageCounts[i]!;
      if (count === 0) continue;
      const pair = this.#queued[i]!;
      const sender = pair.sender!;
      if (sender.slot === SHARED && sender.cork()) corked.push(sender);
      at = this.#writeMessages(pair, sender, count, sealed, at);
    }
    for (const link of corked) link.uncork();
  }

  /** Room for one connection's write. The memory is not used again, since the socket may still hold it. */
  #room(size: number): number {
    if (this.#arenaAt + size > this.#arena.length) {
      this.#arena = Buffer.allocUnsafeSlow(Math.max(ARENA_SIZE, size));
      this.#arenaAt = 0;
    }
    const start = this.#arenaAt;
    this.#arenaAt += size;
    return start;
  }

  #writeAck(link: Link, sealed: Buffer, from: number, to: number): void {
    const size = frameSize(CMD.push, 0, true, to - from);
    const start = this.#room(size);
    sealed.copy(this.#arena, writeHead(this.#arena, start, CMD.push, '', true, to - from), from, to);
    link.write(this.#arena.subarray(start, start + size));
  }

  #writeMessages(pair: Pair, sender: Link, count: number, sealed: Buffer, from: number): number {
    const size = count * pair.frameSize;
    const start = this.#room(size);
    let at = start;
    let sealedAt = from;
    for (let number = pair.sent - count; number < pair.sent; number++) {
      pair.numberHead(number);
      at += pair.head.copy(this.#arena, at);
      at += sealed.copy(this.#arena, at, sealedAt, sealedAt + pair.plain.length);
      sealedAt += pair.plain.length;
    }
    sender.write(this.#arena.subarray(start, start + size));
    return sealedAt;
  }

  /** What the books say is wrong, after everything was given its time. */
  audit(): string[] {
    const found = [...this.violations];
    let duplicates = 0;
    let outOfOrder = 0;
    for (const pair of this.pairs) {
      duplicates += pair.duplicates;
      outOfOrder += pair.outOfOrder;
    }
    if (this.acked !== this.sent) found.push(`${this.sent} sent, ${this.acked} acked`);
    if (this.delivered !== this.sent) found.push(`${this.sent} sent, ${this.delivered} delivered`);
    if (duplicates > 0) found.push(`${duplicates} delivered twice`);
    if (outOfOrder > 0) found.push(`${outOfOrder} delivered out of order`);
    return found;
  }
  close(): void {
    for (const link of this.#links) link.close();
  }
}
