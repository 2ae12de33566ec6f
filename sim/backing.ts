import { RedisCluster } from '@hawser/server/cluster/redis/cluster';
import type { CorePorts } from '@hawser/server/core/core';
import type { Log, Time } from '@hawser/server/core/ports';
import { PostgresStore } from '@hawser/server/store/postgres/store';
import type { Checker } from './checker.ts';
import { processClock } from './clock.ts';
import type { Disk } from './disk.ts';
import { Way } from './net.ts';
import { Database } from './postgres/database.ts';
import { postgresDriver } from './postgres/driver.ts';
import type { Process } from './process.ts';
import type { Random } from './random.ts';
import { redisDriver } from './redis/driver.ts';
import { RedisServer } from './redis/server.ts';
import type { Scheduler } from './scheduler.ts';
import type { StoreLimits } from './store.ts';
import type { Trace } from './trace.ts';
import { WatchedCluster } from './watched-cluster.ts';
import { WatchedStore } from './watched-store.ts';

export interface BackingPorts {
  readonly scheduler: Scheduler;
  readonly random: Random;
  readonly disk: Disk;
  readonly checker: Checker;
  readonly trace: Trace;
  readonly limits: StoreLimits;
}

/** A node's ways to what all nodes share. */
export class Ways {
  readonly redis = new Way();
  readonly postgres = new Way();
}

/** What a run of a node has opened. */
export interface Opened {
  readonly store: PostgresStore;
  readonly cluster: RedisCluster;
  readonly ports: Pick<CorePorts, 'store' | 'cluster'>;
  /** Ends in good order what is below the core. */
  close(): Promise<void>;
}

interface RunPorts {
  readonly name: string;
  /** As the checker numbers it. */
  readonly number: number;
  readonly ways: Ways;
  readonly process: Process;
  readonly log: Log;
  readonly onError: (error: unknown) => void;
  /** The core's time, on a store that has been in service for so long. */
  readonly timeOn: (ran: () => number) => Time;
}

/**
 * What the nodes of a cluster stand on: a PostgreSQL and a Redis. Nodes reach them by the real adapters, which are given
 * simulated connections in place of the libraries that make real ones.
 */
export class Backing {
  readonly redis: RedisServer;
  readonly database: Database;
  readonly #ports: BackingPorts;
  readonly #numbers = new Map<string, number>();
  readonly #void = new Set<string>();
  /** Of each node that there has been. */
  readonly #ways = new Set<Ways>();
  /** Runs that have ended in good order. */
  readonly #left = new Set<string>();
  /** The newest claim of each name that was answered. */
  readonly #tokens = new Map<string, number>();

  constructor(ports: BackingPorts) {
    const { scheduler, random, trace, disk } = ports;
    this.#ports = ports;
    this.redis = new RedisServer(scheduler, random, trace);
    this.database = new Database(scheduler, random, trace, disk);
    this.database.onRemoved = (name) => ports.checker.nameRemoved(name);
    this.database.onClockSet = (ms) => ports.checker.databaseClockSet(ms);
    this.database.onCrash = () => ports.checker.databaseCrashed();
  }

  /** Whether others may have been given what this run held. */
  isVoid(run: string): boolean {
    return this.#void.has(run);
  }

  #nowVoid(run: string): void {
    if (this.#void.has(run)) return;
    this.#void.add(run);
    const { trace, checker, scheduler } = this.#ports;
    trace.note('void', -1, -1, run);
    scheduler.settled = true;
    // What a run in good order has said, others know, unless it was lost on the way, or is on its way yet.
    const number = this.#numbers.get(run) ?? 0;
    const isLate = [...this.#ways].some((ways) => ways.redis.isLate(scheduler.now));
    if (!this.#left.has(run) || this.redis.hasLost || this.redis.isFrozen || isLate) checker.nodeVoid(number);
    else checker.nodeLeft(number);
  }

  claimed(name: string, token: number, run: string): void {
    this.#tokens.set(name, Math.max(token, this.#tokens.get(name) ?? 0));
    this.#ports.checker.claimed(name, this.#numbers.get(run) ?? 0);
    this.#ports.trace.note('claimed', token, -1, `${name} by ${run}`);
  }

  confirmed(name: string, token: number, previous: readonly string[]): void {
    if (this.#tokens.get(name) !== token) return;
    this.#ports.checker.handedOver(
      name,
      previous.map((run) => this.#numbers.get(run) ?? 0),
    );
  }

  /** As `parts.ts` does for `hawser serve`. Rejects when the node cannot start. */
  async open({ name, number, ways, process, log, onError, timeOn }: RunPorts): Promise<Opened> {
    const { scheduler, random, checker, trace, limits } = this.#ports;
    const { database } = this;
    this.#numbers.set(name, number);
    this.#ways.add(ways);
    const clock = processClock(scheduler, process);
    const store = await PostgresStore.open({
      ...{ url: 'postgres://simulated', log, onError, limits, run: name },
      driver: postgresDriver({ scheduler, random, database, way: ways.postgres, process, clock }),
    });
    const time = timeOn(() => store.ran());
    const onVoid = (run: string): void => this.#nowVoid(run);
    let cluster: RedisCluster;
    try {
      cluster = await RedisCluster.open({
        ...{ address: REDIS, run: name, time, log, onVoid },
        witness: {
          fence: (run) => store.voidRun(run),
          stands: (run) => store.runStands(run),
          standing: () => store.standingRuns(),
        },
        driver: redisDriver({ scheduler, random, server: this.redis, way: ways.redis, process, clock: time }),
      });
    } catch (error) {
      await store.voidRun(name).catch(() => {});
      await store.close();
      throw error;
    }
    return {
      store,
      cluster,
      ports: {
        store: new WatchedStore(store, { database, checker, trace, scheduler, process }),
        cluster: new WatchedCluster(cluster, this),
      },
      close: async () => {
        this.#left.add(name);
        await cluster.leave();
        await store.close();
      },
    };
  }

  heal(): void {
    this.redis.heal();
    this.database.heal();
  }
}

const REDIS = {
  kind: 'single',
  hosts: [{ host: 'simulated', port: 6379 }],
  path: undefined,
  master: undefined,
  tls: false,
  username: undefined,
  password: undefined,
  database: 0,
} as const;
