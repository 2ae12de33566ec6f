// What the server has used, as the kernel and its own metrics tell it.
import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

function ticksPerSecond(): number {
  try {
    return Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' })) || 100;
  } catch {
    return 100;
  }
}

const MS_PER_TICK = 1000 / ticksPerSecond();

/** User and system time of a process with all its threads, ended ones too, in ms. Linux only; steps of a tick (10 ms). */
export function cpuMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * MS_PER_TICK;
}

/** The same of a process and of those that it started and that run still: PostgreSQL has one for each connection. */
export function cpuMsOfAll(pid: number): number {
  const { stdout } = spawnSync('ps', ['-A', '-o', 'pid=,ppid='], { encoding: 'utf8' });
  let sum = cpuMs(pid);
  for (const line of stdout.split('\n')) {
    const [child, parent] = line.trim().split(/\s+/).map(Number);
    if (parent === pid && child !== undefined) sum += cpuMs(child);
  }
  return sum;
}

/** Who in a process has used the time: by the names of its threads. */
export type Threads = { main: number; collector: number; store: number };

/**
 * User and system time in ms of the main thread, of V8's threads, which mostly collect garbage, and of libuv's, on which
 * the store works (LevelDB's own has their name too). Threads that have ended are not in it.
 */
export function threadsMs(pid: number): Threads {
  const used: Threads = { main: 0, collector: 0, store: 0 };
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    const stat = readFileSync(`/proc/${pid}/task/${task}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const ms = (Number(fields[11]) + Number(fields[12])) * MS_PER_TICK;
    if (Number(task) === pid) used.main += ms;
    else if (stat.includes('(node-V8Worker)')) used.collector += ms;
    else if (stat.includes('(libuv-worker)')) used.store += ms;
  }
  return used;
}

function statusKiB(pid: number, name: string): number {
  const found = new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(found?.[1]);
}

export function residentKiB(pid: number): number {
  return statusKiB(pid, 'VmRSS');
}

/** The part of it that is no mapped file: a store that maps its files has the page cache in the other part. */
export function anonymousKiB(pid: number): number {
  return statusKiB(pid, 'RssAnon');
}

/** The most that was ever resident. */
export function peakKiB(pid: number): number {
  return statusKiB(pid, 'VmHWM');
}

/** Sums of counters over their labels, by name; empty when the server has no metrics. */
export async function metrics(adminPort: number | null): Promise<Map<string, number>> {
  const sums = new Map<string, number>();
  if (adminPort === null) return sums;
  const answer = await fetch(`http://127.0.0.1:${adminPort}/metrics`);
  if (!answer.ok) throw new Error(`/metrics answered ${answer.status}`);
  for (const line of (await answer.text()).split('\n')) {
    const found = /^([a-zA-Z_:][\w:]*)(?:\{.*\})? ([-+.\deE]+)/.exec(line);
    if (found !== null) sums.set(found[1]!, (sums.get(found[1]!) ?? 0) + Number(found[2]));
  }
  return sums;
}

/** A gauge of bytes in MiB; null when the server does not have it. */
export function mebibytes(name: string, at: Map<string, number>): number | null {
  const value = at.get(name);
  return value === undefined ? null : value / 2 ** 20;
}

/** How much a counter grew; null when the server does not have it. */
export function growth(name: string, before: Map<string, number>, after: Map<string, number>): number | null {
  const value = after.get(name);
  return value === undefined ? null : value - (before.get(name) ?? 0);
}
