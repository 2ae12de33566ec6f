/** Nodes of a cluster on Redis, without a core, for tests. */

import { setTimeout as sleep } from 'node:timers/promises';
import type { Cluster, Log, Time } from '../../core/ports.ts';
import type { ClusterHarness } from '../contract.ts';
import { MemoryWitness } from '../witness.ts';
import type { RedisAddress } from './address.ts';
import { newRun, RedisCluster } from './cluster.ts';
import type { LeaseTimes } from './lease.ts';

/** For tests of leases that run out. Those of others must not, however much else the machine has to do. */
export const testTimes: LeaseTimes = { leaseMs: 5000, renewMs: 250, marginMs: 500, witnessHoldMs: 4000 };
/** For tests in which none is to run out. */
export const patientTimes: LeaseTimes = { leaseMs: 60_000, renewMs: 250, marginMs: 500, witnessHoldMs: 60_000 };

const quiet = (): void => {};
export const quietLog: Log = { debug: quiet, info: quiet, warn: quiet, error: quiet };

export const realTime: Time = {
  now: () => Math.floor(performance.now()),
  wall: () => Date.now(),
  ran: () => Math.floor(performance.now()),
  after(ms, call) {
    const timer = setTimeout(call, ms);
    return { cancel: () => clearTimeout(timer) };
  },
  endOfTurn: (call) => {
    setImmediate(call);
  },
  isBusy: () => false,
};

export async function until(isSo: () => boolean, what: string, ms = 60_000): Promise<void> {
  const from = performance.now();
  do {
    await sleep(5);
    if (performance.now() - from > ms) throw new Error(`not within ${ms} ms: ${what}`);
  } while (!isSo());
}

/** Nodes on one Redis, with a witness in memory unless there is to be none. */
export class Nodes implements ClusterHarness {
  readonly address: RedisAddress;
  readonly witness: MemoryWitness | undefined;
  readonly runs = new Set<RedisCluster>();
  readonly #setAway: (isAway: boolean) => void;
  readonly #close: () => Promise<void>;
  readonly #prefix: string;
  readonly #times: LeaseTimes;

  constructor(
    address: RedisAddress,
    options: {
      readonly hasWitness?: boolean;
      readonly prefix?: string;
      readonly times?: LeaseTimes;
      readonly setAway?: (isAway: boolean) => void;
      readonly close?: () => Promise<void>;
    } = {},
  ) {
    this.address = address;
    this.witness = options.hasWitness === false ? undefined : new MemoryWitness();
    this.#times = options.times ?? testTimes;
    this.#prefix = options.prefix ?? 'hawser:';
    this.#setAway = options.setAway ?? quiet;
    this.#close = options.close ?? (() => Promise.resolve());
  }

  async join(node: string, address = this.address): Promise<RedisCluster> {
    const run = newRun(node);
    this.witness?.enter(run);
    const { witness } = this;
    const surroundings = { time: realTime, log: quietLog, times: this.#times };
    const cluster = await RedisCluster.open({ address, run, witness, prefix: this.#prefix, ...surroundings });
    this.runs.add(cluster);
    return cluster;
  }

  crash(run: Cluster): void {
    void this.#runOf(run).close();
  }

  leave(run: Cluster): Promise<void> {
    return this.#runOf(run).leave();
  }

  #runOf(run: Cluster): RedisCluster {
    if (!(run instanceof RedisCluster)) throw new Error('not of this kind');
    return run;
  }

  setAway(isAway: boolean): void {
    this.#setAway(isAway);
  }

  now(): number {
    return realTime.now();
  }

  settle<Value>(promise: Promise<Value>): Promise<Value> {
    return promise;
  }

  until(isSo: () => boolean, what: string): Promise<void> {
    return until(isSo, what);
  }

  async close(): Promise<void> {
    for (const run of this.runs) await run.close();
    await this.#close();
  }
}
