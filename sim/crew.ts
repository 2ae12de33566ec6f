import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import type { RunSummary } from './figures.ts';
import type { Job } from './worker.ts';

/** Runs jobs on worker threads, one for each core. The results come as they are done. */
export class Crew {
  readonly #workers: Worker[] = [];

  /** Until `next` gives no more. `done` may say to stop early. */
  async run(next: () => Job | undefined, done: (run: RunSummary) => 'stop' | undefined): Promise<void> {
    let isOver = false;
    const work = (worker: Worker): Promise<void> =>
      new Promise((resolve, reject) => {
        const take = (): void => {
          const job = isOver ? undefined : next();
          if (job === undefined) resolve();
          else worker.postMessage(job);
        };
        worker.on('message', (run: RunSummary) => {
          if (done(run) === 'stop') isOver = true;
          take();
        });
        worker.on('error', reject);
        take();
      });
    for (let i = 0; i < availableParallelism(); i++) {
      this.#workers.push(new Worker(new URL('./worker.ts', import.meta.url)));
    }
    try {
      await Promise.all(this.#workers.map(work));
    } finally {
      await Promise.all(this.#workers.splice(0).map((worker) => worker.terminate()));
    }
  }
}
