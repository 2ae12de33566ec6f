import type { Scheduler } from './scheduler.ts';

/** One run of a server as the operating system sees it: it ends, and it may be stopped for a while and go on. */
export class Process {
  readonly #scheduler: Scheduler;
  /** Nothing of it happens before this time. */
  #pausedTo = 0;
  isOver = false;
  readonly #whenOver: ((isSaid: boolean) => void)[] = [];

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
  }

  /** @param isSaid the kernel is there to end its connections; a machine without power says nothing */
  end(isSaid: boolean): void {
    this.isOver = true;
    for (const call of this.#whenOver.splice(0)) call(isSaid);
  }

  whenOver(call: (isSaid: boolean) => void): void {
    this.#whenOver.push(call);
  }

  pause(ms: number): void {
    this.#pausedTo = Math.max(this.#pausedTo, this.#scheduler.now + ms);
  }

  get isPaused(): boolean {
    return this.#scheduler.now < this.#pausedTo;
  }

  /** Calls now, when it goes on, or never when it has ended by then. */
  run(call: () => void): void {
    if (this.isOver) return;
    if (this.isPaused) this.#scheduler.at(this.#pausedTo, () => this.run(call));
    else call();
  }

  after(ms: number, call: () => void): void {
    this.#scheduler.after(ms, () => this.run(call));
  }

  /** Of a worker thread: what `work` makes comes to the event loop after that time. */
  promise<Result>(ms: number, work: () => Result): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.after(ms, () => {
        this.#scheduler.settled = true;
        try {
          resolve(work());
        } catch (error) {
          reject(error);
        }
      });
    });
  }
}
