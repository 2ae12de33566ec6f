/**
 * What knows for good which runs of nodes are void, and outlives the directory: the database, whose `Store.append`
 * rejects with `Fenced` for a run that has been fenced.
 *
 * It stands in for the directory when that is away, and has the last word when that has forgotten something.
 */
export interface Witness {
  /** From when it has resolved nothing of this run is stored, and `stands` is false for it, for good. Idempotent. */
  fence(node: string): Promise<void>;
  /** Whether this run has not been fenced. Never true for an answer that was made up before the call. */
  stands(node: string): Promise<boolean>;
  /** The runs that were entered and have not been fenced. A run enters itself before it takes part in anything. */
  standing(): Promise<readonly string[]>;
}

/** A witness in memory, for nodes that share a process. */
export class MemoryWitness implements Witness {
  readonly #standing = new Set<string>();
  readonly fenced = new Set<string>();
  /** It cannot be reached. */
  isAway = false;

  enter(node: string): void {
    this.#standing.add(node);
  }

  async fence(node: string): Promise<void> {
    this.#reach();
    this.#standing.delete(node);
    this.fenced.add(node);
  }

  async stands(node: string): Promise<boolean> {
    this.#reach();
    return this.#standing.has(node);
  }

  async standing(): Promise<readonly string[]> {
    this.#reach();
    return [...this.#standing];
  }

  #reach(): void {
    if (this.isAway) throw new Error('the witness is away');
  }
}
