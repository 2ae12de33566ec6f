import { Socket } from 'node:net';
import { serverLimits } from '@hawser/protocol';
import { Client, type ClientConfig, Pool, type PoolClient, type PoolConfig, types } from 'pg';
import { type Log, StoreAway } from '../../core/ports.ts';
import { type Clock, systemClock } from './clock.ts';
import { isConflict, storeError } from './errors.ts';

/** How long a connection, a statement, and the whole of an append may take, ms. */
export interface DatabaseTimes {
  readonly connectMs: number;
  readonly statementMs: number;
  readonly appendMs: number;
}

/** What connections are made of: the library, or what stands in for it. */
export interface Driver {
  readonly clock: Clock;
  createClient(config: ClientConfig): Client;
  createPool(config: PoolConfig): Pool;
}

const library: Driver = {
  clock: systemClock,
  createClient: (config) => new Client(config),
  createPool: (config) => new Pool(config),
};

export interface ConnectionOptions {
  readonly url: string;
  /** The schema that everything is in. */
  readonly schema: string;
  readonly log: Log;
  readonly times: DatabaseTimes;
  readonly driver?: Driver | undefined;
}

export interface Statement {
  /** Prepared under this name, once a connection. */
  readonly name: string;
  readonly text: string;
}

export type Row = Record<string, unknown>;
export type Query = (statement: Statement | string, values?: readonly unknown[]) => Promise<readonly Row[]>;

/** Locks of ours among the advisory locks of a database: "HAWS". */
export const LOCK_CLASS = 0x48415753;

/** How much longer than the database the client waits for the end of a statement. */
const GRACE_MS = 2_000;
const CONFLICTS_MAX = 5;
const INT8 = 20;

/**
 * What every connection asks for, whatever is set for the role or the database. What is committed is synced. All our
 * statements find their rows by an index, which the planner might doubt where it has no statistics yet. A client whose
 * machine is gone holds its locks for a minute.
 */
const SETTINGS = {
  synchronous_commit: 'on',
  default_transaction_isolation: 'read committed',
  enable_seqscan: 'off',
  enable_hashjoin: 'off',
  enable_mergejoin: 'off',
  jit: 'off',
  plan_cache_mode: 'force_generic_plan',
  bytea_output: 'hex',
  tcp_keepalives_idle: '30',
  tcp_keepalives_interval: '10',
  tcp_keepalives_count: '3',
} as const;

