// The adapter on a simulated Redis keeps the contract of the cluster, as it does on a real one.

import { type ClusterHarness, clusterContract } from '@hawser/server/cluster/contract';
import { RedisCluster } from '@hawser/server/cluster/redis/cluster';
import { MemoryWitness } from '@hawser/server/cluster/witness';
import type { Cluster } from '@hawser/server/core/ports';
import { ServerTime, WallClock } from './clock.ts';
import { Way } from './net.ts';
import { Process } from './process.ts';
import { Pump } from './pump.ts';
import { Random } from './random.ts';
import { redisDriver } from './redis/driver.ts';
import { RedisServer } from './redis/server.ts';
import { Scheduler } from './scheduler.ts';
import { Trace } from './trace.ts';

const quiet = (): void => {};
const FROZEN_MS = 3_600_000;
let seeds = 1;

interface Member {
  readonly cluster: RedisCluster;
  readonly process: Process;
  readonly time: ServerTime;
}

class SimulatedNodes implements ClusterHarness {
  readonly #scheduler = new Scheduler();
  readonly #random = new Random(seeds++);
  readonly #wall = new WallClock(this.#scheduler);
  readonly #server = new RedisServer(this.#scheduler, this.#random, new Trace(() => this.#scheduler.now, 0));
  readonly #witness = new MemoryWitness();
  readonly #members = new Map<Cluster, Member>();
  readonly #pump = new Pump(this.#scheduler);

  async join(node: string): Promise<Cluster> {
    const process = new Process(this.#scheduler);
    const time = new ServerTime(this.#scheduler, process, this.#random, this.#wall, 0);
    const run = `${node}.${this.#members.size}`;
    this.#witness.enter(run);
    const ports = { scheduler: this.#scheduler, random: this.#random, server: this.#server, way: new Way(), process };
    const cluster = await RedisCluster.open({
      address: { kind: 'single', hosts: [{ host: 'simulated', port: 1 }], tls: false, database: 0 } as never,
      ...{ run, time, witness: this.#witness, driver: redisDriver({ ...ports, clock: time }) },
      log: { debug: quiet, info: quiet, warn: quiet, error: quiet },
    });
    this.#members.set(cluster, { cluster, process, time });
    return cluster;
  }

  #member(run: Cluster): Member {
    const member = this.#members.get(run);
    if (member === undefined) throw new Error('not of this harness');
    return member;
  }

  crash(run: Cluster): void {
    this.#member(run).process.end(true);
  }

  leave(run: Cluster): Promise<void> {
    return this.#member(run).cluster.leave();
  }

  setAway(isAway: boolean): void {
    if (isAway) this.#server.freeze(FROZEN_MS);
    else this.#server.heal();
  }

  now(run: Cluster): number {
    return this.#member(run).time.now();
  }

  settle<Value>(promise: Promise<Value>): Promise<Value> {
    return promise;
  }

  async until(isSo: () => boolean, what: string): Promise<void> {
    const giveUpAt = this.#scheduler.now + 60_000;
    do {
      if (this.#scheduler.now > giveUpAt) throw new Error(`not within a minute: ${what}`);
      await new Promise<void>((resolve) => this.#scheduler.after(5, resolve));
    } while (!isSo());
  }

  close(): Promise<void> {
    return this.#pump.stop();
  }
}

clusterContract("Redis, in the simulator's words", { open: async () => new SimulatedNodes() });
