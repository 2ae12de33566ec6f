import { serverLimits } from '@hawser/protocol';
import type { Time, Timer } from '../../core/ports.ts';
import type { Witness } from '../witness.ts';
import { Lease, type LeaseTimes } from './lease.ts';
import { Offers } from './offers.ts';
import { Peers } from './peers.ts';
import { every, type Redis, within } from './redis.ts';
import * as scripts from './scripts.ts';

const SERVER = 'server:';

/** Where an operator leaves what a run is to do. */
export function orderKey(prefix: string, run: string): string {
  return `${prefix}order:{${run}}`;
}

/** Runs, and processes of Redis, in the fields and values of the table. */
export function readTable(words: readonly string[]): { runs: Map<string, string>; servers: Map<string, string> } {
  const runs = new Map<string, string>();
  const servers = new Map<string, string>();
  for (let i = 0; i + 1 < words.length; i += 2) {
    const field = words[i] ?? '';
    const value = words[i + 1] ?? '';
    if (field.startsWith(SERVER)) servers.set(field.slice(SERVER.length), value);
    else runs.set(field, value);
  }
  return { runs, servers };
}

export interface NodesPorts {
  readonly self: string;
  readonly prefix: string;
  readonly redis: Redis;
  readonly time: Time;
  readonly times: LeaseTimes;
  readonly witness: Witness | undefined;
  /** All names are on one server, the one that has the table. */
  readonly isOneServer: boolean;
  /** Hears what others have claimed: before that no lease is prolonged. */
  readonly listen: () => Promise<void>;
  /** Tells Redis all that this node knows of names. */
  readonly assertAll: (server: string | undefined) => Promise<void>;
  /** What this node says of itself, if anything yet. */
  readonly state: () => string;
  /** What an operator has told this run to do. */
  readonly onOrder: (order: string) => void;
  readonly onTrouble: (error: unknown, text: string) => void;
  /** That run is void, and all that it might have done is done. */
  readonly onVoid: (node: string) => void;
}

/**
 * The nodes: this run's own lease, the judgement of others, and the servers of Redis that may have forgotten something.
 *
 * A run is made void in four steps, each of which holds for good: it has lapsed; the table condemns it, so that it cannot
 * renew any more; the witness fences it, so that it cannot store any more; what the witness told it last has run out.
 */
export class Nodes {
  readonly lease: Lease;
  readonly peers: Peers;
  readonly offers: Offers;
  readonly #ports: NodesPorts;
  readonly #table: string;
  /** How long the last renewal took. */
  renewalMs = 0;
  #counter = 0;
  /** Servers of which this node has put its part together, as long as others have not. */
  readonly #asserted = new Set<string>();
  #asserting: string | undefined;
  /** Servers that have it all; and those that may not, with when this node heard of each. */
  readonly #open = new Set<string>();
  readonly #closed = new Map<string, number>();
  #server: string | undefined;
  /** All servers have been asked for at least once. */
  #hasMet = false;
  readonly #executing = new Set<string>();
  #isClosed = false;
  #ticking: Timer | undefined;
  /** Until what the witness told runs that are being made void has run out. */
  readonly #waits = new Set<Timer>();

  constructor(ports: NodesPorts) {
    this.#ports = ports;
    this.#table = `${ports.prefix}nodes`;
    this.lease = new Lease(ports.time, ports.times.leaseMs);
    this.peers = new Peers(ports.self, ports.time, ports.times, ports.onVoid);
    this.offers = new Offers(ports.times);
  }

