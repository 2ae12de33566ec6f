import type { Time } from '../../core/ports.ts';
import type { LeaseTimes } from './lease.ts';

/** Another run, as this node sees it. */
interface Peer {
  /** As it last stood in the table; empty when it did not. */
  value: string;
  /** Since when that has not changed. */
  since: number;
  state: 'alive' | 'condemned' | 'void';
  readonly waiting: Set<() => void>;
}

/**
 * The other runs, judged by this node's own clock: a run of which the table says the same for longer than a lease, while
 * it could have been renewed, has lapsed. No two clocks are compared, so that none can be wrong by being set.
 */
export class Peers {
  readonly #self: string;
  readonly #time: Time;
  readonly #times: LeaseTimes;
  readonly #onVoid: (node: string) => void;
  readonly #peers = new Map<string, Peer>();
  #seenAt: number;
  #unmarked: readonly string[] = [];

  constructor(self: string, time: Time, times: LeaseTimes, onVoid: (node: string) => void = () => {}) {
    this.#self = self;
    this.#time = time;
    this.#times = times;
    this.#onVoid = onVoid;
    this.#seenAt = time.now();
  }

  #peer(node: string): Peer {
    let peer = this.#peers.get(node);
    if (peer === undefined) {
      peer = { value: '', since: this.#time.now(), state: 'alive', waiting: new Set() };
      this.#peers.set(node, peer);
    }
    return peer;
  }

  /** What the table says now. */
  see(table: ReadonlyMap<string, string>): void {
    const now = this.#time.now();
    // While this node could not reach the table, others may not have, either: they get their time anew.
    const hadGap = now - this.#seenAt > this.#times.renewMs + this.#times.marginMs;
    this.#seenAt = now;
    this.#unmarked = [...table].flatMap(([node, value]) => (value !== 'V' && this.isVoid(node) ? [node] : []));
    for (const node of table.keys()) if (node !== this.#self) this.#peer(node);
    for (const [node, peer] of this.#peers) {
      if (peer.state === 'void') continue;
      const value = table.get(node) ?? '';
      if (value === 'V') this.isOver(node);
      else if (value === 'v') peer.state = 'condemned';
      else if (hadGap || value !== peer.value) peer.since = now;
      peer.value = value;
    }
  }

  /** Another server keeps the table from now on: it may lag behind. */
  startAnew(): void {
    for (const peer of this.#peers.values()) peer.since = this.#time.now();
  }

  /** Runs that have lapsed, with what the table says of each. */
  get lapsed(): readonly (readonly [node: string, value: string])[] {
    const { leaseMs, marginMs } = this.#times;
    const before = this.#time.now() - leaseMs - marginMs;
    return [...this.#peers]
      .filter(([, { state, since }]) => state === 'alive' && since < before)
      .map(([node, { value }]) => [node, value] as const);
  }

  /** Runs that are void, and of which the table does not say so: it could not be told, or has forgotten it. */
  get unmarked(): readonly string[] {
    return this.#unmarked;
  }

  condemn(node: string): void {
    const peer = this.#peer(node);
    if (peer.state === 'alive') peer.state = 'condemned';
  }

  get condemned(): readonly string[] {
    return [...this.#peers].filter(([, { state }]) => state === 'condemned').map(([node]) => node);
  }

  get alive(): readonly string[] {
    return [...this.#peers].filter(([, { state }]) => state === 'alive').map(([node]) => node);
  }

  /** The run is void, and all that it might have done is done. */
  isOver(node: string): void {
    const peer = this.#peer(node);
    if (peer.state === 'void') return;
    peer.state = 'void';
    peer.since = this.#time.now();
    this.#onVoid(node);
    for (const call of peer.waiting) call();
    peer.waiting.clear();
  }

  isVoid(node: string): boolean {
    return this.#peers.get(node)?.state === 'void';
  }

  onVoid(node: string, call: () => void): () => void {
    let isCalledOff = false;
    const callOnce = (): void => {
      if (isCalledOff) return;
      isCalledOff = true;
      call();
    };
    const peer = this.#peer(node);
    if (peer.state === 'void') this.#time.endOfTurn(callOnce);
    else peer.waiting.add(callOnce);
    return () => {
      isCalledOff = true;
      peer.waiting.delete(callOnce);
    };
  }

  /** Runs that have been void for so long that no name can be theirs; they are known no more. */
  forgetOld(keptMs: number): readonly string[] {
    const before = this.#time.now() - keptMs;
    const old = [...this.#peers].filter(([, { state, since }]) => state === 'void' && since < before);
    for (const [node] of old) this.#peers.delete(node);
    return old.map(([node]) => node);
  }
}
