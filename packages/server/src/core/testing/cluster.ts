import type { Packet } from '../packets.ts';
import type { Claim, Cluster, ClusterListener } from '../ports.ts';

/** What one node sees of a cluster in which a test plays all others: no name was ever anywhere else. */
export class FakeCluster implements Cluster {
  readonly self = 'here';
  heldUntil: number = Number.POSITIVE_INFINITY;
  /** The last claim's. */
  token = 0;
  /** The node that any name is found on, and how often one was looked for. */
  owner: string | undefined;
  located = 0;
  /** Runs that are void. */
  readonly voids = new Set<string>();
  readonly sent: [node: string, packet: Packet][] = [];
  #listener: ClusterListener | undefined;

  listen(listener: ClusterListener): void {
    this.#listener = listener;
  }

  /** A packet comes from another node. */
  hear(from: string, packet: Packet): void {
    this.#listener?.packet(from, packet);
  }

  async claim(): Promise<Claim> {
    return { token: ++this.token, previous: [] };
  }

  confirm(): void {}

  release(): void {}

  async locate(): Promise<string | undefined> {
    this.located++;
    return this.owner;
  }

  onVoid(): () => void {
    return () => {};
  }

  isVoid(node: string): boolean {
    return this.voids.has(node);
  }

  async others(): Promise<readonly string[]> {
    return [];
  }

  send(node: string, packet: Packet): void {
    this.sent.push([node, packet]);
  }

  /** The packets of one type that this node has sent, in order. */
  sentOf<Type extends Packet['type']>(type: Type): Extract<Packet, { type: Type }>[] {
    return this.sent.flatMap(([, packet]) => (packet.type === type ? [packet as Extract<Packet, { type: Type }>] : []));
  }
}
