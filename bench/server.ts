// Starts what is measured, pinned or not, and stops it.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Job, Outcome } from './job.ts';
import type { Endpoint } from './link.ts';
import { type Command, PEER_ENV, type Peer } from './peers.ts';
import { cpuMs } from './sampling.ts';

/** Our server, the floor, or a peer. */
export type Target = 'server' | 'floor' | Peer;

const ROOT = join(import.meta.dirname, '..');
const READY_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 15_000;
const JOB_TIMEOUT_MS = 400_000;
const LINES_KEPT = 30;
const CONNECT_AGAIN_AFTER_MS = 20;

const canPin = spawnSync('taskset', ['-V'], { stdio: 'ignore' }).status === 0;
const children = new Set<ChildProcess>();
const dataDirectories = new Set<string>();

/** The program with these arguments, on one core if it is given and can be. taskset execs, so the pid is the program's. */
function start(core: number | null, program: string, args: string[], more: Record<string, string> = {}): ChildProcess {
  const env = { ...PEER_ENV, ...more };
  const [command, prefix] = core !== null && canPin ? ['taskset', ['-c', String(core), program]] : [program, []];
  const child = spawn(command, [...prefix, ...args], { cwd: ROOT, env, stdio: ['ignore', 'pipe', 'pipe'] });
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
  httpPort: number | null;
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

type Ports = { tcp: number; http: number | null; admin: number | null };

/** The ready line's ports; null for any other line. */
function readyPorts(line: string): Ports | null {
  if (!line.startsWith('{')) return null;
  try {
    const { msg, tcp, http, admin } = JSON.parse(line);
    const port = portOf(tcp);
    return msg === 'ready' && port !== null ? { tcp: port, http: portOf(http), admin: portOf(admin) } : null;
  } catch {
    return null;
  }
}

export function nameOf(target: Target): string {
  return typeof target === 'string' ? target : target.name;
}

async function commandOf(
  target: Target,
  data: string,
  serverArgs: readonly string[],
  nodeArgs: readonly string[],
): Promise<Command> {
  if (typeof target !== 'string') return target.command(data);
  const file = process.execPath;
  if (target === 'floor') return { file, args: [...nodeArgs, 'bench/floor.ts'], port: null };
  const listen = ['--host', '127.0.0.1', '--port', '0', '--http-port', '0', '--admin-port', '0'];
  const serve = ['packages/cli/src/main.ts', 'serve', ...listen, '--data', data, ...serverArgs];
  return { file, args: [...nodeArgs, ...serve], port: null };
}

/** Resolves once somebody listens there. */
async function listening(port: number, isOver: () => boolean): Promise<void> {
  for (;;) {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const socket = connect({ host: '127.0.0.1', port }, () => resolve(true)).on('error', () => resolve(false));
    const isOpen = await promise;
    socket.destroy();
    if (isOpen || isOver()) return;
    await sleep(CONNECT_AGAIN_AFTER_MS);
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
  const command = await commandOf(target, data, serverArgs, nodeArgs);
  const name = nameOf(target);
  const startedAtMs = performance.now();
  const child = start(core, command.file, command.args, command.env);
  const lastLines: string[] = [];
  const { promise, resolve, reject } = Promise.withResolvers<Ports>();
  child.stdout?.resume();
  createInterface({ input: child.stderr! }).on('line', (line) => {
    const ports = readyPorts(line);
    if (ports !== null) resolve(ports);
    lastLines.push(line);
    if (lastLines.length > LINES_KEPT) lastLines.shift();
  });
  child.once('error', reject);
  let isOver = false;
  const { port } = command;
  if (port !== null) void listening(port, () => isOver).then(() => resolve({ tcp: port, http: null, admin: null }));
  const ended = once(child, 'exit');
  let stopping = false;
  let crash = '';
  void ended.then(([code, signal]) => {
    if (stopping) return;
    crash = `the ${name} ended by itself (${signal ?? code}):\n${lastLines.join('\n')}`;
    reject(new Error(crash));
  });
  const timer = setTimeout(
    () => reject(new Error(`the ${name} did not get ready:\n${lastLines.join('\n')}`)),
    READY_TIMEOUT_MS,
  );

  async function stop(): Promise<string[]> {
    stopping = true;
    const wrong = crash === '' ? [] : [crash];
    const killer = setTimeout(() => {
      wrong.push(`the ${name} did not stop on SIGTERM`);
      child.kill('SIGKILL');
    }, STOP_TIMEOUT_MS);
    child.kill('SIGTERM');
    await ended;
    clearTimeout(killer);
    return wrong;
  }

  try {
    const { tcp, http, admin } = await promise;
    const pid = child.pid!;
    const [readyMs, readyCpuMs] = [performance.now() - startedAtMs, cpuMs(pid)];
    const ports = { endpoint: { host: '127.0.0.1', port: tcp }, httpPort: http, adminPort: admin };
    return { pid, ...ports, readyMs, readyCpuMs, stop };
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  } finally {
    isOver = true;
    clearTimeout(timer);
  }
}

/** Runs one job in a generator process of its own. */
export async function generate(core: number | null, job: Job): Promise<Outcome> {
  const child = start(core, process.execPath, ['bench/generator.ts', JSON.stringify(job)]);
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
