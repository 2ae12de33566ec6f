// Runs a command in a pseudo-terminal, that of `script` from util-linux, and types into it.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { ownEnvironment } from './harness.ts';
import { sleep } from './parties.ts';

/** For the `skip` of tests: elsewhere `script` is another program. */
export const noTerminal =
  process.platform === 'linux' && spawnSync('script', ['--version']).status === 0 ? false : 'no script of util-linux';

export const escapeCharacter = String.fromCharCode(27);
/** What moves the cursor and colours; at the end perhaps the beginning of it. */
export const sequences = new RegExp(`${escapeCharacter}(?:\\[[0-9;?]*(?:[A-Za-z]|$)|$)|\r`, 'g');

const living = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of living) child.kill('SIGKILL');
});

export class Terminal implements AsyncDisposable {
  readonly #child: ChildProcess;
  /** The exit code of the command. */
  readonly done: Promise<number | null>;
  /** All that was printed, with what moves the cursor and colours. */
  raw = '';
  #seen = 0;

  /** @param command for a shell, which has the terminal for its own */
  constructor(command: string, env: Readonly<Record<string, string>> = {}, cwd?: string) {
    const child = spawn('script', ['--quiet', '--return', '--flush', '--command', command, '/dev/null'], {
      // A terminal is that of a person: what a build machine says of itself would take its colours.
      env: { ...ownEnvironment(), TERM: 'xterm', SHELL: '/bin/sh', CI: undefined, ...env },
      cwd,
      stdio: 'pipe',
    });
    this.#child = child;
    living.add(child);
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.raw += text;
    });
    child.stdin.on('error', () => {});
    const timer = setTimeout(() => child.kill('SIGKILL'), 30_000);
    this.done = new Promise((resolve) => {
      child.once('close', (code) => {
        living.delete(child);
        clearTimeout(timer);
        resolve(code);
      });
    });
  }

  /** What was printed and not waited for yet, as text. */
  get text(): string {
    return this.#printed().slice(this.#seen);
  }

  #printed(): string {
    return this.raw.replaceAll(sequences, '');
  }

  type(keys: string): void {
    this.#child.stdin?.write(keys);
  }

  /** Waits until it is printed; what was printed up to there is then behind. */
  async until(what: string | RegExp): Promise<void> {
    for (let waitedMs = 0; waitedMs < 15_000; waitedMs += 20) {
      const { text } = this;
      const [found] = typeof what === 'string' ? [text.includes(what) ? what : undefined] : (what.exec(text) ?? []);
      if (found !== undefined) {
        this.#seen += text.indexOf(found) + found.length;
        return;
      }
      await sleep(20);
    }
    throw new Error(`${what} did not come; the terminal shows:\n${this.text}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.done;
  }
}