  get open(): string {
    return [...this.#open].join(' ');
  }

  get isOpen(): boolean {
    return this.#hasMet && this.#open.size > 0 && this.#closed.size === 0;
  }

  /** The runs of others that may have something: what the table has not seen yet the witness knows, and the reverse. */
  async others(): Promise<readonly string[]> {
    const { witness, time, self } = this.#ports;
    const others = new Set([...this.peers.alive, ...this.peers.condemned]);
    const standing = witness && (await within(time, serverLimits.directoryTimeoutMs, witness.standing()));
    for (const node of standing ?? []) if (!this.peers.isVoid(node)) others.add(node);
    others.delete(self);
    return [...others];
  }

  /** Renews from now on. */
  start(): void {
    const { renewMs } = this.#ports.times;
    this.#ticking = every(this.#ports.time, renewMs, () => void this.tick());
  }

  close(): void {
    this.#isClosed = true;
    this.#ticking?.cancel();
    for (const wait of this.#waits) wait.cancel();
  }

  /** One renewal, with all that is due then. Never rejects. */
  async tick(): Promise<void> {
    if (this.#isClosed || this.lease.hasLapsed) return;
    await Promise.all([this.#askWitness(), this.#renew(), this.#askOrders()]);
  }

  async #askWitness(): Promise<void> {
    const { witness, self, time, times, onTrouble } = this.#ports;
    if (witness === undefined) return;
    const askedAt = time.now();
    try {
      if (await within(time, serverLimits.directoryTimeoutMs, witness.stands(self))) {
        this.lease.prolong(askedAt + times.witnessHoldMs);
      } else this.lease.end();
    } catch (error) {
      onTrouble(error, 'the database does not tell whether this run stands');
    }
  }

  async #askOrders(): Promise<void> {
    const { redis, prefix, self, onOrder } = this.#ports;
    try {
      const order = await redis.run(scripts.ordered, orderKey(prefix, self), []);
      if (typeof order === 'string' && order !== '') onOrder(order);
    } catch {
      // As with the renewal, which says so; whoever gave it gives it again.
    }
  }

  async #renew(): Promise<void> {
    const { redis, self, time, times, isOneServer, listen, state, onTrouble } = this.#ports;
    const { directoryTimeoutMs } = serverLimits;
    const askedAt = time.now();
    const value = `${++this.#counter} ${[...this.#asserted].join(',')} ${state()}`;
    try {
      const [answer] = await Promise.all([redis.run(scripts.renew, this.#table, [self, value]), listen()]);
      const words = answer as string[];
      if (words[0] === 'void') {
        this.lease.end();
        return;
      }
      this.renewalMs = time.now() - askedAt;
      this.lease.prolong(askedAt + times.leaseMs);
      if (this.#isClosed) return;
      this.#read(words);
      // Before anybody who logs in finds out.
      if (!isOneServer) for (const server of await within(time, directoryTimeoutMs, redis.servers())) this.meet(server);
      this.#hasMet = true;
    } catch (error) {
      onTrouble(error, 'the lease could not be renewed');
    }
  }

  #read(words: readonly string[]): void {
    const server = words.at(-1) ?? '';
    const { runs, servers } = readTable(words);
    this.#readServers(server, servers);
    this.peers.see(runs);
    this.offers.see(runs, this.#ports.time.now());
    if (server !== this.#server) this.peers.startAnew();
    this.#server = server;
    this.#judge();
    this.#putTogether();
  }

  // ---- others

  #judge(): void {
    const { redis, onTrouble } = this.#ports;
    for (const [node, value] of this.peers.lapsed) {
      redis.run(scripts.condemn, this.#table, [node, value]).then(
        (now) => {
          if (now === 'v') this.#execute(node);
        },
        (error: unknown) => onTrouble(error, `${node} could not be condemned`),
      );
    }
    for (const node of this.peers.condemned) this.#execute(node);
    // Otherwise a server that has lost writes would wait for them to put their part together.
    for (const node of this.peers.unmarked) redis.run(scripts.mark, this.#table, [node, 'V']).catch(() => {});
    for (const node of this.peers.forgetOld(serverLimits.heldNamesKeptMs + serverLimits.rememberedForMs)) {
      redis.run(scripts.forget, this.#table, [node, 'V']).catch(() => {});
    }
  }

  #execute(node: string): void {
    if (this.#executing.has(node) || this.peers.isVoid(node)) return;
    this.#executing.add(node);
    this.peers.condemn(node);
    this.#makeVoid(node)
      .catch((error: unknown) => this.#ports.onTrouble(error, `${node} could not be fenced`))
      // Otherwise it is tried again with the next renewal.
      .finally(() => this.#executing.delete(node));
  }

  async #makeVoid(node: string): Promise<void> {
    const { witness, time, times, redis } = this.#ports;
    if (witness !== undefined) {
      await within(time, serverLimits.directoryTimeoutMs, witness.fence(node));
      await this.#wait(times.witnessHoldMs + times.marginMs);
    }
    if (this.#isClosed) return;
    this.peers.isOver(node);
    await redis.run(scripts.mark, this.#table, [node, 'V']);
  }

  #wait(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = this.#ports.time.after(ms, () => {
        this.#waits.delete(timer);
        resolve();
      });
      this.#waits.add(timer);
    });
  }

  // ---- servers that may have forgotten something

  /** A server has answered that is not one of those that have it all. */
  meet(server: string): void {
    if (server === '' || this.#open.has(server) || this.#closed.has(server)) return;
    this.#closed.set(server, this.#ports.time.now());
    this.#ports.redis.run(scripts.meet, this.#table, [server]).then(
      () => this.tick(),
      () => {},
    );
  }

  #readServers(present: string, servers: ReadonlyMap<string, string>): void {
    const { isOneServer, time } = this.#ports;
    this.#open.clear();
    for (const [server, state] of servers) {
      // Of one server only the present one counts: those before it are gone.
      if (isOneServer && server !== present) continue;
      if (state === '1') {
        this.#open.add(server);
        this.#closed.delete(server);
        this.#asserted.delete(server);
      } else if (!this.#closed.has(server)) this.#closed.set(server, time.now());
    }
    if (!isOneServer) return;
    for (const server of this.#closed.keys()) if (server !== present) this.#closed.delete(server);
    for (const server of this.#asserted) if (server !== present) this.#asserted.delete(server);
  }

  #putTogether(): void {
    for (const [server, since] of this.#closed) {
      if (!this.#asserted.has(server)) this.#assert(server);
      else void this.#tryToOpen(server, since);
    }
  }

  #assert(server: string): void {
    if (this.#asserting !== undefined) return;
    this.#asserting = server;
    const { assertAll, isOneServer, onTrouble } = this.#ports;
    assertAll(isOneServer ? server : undefined)
      .then(
        () => {
          this.#asserted.add(server);
          return this.tick();
        },
        (error: unknown) => onTrouble(error, 'Redis could not be told again what it may have lost'),
      )
      .finally(() => {
        this.#asserting = undefined;
      });
  }

  async #tryToOpen(server: string, since: number): Promise<void> {
    const { witness, time, times, redis, onTrouble } = this.#ports;
    try {
      const mayExist = new Set(this.peers.alive);
      for (const node of this.peers.condemned) mayExist.add(node);
      if (witness !== undefined) {
        for (const node of await within(time, serverLimits.directoryTimeoutMs, witness.standing())) {
          if (!this.peers.isVoid(node)) mayExist.add(node);
        }
        // Nobody else knows who may be there: whoever is has shown itself, or has lapsed, after a lease.
      } else if (time.now() - since < times.leaseMs + times.marginMs) return;
      const isOpen = await redis.run(scripts.open, this.#table, [server, ...mayExist]);
      if (isOpen === 1) await this.tick();
    } catch (error) {
      onTrouble(error, 'Redis could not be put together again');
    }
  }

  /**
   * This run has ended, in good order: others need not wait for its lease. Not where the witness could not be told, which might
   * yet do what the run has asked of it: then they find out by themselves.
   */
  async leave(): Promise<void> {
    const { redis, self, witness, time } = this.#ports;
    this.close();
    this.lease.end();
    try {
      if (witness !== undefined) await within(time, serverLimits.directoryTimeoutMs, witness.fence(self));
      await redis.run(scripts.mark, this.#table, [self, 'V']);
    } catch {
      // It takes them some seconds longer.
    }
  }
}
