/**
 * Jobs that wait, by whom they are for: all take turns. Who has many waits behind itself, not in front of others, and may
 * have no more waiting than is left free, so that there is room for whoever comes. What is nobody's (`''`), the operator's
 * or the server's own, may fill the queue.
 */
export class FairQueue<Job> {
  /** Whose turn is next comes first. */
  readonly #waiting = new Map<string, Job[]>();
  readonly #max: number;
  #size = 0;

  constructor(max: number) {
    this.#max = max;
  }

  get size(): number {
    return this.#size;
  }

  /** False when there is no room for it. */
  push(of: string, job: Job): boolean {
    const own = this.#waiting.get(of);
    if ((of === '' ? 0 : (own?.length ?? 0)) >= this.#max - this.#size) return false;
    this.#size++;
    if (own === undefined) this.#waiting.set(of, [job]);
    else own.push(job);
    return true;
  }

  /** The next one. */
  take(): Job | undefined {
    for (const [of, own] of this.#waiting) {
      this.#size--;
      this.#waiting.delete(of);
      if (own.length > 1) this.#waiting.set(of, own);
      return own.shift();
    }
    return undefined;
  }

  /** Takes out those of somebody for which `isIt` is true. */
  takeIf(of: string, isIt: (job: Job) => boolean): Job[] {
    const taken: Job[] = [];
    const left: Job[] = [];
    for (const job of this.#waiting.get(of) ?? []) (isIt(job) ? taken : left).push(job);
    if (taken.length === 0) return taken;
    this.#size -= taken.length;
    if (left.length === 0) this.#waiting.delete(of);
    else this.#waiting.set(of, left);
    return taken;
  }

  takeAll(): Job[] {
    const all = [...this.#waiting.values()].flat();
    this.#waiting.clear();
    this.#size = 0;
    return all;
  }
}
