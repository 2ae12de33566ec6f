/** When a full map has to forget one, so many of those longest in it are looked at. */
const LOOKED_AT = 8;

/**
 * Token buckets by key. A bucket is one number: when it will be full again; a full one is not kept.
 *
 * Where there are more keys than `keysMax`, the one that used least of those longest in the map is forgotten: that gives it
 * back what little it used. So a key that nobody knows yet begins with a full bucket however many others there are, and a
 * key that used much stays known: it would take as many keys that used as much to push it out.
 */
export class Buckets {
  /** In the order of their use, roughly: those looked at and kept go to the end. */
  readonly #fullAt = new Map<string, number>();
  readonly #refillMs: number;
  readonly #roomMs: number;
  readonly #keysMax: number;

  /**
   * @param tokens what a full bucket holds
   * @param refillMs until one more is in it
   */
  constructor(tokens: number, refillMs: number, keysMax: number) {
    this.#refillMs = refillMs;
    this.#roomMs = tokens * refillMs;
    this.#keysMax = keysMax;
  }

  /** Takes a token if there is one. */
  take(key: string, now: number): boolean {
    if (this.waitMs(key, now) > 0) return false;
    this.charge(key, now);
    return true;
  }

  /** How long until there is a token; 0 when there is one. */
  waitMs(key: string, now: number): number {
    return Math.max(0, Math.ceil(this.#usedMs(key, now) + this.#refillMs - this.#roomMs));
  }

  /** Takes a token even if there is none: who comes next waits for longer. */
  charge(key: string, now: number): void {
    const fullAt = now + this.#usedMs(key, now) + this.#refillMs;
    if (!this.#fullAt.has(key) && this.#fullAt.size >= this.#keysMax) this.#forgetOne(now);
    this.#fullAt.set(key, fullAt);
  }

  /** Puts one back that was taken for nothing. */
  refund(key: string, now: number): void {
    const usedMs = this.#usedMs(key, now) - this.#refillMs;
    if (usedMs > 0) this.#fullAt.set(key, now + usedMs);
    else this.#fullAt.delete(key);
  }

  get size(): number {
    return this.#fullAt.size;
  }

  #usedMs(key: string, now: number): number {
    const fullAt = this.#fullAt.get(key);
    return fullAt === undefined || fullAt <= now ? 0 : fullAt - now;
  }

  #forgetOne(now: number): void {
    let least: string | undefined;
    let leastAt = Number.POSITIVE_INFINITY;
    const oldest: [string, number][] = [];
    for (const each of this.#fullAt) {
      oldest.push(each);
      if (oldest.length === LOOKED_AT) break;
    }
    for (const [key, fullAt] of oldest) {
      this.#fullAt.delete(key);
      if (fullAt < leastAt) [least, leastAt] = [key, fullAt];
    }
    for (const [key, fullAt] of oldest) if (key !== least && fullAt > now) this.#fullAt.set(key, fullAt);
  }
}
