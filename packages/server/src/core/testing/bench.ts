import assert from 'node:assert/strict';
import { cmd, serverLimits } from '@hawser/protocol';
import type { MemoryStore } from '../../store/memory.ts';
import { Core } from '../core.ts';
import type { Phase } from '../mailbox.ts';
import { Busy, type Cluster, type Digests, type Log, type Passwords, type Rsa } from '../ports.ts';
import type { CoreOptions } from '../services.ts';
import { BenchClient } from './client.ts';
import { BenchStore } from './store.ts';
import { VirtualTime } from './time.ts';

export interface BenchOptions extends Partial<CoreOptions> {
  readonly inboxMessagesMax?: number;
  readonly inboxBytesMax?: number;
  /** Other nodes, as a test plays them. */
  readonly cluster?: Cluster;
}

const PASSWORD = '5f4dcc3b5aa765d61d8327deb882cf99';

/** Hashes at once, or not at all. */
class BenchPasswords implements Passwords {
  isBusy = false;
  /** Passwords looked at. */
  verified = 0;

  async hash(password: string): Promise<string> {
    if (this.isBusy) throw new Busy('for a test');
    return `hash of ${password}`;
  }

  async verify(password: string, hash: string | undefined): Promise<boolean> {
    this.verified++;
    return (await this.hash(password)) === hash;
  }
}

/** As short as can be, and the same in each run. */
export const digests: Digests = {
  digest: (text) => `digest of ${text}`,
  matches: (text, digest) => digest === `digest of ${text}`,
  hash: (name) => [...name].reduce((hash, character) => (hash * 31 + character.charCodeAt(0)) % 2 ** 32, 7),
};

const rsa: Rsa = {
  generate: () =>
    Promise.resolve({ publicDer: new Uint8Array(8), decrypt: () => Promise.reject(new Error('nobody encrypts here')) }),
};

/** The whole core on virtual time, between clients that never leave the process and a store in memory. */
export class Bench {
  readonly time = new VirtualTime();
  readonly store: BenchStore;
  readonly passwords = new BenchPasswords();
  /** What was logged as a warning or an error. */
  readonly warnings: { readonly fields: object; readonly text: string }[] = [];
  readonly fatal: unknown[] = [];
  core!: Core;
  readonly #options: CoreOptions;
  readonly #cluster: Cluster | undefined;
  #running: MemoryStore;

  private constructor(options: BenchOptions) {
    const { inboxMessagesMax, inboxBytesMax, cluster, ...more } = options;
    this.#cluster = cluster;
    this.#options = {
      persistAfterMs: serverLimits.persistAfterMs,
      redeliveryAfterMs: serverLimits.redeliveryAfterMs,
      backlogAfterMs: serverLimits.backlogAfterMs,
      inboxAgeMsMax: serverLimits.inboxAgeMsMax,
      loginTimeoutMs: serverLimits.loginTimeoutMs,
      // Clients here send no heartbeats.
      idleTimeoutMs: Number.MAX_SAFE_INTEGER,
      allowPlainLogin: true,
      devices: 'tofu',
      pairing: 'open',
      deviceAgeMsMax: serverLimits.deviceAgeMsMax,
      ...more,
    };
    this.store = new BenchStore((call) => this.time.endOfTurn(call), {
      messagesMax: inboxMessagesMax ?? serverLimits.inboxMessagesMax,
      bytesMax: inboxBytesMax ?? serverLimits.inboxBytesMax,
      senderShare: serverLimits.inboxSenderShare,
    });
    this.#running = this.store;
  }

  static async open(options: BenchOptions = {}): Promise<Bench> {
    const bench = new Bench(options);
    await bench.#start();
    return bench;
  }

  async #start(): Promise<void> {
    const silent = (): void => {};
    const warn = (fields: object, text: string): void => {
      this.warnings.push({ fields, text });
    };
    const log: Log = { debug: silent, info: silent, warn, error: warn };
    this.core = await Core.open(
      {
        time: this.time,
        log,
        store: this.#running,
        passwords: this.passwords,
        digests,
        rsa,
        cluster: this.#cluster,
        createCipher: () => {
          throw new Error('nobody encrypts here');
        },
        onFatal: (error) => {
          this.fatal.push(error);
        },
      },
      this.#options,
    );
  }

  /** Ends the server, at once or in good order, and starts another on what is durable. */
  async restart(how: 'crash' | 'stop'): Promise<void> {
    if (how === 'stop') {
      const stopped = this.core.stop();
      await this.settle();
      await stopped;
      const closed = this.#running.close();
      await this.settle();
      await closed;
    } else this.#running.crash();
    this.time.forget();
    this.#running = this.#running.reopen();
    await this.#start();
  }

  settle(): Promise<void> {
    return this.time.settle();
  }

  pass(ms: number): Promise<void> {
    return this.time.pass(ms);
  }

  // ---- clients

  connect(address = '127.0.0.1'): BenchClient {
    return new BenchClient(this.core, this.time, address);
  }

  /** A user who is registered, if that is not done yet, and logged in. */
  async app(username: string, more: object = {}, address?: string): Promise<BenchClient> {
    const client = this.connect(address);
    client.request(cmd.register, { username, password: PASSWORD }, 'register');
    client.request(cmd.login, { username, password: PASSWORD, ...more }, 'login');
    await this.settle();
    assert.deepEqual(client.answers.at(-1), { cmd: cmd.login, msgId: 'login', body: { code: 100, msg: 'ok' } });
    return client;
  }

  /** A user who is registered and not there. */
  async away(username: string): Promise<string> {
    const client = await this.app(username);
    client.request(cmd.logout);
    await this.settle();
    return username;
  }

  // ---- what is there

  /** Where a receiver stands; one that has no mailbox in memory is away. */
  phase(name: string): Phase {
    return this.core.directory.get(name)?.login?.mailbox.phase ?? 'away';
  }

  /** The msgIds in an inbox, in order. */
  async inbox(name: string): Promise<string[]> {
    const page = this.#running.page(name, 0, Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
    await this.settle();
    return (await page).messages.map((message) => message.msgId);
  }
}

/** `count` msgIds that begin with `prefix`. */
export function series(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, i) => `${prefix}-${i}`);
}

/** A JSON text of exactly so many bytes. */
export function textOf(bytes: number): string {
  return 'x'.repeat(bytes - 2);
}
