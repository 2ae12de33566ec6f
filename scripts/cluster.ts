/**
 * A cluster on this machine to look at, with no container engine: three nodes, a dispatcher, and a PostgreSQL and a Redis of its
 * own, whose data is gone when it stops. A node that ends is started again, as a supervisor would.
 *
 *     npm run cluster
 */

import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { noRedis, RedisServer } from '@hawser/server/cluster/redis/server-harness';
import { Postgres, postgresFolder } from './postgres.ts';

const MAIN = join(import.meta.dirname, '..', 'packages', 'cli', 'src', 'main.ts');
const NODES = ['node-1', 'node-2', 'node-3'];
const START_TIMEOUT_MS = 30_000;
const START_AGAIN_AFTER_MS = 1000;
/** Characters that are looked through for where it listens. */
const TOLD_MAX = 20_000;
/** Nobody is to wait for sessions to move when all nodes stop. */
const DRAIN_SECONDS = '1';
/** Set for the process that runs the cluster. */
const INNER = 'CLUSTER_INNER';
const USAGE = `npm run cluster -- [options]
  --http-port PORT   of the dispatcher, 9999 unless told; 0 takes a free one
  --port PORT        of the first node, 8881 unless told, the others have the next ones; 0 takes free ones
  --log-level LEVEL  what the nodes say, warn unless told`;

/** A process of the cluster, which is up when it says where it listens. */
class Member {
  readonly name: string;
  readonly #args: readonly string[];
  readonly #ready: RegExp;
  #child: ChildProcess | undefined;
  #isStopping = false;
  /** The port that it has told. */
  port = 0;

  constructor(name: string, args: readonly string[], ready: RegExp) {
    this.name = name;
    this.#args = args;
    this.#ready = ready;
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  /** Rejects when it ends before it is up; started again whenever it ends later. */
  async start(): Promise<void> {
    const child = spawn(process.execPath, [MAIN, ...this.#args], { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#child = child;
    const up = Promise.withResolvers<void>();
    let told = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      if (told.length > TOLD_MAX) return;
      told += text;
      const found = this.#ready.exec(told);
      if (found === null) return;
      this.port = Number(found[1]);
      up.resolve();
    });
    const late = setTimeout(() => up.reject(new Error(`${this.name} is not up in time`)), START_TIMEOUT_MS);
    child.once('exit', () => up.reject(new Error(`${this.name} did not start`)));
    try {
      await up.promise;
    } finally {
      clearTimeout(late);
    }
    child.once('exit', (code, signal) => void this.#again(String(signal ?? `exit code ${code}`)));
  }

  async #again(why: string): Promise<void> {
    while (!this.#isStopping) {
      console.log(`${this.name} has ended (${why}): it is started again`);
      await sleep(START_AGAIN_AFTER_MS);
      if (this.#isStopping) return;
      try {
        await this.start();
        console.log(`${this.name} is up again, as process ${this.pid}`);
        return;
      } catch {
        // It has said why; again.
      }
    }
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGTERM');
    await once(child, 'exit');
  }
}

const { values: options } = parseArgs({
  options: {
    'http-port': { type: 'string', default: '9999' },
    port: { type: 'string', default: '8881' },
    'log-level': { type: 'string', default: 'warn' },
    help: { type: 'boolean', default: false },
  },
});

function fail(text: string): never {
  console.error(`hawser: ${text}`);
  process.exit(1);
}

/** All of it, until it is told to stop. */
async function run(): Promise<void> {
  const stopped = new Promise<void>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => resolve());
    // Whoever has started this is gone.
    process.once('disconnect', resolve);
  });
  const folder = mkdtempSync(join(tmpdir(), 'hawser-cluster-'));
  const members: Member[] = [];
  await using postgres = await Postgres.start();
  const redis = await RedisServer.start();
  try {
    const redisUrl = `redis://127.0.0.1:${redis.port}`;
    const log = ['--log-level', options['log-level']];
    const first = Number(options.port);
    for (const [i, name] of NODES.entries()) {
      const ports = ['--port', String(first === 0 ? 0 : first + i), '--http-port', '0', '--admin-port', '0'];
      const shared = ['--postgres', postgres.url(), '--redis', redisUrl, '--drain-within', DRAIN_SECONDS];
      const args = ['serve', '--node', name, '--data', join(folder, name), ...ports, ...shared, ...log];
      members.push(new Member(name, args, /tcp:\/\/127\.0\.0\.1:(\d+)/));
    }
    const ports = ['--http-port', options['http-port'], '--admin-port', '0'];
    const dispatcher = new Member(
      'dispatcher',
      ['dispatch', '--redis', redisUrl, ...ports, ...log],
      /http:\S+:(\d+)\//,
    );
    const nodes = [...members];
    members.push(dispatcher);
    const started = Promise.all(members.map((each) => each.start()));
    const isUp = await Promise.race([started.then(() => true), stopped.then(() => false)]);
    if (isUp) console.log(welcome(nodes, dispatcher, redisUrl));
    await stopped;
    console.log('Stopping.');
  } finally {
    await Promise.all(members.map((each) => each.stop()));
    await redis.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

function welcome(nodes: readonly Member[], dispatcher: Member, redisUrl: string): string {
  const url = `http://127.0.0.1:${dispatcher.port}`;
  const where = url === 'http://127.0.0.1:9999' ? '' : ` --server ${url}`;
  return `A cluster of ${nodes.length} nodes is running. Its data is gone when it stops; Ctrl-C stops it.

${nodes.map(({ name, port, pid }) => `  ${name}       tcp://127.0.0.1:${port}  process ${pid}`).join('\n')}
  dispatcher   ${url}/?id=<client id>

Next, in two other terminals, a device that sends back what it gets, and a person's app:

  npx hawser device lamp-1 --echo${where}
  npx hawser app --register --user ann --add lamp-1 --to lamp-1${where}

Then: who is where, a node emptied, and a node killed, which nobody should notice for long:

  npx hawser node list --redis ${redisUrl}
  npx hawser node drain ${nodes[0]?.name} --redis ${redisUrl}
  kill -9 ${nodes[1]?.pid}
`;
}

/** A Ctrl-C reaches all processes of a terminal at once: what runs the cluster is out of its reach, and stops it in order. */
async function main(): Promise<void> {
  if (options.help) {
    console.log(USAGE);
    return;
  }
  for (const name of ['http-port', 'port'] as const) {
    if (!/^\d{1,5}$/.test(options[name])) fail(`--${name} must be a port`);
  }
  if (postgresFolder() === undefined || noRedis !== false) {
    fail('a cluster needs PostgreSQL and Redis on this machine: apt-get install postgresql redis-server');
  }
  const child = fork(process.argv[1] ?? '', process.argv.slice(2), {
    detached: true,
    env: { ...process.env, [INNER]: '1' },
  });
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => child.kill('SIGTERM'));
  const [code] = (await once(child, 'exit')) as [number | null];
  process.exitCode = code ?? 1;
}

if (process.env[INNER] === undefined) await main();
else {
  delete process.env[INNER];
  await run().catch((error: Error) => fail(error.message));
  process.exit(0);
}
