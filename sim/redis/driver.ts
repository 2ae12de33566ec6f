import { createHash } from 'node:crypto';
import type { Client, Driver } from '@hawser/server/cluster/redis/line';
import { Pipe, type Way } from '../net.ts';
import type { Process } from '../process.ts';
import type { Random } from '../random.ts';
import type { Scheduler } from '../scheduler.ts';
import type { Answer, Peer, RedisServer } from './server.ts';

export interface RedisDriverPorts {
  readonly scheduler: Scheduler;
  readonly random: Random;
  readonly server: RedisServer;
  /** Between the node and the server. */
  readonly way: Way;
  readonly process: Process;
  readonly clock: Driver['clock'];
}

/** The adapter's connections to a simulated Redis: what it is given in place of the library. */
export function redisDriver(ports: RedisDriverPorts): Driver {
  return { clock: ports.clock, random: () => ports.random.next(), createClient: async () => new SimClient(ports) };
}

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

const shas = new Map<string, string>();

function shaOf(text: string): string {
  const known = shas.get(text) ?? createHash('sha1').update(text).digest('hex');
  shas.set(text, known);
  return known;
}

/** One connection, which is not made again when it breaks. */
class SimClient implements Client, Peer {
  readonly #ports: RedisDriverPorts;
  readonly #pipe: Pipe;
  #state: 'new' | 'open' | 'over' = 'new';
  /** In the order asked, as answers come. */
  readonly #waiting: Waiting[] = [];
  readonly #listeners: { error: ((error: Error) => void)[]; end: (() => void)[] } = { error: [], end: [] };
  #onMessage: (payload: Buffer) => void = () => {};

  constructor(ports: RedisDriverPorts) {
    this.#ports = ports;
    this.#pipe = new Pipe(ports.scheduler, ports.random, ports.way);
    ports.process.whenOver((isSaid) => {
      this.#state = 'over';
      if (isSaid) this.#pipe.hangUp(() => ports.server.left(this));
      else ports.server.left(this);
    });
  }

  get isOpen(): boolean {
    return this.#state === 'open';
  }

  on(_event: 'error', call: (error: Error) => void): this {
    this.#listeners.error.push(call);
    return this;
  }

  once(event: 'terminated' | 'end', call: () => void): this {
    if (event === 'end') this.#listeners.end.push(call);
    return this;
  }

  connect(): Promise<unknown> {
    this.#state = 'open';
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#pipe.there(() => {
        if (this.#ports.server.accept(this)) this.#answer({ value: undefined });
        else this.reset();
      });
    });
  }

  sendCommand(words: readonly (string | Buffer)[]): Promise<unknown> {
    const sent = words[0] === 'SCRIPT' ? ['SCRIPT', 'LOAD', shaOf(String(words[2]))] : words;
    return new Promise((resolve, reject) => {
      if (this.#state !== 'open') {
        reject(new Error('The client is closed'));
        return;
      }
      this.#waiting.push({ resolve, reject });
      this.#pipe.there(() => this.#ports.server.execute(this, sent, (answer) => this.#answer(answer)));
    });
  }

  subscribe(channel: string, onMessage: (payload: Buffer) => void): Promise<unknown> {
    this.#onMessage = onMessage;
    return this.sendCommand(['SUBSCRIBE', channel]);
  }

  #answer(answer: Answer): void {
    this.#pipe.back(() =>
      this.#ports.process.run(() => {
        const waiting = this.#waiting.shift();
        if ('error' in answer) waiting?.reject(new Error(answer.error));
        else waiting?.resolve(answer.value);
      }),
    );
  }

  message(_channel: string, payload: Buffer): void {
    this.#pipe.back(() =>
      this.#ports.process.run(() => {
        if (this.#state === 'open') this.#onMessage(payload);
      }),
    );
  }

  /** The server's process has ended. */
  reset(): void {
    this.#pipe.reset(() => this.#ports.process.run(() => this.#end(new Error('Socket closed unexpectedly'))));
  }

  #end(error: Error | undefined): void {
    if (this.#state === 'over') return;
    this.#state = 'over';
    if (error !== undefined) for (const call of this.#listeners.error) call(error);
    for (const { reject } of this.#waiting.splice(0)) reject(error ?? new Error('Disconnects client'));
    for (const call of this.#listeners.end.splice(0)) call();
  }

  destroy(): void {
    if (this.#state === 'over') return;
    this.#pipe.hangUp(() => this.#ports.server.left(this));
    this.#end(undefined);
  }
}
