import { randomBytes } from 'node:crypto';
import { serverLimits } from '@hawser/protocol';
import type { Packet } from '../../core/packets.ts';
import {
  type Claim,
  type Cluster,
  ClusterAway,
  type ClusterListener,
  type Log,
  type Time,
  type Timer,
} from '../../core/ports.ts';
import { type NodeOffer, type NodeState, writeState } from '../node-state.ts';
import type { Witness } from '../witness.ts';
import type { RedisAddress } from './address.ts';
import { Bus, type BusCounters } from './bus.ts';
import { type LeaseTimes, leaseTimes } from './lease.ts';
import { type Driver, libraryDriver } from './line.ts';
import { Names } from './names.ts';
import { Nodes } from './nodes.ts';
import { OneServer } from './one-server.ts';
import { every, evictionOf, type Redis, type RedisEvents } from './redis.ts';
import { RedisShards } from './redis-cluster.ts';

export interface RedisClusterOptions {
  readonly address: RedisAddress;
  /** The node's name, over all its runs; `newRun` makes a run of it. */
  readonly run: string;
  readonly time: Time;
  readonly log: Log;
  /** Keys and channels begin with it: several clusters may share a Redis. */
  readonly prefix?: string;
  /** The run has been entered there. Without one Redis alone decides who is void. */
  readonly witness?: Witness | undefined;
  readonly times?: LeaseTimes;
  /** Connections are made with it, unless it is a Redis Cluster. */
  readonly driver?: Driver;
  /** Told of each run that is void for this one. */
  readonly onVoid?: (run: string) => void;
}

export interface ClusterFigures {
  /** Runs of other nodes that hold their leases, as far as is known. */
  readonly peers: number;
  readonly claims: number;
  /** Names that this node holds. */
  readonly names: number;
  readonly renewalMs: number;
  /** Whether names can be claimed. */
  readonly isOpen: boolean;
  readonly bus: Readonly<BusCounters>;
}

/** What this run of a node is called, among all runs of all nodes. */
export function newRun(node: string): string {
  return `${node}.${randomBytes(8).toString('base64url')}`;
}

/** Redis, whatever its kind. */
export function connectTo(address: RedisAddress, events: RedisEvents, driver: Driver): Redis {
  return address.kind === 'cluster'
    ? new RedisShards(address, events, driver.clock)
    : new OneServer(address, events, driver);
}

/** The other nodes, by way of Redis: see decision 28. */
export class RedisCluster implements Cluster {
  readonly self: string;
  readonly #redis: Redis;
  readonly #names: Names;
  readonly #nodes: Nodes;
  readonly #bus: Bus;
  #listener: ClusterListener | undefined;
  #state: (() => NodeState) | undefined;
  #onOrder: (order: string) => void = () => {};
  #toldAt: number;
  readonly #time: Time;
  readonly #log: Log;
  #speaking: Timer | undefined;

