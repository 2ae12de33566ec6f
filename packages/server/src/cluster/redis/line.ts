import { serverLimits } from '@hawser/protocol';
import type { RedisClientOptions } from '@redis/client';
import { ClusterAway } from '../../core/ports.ts';
import type { RedisAddress } from './address.ts';
import { type Clock, within } from './redis.ts';
import { askSentinels, type Host } from './sentinel.ts';

/** What is used of the library's client. */
export interface Client {
  readonly isOpen: boolean;
  on(event: 'error', call: (error: Error) => void): unknown;
  once(event: 'terminated' | 'end', call: () => void): Client;
  connect(): Promise<unknown>;
  sendCommand(words: readonly (string | Buffer)[]): Promise<unknown>;
  subscribe(channel: string, onMessage: (payload: Buffer) => void, asBytes: true): Promise<unknown>;
  destroy(): void;
}

/** What connections are made of: the library, or what stands in for it. */
export interface Driver {
  readonly clock: Clock;
  readonly createClient: (options: RedisClientOptions) => Promise<Client>;
  /** From 0 up to 1. */
  readonly random: () => number;
}

export function libraryDriver(clock: Clock): Driver {
  const createClient = async (options: RedisClientOptions): Promise<Client> => {
    // Not before there is a cluster: it is more code than all the rest of a server that is alone.
    const library = await import('@redis/client');
    return library.createClient(options) as unknown as Client;
  };
  return { clock, createClient, random: Math.random };
}

export interface LineEvents {
  /** A connection is there: it is used when this has resolved. */
  readonly onConnected: (client: Client) => Promise<void>;
  readonly onTrouble: (error: Error) => void;
}

/**
 * One connection to the server that is the master now, made anew when it breaks. What is not answered when it breaks is
 * rejected, what is asked while there is none, too: nothing waits, and nothing is done twice behind anybody's back.
 */
export class Line {
  readonly #address: RedisAddress;
  readonly #events: LineEvents;
  readonly #driver: Driver;
  #client: Client | undefined;
  #isClosed = false;
  #wake: () => void = () => {};

  constructor(address: RedisAddress, events: LineEvents, driver: Driver) {
    this.#address = address;
    this.#events = events;
    this.#driver = driver;
    void this.#keepUp();
  }

  get client(): Client {
    if (this.#client === undefined) throw new ClusterAway('there is no connection to Redis');
    return this.#client;
  }

  get isUp(): boolean {
    return this.#client !== undefined;
  }

  /** Whatever is on the connection is lost; another is made. */
  drop(): void {
    this.#client?.destroy();
  }

  close(): void {
    this.#isClosed = true;
    this.drop();
    this.#wake();
  }

  async #keepUp(): Promise<void> {
    let waitMs: number = serverLimits.directoryReconnectMs;
    while (!this.#isClosed) {
      try {
        await this.#live();
        waitMs = serverLimits.directoryReconnectMs;
      } catch (error) {
        this.#events.onTrouble(error instanceof Error ? error : new Error(String(error)));
      }
      if (this.#isClosed) return;
      await this.#pause(waitMs * (0.5 + this.#driver.random() / 2));
      waitMs = Math.min(waitMs * 2, serverLimits.directoryReconnectMsMax);
    }
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = this.#driver.clock.after(ms, resolve);
      this.#wake = () => {
        timer.cancel();
        resolve();
      };
    });
  }

  /** One connection from its beginning to its end. */
  async #live(): Promise<void> {
    const { master, hosts, path } = this.#address;
    const host = master === undefined ? hosts[0] : await askSentinels(this.#address, this.#driver);
    const client = await this.#driver.createClient(
      clientOptions(this.#address, path ?? host ?? { host: 'localhost', port: 6379 }),
    );
    let trouble: Error | undefined;
    client.on('error', (error: Error) => {
      trouble = error;
    });
    const ended = new Promise<void>((resolve) =>
      client.once('terminated', () => resolve()).once('end', () => resolve()),
    );
    const start = async (): Promise<void> => {
      await client.connect();
      // A master that was demoted, or the sentinels' answer of a moment ago.
      const [role] = (await client.sendCommand(['ROLE'])) as unknown as [string];
      if (role !== 'master') throw new ClusterAway(`this server is a ${role}`);
      await this.#events.onConnected(client);
    };
    try {
      await within(this.#driver.clock, serverLimits.directoryTimeoutMs, start());
      if (this.#isClosed) return;
      this.#client = client;
      await ended;
    } finally {
      this.#client = undefined;
      if (client.isOpen) client.destroy();
    }
    if (trouble !== undefined) this.#events.onTrouble(trouble);
  }
}

export function clientOptions(address: RedisAddress, at: Host | string): RedisClientOptions {
  const { tls, username, password, database } = address;
  const { directoryTimeoutMs: connectTimeout, directoryCallsMax } = serverLimits;
  const common = { connectTimeout, reconnectStrategy: false } as const;
  const socket =
    typeof at === 'string'
      ? { path: at, tls: false as const, ...common }
      : tls
        ? { ...at, tls: true as const, servername: at.host, ...common }
        : { ...at, ...common };
  return {
    socket,
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
    ...(database > 0 && { database }),
    disableOfflineQueue: true,
    commandsQueueMaxLength: directoryCallsMax,
    // Each call is given its time where it is made; the library's own holds only for what has not been written yet.
    commandOptions: { timeout: 0 },
    maintNotifications: 'disabled',
  } as RedisClientOptions;
}
