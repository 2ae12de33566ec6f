// Where a campaign's server keeps its data, and how that gets full.
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  statfsSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const SMALL_DISK_BYTES = 256 * 1024 * 1024;

function run(command: string, ...args: string[]): boolean {
  return spawnSync(command, args, { stdio: 'ignore' }).status === 0;
}

export class Folder {
  readonly path = mkdtempSync(join(tmpdir(), 'hawser-torture-'));
  /** It is a file system of its own, small enough to be filled. */
  readonly isSmall: boolean;

  /** @param wantsSmall where mounting is permitted */
  constructor(wantsSmall: boolean) {
    this.isSmall =
      wantsSmall && run('mount', '-t', 'tmpfs', '-o', `size=${SMALL_DISK_BYTES}`, 'hawser-torture', this.path);
    mkdirSync(this.data, { mode: 0o700 });
    process.on('exit', this.#unmount);
  }

  get data(): string {
    return join(this.path, 'data');
  }

  get #ballast(): string {
    return join(this.path, 'ballast');
  }

  /** Leaves no more than so many bytes free, while others write. */
  fill(roomBytes: number): void {
    const chunk = Buffer.alloc(1024 * 1024);
    const file = openSync(this.#ballast, 'w');
    try {
      for (let room = this.#freeBytes; room > roomBytes; room = this.#freeBytes) {
        writeSync(file, chunk, 0, Math.min(chunk.length, room - roomBytes));
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
    } finally {
      closeSync(file);
    }
  }

  get #freeBytes(): number {
    const { bavail, bsize } = statfsSync(this.path);
    return bavail * bsize;
  }

  makeRoom(): void {
    rmSync(this.#ballast, { force: true });
  }

  /** Copies what is needed to find out what went wrong, and returns where. */
  keep(texts: Readonly<Record<string, string>>): string {
    const kept = mkdtempSync(join(tmpdir(), 'hawser-torture-failed-'));
    cpSync(this.data, join(kept, 'data'), { recursive: true, filter: (path) => !path.endsWith('.sock') });
    for (const [name, text] of Object.entries(texts)) writeFileSync(join(kept, name), text);
    return kept;
  }

  remove(): void {
    process.off('exit', this.#unmount);
    this.#unmount();
  }

  readonly #unmount = (): void => {
    if (this.isSmall) run('umount', '-l', this.path);
    rmSync(this.path, { recursive: true, force: true, maxRetries: 5 });
  };
}

/** From now on no file of the process grows beyond this: writing fails as on a full disk. */
export function limitFiles(pid: number, bytes: number | 'unlimited'): boolean {
  return run('prlimit', '--pid', String(pid), `--fsize=${bytes}`);
}
