// Starts the real server as a child process and talks to it from outside only.

import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

export interface StartOptions {
  /** Further arguments of `hawser serve`; they come last, so they override the harness's own. */
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** A program and its arguments that run the server: `sh -c …`. */
  readonly through?: readonly string[];
  /** A data directory of the caller's, which is then also the caller's to delete. */
  readonly data?: string;
}

interface Listening {
  readonly host: string;
  readonly port: number;
}

interface Ready {
  readonly tcp: Listening;
  readonly tls?: Listening;
  readonly http: Listening;
  readonly https?: Listening;
  readonly admin: Listening;
}

const mainFile = join(import.meta.dirname, '..', 'packages', 'cli', 'src', 'main.ts');
const readyTimeoutMs = 15_000;
const stopTimeoutMs = 20_000;

/** Set where the server's descriptors cannot be counted; for the `skip` of tests that count them. */
export const noProc = existsSync('/proc/self/fd') ? false : 'there is no /proc here';

/** Without what the test runner sets, and without settings of a Hawser that whoever runs the tests may have. */
export function ownEnvironment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !/^(HAWSER_|NODE_TEST_CONTEXT$)/.test(name));
  return Object.fromEntries(kept);
}

const living = new Set<ChildProcess>();
const temporary = new Set<string>();
let lastStart: Promise<void> = Promise.resolve();

// Nothing outlives the test process, however it ends (short of its own SIGKILL).
process.on('exit', () => {
  for (const child of living) child.kill('SIGKILL');
  // Where it dies a moment later, it may still write into what is being deleted.
  for (const data of temporary) {
    try {
      rmSync(data, { recursive: true, force: true, maxRetries: 10, retryDelay: 20 });
    } catch (error) {
      console.error(`${data} is left behind: ${error}`);
    }
  }
});
for (const [signal, number] of [
  ['SIGHUP', 1],
  ['SIGINT', 2],
  ['SIGTERM', 15],
] as const) {
  process.once(signal, () => process.exit(128 + number));
}

export class Server implements AsyncDisposable {
  readonly data: string;
  readonly #options: StartOptions;
  #child: ChildProcess | undefined;
  #exited: Promise<number | null> = Promise.resolve(null);
  #ready: Ready | undefined;
  #lines: string[] = [];
  /** Whether an exit now would be this harness's doing. */
  #expected = false;

  constructor(data: string, options: StartOptions) {
    this.data = data;
    this.#options = options;
  }

  get host(): string {
    return this.#state().tcp.host;
  }

  get port(): number {
    return this.#state().tcp.port;
  }

  get tlsPort(): number {
    return this.#state().tls?.port ?? 0;
  }

  get httpsPort(): number {
    return this.#state().https?.port ?? 0;
  }

  get httpPort(): number {
    return this.#state().http.port;
  }

  get adminPort(): number {
    return this.#state().admin.port;
  }

  get pid(): number {
    const pid = this.#child?.pid;
    if (pid === undefined) throw new Error('the server is not running');
    return pid;
  }

