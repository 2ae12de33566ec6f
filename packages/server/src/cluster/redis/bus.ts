import { serverLimits } from '@hawser/protocol';
import type { Packet } from '../../core/packets.ts';
import { readBatch, writeBatchHead, writePacket } from '../codec.ts';
import { Writer } from '../writer.ts';

/** What the bus has carried, for the operator. */
export class BusCounters {
  packetsOut = 0;
  packetsIn = 0;
  batchesOut = 0;
  batchesIn = 0;
  bytesOut = 0;
  bytesIn = 0;
  /** Packets that did not leave: too many, too large, or Redis is away. */
  dropped = 0;
  /** Batches that no node of this version writes. */
  malformed = 0;
  /** Batches that came a second time, or behind a later one. */
  stale = 0;
}

/** What is for one node, in this turn. */
interface Outgoing {
  readonly writer: Writer;
  /** Batches that it was sent. */
  number: number;
  packets: number;
}

export interface BusPorts {
  readonly self: string;
  /** False when it was not taken. */
  readonly publish: (node: string, payload: Buffer) => boolean;
  readonly endOfTurn: (call: () => void) => void;
  readonly now: () => number;
  /** For the first time a batch came that no node of this version writes. */
  readonly onMalformed: () => void;
  readonly onPacket: (from: string, packet: Packet) => void;
}

/**
 * Packets from node to node. What one turn of the event loop has for a node leaves in one batch. Batches are numbered, so
 * that none counts twice or behind a later one, whatever becomes of connections on the way.
 */
export class Bus {
  readonly counters = new BusCounters();
  readonly #ports: BusPorts;
  readonly #outgoing = new Map<string, Outgoing>();
  readonly #toSend = new Set<string>();
  /** The number of the last batch from each node. */
  readonly #heard = new Map<string, number>();
  /** When this node last heard itself. */
  heardSelfAt: number;

  constructor(ports: BusPorts) {
    this.#ports = ports;
    this.heardSelfAt = ports.now();
  }

  send(node: string, packet: Packet): void {
    const outgoing = this.#for(node);
    const { writer } = outgoing;
    const before = writer.length;
    writePacket(writer, packet);
    outgoing.packets++;
    if (writer.length - before > serverLimits.busPacketBytesMax) {
      writer.cut(before);
      outgoing.packets--;
      this.counters.dropped++;
    }
    if (writer.length >= serverLimits.busBatchBytesMax) this.#sendBatch(node, outgoing);
  }

  /** A batch of nothing to this node itself: what it hears tells whether it hears anything. */
  speak(): void {
    this.#for(this.#ports.self);
  }

  #for(node: string): Outgoing {
    let outgoing = this.#outgoing.get(node);
    if (outgoing === undefined) {
      outgoing = { writer: new Writer(), number: 0, packets: 0 };
      this.#outgoing.set(node, outgoing);
    }
    if (outgoing.writer.length === 0) {
      writeBatchHead(outgoing.writer, this.#ports.self, ++outgoing.number);
      this.#toSend.add(node);
      if (this.#toSend.size === 1) this.#ports.endOfTurn(() => this.#sendAll());
    }
    return outgoing;
  }

  #sendAll(): void {
    const nodes = [...this.#toSend];
    this.#toSend.clear();
    for (const node of nodes) {
      const outgoing = this.#outgoing.get(node);
      if (outgoing !== undefined && outgoing.writer.length > 0) this.#sendBatch(node, outgoing);
    }
  }

  #sendBatch(node: string, outgoing: Outgoing): void {
    const payload = outgoing.writer.take();
    const { packets } = outgoing;
    outgoing.packets = 0;
    if (!this.#ports.publish(node, payload)) {
      this.counters.dropped += packets;
      return;
    }
    this.counters.batchesOut++;
    this.counters.packetsOut += packets;
    this.counters.bytesOut += payload.length;
  }

  receive(payload: Buffer): void {
    const batch = readBatch(payload);
    if (batch === undefined) {
      if (++this.counters.malformed === 1) this.#ports.onMalformed();
      return;
    }
    const { from, number, packets } = batch;
    if (number <= (this.#heard.get(from) ?? 0)) {
      this.counters.stale++;
      return;
    }
    this.#heard.set(from, number);
    if (from === this.#ports.self) this.heardSelfAt = this.#ports.now();
    this.counters.batchesIn++;
    this.counters.bytesIn += payload.length;
    this.counters.packetsIn += packets.length;
    for (const packet of packets) this.#ports.onPacket(from, packet);
  }

  /** Nothing goes to this node any more, nor comes from it. */
  forget(node: string): void {
    this.#outgoing.delete(node);
    this.#heard.delete(node);
  }
}
