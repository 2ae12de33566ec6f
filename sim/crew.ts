import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import type { RunSummary } from './figures.ts';
import type { Job } from './worker.ts';

/**
 * Runs jobs on worker threads, one for each core, which it keeps: a thread that has run one job knows all of the code and
 * is several times as fast at the next. The results come as they are done.
 */
export class Crew {
  readonly #workers: Worker[] = [];

  /** Until `next` gives no more. `done` may say to stop early. */
  async run(next: () => Job | undefined, done: (run: RunSummary) => 'stop' | undefined): Promise<void> {
    let isOver = false;
    const work = async (worker: Worker): Promise<void> => {
      for (let job = next(); job !== undefined && !isOver; job = isOver ? undefined : next()) {
        if (done(await answerOf(worker, job)) === 'stop') isOver = true;
      }
    };
    while (this.#workers.length < availableParallelism()) {
      this.#workers.push(new Worker(new URL('./worker.ts', import.meta.url)));
    }
    try {
      await Promise.all(this.#workers.map(work));
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#workers.splice(0).map((worker) => worker.terminate()));
  }
}

function answerOf(worker: Worker, job: Job): Promise<RunSummary> {
  return new Promise((resolve, reject) => {
    worker.once('error', reject);
    worker.once('message', (run: RunSummary) => {
      worker.off('error', reject);
      resolve(run);
    });
    worker.postMessage(job);
  });
}
