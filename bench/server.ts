// Starts what is measured, pinned or not, and stops it.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Job, Outcome } from './job.ts';
import type { Endpoint } from './link.ts';
import { cpuMs } from './sampling.ts';

export type Target = 'server' | 'floor';

const ROOT = join(import.meta.dirname, '..');
const READY_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 15_000;
const JOB_TIMEOUT_MS = 400_000;
const LINES_KEPT = 30;

const canPin = spawnSync('taskset', ['-V'], { stdio: 'ignore' }).status === 0;
const children = new Set<ChildProcess>();
const dataDirectories = new Set<string>();

/** Node with these arguments, on one core if it is given and can be. taskset execs, so the pid is Node's. */
function start(core: number | null, args: string[]): ChildProcess {
  const [command, prefix] =
    core !== null && canPin ? ['taskset', ['-c', String(core), process.execPath]] : [process.execPath, []];
  const child = spawn(command, [...prefix, ...args], { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] });
  children.add(child);
  child.once('exit', () => children.delete(child));
  return child;
}

/** A new data directory below `dataRoot`. */
export function makeData(dataRoot: string): string {
  const data = mkdtempSync(join(dataRoot, 'data-'));
  dataDirectories.add(data);
  return data;
}

export function removeData(directory: string): void {
  rmSync(directory, { recursive: true, force: true });
  dataDirectories.delete(directory);
}

/** Ends and removes whatever this process started and made. */
export function killAll(): void {
  for (const child of children) child.kill('SIGKILL');
  for (const directory of dataDirectories) removeData(directory);
}

export type Running = {
  pid: number;
  endpoint: Endpoint;
  adminPort: number | null;
  /** From the start of the process to its ready line, by the clock and in CPU time. */
  readyMs: number;
  readyCpuMs: number;
  /** Returns what was wrong with its end. */
  stop: () => Promise<string[]>;
};

function portOf(value: unknown): number | null {
  const port = typeof value === 'object' && value !== null && 'port' in value ? value.port : null;
  return typeof port === 'number' ? port : null;
}

/** The ready line's ports; null for any other line. */
function readyPorts(line: string): { tcp: number; admin: number | null } | null {
  if (!line.startsWith('{')) return null;
  try {
    const { msg, tcp, admin } = JSON.parse(line);
    const port = portOf(tcp);
    return msg === 'ready' && port !== null ? { tcp: port, admin: portOf(admin) } : null;
  } catch {
    return null;
  }
}

/** A server on this data directory. Rejects with its last words when it does not come up. */
export async function startServer(
  target: Target,
  core: number | null,
  data: string,
  serverArgs: readonly string[],
  nodeArgs: readonly string[] = [],
): Promise<Running> {
  const zeroPorts = ['--port', '0', '--http-port', '0', '--admin-port', '0'];
  const serve = [
    'packages/cli/src/main.ts',
    'serve',
    '--host',
    '127.0.0.1',
    ...zeroPorts,
    '--data',
    data,
    ...serverArgs,
  ];
  const startedAtMs = performance.now();
  const child = start(core, [...nodeArgs, ...(target === 'floor' ? ['bench/floor.ts'] : serve)]);
  const lastLines: string[] = [];
  const { promise, resolve, reject } = Promise.withResolvers<{ tcp: number; admin: number | null }>();
  child.stdout?.resume();
  createInterface({ input: child.stderr! }).on('line', (line) => {
    const ports = readyPorts(line);
    if (ports !== null) resolve(ports);
    lastLines.push(line);
    if (lastLines.length > LINES_KEPT) lastLines.shift();
  });
  child.once('error', reject);
  const ended = once(child, 'exit');
  let stopping = false;
  let crash = '';
  void ended.then(([code, signal]) => {
    if (stopping) return;
    crash = `the ${target} ended by itself (${signal ?? code}):\n${lastLines.join('\n')}`;
    reject(new Error(crash));
  });
  const timer = setTimeout(
    () => reject(new Error(`the ${target} did not get ready:\n${lastLines.join('\n')}`)),
    READY_TIMEOUT_MS,
  );

  async function stop(): Promise<string[]> {
    stopping = true;
    const wrong = crash === '' ? [] : [crash];
    const killer = setTimeout(() => {
      wrong.push(`the ${target} did not stop on SIGTERM`);
      child.kill('SIGKILL');
    }, STOP_TIMEOUT_MS);
    child.kill('SIGTERM');
    await ended;
    clearTimeout(killer);
    return wrong;
  }

  try {
    const { tcp, admin } = await promise;
    const pid = child.pid!;
    const [readyMs, readyCpuMs] = [performance.now() - startedAtMs, cpuMs(pid)];
    return { pid, endpoint: { host: '127.0.0.1', port: tcp }, adminPort: admin, readyMs, readyCpuMs, stop };
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

/** Runs one job in a generator process of its own. */
export async function generate(core: number | null, job: Job): Promise<Outcome> {
  const child = start(core, ['bench/generator.ts', JSON.stringify(job)]);
  let output = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  child.stderr?.pipe(process.stderr, { end: false });
  const timer = setTimeout(() => child.kill('SIGKILL'), JOB_TIMEOUT_MS);
  await once(child, 'close');
  clearTimeout(timer);
  try {
    return JSON.parse(output);
  } catch {
    return { figures: {}, violations: ['the generator gave no result'] };
  }
}
