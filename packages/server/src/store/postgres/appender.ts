import { serverLimits } from '@hawser/protocol';
import type { Client } from 'pg';
import { APPEND, type NewMessage, StoreAway } from '../../core/ports.ts';
import type { InboxLimits } from '../inbox.ts';
import { texts } from './arrays.ts';
import { type Batch, batchOf } from './batch.ts';
import { sleep } from './clock.ts';
import { type Connections, type DatabaseTimes, type Row, run } from './connections.ts';
import { isAnswer, isConflict, storeError } from './errors.ts';
import type { Removals } from './removals.ts';
import type { Run } from './run.ts';

const ARGUMENTS = [
  ...['text', 'bigint', 'float8', 'float8', 'float8', 'float8', 'text[]', 'integer[]', 'bigint[]', 'integer[]'],
  ...['bigint[]', 'integer[]', 'text[]', 'bytea[]', 'bytea[]', 'float8[]', 'float8[]', 'integer[]'],
];
const RESULTS = 'first, refused, reasons';
const APPEND_BATCH = {
  name: 'append',
  text: `SELECT ${RESULTS} FROM append(${ARGUMENTS.map((type, i) => `$${i + 1}::${type}`).join(', ')})`,
} as const;
const OUTCOME = { name: 'outcome', text: `SELECT ${RESULTS} FROM outcome($1, $2::bigint)` } as const;
/** In one order, so that nodes that make the same ones wait for each other and not in a circle. */
const MAKE_INBOXES = {
  name: 'make-inboxes',
  text: `INSERT INTO inboxes (receiver) SELECT r FROM unnest($1::text[]) AS r
    WHERE NOT EXISTS (SELECT FROM inboxes b WHERE b.receiver = r) ORDER BY r COLLATE "C" ON CONFLICT DO NOTHING`,
} as const;
const CLOCK = `SELECT extract(epoch FROM clock_timestamp())::float8 * 1000 AS clock`;

/** An append is begun again so often: where others were in its way, where it was not stored, where inboxes are new. */
const ATTEMPTS_MAX = 5;

/** A connection that appends go by, and how far the database's clock is ahead of this process's. */
interface Line {
  readonly client: Client;
  readonly clockAhead: number;
}

/**
 * Appends, one at a time, on a connection of their own. Each has a number, which the database notes with what came of it
 * in the same transaction. So when a connection is lost in the midst of one, the next can ask; and asking uses the number
 * up, so that what was not stored by then never is. Where nobody can be asked in time, the database refuses it by its
 * clock, should it come to it later.
 */
export class Appender {
  readonly #connections: Connections;
  readonly #run: Run;
  readonly #removals: Removals;
  readonly #limits: InboxLimits;
  readonly #times: DatabaseTimes;
  #line: Line | undefined;
  #number = 0;
  #isAppending = false;
  #state: 'open' | 'closed' | 'dropped' = 'open';
  batches = 0;
  messages = 0;

  constructor(connections: Connections, run: Run, removals: Removals, limits: InboxLimits, times: DatabaseTimes) {
    this.#connections = connections;
    this.#run = run;
    this.#removals = removals;
    this.#limits = limits;
    this.#times = times;
  }

  /** Begins the run. */
  async begin(): Promise<void> {
    const { client } = await this.#connected();
    await this.#run.begin(client);
  }