  get alive(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** The stderr lines of this and of earlier runs on the same data. */
  logs(): string[] {
    return [...this.#lines];
  }

  /** Starts of one test file come one after the other, so that they do not slow one another beyond the deadline. */
  start(): Promise<void> {
    const started = lastStart.then(() => this.#start());
    lastStart = started.catch(() => {});
    return started;
  }

  async #start(): Promise<void> {
    if (this.alive) throw new Error('the server is already running');
    // Nothing of the caller's settings: the server refuses those of these tests, and others would change it.
    const inherited = Object.entries(process.env).filter(([name]) => !/^(?:HAWSER_|NODE_TEST_CONTEXT$)/.test(name));
    const env: NodeJS.ProcessEnv = { ...Object.fromEntries(inherited), ...this.#options.env };
    const args = ['serve', '--host', '127.0.0.1', '--port', '0', '--http-port', '0', '--admin-port', '0'];
    args.push('--data', this.data, ...(this.#options.args ?? []));
    const [program = process.execPath, ...rest] = [
      ...(this.#options.through ?? []),
      process.execPath,
      mainFile,
      ...args,
    ];
    const child = spawn(program, rest, { env, stdio: ['ignore', 'ignore', 'pipe'] });
    this.#child = child;
    this.#ready = undefined;
    this.#expected = false;
    living.add(child);
    const from = this.#lines.length;
    const ready = Promise.withResolvers<Ready>();
    this.#exited = new Promise((resolve) => {
      const gone = (code: number | null, reason: string) => {
        living.delete(child);
        resolve(code);
        ready.reject(new Error(`the server ${reason}; its stderr:\n${this.#lines.slice(from).join('\n')}`));
        if (!this.#expected && this.#ready !== undefined) {
          console.error(`the server ${reason} by itself; the end of its stderr:\n${this.#lines.slice(-40).join('\n')}`);
        }
      };
      child.once('error', (error) => gone(null, `did not start: ${error.message}`));
      // 'close' comes after 'exit' and after the last line of stderr.
      child.once('close', (code, signal) => gone(code, `exited with ${code ?? signal}`));
    });
    ready.promise.catch(() => {});
    if (child.stderr === null) throw new Error('no stderr');
    // A test file whose hooks failed is to end, not to wait for its server; `exit` above kills that.
    child.unref();
    (child.stderr as Socket).unref();
    createInterface({ input: child.stderr }).on('line', (line) => {
      this.#lines.push(line);
      const found = readyIn(line);
      if (found !== undefined) ready.resolve(found);
    });
    const timer = setTimeout(() => {
      const stderr = this.#lines.slice(from).join('\n');
      ready.reject(new Error(`the server was not ready within ${readyTimeoutMs} ms; its stderr:\n${stderr}`));
    }, readyTimeoutMs);
    try {
      this.#ready = await ready.promise;
    } catch (error) {
      child.kill('SIGKILL');
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** It may end by itself from now on, until it is started again. */
  mayEnd(): void {
    this.#expected = true;
  }

  /** SIGTERM, then the exit code (null when a signal ended it). */
  async stop(): Promise<number | null> {
    const child = this.#child;
    if (child === undefined) return null;
    this.#expected = true;
    let overdue = false;
    const timer = setTimeout(() => {
      overdue = true;
      child.kill('SIGKILL');
    }, stopTimeoutMs);
    child.kill('SIGTERM');
    const code = await this.#gone();
    clearTimeout(timer);
    if (overdue) {
      throw new Error(`the server ignored SIGTERM for ${stopTimeoutMs} ms; its stderr:\n${this.#lines.join('\n')}`);
    }
    return code;
  }

  async kill9(): Promise<void> {
    this.#expected = true;
    this.#child?.kill('SIGKILL');
    await this.#gone();
  }

  /** Waits until it ends by itself; gives the exit code. */
  ended(): Promise<number | null> {
    this.#expected = true;
    return this.#gone();
  }

  /** Stops it when it runs, and starts it again on the same data; the ports change. */
  async restart(): Promise<this> {
    if (this.alive) await this.stop();
    await this.start();
    return this;
  }

  /** How many descriptors the server has open, other than files below its data directory. */
  openDescriptors(): number {
    const folder = `/proc/${this.pid}/fd`;
    let count = 0;
    for (const entry of readdirSync(folder)) {
      try {
        if (!readlinkSync(join(folder, entry)).startsWith(this.data)) count += 1;
      } catch {
        // closed in the meantime
      }
    }
    return count;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.stop();
    } finally {
      if (temporary.delete(this.data)) await rm(this.data, { recursive: true, force: true });
    }
  }

  /** The exit, awaited with something that keeps this process running (the child itself does not). */
  async #gone(): Promise<number | null> {
    const alive = setInterval(() => {}, 1_000);
    try {
      return await this.#exited;
    } finally {
      clearInterval(alive);
    }
  }

  #state(): Ready {
    if (this.#ready === undefined) throw new Error('the server has not been ready yet');
    return this.#ready;
  }
}

export async function startServer(options: StartOptions = {}): Promise<Server> {
  const data = options.data ?? (await mkdtemp(join(tmpdir(), 'hawser-test-')));
  if (options.data === undefined) temporary.add(data);
  const server = new Server(data, options);
  try {
    await server.start();
  } catch (error) {
    await server[Symbol.asyncDispose]().catch(() => {});
    throw error;
  }
  return server;
}

function readyIn(line: string): Ready | undefined {
  if (!line.includes('"ready"')) return undefined;
  try {
    const entry = JSON.parse(line) as Partial<Ready> & { readonly msg?: unknown };
    if (entry.msg !== 'ready' || !entry.tcp || !entry.http || !entry.admin) return undefined;
    return entry as Ready;
  } catch {
    return undefined;
  }
}
