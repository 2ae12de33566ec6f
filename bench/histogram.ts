const FINE_STEP_MS = 0.001;
const FINE_STEPS = 20_000;
const FINE_MS = FINE_STEPS * FINE_STEP_MS;
const STEP_MS = 0.01;
const STEPS = 1_000_000;

/** Times in steps of 1 µs up to 20 ms, and of 10 µs up to 10 s; longer ones count as 10 s. The longest is kept exactly. */
export class Histogram {
  readonly #fine = new Uint32Array(FINE_STEPS);
  readonly #counts = new Uint32Array(STEPS);
  #total = 0;
  #maxMs = 0;

  get total(): number {
    return this.#total;
  }

  /** 0 when nothing was recorded. */
  get maxMs(): number {
    return this.#maxMs;
  }

  record(ms: number): void {
    this.#total++;
    if (ms > this.#maxMs) this.#maxMs = ms;
    if (ms < FINE_MS) {
      // A time of less than nothing can only be the clock's rounding.
      this.#fine[ms > 0 ? (ms / FINE_STEP_MS) | 0 : 0]!++;
      return;
    }
    const step = ms / STEP_MS;
    this.#counts[step < STEPS ? step | 0 : STEPS - 1]!++;
  }

  /** The upper end of the step that it lies in, in ms; 0 when nothing was recorded. */
  percentile(percent: number): number {
    if (this.#total === 0) return 0;
    const rank = Math.max(1, Math.ceil((this.#total * percent) / 100));
    let seen = 0;
    for (let step = 0; step < FINE_STEPS; step++) {
      seen += this.#fine[step]!;
      if (seen >= rank) return (step + 1) * FINE_STEP_MS;
    }
    for (let step = FINE_MS / STEP_MS; step < STEPS; step++) {
      seen += this.#counts[step]!;
      if (seen >= rank) return (step + 1) * STEP_MS;
    }
    return STEPS * STEP_MS;
  }
}
