/**
 * Bounds how often names may be wrong: some times at once, then once in each interval. The memory is fixed: names share
 * counters by a hash that nobody outside can foresee, so that none is ever forgotten for another. Who shares one with a
 * guesser shares its delay.
 */
export class Guesses {
  readonly #hash: (name: string) => number;
  readonly #atOnceMax: number;
  readonly #everyMs: number;
  /** When each counter is as good as new (`Time.now`). */
  readonly #freeAt: Float64Array;

  constructor(hash: (name: string) => number, counters: number, atOnceMax: number, everyMs: number) {
    this.#hash = hash;
    this.#atOnceMax = atOnceMax;
    this.#everyMs = everyMs;
    this.#freeAt = new Float64Array(counters);
  }

  /** Takes one guess, leaving so many for others; false when there is none left for now. */
  take(name: string, now: number, kept = 0): boolean {
    const counter = this.#counter(name);
    const freeAt = Math.max(now, this.#freeAt[counter]!);
    if (freeAt - now > (this.#atOnceMax - 1 - kept) * this.#everyMs) return false;
    this.#freeAt[counter] = freeAt + this.#everyMs;
    return true;
  }

  /** It was not wrong, or not looked at. */
  giveBack(name: string): void {
    this.#freeAt[this.#counter(name)]! -= this.#everyMs;
  }

  /** Whether nothing was taken lately. */
  isUnused(name: string, now: number): boolean {
    return this.#freeAt[this.#counter(name)]! <= now;
  }

  #counter(name: string): number {
    return this.#hash(name) % this.#freeAt.length;
  }
}
