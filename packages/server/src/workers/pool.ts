import { Worker } from 'node:worker_threads';
import { Busy } from '../core/ports.ts';
import type { Job, Result } from './protocol.ts';

type JobBody = Job extends infer Each ? (Each extends Job ? Omit<Each, 'id'> : never) : never;

interface Pending {
  readonly worker: Thread;
  resolve(value: unknown): void;
  reject(error: Error): void;
}

interface Thread {
  readonly worker: Worker;
  /** Jobs given to it and not answered. */
  busy: number;
}

const CLOSED = 'the threads have ended';

/**
 * Threads with one bounded queue. A job goes to the least busy thread; what comes while all are busy waits, and beyond
 * `queueMax` is refused with `Busy`.
 */
export class Pool {
  readonly #threads: Thread[] = [];
  readonly #pending = new Map<number, Pending>();
  readonly #queueMax: number;
  readonly #jobsPerMessage: number;
  readonly #waiting: { job: Job; resolve: Pending['resolve']; reject: Pending['reject'] }[] = [];
  #taken = 0;
  #nextId = 1;
  #isClosed = false;

  /** @param jobsPerMessage what a thread is given at once; its results come back together */
  constructor(threads: number, queueMax: number, jobsPerMessage: number) {
    this.#queueMax = queueMax;
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

  run(job: JobBody): Promise<unknown> {
    if (this.#isClosed) return Promise.reject(new Error(CLOSED));
    if (this.#waiting.length - this.#taken >= this.#queueMax) return Promise.reject(new Busy('too many jobs wait'));
    return new Promise((resolve, reject) => {
      this.#waiting.push({ job: { ...job, id: this.#nextId++ } as Job, resolve, reject });
      if (this.#waiting.length - this.#taken === 1) queueMicrotask(() => this.#give());
    });
  }

  /** Gives a job to every thread: what it says there must be known to all. */
  async runOnAll(job: JobBody): Promise<void> {
    await Promise.all(
      this.#threads.map(
        (thread) =>
          new Promise<unknown>((resolve, reject) => {
            this.#post(thread, [{ job: { ...job, id: this.#nextId++ } as Job, resolve, reject }]);
          }),
      ),
    );
  }

  #give(): void {
    while (this.#taken < this.#waiting.length) {
      const thread = this.#threads.reduce((least, each) => (each.busy < least.busy ? each : least));
      if (thread.busy > this.#jobsPerMessage / 2) return;
      const jobs = this.#waiting.slice(this.#taken, this.#taken + this.#jobsPerMessage);
      this.#taken += jobs.length;
      if (this.#taken === this.#waiting.length) {
        this.#waiting.length = 0;
        this.#taken = 0;
      } else if (this.#taken > 1000) {
        this.#waiting.splice(0, this.#taken);
        this.#taken = 0;
      }
      this.#post(thread, jobs);
    }
  }

  #post(thread: Thread, jobs: { job: Job; resolve: Pending['resolve']; reject: Pending['reject'] }[]): void {
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
    const undone = [...this.#pending.values(), ...this.#waiting.splice(0).slice(this.#taken)];
    this.#pending.clear();
    this.#taken = 0;
    for (const { reject } of undone) reject(new Error(CLOSED));
    await Promise.all(this.#threads.map(({ worker }) => worker.terminate()));
  }
}
