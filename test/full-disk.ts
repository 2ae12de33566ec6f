// Folders that run out of room, in ways that need no large disk.

import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { newFolder } from './cli.ts';

/** A folder in which there is little room, until some is made. */
export interface TightFolder extends Disposable {
  readonly path: string;
  /** A program and its arguments through which a process runs that is to run out of room. */
  readonly through: readonly string[];
  makeRoom(): void;
}

/** Runs a process whose files may not grow beyond about so many KiB: half of it, or twice, as the shell counts. */
export function filesUpTo(kib: number): readonly string[] {
  return ['sh', '-c', `ulimit -f ${kib}; exec "$@"`, 'sh'];
}

/** Works everywhere: a write to a file that is too long fails, as one to a full disk does. */
function limitedFiles(): TightFolder {
  const folder = newFolder();
  return {
    path: folder.path,
    through: filesUpTo(4_096),
    makeRoom: () => {},
    [Symbol.dispose]: () => folder[Symbol.dispose](),
  };
}

/** A disk of its own in memory. */
function smallDisk(): TightFolder {
  const folder = newFolder();
  const path = join(folder.path, 'disk');
  mkdirSync(path);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=5m', 'tmpfs', path], { stdio: 'ignore' });
  return {
    path,
    through: [],
    makeRoom: () => void execFileSync('mount', ['-o', 'remount,size=100m', path], { stdio: 'ignore' }),
    [Symbol.dispose]() {
      execFileSync('umount', ['-l', path]);
      folder[Symbol.dispose]();
    },
  };
}

/** Why disks cannot be mounted here, for the `skip` of tests. */
export const noMount = ((): string | false => {
  if (process.platform !== 'linux') return 'needs Linux';
  try {
    smallDisk()[Symbol.dispose]();
    return false;
  } catch {
    return 'needs the right to mount';
  }
})();

export const waysOfRunningOut = [
  { way: 'files that may not grow', skip: false, open: limitedFiles },
  { way: 'a small disk', skip: noMount, open: smallDisk },
] as const;
