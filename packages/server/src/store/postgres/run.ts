import { randomUUID } from 'node:crypto';
import { serverLimits } from '@hawser/protocol';
import type { Client } from 'pg';
import { Fenced } from '../../core/ports.ts';
import { StoreUnusable } from '../unusable.ts';
import { type Clock, sleep } from './clock.ts';
import { type Connections, LOCK_CLASS, type Query, run } from './connections.ts';
import { OthersStand } from './errors.ts';

const VOID_RUNS_KEPT = '30 days';
/** Waits for whoever must see which runs there are. */
const BEGIN_RUN = `WITH alone AS MATERIALIZED (SELECT pg_advisory_xact_lock_shared($2::integer, hashtext($3)))
  INSERT INTO runs (run) SELECT $1 FROM alone ON CONFLICT DO NOTHING RETURNING 1`;

/**
 * One run of a node, by a name that no other has. While it is not void it may append; once `voidRun` has resolved it never
 * will again, whatever it still has under way.
 *
 * A server that is alone holds a lock of the store, so that a second one does not start by mistake, and makes all other
 * runs void; nodes of a cluster share that lock.
 */
export class Run {
  readonly name: string;
  readonly #isAlone: boolean;
  readonly #schema: string;
  readonly #clock: Clock;
  #client: Client | undefined;

  /** @param name `undefined` for a server that is alone */
  constructor(name: string | undefined, schema: string, clock: Clock) {
    this.name = name ?? `alone-${randomUUID()}`;
    this.#isAlone = name === undefined;
    this.#schema = schema;
    this.#clock = clock;
  }

  /** Rejects with `StoreUnusable` where another server has the store. */
  async begin(client: Client): Promise<void> {
    const until = this.#clock.now() + serverLimits.postgresLockWaitMs;
    while (!(await this.#lock(client))) {
      if (this.#clock.now() > until) throw new StoreUnusable('another server uses it');
      await sleep(this.#clock, serverLimits.postgresAgainMs);
    }
    if (this.#isAlone) await run(client, 'UPDATE runs SET is_void = true WHERE NOT is_void AND run <> $1', [this.name]);
    await run(client, `DELETE FROM runs WHERE is_void AND began_at < now() - interval '${VOID_RUNS_KEPT}'`, []);
    const made = await run(client, BEGIN_RUN, [this.name, LOCK_CLASS, this.#beginning]);
    if (made.length === 0) throw new StoreUnusable(`there was a run ${this.name} before, or it is void already`);
    this.#client = client;
  }

  /** A lock ends with its connection, and is taken again on the next; the run's row keeps the store safe in between. */
  holdOn(client: Client): void {
    if (this.#client === undefined || this.#client === client) return;
    this.#client = client;
    const again = async (): Promise<void> => {
      while (this.#client === client && !(await this.#lock(client)))
        await new Promise<void>((resolve) => this.#clock.afterIdle(serverLimits.postgresLockWaitMs, resolve));
    };
    // It fails with its connection, after which there is another.
    again().catch(() => {});
  }

  get #beginning(): string {
    return `begin ${this.#schema}`;
  }

  /**
   * As the last step of a transaction: sees that this run stands, and no others but these; and that none begins before the
   * transaction has ended. Throws `Fenced`, or `OthersStand`.
   */
  async sees(query: Query, others: readonly string[]): Promise<void> {
    await query(`SELECT pg_advisory_xact_lock($1::integer, hashtext($2))`, [LOCK_CLASS, this.#beginning]);
    const own = await query('SELECT 1 FROM runs WHERE run = $1 AND NOT is_void FOR SHARE', [this.name]);
    if (own.length === 0) throw new Fenced('this run of the node is void');
    const standing = await query('SELECT run FROM runs WHERE NOT is_void', []);
    const known = new Set([this.name, ...others]);
    if (standing.some(({ run: name }) => !known.has(String(name)))) throw new OthersStand();
  }

  async #lock(client: Client): Promise<boolean> {
    const shared = this.#isAlone ? '' : '_shared';
    const text = `SELECT pg_try_advisory_lock${shared}($1::integer, hashtext($2)) AS is_held`;
    const [row] = await run(client, text, [LOCK_CLASS, `serve ${this.#schema}`]);
    return row?.is_held === true;
  }
}

/** Whether a run was entered and is not void. */
export async function runStands({ query }: Connections, name: string): Promise<boolean> {
  const rows = await (query satisfies Query)('SELECT 1 FROM runs WHERE run = $1 AND NOT is_void', [name]);
  return rows.length > 0;
}

/** The runs that were entered and are not void. */
export async function standingRuns({ query }: Connections): Promise<readonly string[]> {
  return (await (query satisfies Query)('SELECT run FROM runs WHERE NOT is_void')).map(({ run: name }) => String(name));
}

/** Waits for an append of that run that is about to be committed. A run that has not begun yet cannot begin any more. */
export async function voidRun({ query }: Connections, name: string): Promise<void> {
  const text = 'INSERT INTO runs (run, is_void) VALUES ($1, true) ON CONFLICT (run) DO UPDATE SET is_void = true';
  await (query satisfies Query)(text, [name]);
}