  private constructor(options: RedisClusterOptions) {
    const { address, run, time, log, prefix = 'hawser:', witness, times = leaseTimes } = options;
    this.self = run;
    this.#time = time;
    this.#log = log;
    // Until the first connection is made everything fails.
    this.#toldAt = time.now();
    const channelOf = (node: string): string => `${prefix}bus:{${node}}`;
    this.#bus = new Bus({
      self: run,
      publish: (node, payload) => this.#redis.publish(channelOf(node), payload),
      endOfTurn: (call) => time.endOfTurn(call),
      now: () => time.now(),
      onMalformed: () =>
        log.warn({}, 'a packet cannot be read: a node of another version may have sent it, see hawser node list'),
      onPacket: (from, packet) => this.#listener?.packet(from, packet),
    });
    const events: RedisEvents = {
      channel: channelOf(run),
      onMessage: (payload) => this.#bus.receive(payload),
      onTrouble: (error) => this.#trouble(error, 'the connection to Redis is broken'),
    };
    const isOneServer = address.kind !== 'cluster';
    const redis = connectTo(address, events, options.driver ?? libraryDriver(time));
    this.#redis = redis;
    this.#nodes = new Nodes({
      ...{ self: run, prefix, redis, time, times, witness, isOneServer },
      listen: () => this.#names.listen(),
      assertAll: (server) => this.#names.assertAll(server),
      state: () => (this.#state === undefined ? '' : writeState(this.#state())),
      onOrder: (order) => this.#onOrder(order),
      onTrouble: (error, text) => this.#trouble(error, text),
      onVoid: (node) => {
        this.#bus.forget(node);
        options.onVoid?.(node);
      },
    });
    this.#names = new Names({
      ...{ self: run, prefix, redis, now: () => time.now() },
      open: () => this.#nodes.open,
      onClosed: (server) => this.#nodes.meet(server),
      isVoid: (node) => this.#nodes.peers.isVoid(node),
      isLapsed: () => this.#nodes.lease.hasLapsed,
      onTaken: (name, token) => this.#listener?.taken(name, token),
    });
  }

  /** Ready when names can be claimed; rejects with `ClusterAway` when that takes too long. */
  static async open(options: RedisClusterOptions): Promise<RedisCluster> {
    const cluster = new RedisCluster(options);
    const giveUpAt = options.time.now() + serverLimits.directoryStartTimeoutMs;
    cluster.#start(options.times ?? leaseTimes);
    try {
      while (!cluster.#nodes.isOpen) {
        const isLate = options.time.now() >= giveUpAt || cluster.#nodes.lease.hasLapsed;
        if (isLate) throw new ClusterAway('Redis cannot be reached, or nodes that may exist do not answer it');
        await new Promise<void>((resolve) => options.time.after(serverLimits.directoryReconnectMs, resolve));
        if (cluster.#nodes.open === '') await cluster.#nodes.tick();
      }
      await cluster.#warnOfEviction();
      return cluster;
    } catch (error) {
      await cluster.close();
      throw error;
    }
  }

  #start({ renewMs }: LeaseTimes): void {
    this.#nodes.start();
    this.#speaking = every(this.#time, renewMs, () => {
      this.#bus.speak();
      if (this.#time.now() - this.#bus.heardSelfAt > serverLimits.busSilenceMs) {
        this.#bus.heardSelfAt = this.#time.now();
        this.#redis.listenAnew();
      }
      this.#names.walk().catch((error: unknown) => this.#trouble(error, 'names could not be seen to'));
    });
  }

  async #warnOfEviction(): Promise<void> {
    try {
      const policy = await evictionOf(this.#redis);
      if (policy === undefined) return;
      const text = `Redis has maxmemory-policy ${policy}: when its memory is full it forgets who is where. Set noeviction`;
      this.#log.warn({ policy }, text);
    } catch (error) {
      this.#trouble(error, 'Redis does not tell what it does when its memory is full');
    }
  }

  /** At most a line a second: while Redis is away everything fails. */
  #trouble(err: unknown, text: string): void {
    if (this.#time.now() - this.#toldAt < 1000) return;
    this.#toldAt = this.#time.now();
    this.#log.warn({ err }, text);
  }

  get heldUntil(): number {
    return this.#nodes.lease.heldUntil;
  }

  get counters(): BusCounters {
    return this.#bus.counters;
  }

  /**
   * From now on this node says of itself what `state` gives, which brings it clients; and does what operators tell it.
   */
  announce(state: () => NodeState, onOrder: (order: string) => void): void {
    this.#state = state;
    this.#onOrder = onOrder;
    void this.#nodes.tick();
  }

  /** Has the others know at once what has changed of this node. */
  announceNow(): Promise<void> {
    return this.#nodes.tick();
  }

  /** The nodes that live, this one included, as each says of itself. */
  get offers(): readonly NodeOffer[] {
    return this.#nodes.offers.live(this.#time.now());
  }

  /** What the operator may want to know. */
  get figures(): ClusterFigures {
    const { peers, renewalMs, isOpen } = this.#nodes;
    const { claims, size } = this.#names;
    return { peers: peers.alive.length, claims, names: size, renewalMs, isOpen, bus: this.#bus.counters };
  }

  /** Whether names can be claimed, as far as is known. */
  get isOpen(): boolean {
    return this.#nodes.isOpen;
  }

  listen(listener: ClusterListener): void {
    this.#listener = listener;
  }

  claim(name: string): Promise<Claim> {
    return this.#names.claim(name);
  }

  confirm(name: string, token: number, previous: readonly string[]): void {
    this.#names.confirm(name, token, previous);
  }

  release(name: string, token: number): void {
    this.#names.release(name, token);
  }

  locate(name: string): Promise<string | undefined> {
    return this.#names.locate(name);
  }

  onVoid(node: string, call: () => void): () => void {
    return this.#nodes.peers.onVoid(node, call);
  }

  isVoid(node: string): boolean {
    return this.#nodes.peers.isVoid(node);
  }

  async others(): Promise<readonly string[]> {
    try {
      return await this.#nodes.others();
    } catch (error) {
      throw new ClusterAway('the database does not tell which runs there are', { cause: error });
    }
  }

  send(node: string, packet: Packet): void {
    this.#bus.send(node, packet);
  }

  /** The run ends in good order: nothing of it is pushed, acked or stored any more. */
  async leave(): Promise<void> {
    await this.#nodes.leave();
    await this.close();
  }

  /** Lets go of Redis; others wait for the lease. */
  async close(): Promise<void> {
    this.#nodes.close();
    this.#speaking?.cancel();
    this.#redis.close();
  }
}
