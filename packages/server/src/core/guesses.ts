import { serverLimits } from '@hawser/protocol';

const { codeGuessesAtOnceMax, codeGuessEveryMs, codeGuessCounters } = serverLimits;

/**
 * Bounds how often names may be wrong: some times at once, then once in each interval. The memory is fixed: names share
 * counters by a hash that nobody outside can foresee, so that none is ever forgotten for another. Who shares one with a
 * guesser shares its delay.
 */
export class Guesses {
  readonly #hash: (name: string) => number;
  /** When each counter is as good as new (`Time.now`). */
  readonly #freeAt = new Float64Array(codeGuessCounters);

  constructor(hash: (name: string) => number) {
    this.#hash = hash;
  }

  /** Takes one guess; false when there is none left for now. */
  take(name: string, now: number): boolean {
    const counter = this.#counter(name);
    const freeAt = Math.max(now, this.#freeAt[counter]!);
    if (freeAt - now > (codeGuessesAtOnceMax - 1) * codeGuessEveryMs) return false;
    this.#freeAt[counter] = freeAt + codeGuessEveryMs;
    return true;
  }

  /** It was not wrong. */
  giveBack(name: string): void {
    this.#freeAt[this.#counter(name)]! -= codeGuessEveryMs;
  }

  #counter(name: string): number {
    return this.#hash(name) % codeGuessCounters;
  }
}
