import type { Clock } from '@hawser/server/store/postgres/clock';
import type { Driver } from '@hawser/server/store/postgres/connections';
import type { Client, ClientConfig, Pool, PoolConfig } from 'pg';
import { Pipe, type Way } from '../net.ts';
import type { Process } from '../process.ts';
import type { Random } from '../random.ts';
import type { Scheduler } from '../scheduler.ts';
import { Backend, type Reply } from './backend.ts';
import type { Database } from './database.ts';
import type { Row } from './statements.ts';

export interface PostgresDriverPorts {
  readonly scheduler: Scheduler;
  readonly random: Random;
  readonly database: Database;
  /** Between the node and the server. */
  readonly way: Way;
  readonly process: Process;
  readonly clock: Clock;
}

/** The adapter's connections to a simulated PostgreSQL: what it is given in place of the library. */
export function postgresDriver(ports: PostgresDriverPorts): Driver {
  return {
    clock: ports.clock,
    createClient: (config) => new SimClient(ports, config) as unknown as Client,
    createPool: (config) => new SimPool(ports, config) as unknown as Pool,
  };
}

interface Result {
  readonly rows: readonly Row[];
}

interface Waiting {
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
}

type Query = string | { readonly name?: string; readonly text: string; readonly values?: readonly unknown[] };

/** One connection, as the library has it: its statements go one after the other, and it does not connect again. */
export class SimClient {
  readonly #ports: PostgresDriverPorts;
  readonly #config: ClientConfig;
  readonly #pipe: Pipe;
  readonly #backend: Backend;
  readonly #waiting: Waiting[] = [];
  readonly #ends: (() => void)[] = [];
  #state: 'new' | 'connecting' | 'open' | 'over' = 'new';
  #connected: Waiting | undefined;

