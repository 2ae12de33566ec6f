/** When a full map has to forget one, so many of those longest in it are looked at. */
const LOOKED_AT = 8;

/**
 * Times to come, by key. One that has passed is as good as none, and goes when room is needed.
 *
 * Where there are more keys than `keysMax`, the soonest of those longest in the map is forgotten: whoever brings ever new
 * keys makes it forget those that will soon be over, and not the one that is to last.
 */
export class Deadlines {
  /** In the order of their use, roughly: those looked at and kept go to the end. */
  readonly #at = new Map<string, number>();
  readonly #keysMax: number;

  constructor(keysMax: number) {
    this.#keysMax = keysMax;
  }

  /** How long until then; 0 when there is none. */
  leftMs(key: string, now: number): number {
    const at = this.#at.get(key);
    return at === undefined || at <= now ? 0 : at - now;
  }

  set(key: string, leftMs: number, now: number): void {
    if (!this.#at.has(key) && this.#at.size >= this.#keysMax) this.#forgetOne(now);
    this.#at.set(key, now + leftMs);
  }

  delete(key: string): void {
    this.#at.delete(key);
  }

  get size(): number {
    return this.#at.size;
  }

  #forgetOne(now: number): void {
    let least: string | undefined;
    let leastAt = Number.POSITIVE_INFINITY;
    const oldest: [string, number][] = [];
    for (const each of this.#at) {
      oldest.push(each);
      if (oldest.length === LOOKED_AT) break;
    }
    for (const [key, at] of oldest) {
      this.#at.delete(key);
      if (at < leastAt) [least, leastAt] = [key, at];
    }
    for (const [key, at] of oldest) if (key !== least && at > now) this.#at.set(key, at);
  }
}
