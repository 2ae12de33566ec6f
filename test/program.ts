// A program that a test runs: what it prints, line by line, and its end.

import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { ownEnvironment } from './harness.ts';

const TIMEOUT_MS = 30_000;

export class Program implements AsyncDisposable {
  /** Lines of stdout and of stderr, as they came. */
  readonly out: string[] = [];
  readonly err: string[] = [];
  /** The exit code, or the signal that ended it. */
  readonly ended: Promise<number | NodeJS.Signals | null>;
  isOver = false;
  readonly #child: ChildProcess;
  readonly #probes = new Set<() => void>();
  readonly #onExit = (): void => {
    this.#child.kill('SIGKILL');
  };

  constructor(file: string, args: readonly string[]) {
    this.#child = spawn(file, args, { env: ownEnvironment(), stdio: ['ignore', 'pipe', 'pipe'] });
    process.once('exit', this.#onExit);
    for (const [stream, lines] of [
      [this.#child.stdout!, this.out],
      [this.#child.stderr!, this.err],
    ] as const) {
      createInterface({ input: stream }).on('line', (line) => {
        lines.push(line);
        this.#wake();
      });
    }
    this.ended = new Promise((resolve) => {
      // 'close' comes after 'exit' and after the last line.
      this.#child.once('close', (code, signal) => {
        this.isOver = true;
        process.off('exit', this.#onExit);
        resolve(signal ?? code);
        this.#wake();
      });
      this.#child.once('error', (error) => {
        this.err.push(error.message);
        this.isOver = true;
        resolve(null);
        this.#wake();
      });
    });
  }

  #wake(): void {
    for (const probe of [...this.#probes]) probe();
  }

  /** Waits until it has printed what `probe` looks for. */
  until(probe: () => boolean, what: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const done = (error?: Error): void => {
        clearTimeout(timer);
        this.#probes.delete(check);
        if (error === undefined) resolve();
        else reject(error);
      };
      const said = (): string => [...this.out.slice(-20), ...this.err.slice(-20)].join('\n');
      const timer = setTimeout(() => done(new Error(`not within ${TIMEOUT_MS} ms: ${what}\n${said()}`)), TIMEOUT_MS);
      const check = (): void => {
        if (probe()) done();
        else if (this.isOver) done(new Error(`it ended without: ${what}\n${said()}`));
      };
      this.#probes.add(check);
      check();
    });
  }

  /** Waits for a line of stdout or stderr that has this in it. */
  says(text: string, from = 0): Promise<void> {
    return this.until(
      () => [...this.out.slice(from), ...this.err.slice(from)].some((line) => line.includes(text)),
      JSON.stringify(text),
    );
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.kill('SIGKILL');
    await this.ended;
  }
}
