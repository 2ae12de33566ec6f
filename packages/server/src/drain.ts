import { serverLimits } from '@hawser/protocol';
import type { Core } from './core/core.ts';

/** Sessions are closed in portions, so often. */
const PORTION_MS = 100;

/**
 * Gives the sessions of a node to others: first no dispatcher sends clients here any more, then sessions are ended at a
 * rate, and their clients find another node by way of the dispatcher. What is on its way to them is stored, as always.
 */
export class Drain {
  readonly #core: Core;
  /** Tells the dispatchers what `isOn` says. */
  readonly #announce: () => Promise<void>;
  #since: number | undefined;
  #perSecond = 0;
  #owed = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(core: Core, announce: () => Promise<void>) {
    this.#core = core;
    this.#announce = announce;
  }

  get isOn(): boolean {
    return this.#since !== undefined;
  }

  /** Again with another rate goes on with that. */
  begin(perSecond: number): void {
    this.#perSecond = perSecond;
    if (this.#since !== undefined) return;
    this.#since = performance.now();
    this.#owed = 0;
    this.#timer = setInterval(() => this.#closeSome(), PORTION_MS);
    void this.#announce();
  }

  #closeSome(): void {
    if (!this.#isKnown) return;
    // What was not needed is not saved up.
    this.#owed = Math.min(this.#owed + (this.#perSecond * PORTION_MS) / 1000, Math.max(1, this.#perSecond));
    const count = Math.floor(this.#owed);
    this.#owed -= count;
    if (count > 0) this.#core.closeSessions(count, 'moved');
  }

  /** No dispatcher sends anybody here any more. */
  get #isKnown(): boolean {
    return this.#since !== undefined && performance.now() - this.#since >= serverLimits.drainAfterMs;
  }

  undo(): void {
    clearInterval(this.#timer);
    if (this.#since === undefined) return;
    this.#since = undefined;
    void this.#announce();
  }

  /** For a node that is to stop: resolves when all sessions are gone, or the time is up. */
  async finish(withinMs: number): Promise<void> {
    const until = performance.now() + withinMs;
    const { sessions } = this.#core;
    const closingMs = Math.max(PORTION_MS, withinMs - serverLimits.drainAfterMs);
    this.begin(Math.max(serverLimits.drainPerSecond, Math.ceil((1.25 * sessions * 1000) / closingMs)));
    while (performance.now() < until && !(this.#isKnown && this.#core.sessions === 0)) {
      await new Promise((resolve) => setTimeout(resolve, PORTION_MS));
    }
    this.close();
  }

  close(): void {
    clearInterval(this.#timer);
  }
}
