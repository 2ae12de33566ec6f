// Messages at a fixed rate, each due at a time that nothing can shift: a server that stalls makes later messages late, and
// their latency counts from when they were due, not from when they could be sent (no coordinated omission).

/** Message `n` of all is due at `startMs + n * periodMs`; in turn they fall to `sources`. */
export class Schedule {
  readonly startMs: number;
  readonly count: number;
  readonly sources: number;
  readonly #periodMs: number;

  constructor(startMs: number, perSecond: number, durationMs: number, sources: number) {
    this.startMs = startMs;
    this.sources = sources;
    this.#periodMs = 1000 / perSecond;
    // Whole rounds, so that every source has as many.
    this.count = Math.max(1, Math.round((durationMs * perSecond) / 1000 / sources)) * sources;
  }

  /** How many are due by now, of all. */
  dueBy(nowMs: number): number {
    if (nowMs < this.startMs) return 0;
    return Math.min(this.count, Math.floor((nowMs - this.startMs) / this.#periodMs) + 1);
  }

  /** When message `n` of all is due. */
  dueAtMs(n: number): number {
    return this.startMs + n * this.#periodMs;
  }
}

/**
 * Calls `offer` with the number of each message as it falls due, and resolves when the last one was offered. It asks for
 * the time in every turn of the event loop rather than wait for a timer, whose millisecond would be most of the latency.
 */
export function follow(schedule: Schedule, offer: (n: number) => void): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  let next = 0;
  function turn(): void {
    const due = schedule.dueBy(performance.now());
    while (next < due) offer(next++);
    if (next < schedule.count) setImmediate(turn);
    else resolve();
  }
  turn();
  return promise;
}
