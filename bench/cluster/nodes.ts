// A cluster on this machine: PostgreSQL and Redis of its own, and nodes as processes that come and go.
import { spawnSync } from 'node:child_process';
import { RedisServer } from '@hawser/server/cluster/redis/server-harness';
import { Postgres } from '../../scripts/postgres.ts';
import type { At } from '../job.ts';
import { makeData, type Running, removeData, startServer } from '../server.ts';

export type Settings = {
  /** Data directories are made in here, PostgreSQL's too. */
  data: string;
  serverArgs: readonly string[];
  nodeArgs: readonly string[];
};

type Node = { name: string; data: string; running: Running; isKilled: boolean };

export class Cluster implements AsyncDisposable {
  readonly #postgres: Postgres;
  readonly #redis: RedisServer;
  readonly #settings: Settings;
  #ofSingle: Postgres | undefined;
  readonly #nodes: Node[] = [];
  /** What was wrong with the ends of nodes. */
  readonly violations: string[] = [];

  private constructor(postgres: Postgres, redis: RedisServer, settings: Settings) {
    this.#postgres = postgres;
    this.#redis = redis;
    this.#settings = settings;
  }

  /** PostgreSQL as it comes, so that what is committed is synced. */
  static async start(settings: Settings): Promise<Cluster> {
    const [postgres, redis] = await Promise.all([Postgres.start([], settings.data), RedisServer.start()]);
    return new Cluster(postgres, redis, settings);
  }

  get redisPid(): number {
    return this.#redis.pid;
  }

  get postgresPid(): number {
    return this.#postgres.pid;
  }

  /** Keeps Redis on a core; PostgreSQL's processes are wherever the system puts them. */
  pinRedis(core: number): void {
    spawnSync('taskset', ['-a', '-p', '-c', String(core), String(this.redisPid)], { stdio: 'ignore' });
  }

  get nodes(): At[] {
    return this.#nodes.map(({ running }) => running);
  }

  /** A server on a PostgreSQL of its own, which is no node of the cluster. */
  async addSingle(core: number | null): Promise<At> {
    this.#ofSingle = await Postgres.start([], this.#settings.data);
    return this.#add('', ['--postgres', this.#ofSingle.url()], core);
  }

  async add(name: string, core: number | null): Promise<At> {
    const redis = `redis://127.0.0.1:${this.#redis.port}`;
    return this.#add(name, ['--postgres', this.#postgres.url(), '--redis', redis, '--node', name], core);
  }

  async #add(name: string, args: readonly string[], core: number | null): Promise<At> {
    const { data: root, serverArgs, nodeArgs } = this.#settings;
    const data = makeData(root);
    const running = await startServer('server', core, data, [...args, ...serverArgs], nodeArgs);
    this.#nodes.push({ name, data, running, isKilled: false });
    return running;
  }

  /** The generator may kill it from now on. */
  mayBeKilled(name: string): void {
    for (const node of this.#nodes) if (node.name === name) node.isKilled = true;
  }

  /** In good order, all at once. */
  async stop(...names: readonly string[]): Promise<void> {
    const going = this.#nodes.filter(({ name }) => names.includes(name));
    await Promise.all(
      going.map(async (node) => {
        const wrong = await node.running.stop();
        if (!node.isKilled) this.violations.push(...wrong);
        removeData(node.data);
        this.#nodes.splice(this.#nodes.indexOf(node), 1);
      }),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop(...this.#nodes.map(({ name }) => name));
    await this.#redis.close();
    await this.#ofSingle?.[Symbol.asyncDispose]();
    await this.#postgres[Symbol.asyncDispose]();
  }
}
