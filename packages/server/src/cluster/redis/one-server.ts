import { serverLimits } from '@hawser/protocol';
import type { RedisAddress } from './address.ts';
import { type Client, type Driver, Line } from './line.ts';
import { away, Outstanding, type Redis, type RedisEvents, within } from './redis.ts';
import * as scripts from './scripts.ts';

/** One Redis server, or the one that is the master: a connection to ask and publish on, another to listen on. */
export class OneServer implements Redis {
  readonly #calls: Line;
  readonly #ears: Line;
  readonly #driver: Driver;
  #outstanding = new Outstanding(serverLimits.busOutBytesMax);

  constructor(address: RedisAddress, { channel, onMessage, onTrouble }: RedisEvents, driver: Driver) {
    this.#driver = driver;
    const onConnected = async (client: Client): Promise<void> => {
      // A script that is not known would be sent again, behind what was sent after it.
      for (const { text } of Object.values(scripts)) await client.sendCommand(['SCRIPT', 'LOAD', text]);
      this.#outstanding = new Outstanding(serverLimits.busOutBytesMax);
    };
    this.#calls = new Line(address, { onConnected, onTrouble }, driver);
    const listen = async (client: Client): Promise<void> => {
      await client.subscribe(channel, onMessage, true);
    };
    this.#ears = new Line(address, { onConnected: listen, onTrouble }, driver);
  }

  async run(script: scripts.Script, key: string, args: readonly string[]): Promise<unknown> {
    try {
      const { client } = this.#calls;
      const answer = client.sendCommand(['EVALSHA', script.sha, '1', key, ...args]);
      // A connection on which an answer is missing has no use: the server is frozen, or cannot be reached.
      return await within(this.#driver.clock, serverLimits.directoryTimeoutMs, answer, () => {
        if (client.isOpen) client.destroy();
      });
    } catch (error) {
      throw away(error);
    }
  }

  publish(channel: string, payload: Buffer): boolean {
    if (!this.#calls.isUp) return false;
    const outstanding = this.#outstanding;
    if (!outstanding.take(payload.length, this.#driver.clock.now())) return false;
    const settle = (): void => outstanding.settle(payload.length);
    this.#calls.client.sendCommand(['PUBLISH', channel, payload]).then(settle, settle);
    return true;
  }

  servers(): Promise<readonly string[]> {
    return Promise.resolve([]);
  }

  async memory(): Promise<readonly string[]> {
    return [String(await this.run(scripts.memory, '', []))];
  }

  listenAnew(): void {
    this.#ears.drop();
  }

  close(): void {
    this.#calls.close();
    this.#ears.close();
  }
}
