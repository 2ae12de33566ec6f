import { serverLimits } from '@hawser/protocol';
import { StoreAway, type Timer } from '../../core/ports.ts';
import type { Clock } from './clock.ts';
import type { Connections, Query } from './connections.ts';

/**
 * Counts on by the database's clock from when it was last noted, unless nobody was at work for longer, or the clock was set
 * back. One that says less takes nothing back, as where it comes late. Not synced.
 */
const NOTE_RAN = {
  name: 'note-ran',
  text: `UPDATE service SET noted_at = clock_timestamp(), ran = greatest($1::float8, ran + CASE
      WHEN clock_timestamp() - noted_at BETWEEN interval '0' AND interval '${serverLimits.postgresRanRestMs} ms'
      THEN extract(epoch FROM clock_timestamp() - noted_at)::float8 * 1000 ELSE 0 END)
    FROM (SELECT set_config('synchronous_commit', 'off', true) AS mode) local WHERE local.mode = 'off' RETURNING ran`,
} as const;

/** An answer that takes longer says too little: it is asked again, so often at most. */
const QUICK_MS = 5;
const ASKED_MAX = 5;

/**
 * How long the store has been in service. The database keeps it; each node counts on by its monotonic clock from what it
 * was told, and notes it every few seconds. One that is behind catches up: what the database says was so before it is heard,
 * so that it never says too much, and the quickest of all its answers counts. So nodes agree within that, wherever they
 * began, and within a note's age where the database's clock was set.
 */
export class ServiceTime {
  readonly #query: Query;
  readonly #clock: Clock;
  #base = 0;
  readonly #since: number;
  #noting: Timer | undefined;
  #isOver = false;

  private constructor({ query, clock }: Pick<Connections, 'query' | 'clock'>) {
    this.#query = query;
    this.#clock = clock;
    this.#since = clock.now();
  }

  static async open(connections: Pick<Connections, 'query' | 'clock'>): Promise<ServiceTime> {
    const time = new ServiceTime(connections);
    for (let asked = 0, isQuick = false; asked < ASKED_MAX && !isQuick; asked++) {
      const askedAt = connections.clock.now();
      await time.#note();
      isQuick = connections.clock.now() - askedAt < QUICK_MS;
    }
    return time;
  }

  /** Never goes back. */
  ran(): number {
    return this.#base + this.#clock.now() - this.#since;
  }

  /** From now on it is noted, until it is closed or dropped. `onError` is told of what is worse than `StoreAway`. */
  keepNoted(onError: (error: unknown) => void): void {
    this.#noteLater(serverLimits.postgresRanNotedEveryMs, onError);
  }

  #noteLater(ms: number, onError: (error: unknown) => void): void {
    this.#noting = this.#clock.afterIdle(ms, async () => {
      let nextMs: number = serverLimits.postgresRanNotedEveryMs;
      try {
        await this.#note();
      } catch (error) {
        if (!(error instanceof StoreAway)) onError(error);
        // Soon: until then whoever begins does not know for how long the database was away.
        nextMs = serverLimits.postgresAgainMs;
      }
      if (!this.#isOver) this.#noteLater(nextMs, onError);
    });
  }

  async #note(): Promise<void> {
    const [noted] = await this.#query(NOTE_RAN, [this.ran()]);
    this.#base += Math.max(0, Number(noted?.ran) - this.ran());
  }

  /** Notes it once more. Rejects with `StoreAway`. */
  close(): Promise<void> {
    this.drop();
    return this.#note();
  }

  drop(): void {
    this.#isOver = true;
    this.#noting?.cancel();
  }
}
