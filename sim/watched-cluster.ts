import type { RedisCluster } from '@hawser/server/cluster/redis/cluster';
import type { Packet } from '@hawser/server/core/packets';
import type { Claim, Cluster, ClusterListener } from '@hawser/server/core/ports';
import type { Backing } from './backing.ts';

/** The adapter as the core has it: who has claimed which name, and has all that others knew of it, is noted for the checker. */
export class WatchedCluster implements Cluster {
  readonly #cluster: RedisCluster;
  readonly #backing: Backing;

  constructor(cluster: RedisCluster, backing: Backing) {
    this.#cluster = cluster;
    this.#backing = backing;
  }

  get self(): string {
    return this.#cluster.self;
  }

  get heldUntil(): number {
    return this.#cluster.heldUntil;
  }

  listen(listener: ClusterListener): void {
    this.#cluster.listen(listener);
  }

  async claim(name: string): Promise<Claim> {
    const claim = await this.#cluster.claim(name);
    this.#backing.claimed(name, claim.token, this.self);
    return claim;
  }

  confirm(name: string, token: number, previous: readonly string[]): void {
    this.#backing.confirmed(name, token, previous);
    this.#cluster.confirm(name, token, previous);
  }

  release(name: string, token: number): void {
    this.#cluster.release(name, token);
  }

  locate(name: string): Promise<string | undefined> {
    return this.#cluster.locate(name);
  }

  onVoid(node: string, call: () => void): () => void {
    return this.#cluster.onVoid(node, call);
  }

  isVoid(node: string): boolean {
    return this.#cluster.isVoid(node);
  }

  others(): Promise<readonly string[]> {
    return this.#cluster.others();
  }

  send(node: string, packet: Packet): void {
    this.#cluster.send(node, packet);
  }
}
