/** Real servers of Redis for tests: each on a free port of the loopback, with a folder of its own. */

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from '@redis/client';
import type { RedisAddress } from './address.ts';
import { parseRedisAddress } from './address.ts';

/** Programs that are a server of Redis when they are called by its name; the second comes with Debian's redis-tools. */
const PROGRAMS = ['redis-server', 'redis-check-rdb', 'valkey-server'];
const program = PROGRAMS.find((each) => spawnSync(each, ['--version'], { argv0: 'redis-server' }).status === 0);

/** For the `skip` of tests. */
export const noRedis = program === undefined ? 'there is no redis-server here' : false;

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

export class RedisServer {
  readonly port: number;
  readonly folder: string;
  readonly #mode: 'redis-server' | 'redis-sentinel';
  #config: string;
  #child: ChildProcess | undefined;
  #exited: Promise<unknown> = Promise.resolve();

  private constructor(port: number, folder: string, config: string, mode: 'redis-server' | 'redis-sentinel') {
    this.port = port;
    this.folder = folder;
    this.#config = config;
    this.#mode = mode;
  }

  /** @param more further lines of its configuration */
  static async start(more = '', mode: 'redis-server' | 'redis-sentinel' = 'redis-server'): Promise<RedisServer> {
    const folder = await mkdtemp(join(tmpdir(), 'hawser-redis-'));
    folders.add(folder);
    const port = await freePort();
    const common = `port ${port}\nbind 127.0.0.1\ndir ${folder}\n`;
    const config = mode === 'redis-server' ? `${common}save ""\nappendonly no\n${more}\n` : `${common}${more}\n`;
    const server = new RedisServer(port, folder, config, mode);
    await server.start();
    return server;
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  get address(): RedisAddress {
    return parseRedisAddress(`redis://127.0.0.1:${this.port}`);
  }

  async start(): Promise<void> {
    const file = join(this.folder, 'redis.conf');
    // A sentinel writes into its own.
    writeFileSync(file, this.#config);
    const child = spawn(program ?? 'redis-server', [file], { argv0: this.#mode, stdio: 'ignore' });
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

  /** One command, on a connection of its own. */
  async ask(...words: string[]): Promise<unknown> {
    const client = createClient({
      socket: { host: '127.0.0.1', port: this.port, reconnectStrategy: false },
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
