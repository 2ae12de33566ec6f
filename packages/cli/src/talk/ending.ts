import { SAME_SIGNAL_MS } from '../signals.ts';
import { ExitError } from './exit.ts';

const SIGNALS = [
  ['SIGHUP', 129],
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const;

/** What may end a command from outside, at any time: a signal, a conflict, an output that nobody reads any more. */
export class Ending {
  /** Rejects with what has ended it; never resolves. */
  readonly promise: Promise<never>;
  readonly #abort = new AbortController();
  #reject!: (error: unknown) => void;
  #since: number | undefined;

  constructor() {
    this.promise = new Promise((_, reject) => {
      this.#reject = reject;
    });
    // Whoever awaits it may come later.
    this.promise.catch(() => {});
    for (const [signal, code] of SIGNALS) process.on(signal, () => this.#signalled(code));
    process.stdout.on('error', () => this.end(new ExitError(1)));
  }

  /** Aborted when it ends. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  end(error: unknown): void {
    this.#since ??= performance.now();
    this.#reject(error);
    this.#abort.abort(error);
  }

  /** Ctrl-C, where the terminal gives it as a key. */
  interrupt(): void {
    this.#signalled(130);
  }

  /** What comes first: the end of the work, or an end from outside. */
  over<T>(work: Promise<T>): Promise<T> {
    return Promise.race([work, this.promise]);
  }

  #signalled(code: number): void {
    if (this.#since === undefined) this.end(new ExitError(code));
    else if (performance.now() - this.#since > SAME_SIGNAL_MS) process.exit(code);
  }
}
