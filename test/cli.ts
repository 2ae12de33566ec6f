// Runs the `hawser` command as an operator does, and gives what it printed.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ownEnvironment } from './harness.ts';
import { sleep } from './parties.ts';

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** What stands on standard input. */
  readonly input?: string;
  /** Leaves standard input open behind it. */
  readonly isOpen?: true;
  /** A program and its arguments that run the command: `setpriv …`. */
  readonly through?: readonly string[];
}

export const mainFile = join(import.meta.dirname, '..', 'packages', 'cli', 'src', 'main.ts');
const timeoutMs = 30_000;

const living = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of living) child.kill('SIGKILL');
});

/** A command that is running. */
export class Command {
  readonly child: ChildProcess;
  readonly done: Promise<Outcome>;
  stdout = '';
  stderr = '';

  constructor(args: readonly string[], { env = {}, cwd, input = '', isOpen, through = [] }: CommandOptions) {
    const [program = process.execPath, ...rest] = [...through, process.execPath, mainFile, ...args];
    const child = spawn(program, rest, { env: { ...ownEnvironment(), ...env }, cwd, stdio: 'pipe' });
    this.child = child;
    living.add(child);
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
    });
    // A command that reads nothing may be gone before all is written.
    child.stdin.on('error', () => {});
    if (isOpen) child.stdin.write(input);
    else child.stdin.end(input);
    const { promise, resolve, reject } = Promise.withResolvers<Outcome>();
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      reject(new Error(`hawser ${args.join(' ')} did not end; its stderr:\n${this.stderr}`));
    }, timeoutMs);
    child.once('error', reject);
    child.once('close', (code) => {
      living.delete(child);
      clearTimeout(timer);
      resolve({ code, stdout: this.stdout, stderr: this.stderr });
    });
    this.done = promise;
  }

  /** Waits until `probe` gives something. */
  async until<Found>(probe: (command: this) => Found | undefined): Promise<Found> {
    for (let waitedMs = 0; waitedMs < 15_000; waitedMs += 20) {
      const found = probe(this);
      if (found !== undefined) return found;
      await sleep(20);
    }
    throw new Error(`it did not come; stdout:\n${this.stdout}\nstderr:\n${this.stderr}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill('SIGKILL');
    await this.done.catch(() => {});
  }
}

/** Runs `hawser <args>` to its end. */
export function hawser(args: readonly string[], options: CommandOptions = {}): Promise<Outcome> {
  return new Command(args, options).done;
}

/** Runs it to an end that must be good; gives its stdout. */
export async function succeed(args: readonly string[], options: CommandOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await hawser(args, options);
  assert.deepEqual({ code, stderr }, { code: 0, stderr: '' }, `hawser ${args.join(' ')}`);
  return stdout;
}

/** Runs it to a refusal: one line on stderr, nothing on stdout, exit code 1. Gives the line without `hawser: `. */
export async function refused(args: readonly string[], options: CommandOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await hawser(args, options);
  const what = `hawser ${args.join(' ')}\n${stdout}${stderr}`;
  assert.equal(code, 1, what);
  assert.equal(stdout, '', what);
  assert.match(stderr, /^hawser: [^\n]+\n$/, what);
  return stderr.slice('hawser: '.length, -1);
}

/** A folder of the test's own, removed when it goes out of scope. */
export function newFolder(): Disposable & { readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), 'hawser-test-'));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

/** A port that something listens on. */
export async function takenPort(host = '127.0.0.1'): Promise<AsyncDisposable & { readonly port: number }> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, host, resolve);
  });
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  return {
    port: address.port,
    async [Symbol.asyncDispose]() {
      await new Promise((done) => server.close(done));
    },
  };
}

export const freePorts = ['--port', '0', '--http-port', '0', '--admin-port', '0'] as const;

/** Runs the command as a user that is not root; undefined where that cannot be done. */
export const asNobody =
  process.platform === 'linux' && process.getuid?.() === 0
    ? (['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'] as const)
    : undefined;
