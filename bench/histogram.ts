const STEP_MS = 0.01;
const STEPS = 1_000_000;

/** Times up to 10 s in steps of 10 µs; longer ones count as 10 s. */
export class Histogram {
  readonly #counts = new Uint32Array(STEPS);
  #total = 0;

  record(ms: number): void {
    const step = (ms / STEP_MS) | 0;
    this.#counts[step < STEPS ? step : STEPS - 1]!++;
    this.#total++;
  }

  /** In ms; 0 when nothing was recorded. */
  percentile(percent: number): number {
    const rank = Math.ceil((this.#total * percent) / 100);
    let seen = 0;
    for (let step = 0; step < STEPS; step++) {
      seen += this.#counts[step]!;
      if (seen > 0 && seen >= rank) return (step + 1) * STEP_MS;
    }
    return 0;
  }
}
