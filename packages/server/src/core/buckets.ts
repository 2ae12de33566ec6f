import { Deadlines } from './deadlines.ts';

/**
 * Token buckets by key. A bucket is one number: when it will be full again; a full one is not kept.
 *
 * Where there are more keys than `keysMax`, one that used little is forgotten, which gives it that back. So a key that
 * nobody knows yet begins with a full bucket however many others there are, and a key that used much stays known: it would
 * take as many keys that used as much to push it out.
 */
export class Buckets {
  readonly #fullAt: Deadlines;
  readonly #refillMs: number;
  readonly #roomMs: number;

  /**
   * @param tokens what a full bucket holds
   * @param refillMs until one more is in it
   */
  constructor(tokens: number, refillMs: number, keysMax: number) {
    this.#refillMs = refillMs;
    this.#roomMs = tokens * refillMs;
    this.#fullAt = new Deadlines(keysMax);
  }

  /** Takes a token if there is one. */
  take(key: string, now: number): boolean {
    if (this.waitMs(key, now) > 0) return false;
    this.charge(key, now);
    return true;
  }

  /** How long until there is a token; 0 when there is one. */
  waitMs(key: string, now: number): number {
    return Math.max(0, Math.ceil(this.#fullAt.leftMs(key, now) + this.#refillMs - this.#roomMs));
  }

  /** Takes a token even if there is none: who comes next waits for longer. */
  charge(key: string, now: number): void {
    this.#fullAt.set(key, this.#fullAt.leftMs(key, now) + this.#refillMs, now);
  }

  /** Puts one back that was taken for nothing. */
  refund(key: string, now: number): void {
    const usedMs = this.#fullAt.leftMs(key, now) - this.#refillMs;
    if (usedMs > 0) this.#fullAt.set(key, usedMs, now);
    else this.#fullAt.delete(key);
  }

  get size(): number {
    return this.#fullAt.size;
  }
}
