import { Worker } from 'node:worker_threads';
import { serverLimits } from '@hawser/protocol';
import { type Asker, Busy } from '../core/ports.ts';
import type { Job, Result } from './protocol.ts';
import { FairQueue } from './queue.ts';

type JobBody = Job extends infer Each ? (Each extends Job ? Omit<Each, 'id'> : never) : never;

interface Pending {
  readonly worker: Thread;
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/** A job that no thread has yet. */
interface Waiting extends Omit<Pending, 'worker'> {
  readonly job: Job;
  readonly asker: Asker | undefined;
}

interface Thread {
  readonly worker: Worker;
  /** Jobs given to it and not answered. */
  busy: number;
}

const CLOSED = 'the threads have ended';
const GONE = 'nobody waits for it any more';

const isGone = ({ asker }: Waiting): boolean => asker?.isWaiting() === false;

/**
 * Threads with one bounded queue. A job goes to the least busy thread; what comes while all are busy waits for its turn, and
 * is refused with `Busy` when there is no room. What nobody waits for any more when its turn has come is not done: clients that
 * give up and come again would otherwise ask for more and more that is of no use.
 */
export class Pool {
  readonly #threads: Thread[] = [];
  readonly #pending = new Map<number, Pending>();
  readonly #jobsPerMessage: number;
  readonly #waiting: FairQueue<Waiting>;
  readonly #now: () => number;
  /** When the jobs of an address were looked through, in that order. */
  readonly #lookedThroughAt = new Map<string, number>();
  #isGiving = false;
  #nextId = 1;
  #isClosed = false;

  /** @param jobsPerMessage what a thread is given at once; its results come back together */
  constructor(threads: number, queueMax: number, jobsPerMessage: number, now: () => number = () => performance.now()) {
    this.#now = now;
    this.#waiting = new FairQueue(queueMax);
    this.#jobsPerMessage = jobsPerMessage;
    for (let i = 0; i < threads; i++) this.#threads.push(this.#startThread());
  }

  #startThread(): Thread {
    // The published package holds JavaScript.
    const file = import.meta.url.endsWith('.ts') ? './worker.ts' : './worker.js';
    const thread: Thread = { worker: new Worker(new URL(file, import.meta.url)), busy: 0 };
    thread.worker.unref();
    thread.worker.on('message', (results: Result[]) => this.#finish(thread, results));
    thread.worker.on('error', (error) => this.#lost(thread, error));
    return thread;
  }

  run(job: JobBody, asker?: Asker): Promise<unknown> {
    if (this.#isClosed) return Promise.reject(new Error(CLOSED));
    return new Promise((resolve, reject) => {
      const waiting = { job: { ...job, id: this.#nextId++ } as Job, asker, resolve, reject };
      const from = asker?.from ?? '';
      const hasRoom = this.#waiting.push(from, waiting) || (this.#dropGone(from) && this.#waiting.push(from, waiting));
      if (!hasRoom) reject(new Busy('too many jobs wait'));
      else if (!this.#isGiving) {
        // What this turn brings goes together.
        this.#isGiving = true;
        queueMicrotask(() => {
          this.#isGiving = false;
          this.#give();
        });
      }
    });
  }

  /** Gives a job to every thread: what it says there must be known to all. */
  async runOnAll(job: JobBody): Promise<void> {
    await Promise.all(
      this.#threads.map(
        (thread) =>
          new Promise<unknown>((resolve, reject) => {
            this.#post(thread, [{ job: { ...job, id: this.#nextId++ } as Job, asker: undefined, resolve, reject }]);
          }),
      ),
    );
  }

  #give(): void {
    while (this.#waiting.size > 0) {
      const thread = this.#threads.reduce((least, each) => (each.busy < least.busy ? each : least));
      if (thread.busy > this.#jobsPerMessage / 2) return;
      const jobs = this.#take(this.#jobsPerMessage);
      if (jobs.length > 0) this.#post(thread, jobs);
    }
  }

  /** Makes room where those of this address have given up; false when none of them has, as far as it was looked at. */
  #dropGone(from: string): boolean {
    const now = this.#now();
    for (const [address, at] of this.#lookedThroughAt) {
      if (now - at < serverLimits.goneLookedForEveryMs) break;
      this.#lookedThroughAt.delete(address);
    }
    // One that has thousands waiting and asks for ever more would have them all looked at for each that is refused.
    if (this.#lookedThroughAt.has(from)) return false;
    this.#lookedThroughAt.set(from, now);
    const gone = this.#waiting.takeIf(from, isGone);
    for (const { reject } of gone) reject(new Busy(GONE));
    return gone.length > 0;
  }

  /** The next jobs for which somebody waits. */
  #take(count: number): Waiting[] {
    const taken: Waiting[] = [];
    while (taken.length < count) {
      const next = this.#waiting.take();
      if (next === undefined) break;
      if (isGone(next)) next.reject(new Busy(GONE));
      else taken.push(next);
    }
    return taken;
  }

  #post(thread: Thread, jobs: readonly Waiting[]): void {
    thread.busy += jobs.length;
    for (const { job, resolve, reject } of jobs) this.#pending.set(job.id, { worker: thread, resolve, reject });
    thread.worker.postMessage(jobs.map(({ job }) => job));
  }

  #finish(thread: Thread, results: readonly Result[]): void {
    thread.busy -= results.length;
    for (const result of results) {
      const pending = this.#pending.get(result.id);
      this.#pending.delete(result.id);
      if ('error' in result) pending?.reject(new Error(result.error));
      else pending?.resolve(result.value);
    }
    this.#give();
  }

  /** A thread died, which only a defect can bring about: its jobs fail, and the error is the process's. */
  #lost(thread: Thread, error: unknown): void {
    for (const [id, pending] of this.#pending) {
      if (pending.worker !== thread) continue;
      this.#pending.delete(id);
      pending.reject(error instanceof Error ? error : new Error(String(error)));
    }
    if (!this.#isClosed) throw error;
  }

  /** Ends the threads. Jobs that are not done fail. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const undone = [...this.#pending.values(), ...this.#waiting.takeAll()];
    this.#pending.clear();
    for (const { reject } of undone) reject(new Error(CLOSED));
    await Promise.all(this.#threads.map(({ worker }) => worker.terminate()));
  }
}
