import { Deadlines } from './deadlines.ts';

/** What is left of a use is forgotten below this. */
const LEAST = 1 / 2;

/**
 * One bucket of tokens for all. A key may take one as long as it has used fewer lately than are left: so there is always
 * something left for whoever uses less than others do, and who is alone may have nearly all of it.
 *
 * What a key used fades by a constant share in the time that the bucket takes to fill, and not by a constant rate: of many
 * that each take little of a large whole, a rate would forget all. `n` keys that take what they can leave one in `n + 1`.
 */
export class Shares {
  readonly #tokens: number;
  readonly #refillMs: number;
  readonly #fadeMs: number;
  #fullAt = 0;
  /** When no more than `LEAST` is left of a key's use. */
  readonly #fadedAt: Deadlines;

  /**
   * @param tokens what the full bucket holds
   * @param refillMs until one more is in it
   */
  constructor(tokens: number, refillMs: number, keysMax: number) {
    this.#tokens = tokens;
    this.#refillMs = refillMs;
    this.#fadeMs = tokens * refillMs;
    this.#fadedAt = new Deadlines(keysMax);
  }

  /** Takes a token if there is one for this key. */
  take(key: string, now: number): boolean {
    const usedMs = Math.max(0, this.#fullAt - now);
    const left = Math.floor(this.#tokens - usedMs / this.#refillMs);
    const own = this.#usedBy(key, now);
    if (own >= left) return false;
    this.#fullAt = now + usedMs + this.#refillMs;
    this.#fadedAt.set(key, this.#fadeMs * Math.log((own + 1) / LEAST), now);
    return true;
  }

  #usedBy(key: string, now: number): number {
    const leftMs = this.#fadedAt.leftMs(key, now);
    return leftMs === 0 ? 0 : LEAST * Math.exp(leftMs / this.#fadeMs);
  }

  get size(): number {
    return this.#fadedAt.size;
  }
}