  async append(messages: readonly NewMessage[]): Promise<readonly number[]> {
    if (messages.length === 0) return [];
    if (this.#isAppending) throw new Error('one append at a time');
    this.#isAppending = true;
    // What was removed gives room, and frees its id: it goes first.
    const gone = this.#removals.take(new Set(messages.map(({ to }) => to)));
    let isStored = false;
    try {
      const results = await this.#store(batchOf(messages, this.#limits, gone));
      isStored = true;
      this.batches++;
      this.messages += messages.length;
      return results;
    } catch (error) {
      if (this.#state === 'dropped') return await new Promise(() => {});
      throw storeError(error);
    } finally {
      this.#isAppending = false;
      this.#removals.settle(gone, isStored);
    }
  }

  async #store(batch: Batch): Promise<number[]> {
    const { clock } = this.#connections;
    const settleBy = clock.now() + this.#times.appendMs;
    let number = ++this.#number;
    for (let attempts = 1; ; attempts++) {
      const { client, clockAhead } = await this.#connected();
      const hasTime = (): boolean => clock.now() + this.#times.statementMs <= settleBy;
      // What is sent must be over, in the database too, when this settles.
      if (!hasTime()) throw new StoreAway('connecting to the database took too long');
      const isLast = attempts === ATTEMPTS_MAX;
      try {
        const until = clock.now() + clockAhead + this.#times.statementMs;
        const [row] = await run(client, APPEND_BATCH, [this.#run.name, number, until, ...batch.values]);
        if (row !== undefined) return resultsOf(row, batch.count);
        if (isLast) throw new StoreAway('inboxes are made, and removed again');
        await run(client, MAKE_INBOXES, [texts(batch.receivers)]);
      } catch (error) {
        if (error instanceof StoreAway || (isAnswer(error) && (isLast || !isConflict(error)))) throw error;
        if (isAnswer(error)) continue;
        this.#hangUp();
        const found = await this.#findOut(number, settleBy, error);
        if (found !== undefined) return resultsOf(found, batch.count);
        if (isLast) throw error;
        // It was not stored, and its number is used up.
        if (!hasTime()) throw error;
        number = ++this.#number;
      }
    }
  }

  /** What came of an append whose answer was lost; `undefined` when it was not stored and will not be. */
  async #findOut(number: number, settleBy: number, cause: unknown): Promise<Row | undefined> {
    // By then the time is over by which the database would have taken it.
    const { clock } = this.#connections;
    const timeUp = new Promise<'time is up'>((resolve) =>
      clock.afterIdle(Math.max(0, settleBy - clock.now()), () => resolve('time is up')),
    );
    while (clock.now() < settleBy && this.#state === 'open') {
      try {
        const found = await Promise.race([this.#outcome(number), timeUp]);
        if (found !== 'time is up') return found;
        this.#hangUp();
      } catch (error) {
        this.#hangUp();
        if (isAnswer(error) && !(storeError(error) instanceof StoreAway)) throw error;
        await sleep(clock, serverLimits.postgresAgainMs);
      }
    }
    throw new StoreAway('the database could not be asked what came of an append', { cause });
  }

  async #outcome(number: number): Promise<Row | undefined> {
    const { client } = await this.#connected();
    return (await run(client, OUTCOME, [this.#run.name, number]))[0];
  }

  async #connected(): Promise<Line> {
    if (this.#state !== 'open') throw new StoreAway('the store is being closed');
    if (this.#line !== undefined) return this.#line;
    const client = await this.#connections.connect();
    client.once('end', () => {
      if (this.#line?.client === client) this.#line = undefined;
    });
    const [row] = await run(client, CLOCK, []);
    if (this.#line !== undefined) {
      // Made meanwhile by somebody who did not wait for this one.
      client.end().catch(() => {});
      return this.#line;
    }
    // As if the answer had taken no time: so it is never thought to be further ahead than it is.
    this.#line = { client, clockAhead: Number(row?.clock) - this.#connections.clock.now() };
    this.#run.holdOn(client);
    return this.#line;
  }

  #hangUp(): void {
    const client = this.#line?.client;
    this.#line = undefined;
    client?.end().catch(() => {});
  }

  async close(): Promise<void> {
    this.#state = 'closed';
    await this.#line?.client.end().catch(() => {});
  }

  drop(): void {
    this.#state = 'dropped';
  }
}

const REASONS: readonly number[] = [APPEND.duplicate, APPEND.conflict, APPEND.full];

function resultsOf(row: Row, count: number): number[] {
  const first = Number(row.first);
  const results = Array.from({ length: count }, (_, i) => first + i);
  const refused = (row.refused ?? []) as number[];
  const reasons = (row.reasons ?? []) as number[];
  for (const [i, place] of refused.entries()) {
    const reason = reasons[i]!;
    if (!REASONS.includes(reason)) throw new Error(`the database gives an unknown reason: ${reason}`);
    results[place - 1] = reason;
  }
  return results;
}
