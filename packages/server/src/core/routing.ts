import { serverLimits } from '@hawser/protocol';
import type { Elsewhere } from './elsewhere.ts';
import type { Mailbox } from './mailbox.ts';
import type { Hop } from './message.ts';
import type { Packet } from './packets.ts';
import type { Cluster, Time } from './ports.ts';

interface Acks {
  readonly node: string;
  readonly to: string;
  readonly stream: number;
  readonly seqs: number[];
}

/** What mailboxes of one node say to the other nodes, a turn's worth at a time where that can wait. */
export class Routing {
  readonly cluster: Cluster;
  readonly #time: Time;
  readonly #mailbox: (name: string) => Mailbox | undefined;
  #numbers = 0;
  /** Receivers to whom there is a route. */
  readonly #routed = new Set<Elsewhere>();
  /** Something was stored for them in this turn. */
  readonly #toNudge = new Set<Elsewhere>();
  /** Acks of this turn, by stream, whose numbers this node has given; and those of the stream that had the last one. */
  #acks = new Map<number, Acks>();
  #lastAcks: Acks | undefined;

  constructor(cluster: Cluster, time: Time, mailbox: (name: string) => Mailbox | undefined) {
    this.cluster = cluster;
    this.#time = time;
    this.#mailbox = mailbox;
  }

  /** For streams to this node, and for its news to others: they grow over all receivers. */
  nextNumber(): number {
    return ++this.#numbers;
  }

  send(node: string, packet: Packet): void {
    this.cluster.send(node, packet);
  }

  // ---- to the owners of receivers

  hasRoute(receiver: Elsewhere): void {
    this.#routed.add(receiver);
  }

  hasNoRoute(receiver: Elsewhere): void {
    this.#routed.delete(receiver);
  }

  /** Something was stored for this receiver: whoever owns it is nudged at the end of the turn. */
  nudgeLater(receiver: Elsewhere): void {
    this.#toNudge.add(receiver);
    if (this.#toNudge.size > 1) return;
    this.#time.endOfTurn(() => {
      const receivers = [...this.#toNudge];
      this.#toNudge.clear();
      for (const each of receivers) each.nudge();
    });
  }

  /** Nudges again those that have not answered, and lets go of routes that are not used. About once a second. */
  check(now: number): void {
    for (const receiver of this.#routed) receiver.check(now);
  }

  // ---- to the nodes that messages came from

  /** A message that came by this hop was acked by its receiver. */
  acked(hop: Hop, to: string): void {
    // Most come in a row: a receiver acks what one frame has brought.
    const acks = this.#lastAcks?.stream === hop.stream ? this.#lastAcks : this.#acks.get(hop.stream);
    this.#lastAcks = acks ?? { node: hop.node, to, stream: hop.stream, seqs: [] };
    this.#lastAcks.seqs.push(hop.seq);
    if (acks !== undefined) return;
    this.#acks.set(hop.stream, this.#lastAcks);
    if (this.#acks.size === 1) this.#time.endOfTurn(() => this.#sendAcks());
  }

  #sendAcks(): void {
    const acks = this.#acks;
    this.#acks = new Map();
    this.#lastAcks = undefined;
    for (const { node, to, stream, seqs } of acks.values()) this.send(node, { type: 'acked', to, stream, seqs });
  }

  /** Acks of the stream are sent before: behind this none counts. */
  refuse(node: string, to: string, stream: number, seq: number): void {
    this.#sendAcks();
    this.send(node, { type: 'refused', to, stream, seq });
  }

  // ---- from other nodes

  /** False when the packet is not about a receiver. */
  packet(from: string, packet: Packet): boolean {
    switch (packet.type) {
      case 'forward': {
        // Late, and behind what its sender has sent by way of another node since: nobody was acked for it.
        if (this.cluster.isVoid(from)) return true;
        const mailbox = this.#mailbox(packet.to);
        if (mailbox === undefined) this.refuse(from, packet.to, packet.stream, 0);
        else mailbox.forwarded(from, packet);
        return true;
      }
      case 'nudge':
        if (this.#mailbox(packet.to)?.nudged(from, packet) !== true) {
          this.send(from, { type: 'absent', to: packet.to });
        }
        return true;
      case 'absent':
        this.#mailbox(packet.to)?.elsewhere?.absent(from);
        return true;
      case 'acked':
        this.#mailbox(packet.to)?.elsewhere?.acked(from, packet);
        return true;
      case 'refused':
        this.#mailbox(packet.to)?.elsewhere?.refused(from, packet);
        return true;
      case 'caughtUp':
        this.#mailbox(packet.to)?.elsewhere?.caughtUp(from, packet);
        return true;
      default:
        return false;
    }
  }

  /** How long until a nudge that was not answered is repeated, ms. */
  nudgeDelayMs(nudges: number): number {
    return Math.min(serverLimits.nudgeAgainAfterMs * 2 ** Math.max(0, nudges - 1), serverLimits.nudgeAgainAfterMsMax);
  }
}
