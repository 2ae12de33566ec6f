import { randomBytes } from 'node:crypto';
import { serverLimits } from '@hawser/protocol';
import type { Log, Time } from '../../core/ports.ts';
import type { NodeOffer } from '../node-state.ts';
import type { RedisAddress } from './address.ts';
import { connectTo } from './cluster.ts';
import { type LeaseTimes, leaseTimes } from './lease.ts';
import { libraryDriver } from './line.ts';
import { orderKey, readTable } from './nodes.ts';
import { Offers } from './offers.ts';
import { evictionOf, type Redis, type RedisEvents } from './redis.ts';
import * as scripts from './scripts.ts';

export interface WatcherOptions {
  readonly address: RedisAddress;
  readonly time: Time;
  readonly log: Log;
  readonly prefix?: string;
  readonly times?: LeaseTimes;
}

/** Sees the nodes of a cluster without being one: for a dispatcher that stands alone, and for operators. */
export class Watcher {
  readonly #redis: Redis;
  readonly #time: Time;
  readonly #log: Log;
  readonly #prefix: string;
  readonly #times: LeaseTimes;
  readonly #offers: Offers;
  #looking: NodeJS.Timeout | undefined;
  #toldAt: number;

  constructor({ address, time, log, prefix = 'hawser:', times = leaseTimes }: WatcherOptions) {
    this.#time = time;
    this.#log = log;
    this.#prefix = prefix;
    this.#times = times;
    this.#offers = new Offers(times);
    this.#toldAt = time.now();
    const events: RedisEvents = {
      // Nobody publishes there.
      channel: `${prefix}bus:{watcher.${randomBytes(8).toString('base64url')}}`,
      onMessage: () => {},
      onTrouble: (error) => this.#trouble(error),
    };
    this.#redis = connectTo(address, events, libraryDriver(time));
  }

  /** Looks from now on, as often as nodes renew their leases. */
  start(): void {
    const look = (): void => void this.look().catch((error: unknown) => this.#trouble(error));
    look();
    this.#looking = setInterval(look, this.#times.renewMs);
  }

  #trouble(err: unknown): void {
    if (this.#time.now() - this.#toldAt < serverLimits.watcherToldMs) return;
    this.#toldAt = this.#time.now();
    this.#log.warn({ err }, 'Redis cannot be asked which nodes there are');
  }

  /** When it has looked. Rejects with `ClusterAway`. */
  async look(): Promise<number> {
    const words = (await this.#redis.run(scripts.look, `${this.#prefix}nodes`, [])) as string[];
    const now = this.#time.now();
    this.#offers.see(readTable(words).runs, now);
    return now;
  }

  get offers(): readonly NodeOffer[] {
    return this.#offers.live(this.#time.now());
  }

  /** How old what it knows is. */
  get ageMs(): number {
    return this.#offers.ageMs(this.#time.now());
  }

  renewedAfter(at: number): ReturnType<Offers['renewedAfter']> {
    return this.#offers.renewedAfter(at);
  }

  /** Tells a run what to do; it reads that with its next renewal. Rejects with `ClusterAway`. */
  async order(run: string, text: string): Promise<void> {
    const args = [text, String(serverLimits.orderKeptMs)];
    await this.#redis.run(scripts.order, orderKey(this.#prefix, run), args);
  }

  /** By what policy Redis forgets, if it does. Rejects with `ClusterAway`. */
  eviction(): Promise<string | undefined> {
    return evictionOf(this.#redis);
  }

  close(): void {
    clearInterval(this.#looking);
    this.#redis.close();
  }
}
