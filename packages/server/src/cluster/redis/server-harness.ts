/** Real servers of Redis for tests: each on a free port of the loopback, with a folder of its own. */

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from '@redis/client';
import type { RedisAddress } from './address.ts';
import { parseRedisAddress } from './address.ts';

/** Programs that are a server of Redis when they are called by its name; the second comes with Debian's redis-tools. */
const PROGRAMS = ['redis-server', 'redis-check-rdb', 'valkey-server'];
const program = PROGRAMS.find((each) => spawnSync(each, ['--version'], { argv0: 'redis-server' }).status === 0);

/** For the `skip` of tests. */
export const noRedis = program === undefined ? 'there is no redis-server here' : false;

function pathOf(name: string): string {
  const found = (process.env.PATH ?? '').split(delimiter).find((folder) => existsSync(join(folder, name)));
  return join(found ?? '', name);
}

const living = new Set<ChildProcess>();
const folders = new Set<string>();
process.on('exit', () => {
  for (const child of living) child.kill('SIGKILL');
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === 'object' && address !== null ? address.port : 0;
}

/** Where a server runs: its address, and a program with arguments that runs another there. */
export interface RedisPlace {
  readonly address: string;
  readonly through: readonly string[];
}

const LOOPBACK: RedisPlace = { address: '127.0.0.1', through: [] };

export class RedisServer {
  readonly port: number;
  readonly host: string;
  readonly folder: string;
  readonly #mode: 'redis-server' | 'redis-sentinel';
  #config: string;
  readonly #through: readonly string[];
  #child: ChildProcess | undefined;
  #exited: Promise<unknown> = Promise.resolve();

  private constructor(
    port: number,
    folder: string,
    config: string,
    mode: 'redis-server' | 'redis-sentinel',
    place: RedisPlace,
  ) {
    this.port = port;
    this.host = place.address;
    this.#through = place.through;
    this.folder = folder;
    this.#config = config;
    this.#mode = mode;
  }

  /** @param more further lines of its configuration */
  static async start(
    more = '',
    mode: 'redis-server' | 'redis-sentinel' = 'redis-server',
    place: RedisPlace = LOOPBACK,
  ): Promise<RedisServer> {
    const folder = await mkdtemp(join(tmpdir(), 'hawser-redis-'));
    folders.add(folder);
    const port = await freePort();
    const common = `port ${port}\nbind ${place.address}\nprotected-mode no\ndir ${folder}\n`;
    const config = mode === 'redis-server' ? `${common}save ""\nappendonly no\n${more}\n` : `${common}${more}\n`;
    const server = new RedisServer(port, folder, config, mode, place);
    await server.start();
    return server;
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  get address(): RedisAddress {
    return parseRedisAddress(`redis://${this.host}:${this.port}`);
  }

  async start(): Promise<void> {
    const file = join(this.folder, 'redis.conf');
    // A sentinel writes into its own.
    writeFileSync(file, this.#config);
    const [outer, ...rest] = [...this.#through, this.#program(), file];
    const child = spawn(outer!, rest, { stdio: 'ignore' });
    this.#child = child;
    living.add(child);
    this.#exited = new Promise((resolve) => {
      child.once('exit', resolve);
    }).then(() => living.delete(child));
    for (let tries = 0; ; tries++) {
      if (child.exitCode !== null) throw new Error(`redis-server exited with ${child.exitCode}`);
      try {
        await this.ask('PING');
        return;
      } catch (error) {
        if (tries > 200) throw error;
        await sleep(20);
      }
    }
  }

  /** The program under the name that makes it a server, by which any other program can run it. */
  #program(): string {
    const link = join(this.folder, this.#mode);
    rmSync(link, { force: true });
    symlinkSync(pathOf(program ?? 'redis-server'), link);
    return link;
  }

  /** One command, on a connection of its own. */
  async ask(...words: string[]): Promise<unknown> {
    const client = createClient({
      socket: { host: this.host, port: this.port, reconnectStrategy: false },
      disableOfflineQueue: true,
    });
    client.on('error', () => {});
    try {
      await client.connect();
      return await client.sendCommand(words);
    } finally {
      if (client.isOpen) client.destroy();
    }
  }

  async kill(): Promise<void> {
    this.#child?.kill('SIGKILL');
    await this.#exited;
  }

  freeze(): void {
    this.#child?.kill('SIGSTOP');
  }

  thaw(): void {
    this.#child?.kill('SIGCONT');
  }

  async close(): Promise<void> {
    await this.kill();
    await rm(this.folder, { recursive: true, force: true, maxRetries: 5 });
    folders.delete(this.folder);
  }
}
