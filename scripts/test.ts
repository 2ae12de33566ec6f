/**
 * What `npm test` runs: Biome, the types, then every test. With paths or patterns as arguments, only the tests that
 * they name. The last line is `N passed, N failed`, counting the two steps before the tests too.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { subscribe } from 'node:diagnostics_channel';
import {
  chmodSync,
  globSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { availableParallelism, constants, tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { run } from 'node:test';
import { spec as Spec } from 'node:test/reporters';
import { setTimeout as sleep } from 'node:timers/promises';
import { installCompiler } from './compiler.ts';
import { installPostgres, postgresTemplate } from './postgres.ts';
import { installRedis } from './redis.ts';

const EVERY_TEST = [
  'packages/*/src/**/*.test.ts',
  'test/**/*.test.ts',
  'sim/**/*.test.ts',
  'torture/**/*.test.ts',
  'fuzz/**/*.test.ts',
];
/** Half of them wait for time to pass, or for another process, at any moment. */
const FILES_AT_ONCE = Math.ceil(1.5 * availableParallelism());
/** What takes longest, the longest first: begun last, it would be left to itself at the end. */
const LONGEST = [
  'test/operator.test.ts',
  'sim/sim.test.ts',
  'test/device.test.ts',
  'test/cluster.test.ts',
  'fuzz/fuzz.test.ts',
  'test/abuse.test.ts',
  'test/app.test.ts',
  'test/full-disk.test.ts',
  'packages/server/src/postgres.test.ts',
  'packages/server/src/cluster/redis/shards.test.ts',
  'packages/server/src/cluster/redis/trouble.test.ts',
  'packages/server/src/postgres-faults.test.ts',
];
const TEST_TIMEOUT_MS = 120_000;
/** How long the process of a test file may go on after its last test has ended. */
const OPEN_HANDLE_MS = 60_000;
/** How long a test file may say nothing while a test is running. It ends an endless loop, which no timeout can. */
const SILENCE_MS = 600_000;
const FOLDER = 'hawser-tests-';
const MEMORY_BYTES_LEAST = 4 * 2 ** 30;
/** A name and a value in the environment, which processes inherit: by it, what the tests start is found again. */
const MARK = ['TEST_RUN_OF_HAWSER', `${process.pid}-${Date.now()}`] as const;

const root = resolve(import.meta.dirname, '..');
/** A folder of this run, for what its processes share and for what they have in temporary folders. */
const shared = folderInMemory() ?? mkdtempSync(join(tmpdir(), FOLDER));
// Some of what tests start runs as somebody else.
chmodSync(shared, 0o711);
process.once('exit', () => rmSync(shared, { recursive: true, force: true, maxRetries: 10, retryDelay: 20 }));
const env: NodeJS.ProcessEnv = {
  ...process.env,
  [MARK[0]]: MARK[1],
  TMPDIR: shared,
  // Several hundred processes and threads load the same sources: to strip their types and compile them is half of what it
  // takes to start a server.
  NODE_COMPILE_CACHE: join(shared, 'compiled'),
};
const began = performance.now();
const counts = { passed: 0, failed: 0, skipped: 0 };
const stop = new AbortController();
let stoppedBy: NodeJS.Signals | undefined;

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    stoppedBy ??= signal;
    stop.abort();
  });
}

async function step(name: string, args: string[]): Promise<void> {
  if (stoppedBy !== undefined) return;
  console.log(`▶ ${name}`);
  const child = spawn(process.execPath, args, { cwd: root, env, stdio: ['ignore', 'inherit', 'inherit'] });
  const kill = (): boolean => child.kill();
  stop.signal.addEventListener('abort', kill);
  const code = await new Promise((done) => child.once('exit', done));
  stop.signal.removeEventListener('abort', kill);
  if (code === 0) counts.passed++;
  else fail(name);
}

function fail(what: string): void {
  counts.failed++;
  console.log(`✖ ${what}`);
}

/** The files that the patterns name. A folder stands for the tests in it. */
function testFiles(patterns: string[]): string[] {
  const files = patterns.flatMap((pattern) => {
    const isFolder = statSync(resolve(root, pattern), { throwIfNoEntry: false })?.isDirectory() === true;
    const found = globSync(isFolder ? join(pattern, '**/*.test.ts') : pattern, {
      cwd: root,
      exclude: (path) => path.includes('node_modules'),
    });
    if (found.length === 0 && patterns !== EVERY_TEST) fail(`no test file matches ${pattern}`);
    return found.map((file) => resolve(root, file));
  });
  const rank = (file: string): number => {
    const place = LONGEST.indexOf(relative(root, file));
    return place < 0 ? LONGEST.length : place;
  };
  return [...new Set(files)].sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
}

/**
 * A folder on no disk, where there is one with room that programs may be run from: stores sync all the time, and what a sync
 * is good for no test can see, since the machine goes on.
 */
function folderInMemory(): string | undefined {
  try {
    const memory = realpathSync('/dev/shm');
    const { bavail, bsize } = statfsSync(memory);
    if (bavail * bsize < MEMORY_BYTES_LEAST) return undefined;
    const folder = mkdtempSync(join(memory, FOLDER));
    const program = join(folder, 'program');
    writeFileSync(program, '#!/bin/sh\n', { mode: 0o700 });
    if (spawnSync(program).status === 0) return folder;
    rmSync(folder, { recursive: true });
  } catch {
    // There is none, or not for us.
  }
  return undefined;
}

/** What `node:test` reports of a test or suite. `entryFile` is missing for what it reports of a file as a whole. */
type Report = {
  name: string;
  file?: string;
  entryFile?: string;
  skip?: string | boolean;
  todo?: string | boolean;
  details?: { type?: string | undefined; error?: { failureType?: unknown } | undefined };
};

