/** A C compiler, for the tests of `examples/c`. */

import { spawnSync } from 'node:child_process';

const INSTALL_TIMEOUT_MS = 240_000;
const PACKAGES = ['gcc', 'libc6-dev', 'make'];

/** The compilers that are there: each has to take the example. */
export function compilers(): string[] {
  const found = ['cc', 'clang'].filter(isThere);
  return found.length > 0 ? found : ['gcc'].filter(isThere);
}

export function isThere(program: string): boolean {
  return spawnSync(program, ['--version'], { stdio: 'ignore' }).status === 0;
}

/** Installs one where that can be done without asking: as root on Debian and its like. Says so when it could not. */
export function installCompiler(): void {
  if (compilers().length > 0) return;
  const isRoot = process.getuid?.() === 0;
  const failure = !isRoot || !isThere('apt-get') ? 'it is installed by root on Debian only' : aptInstall();
  if (failure === undefined) console.log(`▶ installed ${PACKAGES.join(', ')} for the tests of examples/c`);
  else console.log(`▶ no C compiler, so that the tests of examples/c are skipped: ${failure}`);
}

/** What went wrong, if anything did. */
function aptInstall(): string | undefined {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  for (const args of [['update'], ['install', '--yes', '--no-install-recommends', ...PACKAGES]]) {
    const { status, error, stderr } = spawnSync('apt-get', args, { env, timeout: INSTALL_TIMEOUT_MS });
    if (status !== 0) return `apt-get ${args[0]}: ${error?.message ?? String(stderr).trim().split('\n').at(-1)}`;
  }
  return compilers().length > 0 ? undefined : 'apt-get installed it, and it does not run';
}
