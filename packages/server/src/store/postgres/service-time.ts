import { serverLimits } from '@hawser/protocol';
import type { Clock } from './clock.ts';
import type { Connections, Query } from './connections.ts';

const FOUND = `SELECT ran, extract(epoch FROM clock_timestamp() - noted_at)::float8 * 1000 AS ago FROM service`;
const NOTE_RAN = { name: 'note-ran', text: 'SELECT note_ran($1::float8) AS ran' } as const;

/**
 * How long the store has been in service. Each node counts on from what it found, by its monotonic clock, and notes it in
 * the database every few seconds; one that is behind what another has noted catches up. So nodes agree within a note's
 * age, and no wall clock moves it by more.
 */
export class ServiceTime {
  readonly #query: Query;
  readonly #clock: Clock;
  #base: number;
  readonly #since: number;

  private constructor({ query, clock }: Connections, base: number) {
    this.#query = query;
    this.#clock = clock;
    this.#since = clock.now();
    this.#base = base;
  }

  static async open(connections: Connections): Promise<ServiceTime> {
    const [found] = await connections.query(FOUND);
    // Noted just now: another node is at work, and has counted on. Else nobody was, for however long.
    const ago = Number(found?.ago);
    const isServed = ago >= 0 && ago < 2 * serverLimits.postgresRanNotedEveryMs;
    return new ServiceTime(connections, Number(found?.ran) + (isServed ? ago : 0));
  }

  /** Never goes back. */
  ran(): number {
    return this.#base + this.#clock.now() - this.#since;
  }

  /** Rejects with `StoreAway`. */
  async note(): Promise<void> {
    const [noted] = await this.#query(NOTE_RAN, [this.ran()]);
    this.#base += Math.max(0, Number(noted?.ran) - this.ran());
  }
}
