import { serverLimits } from '@hawser/protocol';
import { type NodeOffer, nodeOf, readState } from '../node-state.ts';
import type { LeaseTimes } from './lease.ts';

interface Seen {
  value: string;
  /** When that was first seen. */
  since: number;
  offer: NodeOffer | undefined;
}

/**
 * The nodes that live, with what they say of themselves, as far as the table has told: judged by the clock of whoever reads
 * it, as `Peers` are. While the table cannot be read they stay as they were, for `dispatcherMemoryMs`.
 */
export class Offers {
  readonly #times: LeaseTimes;
  readonly #seen = new Map<string, Seen>();
  #readAt = Number.NEGATIVE_INFINITY;
  #live: readonly NodeOffer[] = [];

  constructor(times: LeaseTimes) {
    this.#times = times;
  }

  /** Runs and their values, as the table has them now. */
  see(table: ReadonlyMap<string, string>, now: number): void {
    const { leaseMs, renewMs, marginMs } = this.#times;
    // While it could not be read they may not have been able to renew, either.
    const hadGap = now - this.#readAt > renewMs + marginMs;
    this.#readAt = now;
    for (const [run, value] of table) {
      const seen = this.#seen.get(run) ?? { value: '', since: now, offer: undefined };
      this.#seen.set(run, seen);
      if (value === seen.value) continue;
      Object.assign(seen, { value, since: now, offer: offerIn(run, value) });
    }
    for (const [run, seen] of this.#seen) {
      if (hadGap) seen.since = now;
      // One that the table has lost has its lease to show itself again.
      if (now - seen.since >= leaseMs && !table.has(run)) this.#seen.delete(run);
    }
    this.#live = [...this.#seen.values()].flatMap(({ since, offer }) =>
      offer !== undefined && now - since < leaseMs ? [offer] : [],
    );
  }

  /** Those that have renewed their leases since; and how many there are that may have died. */
  renewedAfter(at: number): { readonly renewed: readonly NodeOffer[]; readonly silent: number } {
    const known = [...this.#seen.values()].filter(({ offer }) => offer !== undefined);
    const renewed = known.flatMap(({ since, offer }) => (offer !== undefined && since > at ? [offer] : []));
    return { renewed, silent: known.length - renewed.length };
  }

  live(now: number): readonly NodeOffer[] {
    return this.ageMs(now) < serverLimits.dispatcherMemoryMs ? this.#live : [];
  }

  /** How long ago the table was read; infinite before that. */
  ageMs(now: number): number {
    return now - this.#readAt;
  }
}

/** `COUNTER RUN,RUN… STATE`, see `scripts.ts`; nothing of one that is void. */
function offerIn(run: string, value: string): NodeOffer | undefined {
  const state = readState(/^\d+ \S* (.*)$/.exec(value)?.[1] ?? '');
  return state && { run, node: nodeOf(run), state };
}
