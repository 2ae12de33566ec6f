import { serverLimits } from '@hawser/protocol';
import type { createCluster } from '@redis/client';
import type { RedisAddress } from './address.ts';
import { clientOptions } from './line.ts';
import { away, type Clock, Outstanding, type Redis, type RedisEvents, within } from './redis.ts';
import type { Script } from './scripts.ts';

type Cluster = ReturnType<typeof createCluster>;

/** A Redis Cluster of version 7 or newer: each node's channel is on one shard (sharded pub/sub). */
export class RedisShards implements Redis {
  readonly #address: RedisAddress;
  readonly #events: RedisEvents;
  readonly #clock: Clock;
  #cluster: Cluster | undefined;
  #isClosed = false;
  #isConnecting = false;
  readonly #outstanding = new Outstanding(serverLimits.busOutBytesMax);

  constructor(address: RedisAddress, events: RedisEvents, clock: Clock) {
    this.#address = address;
    this.#events = events;
    this.#clock = clock;
    void this.#connect();
  }

  async #connect(): Promise<void> {
    if (this.#isConnecting) return;
    this.#isConnecting = true;
    while (!this.#isClosed) {
      const cluster = await makeCluster(this.#address);
      cluster.on('error', this.#events.onTrouble);
      cluster.on('node-error', this.#events.onTrouble);
      try {
        const start = async (): Promise<void> => {
          await cluster.connect();
          await cluster.sSubscribe(this.#events.channel, this.#events.onMessage, true);
        };
        await within(this.#clock, serverLimits.directoryTimeoutMs * 2, start());
        if (this.#isClosed) cluster.destroy();
        else this.#cluster = cluster;
        break;
      } catch (error) {
        cluster.destroy();
        this.#events.onTrouble(error as Error);
        await new Promise<void>((resolve) => this.#clock.after(serverLimits.directoryReconnectMsMax, resolve));
      }
    }
    this.#isConnecting = false;
  }

  async run(script: Script, key: string, args: readonly string[]): Promise<unknown> {
    try {
      const cluster = this.#cluster;
      if (cluster === undefined) throw new Error('there is no connection to Redis');
      // Not by its hash: where a server does not know that, it would be sent again, behind what was sent after it.
      const answer = cluster.sendCommand(key, false, ['EVAL', script.text, '1', key, ...args]);
      return await within(this.#clock, serverLimits.directoryTimeoutMs, answer);
    } catch (error) {
      throw away(error);
    }
  }

  publish(channel: string, payload: Buffer): boolean {
    if (this.#cluster === undefined || !this.#outstanding.take(payload.length, this.#clock.now())) return false;
    const settle = (): void => this.#outstanding.settle(payload.length);
    this.#cluster.sendCommand(channel, false, ['SPUBLISH', channel, payload]).then(settle, settle);
    return true;
  }

  async servers(): Promise<readonly string[]> {
    return (await this.#info('server')).flatMap((text) => /^run_id:([0-9a-f]+)/m.exec(text)?.[1] ?? []);
  }

  async memory(): Promise<readonly string[]> {
    if (this.#cluster === undefined) throw away(new Error('there is no connection to Redis'));
    return within(this.#clock, serverLimits.directoryTimeoutMs, this.#info('memory'));
  }

  /** What those masters say that answer. */
  async #info(section: string): Promise<readonly string[]> {
    const masters = this.#cluster?.masters ?? [];
    const answers = await Promise.allSettled(
      masters.map(async ({ client }) => (await client)?.sendCommand(['INFO', section])),
    );
    return answers.flatMap((answer) => (answer.status === 'fulfilled' ? [String(answer.value)] : []));
  }

  listenAnew(): void {
    const cluster = this.#cluster;
    if (cluster === undefined) return;
    this.#cluster = undefined;
    cluster.destroy();
    void this.#connect();
  }

  close(): void {
    this.#isClosed = true;
    this.#cluster?.destroy();
    this.#cluster = undefined;
  }
}

async function makeCluster(address: RedisAddress): Promise<Cluster> {
  const { createCluster } = await import('@redis/client');
  const { socket: _, ...defaults } = clientOptions(address, { host: '', port: 0 });
  const { directoryReconnectMs, directoryReconnectMsMax } = serverLimits;
  const { directoryTimeoutMs: connectTimeout, leaseMs: socketTimeout, leaseRenewMs: pingInterval } = serverLimits;
  const socket = {
    connectTimeout,
    // A server that answers no ping is frozen, or cannot be reached.
    socketTimeout,
    reconnectStrategy: (retries: number): number =>
      Math.min(directoryReconnectMs * 2 ** retries, directoryReconnectMsMax),
    ...(address.tls && { tls: true as const }),
  };
  return createCluster({
    rootNodes: address.hosts.map((at) => ({ ...defaults, socket: { ...at, ...socket } }) as object),
    defaults: { ...defaults, socket, pingInterval } as object,
    commandOptions: { timeout: 0 },
  });
}
