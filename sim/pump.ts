import { setImmediate as turn } from 'node:timers/promises';
import type { Scheduler } from './scheduler.ts';

const STEP_MS = 5;

/** Lets simulated time go on for tests that know nothing of it and just wait. */
export class Pump {
  readonly #scheduler: Scheduler;
  #isOver = false;
  readonly #done: Promise<void>;

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
    scheduler.alwaysSettles = true;
    this.#done = this.#run();
  }

  async #run(): Promise<void> {
    while (!this.#isOver) {
      await this.#scheduler.run(this.#scheduler.now + STEP_MS, () => this.#isOver);
      await turn();
    }
  }

  stop(): Promise<void> {
    this.#isOver = true;
    return this.#done;
  }
}