async function runTests(files: string[]): Promise<void> {
  const running = watchFiles();
  const stream = run({
    files,
    cwd: root,
    env,
    concurrency: FILES_AT_ONCE,
    timeout: TEST_TIMEOUT_MS,
    forceExit: false,
    signal: stop.signal,
  });
  stream.on('test:enqueue', running.began);
  stream.on('test:complete', running.ended);
  stream.on('test:pass', (test: Report) => {
    if (test.skip !== undefined || test.todo !== undefined) counts.skipped++;
    else if (test.entryFile === undefined) fail(`${test.name} holds no test`);
    else if (test.details?.type !== 'suite') counts.passed++;
  });
  stream.on('test:fail', (test: Report) => {
    if (test.todo !== undefined) counts.skipped++;
    // A suite fails on its own account only when one of its hooks does.
    else if (test.details?.type !== 'suite' || test.details.error?.failureType !== 'subtestsFailed') counts.failed++;
  });
  for await (const text of stream.compose(new Spec())) process.stdout.write(text);
  running.close();
}

/**
 * Ends the processes of test files that do not end by themselves. With `forceExit`, a server or timer that a test left
 * open would go unseen; without it, `run` would wait for ever.
 */
function watchFiles() {
  type File = { open: number; ended: number; heard: number };
  /** The processes, and since when: a file is reported long before its turn comes. */
  const children = new Map<ChildProcess, number>();
  const files = new Map<string, File>();
  const onChild = (message: unknown): unknown =>
    children.set((message as { process: ChildProcess }).process, performance.now());
  const hear = (report: Report, open: number): void => {
    const path = report.entryFile ?? resolve(root, report.name);
    const file = files.get(path) ?? { open: 0, ended: 0, heard: 0 };
    files.set(path, file);
    file.heard = performance.now();
    if (report.entryFile === undefined) return;
    file.open += open;
    if (open < 0) file.ended++;
  };
  const check = (): void => {
    for (const [child, startedAt] of children) {
      if (child.exitCode !== null || child.signalCode !== null) {
        children.delete(child);
        continue;
      }
      const [path, file] = [...files].find(([path]) => child.spawnargs.includes(path)) ?? [];
      if (path === undefined || file === undefined) continue;
      const limit = file.open > 0 ? SILENCE_MS : file.ended > 0 ? OPEN_HANDLE_MS : TEST_TIMEOUT_MS;
      if (performance.now() - Math.max(file.heard, startedAt) < limit) continue;
      child.kill('SIGKILL');
      console.log(
        file.open === 0 && file.ended > 0
          ? `✖ ${path} does not end: its tests are done, but one left a server, socket, timer or child open`
          : `✖ ${path} does not end: nothing was heard of it for ${limit / 1000} s`,
      );
    }
  };
  subscribe('child_process', onChild);
  const timer = setInterval(check, 500);
  return {
    began: (report: Report): void => hear(report, 1),
    ended: (report: Report): void => hear(report, -1),
    close: (): void => clearInterval(timer),
  };
}

/** Ends the processes that the tests left running. On Linux only, where they can be found. */
async function endLeftovers(): Promise<void> {
  if (process.platform !== 'linux') return;
  for (let tries = 0; tries < 20 && leftovers().length > 0; tries++) await sleep(100);
  for (const { pid, command } of leftovers()) {
    process.kill(pid, 'SIGKILL');
    if (stoppedBy === undefined) fail(`left running by a test, and ended now: ${pid} ${command}`);
  }
}

function leftovers(): { pid: number; command: string }[] {
  return readdirSync('/proc').flatMap((entry) => {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || pid === process.pid) return [];
    try {
      if (!readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').includes(MARK.join('='))) return [];
      return { pid, command: readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ') };
    } catch {
      return []; // it has ended, or is not ours to read
    }
  });
}

/** Whether one of these files imports this. */
function isUsed(module: string, files: readonly string[]): boolean {
  return files.some((file) => readFileSync(file, 'utf8').includes(`${module}'`));
}

async function main(): Promise<void> {
  const patterns = process.argv.slice(2);
  if (patterns.length === 0) {
    await step('biome check', [join(root, 'node_modules/.bin/biome'), 'check', '.']);
    await step('tsc', [join(root, 'node_modules/.bin/tsc'), '--noEmit']);
  }
  const before = counts.passed + counts.failed;
  const files = testFiles(patterns.length === 0 ? EVERY_TEST : patterns);
  if (files.includes(join(root, 'test/c-device.test.ts')) && stoppedBy === undefined) installCompiler();
  if (isUsed('/scripts/postgres.ts', files) && stoppedBy === undefined) {
    installPostgres();
    Object.assign(env, postgresTemplate(shared));
  }
  const usesRedis = ['/server-harness', '/server-harness.ts'].some((module) => isUsed(module, files));
  if (usesRedis && stoppedBy === undefined) installRedis();
  if (files.length > 0 && stoppedBy === undefined) await runTests(files);
  if (counts.passed + counts.failed === before) fail('no test ran');
  await endLeftovers();
  const skipped = counts.skipped > 0 ? `, ${counts.skipped} skipped` : '';
  console.log(`\n${((performance.now() - began) / 1000).toFixed(1)} s in all`);
  console.log(`${counts.passed} passed, ${counts.failed} failed${skipped}`);
  process.exitCode = stoppedBy !== undefined ? 128 + constants.signals[stoppedBy] : counts.failed > 0 ? 1 : 0;
}

await main();
