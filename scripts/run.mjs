// Runs a file with the Node that this repository pins, and installs what is missing first:
//
//   node scripts/run.mjs FILE [args…]
//
// Plain JavaScript for Node 18 and later, because it has to start before anything is installed.

import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isatty } from 'node:tty';
import { fileURLToPath } from 'node:url';

const OLDEST_NODE = [24, 12];
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'];
const LOCK_TOUCH_MS = 2_000;
const LOCK_STALE_MS = 10_000;

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const bin = join(root, 'node_modules', '.bin');

/** The last signal that came while a child was running. */
let signalled;

/** Ends the process with one line. */
function fail(message, code = 1) {
  console.error(`hawser: ${message}`);
  process.exit(code);
}

/** Whether node_modules holds every package that package-lock.json names, in its version. */
function isInstalled() {
  let locked;
  let installed;
  try {
    locked = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
    // npm writes this one last, so a broken-off install has none.
    installed = JSON.parse(readFileSync(join(root, 'node_modules', '.package-lock.json'), 'utf8')).packages;
  } catch {
    return false;
  }
  return Object.entries(locked).every(([path, wanted]) => {
    if (!path.startsWith('node_modules/')) return true;
    const found = installed[path];
    // npm leaves out an optional package that is for another platform.
    if (found === undefined) return wanted.optional === true;
    return (
      found.version === wanted.version &&
      found.integrity === wanted.integrity &&
      found.link === wanted.link &&
      existsSync(join(root, path, 'package.json'))
    );
  });
}

/** PATH with node_modules/.bin first, or without it. */
function pathVariable(withBin) {
  const rest = (process.env.PATH ?? '').split(delimiter).filter((folder) => folder !== bin);
  return (withBin ? [bin, ...rest] : rest).join(delimiter);
}

/** Runs a command to its end, hands it the signals that come meanwhile, and returns its exit code. */
function runToEnd(command, args, options) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, options);
    const forward = (signal) => {
      signalled = signal;
      // A Ctrl-C at a terminal reaches the child from there.
      if (signal !== 'SIGINT' || !isatty(0)) child.kill(signal);
    };
    for (const signal of SIGNALS) process.on(signal, forward);
    const settle = (end) => {
      for (const signal of SIGNALS) process.off(signal, forward);
      end();
    };
    child.once('error', (error) => settle(() => reject(error)));
    child.once('exit', (code, signal) => settle(() => resolve(code ?? 128 + constants.signals[signal])));
  });
}

/** Keeps two installs of this folder from running at once. Its owner touches the lock, so a dead one's goes stale. */
async function withLock(work) {
  const name = createHash('sha256').update(root).digest('hex').slice(0, 16);
  const lock = join(tmpdir(), `hawser-install-${process.getuid?.() ?? ''}-${name}.lock`);
  const mine = `${process.pid} ${Math.random()}`;
  const isMine = () => readOr(lock) === mine;
  let hasSaidSo = false;
  for (;;) {
    try {
      writeFileSync(lock, mine, { flag: 'wx' });
      break;
    } catch (error) {
      if (error.code !== 'EEXIST') fail(`the lock ${lock} cannot be written: ${error.message}`);
    }
    if (isStale(lock)) {
      // Of several that take a stale lock over, the last one has it.
      writeFileSync(`${lock}.${process.pid}`, mine);
      renameSync(`${lock}.${process.pid}`, lock);
      await sleep(300);
      if (isMine()) break;
    }
    if (!hasSaidSo) console.error('hawser: waiting for another process that installs the packages');
    hasSaidSo = true;
    await sleep(200);
  }
  const touch = setInterval(() => isMine() && writeFileSync(lock, mine), LOCK_TOUCH_MS);
  const release = () => isMine() && rmSync(lock, { force: true });
  process.once('exit', release);
  try {
    return await work();
  } finally {
    clearInterval(touch);
    release();
  }
}

function readOr(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function isStale(lock) {
  try {
    return Date.now() - statSync(lock).mtimeMs > LOCK_STALE_MS;
  } catch {
    return false;
  }
}

async function install() {
  if (isInstalled()) return; // another process has installed it while this one waited
  console.error('hawser: node_modules does not match package-lock.json: running npm ci');
  const flags = ['ci', '--include=dev', '--include=optional', '--no-audit', '--no-fund', '--loglevel=error'];
  // npm ci removes node_modules, so it must not run with the Node that lies in there.
  const options = {
    cwd: root,
    env: { ...process.env, PATH: pathVariable(false) },
    stdio: ['ignore', 'ignore', 'inherit'],
  };
  const code = await runToEnd('npm', flags, options).catch((error) => fail(`npm cannot be started: ${error.message}`));
  if (signalled !== undefined) fail(`npm ci was ended by ${signalled}`, 128 + constants.signals[signalled]);
  if (code !== 0) fail(`npm ci failed with exit code ${code}, so nothing was started`, code);
  if (!isInstalled()) fail('npm ci has ended, but node_modules still does not match package-lock.json');
}

/** The Node to run with: the pinned one, else the one that runs this if it is new enough. */
function chooseNode() {
  const pinned = join(bin, 'node');
  if (existsSync(pinned)) return pinned;
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major > OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor >= OLDEST_NODE[1])) return process.execPath;
  const platform = `${process.platform}-${process.arch}`;
  return fail(`no Node is pinned for ${platform}, and ${process.version} is older than ${OLDEST_NODE.join('.')}`);
}

async function main() {
  const args = process.argv.slice(2);
  if (args.length === 0) fail('usage: node scripts/run.mjs FILE [args…]', 2);
  if (!isInstalled()) await withLock(install);
  const node = chooseNode();
  const env = { ...process.env, PATH: pathVariable(true) };
  // To strip types and compile is half of what a start takes. Whoever may write there may change the packages, too.
  env.NODE_COMPILE_CACHE ??= join(root, 'node_modules', '.cache', 'compiled');
  try {
    process.execve?.(node, [node, ...args], env); // takes the place of this process, from Node 22.15 on
  } catch {
    // The reason is told when it cannot be spawned either.
  }
  process.exitCode = await runToEnd(node, args, { env, stdio: 'inherit' }).catch((error) =>
    fail(`${node} cannot be started: ${error.message}`),
  );
}

await main();