/** The ways to the database: a bounded pool, and single connections for who needs its own. */
export class Connections {
  readonly clock: Clock;
  readonly #options: ConnectionOptions;
  readonly #driver: Driver;
  readonly #pool: Pool;
  readonly #sockets = new Set<Socket>();
  #calls = 0;
  #state: 'open' | 'closing' | 'dropped' = 'open';

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.#driver = options.driver ?? library;
    this.clock = this.#driver.clock;
    this.#pool = this.#driver.createPool({
      ...this.#config(options.times.statementMs),
      max: serverLimits.postgresConnectionsMax,
      idleTimeoutMillis: serverLimits.postgresIdleMs,
    });
    // Of one that nobody uses: the next call makes another.
    this.#pool.on('error', (error) => options.log.debug({ err: error }, 'a connection to the database has ended'));
    // Of one that a transaction has: what is asked on it fails, and nobody else would hear of it, which ends a process.
    this.#pool.on('connect', (client) => client.on('error', () => {}));
  }

  #config(statementMs: number): ClientConfig {
    const { url, schema, times } = this.#options;
    const settings = Object.entries({ ...SETTINGS, search_path: schema });
    return {
      connectionString: url,
      application_name: 'hawser',
      connectionTimeoutMillis: times.connectMs,
      statement_timeout: statementMs,
      lock_timeout: statementMs,
      idle_in_transaction_session_timeout: times.statementMs,
      ...(statementMs > 0 && { query_timeout: statementMs + GRACE_MS }),
      keepAlive: true,
      options: settings.map(([name, value]) => `-c ${name}=${value.replaceAll(' ', '\\ ')}`).join(' '),
      types: { getTypeParser: (oid, format) => (oid === INT8 ? Number : types.getTypeParser(oid, format)) },
      stream: () => this.#socket(),
    };
  }

  #socket(): Socket {
    const socket = new Socket();
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    return socket;
  }

  /** A connection of one's own. Statements on it take `statementMs` at most, any time for 0. Rejects with `StoreAway`. */
  async connect(statementMs: number = this.#options.times.statementMs): Promise<Client> {
    this.#refuseWhenClosed();
    const client = this.#driver.createClient(this.#config(statementMs));
    client.on('error', () => {});
    try {
      await client.connect();
      return client;
    } catch (error) {
      client.end().catch(() => {});
      return this.#fail(error);
    }
  }

  /** Runs a statement on a connection of the pool. */
  query: Query = async (statement, values = []) => {
    this.#refuseWhenClosed();
    if (this.#calls >= serverLimits.postgresCallsMax) throw new StoreAway('too many calls wait for the database');
    this.#calls++;
    try {
      return await run(this.#pool, statement, values);
    } catch (error) {
      return await this.#fail(error);
    } finally {
      this.#calls--;
    }
  };

  /**
   * Runs `work` in a transaction that holds these names, among all nodes, and sees what was committed before it did.
   * It may be run again.
   */
  async change<Result>(names: readonly string[], work: (query: Query) => Promise<Result>): Promise<Result> {
    this.#refuseWhenClosed();
    if (this.#calls >= serverLimits.postgresCallsMax) throw new StoreAway('too many calls wait for the database');
    this.#calls++;
    try {
      for (let conflicts = 0; ; conflicts++) {
        try {
          return await this.#transaction(names, work);
        } catch (error) {
          if (!isConflict(error) || conflicts === CONFLICTS_MAX) throw error;
        }
      }
    } catch (error) {
      return await this.#fail(error);
    } finally {
      this.#calls--;
    }
  }

  async #transaction<Result>(names: readonly string[], work: (query: Query) => Promise<Result>): Promise<Result> {
    const client: PoolClient = await this.#pool.connect();
    let failure: Error | undefined;
    try {
      await client.query('BEGIN');
      await run(client, HOLD_NAMES, [LOCK_CLASS, names]);
      const result = await work((statement, values = []) => run(client, statement, values));
      await client.query('COMMIT');
      return result;
    } catch (error) {
      failure = error instanceof Error ? error : new Error(String(error));
      throw failure;
    } finally {
      // One that failed is not used again: that ends its transaction.
      client.release(failure);
    }
  }

  /** Once dropped nothing is answered any more. */
  #fail(error: unknown): Promise<never> {
    return this.#state === 'dropped' ? new Promise(() => {}) : Promise.reject(storeError(error));
  }

  #refuseWhenClosed(): void {
    if (this.#state !== 'open') throw new StoreAway('the store is being closed');
  }

  async close(): Promise<void> {
    if (this.#state !== 'open') return;
    this.#state = 'closing';
    await this.#pool.end();
  }

  /** Ends all connections at once, whatever is under way. */
  drop(): void {
    this.#state = 'dropped';
    for (const socket of this.#sockets) reset(socket);
    this.#pool.end().catch(() => {});
  }
}

const HOLD_NAMES: Statement = {
  name: 'hold-names',
  text: `SELECT pg_advisory_xact_lock($1::integer, k.key)
    FROM (SELECT DISTINCT hashtext(n) AS key FROM unnest($2::text[]) AS n ORDER BY 1) k`,
};

/** Whoever runs statements: a pool, or a connection. */
interface Runs {
  query(config: { name?: string; text: string; values: unknown[] }): Promise<{ rows: Row[] }>;
}

export async function run(
  on: Runs,
  statement: Statement | string,
  values: readonly unknown[],
): Promise<readonly Row[]> {
  const config = typeof statement === 'string' ? { text: statement } : statement;
  return (await on.query({ ...config, values: [...values] })).rows;
}

/** Nothing that was written and has not arrived will arrive. */
function reset(socket: Socket): void {
  try {
    socket.resetAndDestroy();
  } catch {
    // No TCP: then what was written has arrived.
    socket.destroy();
  }
}
