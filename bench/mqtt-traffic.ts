// Messages over many MQTT pairs, lean as traffic.ts is: each connection gets one write per event-loop turn, and there is no
// promise, closure or buffer per message.
import type { Histogram } from './histogram.ts';
import type { Load } from './load.ts';
import type { MqttLink, MqttOwner } from './mqtt-link.ts';
import type { MqttPair } from './mqtt-pair.ts';
import { PACKET, type Packet, PUBACK_SIZE, QOS_1, writePuback } from './mqtt-wire.ts';

const ARENA_SIZE = 1 << 20;
const VIOLATIONS_KEPT = 10;
const DUP = 0x08;

export class MqttTraffic implements MqttOwner, Load<MqttPair> {
  readonly pairs: readonly MqttPair[];
  readonly violations: string[] = [];
  latencies: Histogram | null = null;
  sent = 0;
  acked = 0;
  delivered = 0;
  #running = false;
  #turnDue = false;
  readonly #turn = () => this.#endOfTurn();
  readonly #sending: MqttPair[] = [];
  readonly #acking: MqttPair[] = [];
  #arena: Buffer = Buffer.allocUnsafeSlow(ARENA_SIZE);
  #arenaAt = 0;

  constructor(pairs: readonly MqttPair[]) {
    this.pairs = pairs;
    for (const { publisher, subscriber } of pairs) {
      publisher!.owner = this;
      subscriber!.owner = this;
    }
  }

  start(): void {
    this.#running = true;
    for (const pair of this.pairs) this.#queue(pair);
  }

  offer(pair: MqttPair): void {
    pair.limit++;
    this.#queue(pair);
  }

  stop(): void {
    this.#running = false;
  }

  close(): void {
    for (const { publisher, subscriber } of this.pairs) {
      publisher!.close();
      subscriber!.close();
    }
  }

  violation(text: string): void {
    if (this.violations.length < VIOLATIONS_KEPT) this.violations.push(text);
  }

  packet(link: MqttLink, bytes: Buffer, packet: Packet): void {
    const pair = this.pairs[link.slot]!;
    if (link === pair.publisher && packet.first === PACKET.puback) this.#ack(pair, bytes.readUInt16BE(packet.start));
    else if (link === pair.subscriber && (packet.first & ~DUP) === (PACKET.publish | QOS_1)) {
      this.#receive(pair, bytes, packet);
    } else this.violation(`pair ${link.slot}: a packet that begins with ${packet.first}`);
  }

  #ack(pair: MqttPair, packetId: number): void {
    const sentAtMs = pair.ack(packetId);
    if (sentAtMs < 0) {
      this.violation(`a PUBACK of nothing unacked: ${packetId}`);
      return;
    }
    this.acked++;
    this.latencies?.record(performance.now() - sentAtMs);
    this.#queue(pair);
  }

  #receive(pair: MqttPair, bytes: Buffer, { start, end }: Packet): void {
    const before = pair.duplicates;
    if (pair.unacked.length === 0) this.#acking.push(pair);
    if (!pair.receive(bytes, start, end, performance.now())) {
      this.violation(`pair ${pair.subscriber!.slot}: a PUBLISH that is not what was sent`);
    } else if (pair.duplicates === before) this.delivered++;
    this.#queue(pair);
    this.#endTurnSoon();
  }

  #queue(pair: MqttPair): void {
    if (pair.queued || !this.#running) return;
    pair.queued = true;
    this.#sending.push(pair);
    this.#endTurnSoon();
  }

  #endTurnSoon(): void {
    if (this.#turnDue) return;
    this.#turnDue = true;
    setImmediate(this.#turn);
  }

  #endOfTurn(): void {
    this.#turnDue = false;
    for (const pair of this.#acking) this.#writeAcks(pair);
    this.#acking.length = 0;
    const nowMs = performance.now();
    for (const pair of this.#sending) this.#writeMessages(pair, nowMs);
    this.#sending.length = 0;
  }

  /** Room for more of one connection's write. The memory is not used again, since the socket may still hold it. */
  #reserve(size: number): boolean {
    if (this.#arenaAt + size <= this.#arena.length) return true;
    this.#arena = Buffer.allocUnsafeSlow(Math.max(ARENA_SIZE, size));
    this.#arenaAt = 0;
    return false;
  }

  #writeAcks(pair: MqttPair): void {
    const { unacked, subscriber } = pair;
    if (unacked.length === 0) return;
    this.#reserve(unacked.length * PUBACK_SIZE);
    const start = this.#arenaAt;
    for (const packetId of unacked) this.#arenaAt = writePuback(this.#arena, this.#arenaAt, packetId);
    unacked.length = 0;
    subscriber!.write(this.#arena.subarray(start, this.#arenaAt));
  }

  #writeMessages(pair: MqttPair, nowMs: number): void {
    pair.queued = false;
    let start = this.#arenaAt;
    while (this.#running && pair.wantsToSend) {
      const arena = this.#arena;
      const end = this.#arenaAt;
      if (!this.#reserve(pair.size)) {
        if (end > start) pair.publisher!.write(arena.subarray(start, end));
        start = 0;
      }
      pair.next(this.#arena, this.#arenaAt, nowMs);
      this.#arenaAt += pair.size;
      this.sent++;
    }
    if (this.#arenaAt > start) pair.publisher!.write(this.#arena.subarray(start, this.#arenaAt));
  }

  audit(): string[] {
    const found = [...this.violations];
    const duplicates = this.pairs.reduce((sum, pair) => sum + pair.duplicates, 0);
    const lost = this.pairs.reduce((sum, pair) => sum + pair.lost, 0);
    if (this.acked !== this.sent) found.push(`${this.sent} sent, ${this.acked} acked`);
    if (this.delivered !== this.sent) found.push(`${this.sent} sent, ${this.delivered} delivered`);
    if (duplicates > 0) found.push(`${duplicates} delivered twice, or behind a later one`);
    if (lost > 0) found.push(`${lost} lost, or overtaken by a later one`);
    return found;
  }
}
