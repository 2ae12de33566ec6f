/** Programs that tests need and that npm does not have, from Debian. */

import { spawnSync } from 'node:child_process';

const INSTALL_TIMEOUT_MS = 240_000;

export function isThere(program: string): boolean {
  return spawnSync(program, ['--version'], { stdio: 'ignore' }).status === 0;
}

/** Installs where that can be done without asking: as root on Debian and its like. Returns what went wrong, if anything did. */
export function aptInstall(packages: readonly string[], isInstalled: () => boolean): string | undefined {
  const isRoot = process.getuid?.() === 0;
  if (!isRoot || !isThere('apt-get')) return 'it is installed by root on Debian only';
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  for (const args of [['update'], ['install', '--yes', '--no-install-recommends', ...packages]]) {
    const { status, error, stderr } = spawnSync('apt-get', args, { env, timeout: INSTALL_TIMEOUT_MS });
    if (status !== 0) return `apt-get ${args[0]}: ${error?.message ?? String(stderr).trim().split('\n').at(-1)}`;
  }
  return isInstalled() ? undefined : 'apt-get installed it, and it does not run';
}
