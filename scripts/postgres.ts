/** A PostgreSQL server, for the tests and the benchmark of the store on it: found, installed, run in a folder of its own. */

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  chownSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { aptInstall, isThere } from './apt.ts';

const START_TIMEOUT_MS = 60_000;
const QUIT_TIMEOUT_MS = 10_000;
const MEMORY_BYTES_LEAST = 2 ** 30;
/** Where Debian and its like have the programs, which they keep off the PATH. */
const DEBIAN_FOLDER = '/usr/lib/postgresql';
const DEBIAN_SETTINGS = '/etc/postgresql-common/createcluster.conf';

/** The folder of `postgres` and `initdb`; `undefined` when there is none. The newest, if there are several. */
export function postgresFolder(): string | undefined {
  const versions = list(DEBIAN_FOLDER).sort((one, other) => Number(other) - Number(one));
  const folders = [
    ...(process.env.PATH ?? '').split(delimiter),
    ...versions.map((each) => join(DEBIAN_FOLDER, each, 'bin')),
  ];
  return folders.find((folder) => isThere(join(folder, 'postgres')) && isThere(join(folder, 'initdb')));
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** Installs it where that can be done without asking: as root on Debian and its like. Says so when it could not. */
export function installPostgres(): void {
  if (postgresFolder() !== undefined) return;
  const failure = install();
  if (failure === undefined) console.log('▶ installed postgresql for the tests of the store on it');
  else console.log(`▶ no PostgreSQL, so that the tests of the store on it are skipped: ${failure}`);
}

/** What went wrong, if anything did. */
function install(): string | undefined {
  const failure = aptInstall(['postgresql-common'], () => existsSync(DEBIAN_SETTINGS));
  if (failure !== undefined) return failure;
  // Debian would make a database of its own and serve it; the tests make theirs.
  appendFileSync(DEBIAN_SETTINGS, '\ncreate_main_cluster = false\n');
  return aptInstall(['postgresql'], () => postgresFolder() !== undefined);
}

/** Where a server for tests has its data: in memory where there is room, since only the machine's end would tell. */
function folderForTests(): string {
  const memory = '/dev/shm';
  try {
    const { bavail, bsize } = statfsSync(memory);
    return bavail * bsize > MEMORY_BYTES_LEAST ? memory : tmpdir();
  } catch {
    return tmpdir();
  }
}

/** Where a server is reached besides its socket: an address, who is let in from there, and what runs a program there. */
export interface PostgresPlace {
  readonly address: string;
  readonly net: string;
  readonly through: readonly string[];
}

const PORT = 5432;

/** PostgreSQL does not run as root. */
function unprivileged(): { uid: number; gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined;
  for (const user of ['postgres', 'nobody']) {
    const [uid, gid] = ['-u', '-g'].map((option) =>
      Number(spawnSync('id', [option, user], { encoding: 'utf8' }).stdout),
    );
    if (uid !== undefined && gid !== undefined && uid > 0) return { uid, gid };
  }
  throw new Error('there is no user to run PostgreSQL as');
}

/** A variable that names an empty database, as `initdb` left it: many are begun by many processes, and a copy is cheaper. */
const TEMPLATE = 'POSTGRES_TEMPLATE_OF_TESTS';

/** Makes such a database below `parent`; returns what processes that are to copy it need in their environment. */
export function postgresTemplate(parent: string): NodeJS.ProcessEnv {
  const programs = postgresFolder();
  if (programs === undefined) return {};
  const folder = mkdtempSync(join(parent, 'template-'));
  const as = unprivileged();
  // Whoever runs it has to get there.
  for (const each of [parent, folder]) if (as !== undefined) chownSync(each, as.uid, as.gid);
  initialize(programs, folder, as);
  return { [TEMPLATE]: join(folder, DATA) };
}

/** The folder of a server's data, in its own. */
const DATA = 'data';

function initialize(programs: string, folder: string, as: { uid: number; gid: number } | undefined): void {
  const args = ['-D', join(folder, DATA), '-U', 'hawser', '-E', 'UTF8', '--locale=C', '-A', 'trust', '--no-sync'];
  const { status, stderr } = spawnSync(join(programs, 'initdb'), args, { ...as, cwd: folder, encoding: 'utf8' });
  if (status !== 0) throw new Error(`initdb: ${stderr}`);
}

const living = new Set<Postgres>();
process.on('exit', () => {
  for (const server of living) server.end();
});

/** A server with data of its own, reached by a socket in its folder, and where it has a place there. Everybody who gets there is let in. */
export class Postgres implements AsyncDisposable {
  readonly #programs: string;
  readonly #folder: string;
  readonly #as: { uid: number; gid: number } | undefined;
  readonly #settings: readonly string[];
  readonly #place: PostgresPlace | undefined;
  #process: ChildProcess | undefined;
  #log = '';

  private constructor(programs: string, folder: string, settings: readonly string[], place?: PostgresPlace) {
    this.#place = place;
    this.#programs = programs;
    this.#folder = folder;
    this.#as = unprivileged();
    this.#settings = settings;
  }

  /** Makes a server in a new folder below `parent` and starts it. `settings` are as `shared_buffers=64MB`. */
  static async start(
    settings: readonly string[] = [],
    parent: string = folderForTests(),
    place?: PostgresPlace,
  ): Promise<Postgres> {
    const programs = postgresFolder();
    if (programs === undefined) throw new Error('there is no PostgreSQL here');
    const server = new Postgres(programs, mkdtempSync(join(parent, 'hawser-pg-')), settings, place);
    living.add(server);
    server.#make();
    await server.start();
    return server;
  }

  #make(): void {
    if (this.#as !== undefined) chownSync(this.#folder, this.#as.uid, this.#as.gid);
    const template = process.env[TEMPLATE];
    if (template === undefined) initialize(this.#programs, this.#folder, this.#as);
    else {
      const { status, stderr } = spawnSync('cp', ['-Rp', template, this.#data], { encoding: 'utf8' });
      if (status !== 0) throw new Error(`cp: ${stderr}`);
    }
    if (this.#place === undefined) return;
    appendFileSync(join(this.#data, 'pg_hba.conf'), `host all all ${this.#place.net} trust\n`);
  }

  get #data(): string {
    return join(this.#folder, DATA);
  }

  get pid(): number {
    const pid = this.#process?.pid;
    if (pid === undefined) throw new Error('PostgreSQL is not running');
    return pid;
  }

  /** The server and all its processes. */
  get pids(): number[] {
    return [this.pid, ...childrenOf(this.pid)];
  }

  url(database = 'postgres'): string {
    if (this.#place !== undefined) return `postgres://hawser@${this.#place.address}:${PORT}/${database}`;
    return `postgres://hawser@/${database}?host=${encodeURIComponent(this.#folder)}`;
  }

  async start(): Promise<void> {
    const settings = [
      `listen_addresses=${this.#place?.address ?? ''}`,
      `port=${PORT}`,
      `unix_socket_directories=${this.#folder}`,
      'logging_collector=off',
      // In its folder, and not where it would stay when the server is killed.
      'dynamic_shared_memory_type=mmap',
      ...this.#settings,
    ];
    const args = ['-D', this.#data, ...settings.flatMap((setting) => ['-c', setting])];
    const [program, ...rest] = [...this.#through, join(this.#programs, 'postgres'), ...args];
    const child = spawn(program!, rest, {
      ...(this.#place === undefined ? this.#as : {}),
      cwd: this.#folder,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.#process = child;
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#log = (this.#log + text).slice(-20_000);
    });
    for (const until = performance.now() + START_TIMEOUT_MS; !this.#isReady(); await sleep(10)) {
      if (child.exitCode !== null || child.signalCode !== null || performance.now() > until) {
        throw new Error(`PostgreSQL does not start:\n${this.#log}`);
      }
    }
  }

  /** Root alone goes to another place, where it becomes whom the server runs as. */
  get #through(): string[] {
    if (this.#place === undefined || this.#as === undefined) return [];
    const { uid, gid } = this.#as;
    return [...this.#place.through, 'setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups'];
  }

  /** As its own file says: the last line is its state. */
  #isReady(): boolean {
    try {
      const lines = readFileSync(join(this.#data, 'postmaster.pid'), 'utf8').split('\n');
      return Number(lines[0]) === this.#process?.pid && lines[7]?.trim() === 'ready';
    } catch {
      return false;
    }
  }

  /** SIGKILL to all its processes, as when the machine goes down, but for what the system had not written to the disk. */
  async kill9(): Promise<void> {
    const child = this.#process;
    if (child === undefined) return;
    const pids = this.pids;
    this.#signal('SIGKILL', pids);
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    while (pids.some(isRunning)) await sleep(2);
    this.#process = undefined;
  }

  pause(): void {
    this.#signal('SIGSTOP', this.pids);
  }

  resume(): void {
    this.#signal('SIGCONT', this.pids);
  }

  #signal(signal: NodeJS.Signals, pids: readonly number[]): void {
    for (const pid of pids) {
      try {
        process.kill(pid, signal);
      } catch {
        // it has ended
      }
    }
  }

  /** Ends it at once, and deletes what it had. */
  end(): void {
    living.delete(this);
    if (this.#process?.pid !== undefined) this.#signal('SIGKILL', this.pids);
    this.#process = undefined;
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 20 });
  }

  /** Ends it in such a way that nothing of it is left in the machine's shared memory. */
  async [Symbol.asyncDispose](): Promise<void> {
    const child = this.#process;
    if (child !== undefined) {
      this.resume();
      child.kill('SIGQUIT');
      const overdue = setTimeout(() => this.end(), QUIT_TIMEOUT_MS);
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
      clearTimeout(overdue);
    }
    this.end();
  }
}

/** Processes that it started, where that can be told. */
function childrenOf(pid: number): number[] {
  const { stdout } = spawnSync('ps', ['-A', '-o', 'pid=,ppid='], { encoding: 'utf8' });
  return stdout.split('\n').flatMap((line) => {
    const [child, parent] = line.trim().split(/\s+/).map(Number);
    return parent === pid && child !== undefined ? [child] : [];
  });
}

/** A zombie has ended. */
function isRunning(pid: number): boolean {
  const { stdout } = spawnSync('ps', ['-o', 'stat=', '-p', String(pid)], { encoding: 'utf8' });
  return stdout.trim() !== '' && !stdout.startsWith('Z');
}