  constructor(ports: PostgresDriverPorts, config: ClientConfig) {
    this.#ports = ports;
    this.#config = config;
    this.#pipe = new Pipe(ports.scheduler, ports.random, ports.way);
    ports.process.whenOver((isSaid) => {
      this.#state = 'over';
      if (isSaid) this.#pipe.hangUp(() => this.#backend.end());
    });
    const statementMs = Number(config.statement_timeout ?? 0);
    const { scheduler, random, database } = ports;
    const settings = { statementMs, idleMs: Number(config.idle_in_transaction_session_timeout ?? 0) };
    this.#backend = new Backend({ scheduler, random, database }, settings, {
      answer: (reply) => this.#pipe.back(() => ports.process.run(() => this.#answered(reply))),
      reset: () => this.#pipe.reset(() => ports.process.run(() => this.#end(new Error('read ECONNRESET')))),
    });
  }

  get isOver(): boolean {
    return this.#state === 'over';
  }

  escapeIdentifier(name: string): string {
    return `"${name}"`;
  }

  on(): this {
    return this;
  }

  once(event: string, call: () => void): this {
    if (event === 'end') this.#ends.push(call);
    return this;
  }

  connect(): Promise<void> {
    this.#state = 'connecting';
    return new Promise((resolve, reject) => {
      this.#connected = { resolve: () => resolve(), reject };
      this.#ports.clock.after(Number(this.#config.connectionTimeoutMillis), () => {
        if (this.#state === 'connecting') this.#end(new Error('timeout expired'));
      });
      this.#pipe.there(() => this.#backend.start());
    });
  }

  query(query: Query): Promise<Result> {
    const { name, text, values = [] } = typeof query === 'string' ? { name: undefined, text: query } : query;
    return new Promise((resolve, reject) => {
      if (this.#state !== 'open') {
        reject(new Error('Client was closed and is not queryable'));
        return;
      }
      const waiting = { resolve, reject };
      this.#waiting.push(waiting);
      const timeoutMs = Number(this.#config.query_timeout ?? 0);
      if (timeoutMs > 0) this.#ports.clock.afterIdle(timeoutMs, () => reject(new Error('Query read timeout')));
      this.#pipe.there(() => this.#backend.ask(name, text, values));
    });
  }

  #answered(reply: Reply): void {
    this.#ports.scheduler.settled = true;
    if (this.#state === 'connecting') {
      if ('error' in reply) this.#end(reply.error);
      else {
        this.#state = 'open';
        this.#connected?.resolve({ rows: [] });
      }
      return;
    }
    const waiting = this.#waiting.shift();
    if ('error' in reply) waiting?.reject(reply.error);
    else waiting?.resolve(reply);
  }

  #end(error: Error): void {
    if (this.#state === 'over') return;
    const wasConnecting = this.#state === 'connecting';
    this.#state = 'over';
    this.#ports.scheduler.settled = true;
    this.#pipe.hangUp(() => this.#backend.end());
    if (wasConnecting) this.#connected?.reject(error);
    for (const { reject } of this.#waiting.splice(0)) reject(error);
    for (const call of this.#ends.splice(0)) call();
  }

  /** What is under way goes on in the server. */
  async end(): Promise<void> {
    this.#end(new Error('Connection terminated'));
  }
}

/** Who waits for a connection. */
interface InLine {
  readonly take: (client: SimClient) => void;
  readonly fail: (error: unknown) => void;
  isOver: boolean;
}

/** So many connections at most; who finds none waits for one. */
class SimPool {
  readonly #ports: PostgresDriverPorts;
  readonly #config: PoolConfig;
  readonly #idle: SimClient[] = [];
  readonly #queue: InLine[] = [];
  #count = 0;
  #isEnding = false;

  constructor(ports: PostgresDriverPorts, config: PoolConfig) {
    this.#ports = ports;
    this.#config = config;
  }

  on(): this {
    return this;
  }

  async query(query: Query): Promise<Result> {
    const client = await this.connect();
    try {
      const result = await client.query(query);
      client.release();
      return result;
    } catch (error) {
      client.release(error);
      throw error;
    }
  }

  async connect(): Promise<{ query(query: Query): Promise<Result>; release(error?: unknown): void }> {
    if (this.#isEnding) throw new Error('Cannot use a pool after calling end on the pool');
    const client = await this.#client();
    return {
      query: (query) => client.query(query),
      release: (error) => this.#release(client, error !== undefined),
    };
  }

  #client(): Promise<SimClient> {
    for (let client = this.#idle.pop(); client !== undefined; client = this.#idle.pop()) {
      if (!client.isOver) return Promise.resolve(client);
    }
    if (this.#count < Number(this.#config.max)) return this.#make();
    return new Promise((resolve, reject) => {
      const settle = (call: () => void): void => {
        if (waiting.isOver) return;
        waiting.isOver = true;
        call();
      };
      const waiting: InLine = {
        isOver: false,
        take: (client) => settle(() => resolve(client)),
        fail: (error) => settle(() => reject(error)),
      };
      this.#queue.push(waiting);
      this.#ports.clock.afterIdle(Number(this.#config.connectionTimeoutMillis), () => {
        waiting.fail(new Error('timeout exceeded when trying to connect'));
      });
    });
  }

  async #make(): Promise<SimClient> {
    const client = new SimClient(this.#ports, this.#config);
    this.#count++;
    client.once('end', () => this.#ended());
    await client.connect();
    return client;
  }

  #release(client: SimClient, isBroken: boolean): void {
    if (isBroken || this.#isEnding) void client.end();
    if (!client.isOver) this.#give(client);
  }

  /** To who waits first, if somebody does. */
  #give(client: SimClient): void {
    const next = this.#nextWaiting();
    if (next === undefined) this.#idle.push(client);
    else next.take(client);
  }

  #nextWaiting(): InLine | undefined {
    let next = this.#queue.shift();
    while (next?.isOver === true) next = this.#queue.shift();
    return next;
  }

  /** One has ended: where somebody waits there is room to make another. */
  #ended(): void {
    this.#count--;
    if (this.#isEnding || this.#queue.every(({ isOver }) => isOver)) return;
    this.#make().then(
      (client) => this.#give(client),
      (error: unknown) => this.#nextWaiting()?.fail(error),
    );
  }

  async end(): Promise<void> {
    this.#isEnding = true;
    for (const client of this.#idle.splice(0)) void client.end();
  }
}
