// Network namespaces of Linux: each process of a cluster on an address of its own, and what goes one way can be cut.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { aptInstall, isThere } from '../scripts/apt.ts';

/** Where a process runs. */
export interface Place {
  readonly address: string;
  /** A program and its arguments that run another program there. */
  readonly through: readonly string[];
}

/** Everybody on one address. */
export const LOOPBACK: Place = { address: '127.0.0.1', through: [] };

const NAMESPACES = '/run/netns';
/** Addresses for tests between machines (RFC 2544), of which a network takes 256. */
const NETS = Array.from({ length: 512 }, (_, i) => `198.${18 + (i >> 8)}.${i & 255}`);
const PACKAGES = ['iproute2', 'nftables'];
/** What arrives is dropped by whom it is for, so that whoever sent it learns nothing. What goes out to us, where it is sent. */
const TABLE = `table ip cut {
  chain in { type filter hook input priority 0; }
  chain out { type filter hook output priority 0; }
}`;

let made = 0;

/** A bridge of this machine, and namespaces that hang on it. The one who made it has the first address. */
export class Network {
  readonly own: Place;
  readonly net: string;
  /** This process, and how many it had made before. */
  readonly #id = `${process.pid}-${made++}`;
  readonly #bridge: string;
  readonly #places = new Map<string, Place>();
  readonly #onExit = (): void => this.close();

  private constructor(net: string) {
    this.net = net;
    // No more than 15 characters, with what hangs on it.
    this.#bridge = `hw${this.#id}`;
    this.own = { address: `${net}.1`, through: [] };
    process.on('exit', this.#onExit);
  }

  /** A network with so many places; or why there can be none. */
  static open(names: readonly string[]): Network | string {
    if (process.platform !== 'linux') return 'there are no network namespaces here';
    if (process.getuid?.() !== 0) return 'only root makes network namespaces';
    const isInstalled = (): boolean => spawnSync('ip', ['-V']).status === 0 && isThere('nft');
    const failure = isInstalled() ? undefined : aptInstall(PACKAGES, isInstalled);
    if (failure !== undefined) return `iproute2 and nftables are needed: ${failure}`;
    removeLeftOver();
    const taken = run('ip', ['-4', '-o', 'address']);
    // Each process begins elsewhere: another may be looking at this moment.
    const nets = NETS.map((_, i) => NETS[(process.pid + i) % NETS.length]!);
    const network = new Network(nets.find((net) => !taken.includes(` ${net}.`)) ?? nets[0]!);
    try {
      network.#make(names);
      return network;
    } catch (error) {
      network.close();
      return error instanceof Error ? error.message : String(error);
    }
  }

  #make(names: readonly string[]): void {
    run('ip', ['link', 'add', this.#bridge, 'type', 'bridge']);
    run('ip', ['address', 'add', `${this.own.address}/24`, 'dev', this.#bridge]);
    run('ip', ['link', 'set', this.#bridge, 'up']);
    for (const [i, name] of names.entries()) this.#add(name, i + 2);
  }

  #add(name: string, number: number): void {
    const namespace = this.#namespace(name);
    const address = `${this.net}.${number}`;
    const outer = `${this.#bridge}.${number}`;
    run('ip', ['netns', 'add', namespace]);
    const through = ['ip', 'netns', 'exec', namespace];
    this.#places.set(name, { address, through });
    run('ip', ['link', 'add', outer, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace]);
    run('ip', ['link', 'set', outer, 'master', this.#bridge, 'up']);
    run('ip', ['-n', namespace, 'link', 'set', 'lo', 'up']);
    run('ip', ['-n', namespace, 'address', 'add', `${address}/24`, 'dev', 'eth0']);
    run('ip', ['-n', namespace, 'link', 'set', 'eth0', 'up']);
    run('ip', [...through.slice(1), 'nft', '-f', '-'], TABLE);
  }

  #namespace(name: string): string {
    return `hawser-${this.#id}-${name}`;
  }

  place(name: string): Place {
    const place = this.#places.get(name);
    if (place === undefined) throw new Error(`there is no place ${name}`);
    return place;
  }

  /** From now on nothing that goes from one to the other arrives; what goes back does. `undefined` is whoever made it. */
  cut(from: string | undefined, to: string | undefined): void {
    const source = from === undefined ? this.own : this.place(from);
    if (to !== undefined) this.#rule(to, ['add', 'rule', 'ip', 'cut', 'in', 'ip', 'saddr', source.address, 'drop']);
    else if (from !== undefined)
      this.#rule(from, ['add', 'rule', 'ip', 'cut', 'out', 'ip', 'daddr', this.own.address, 'drop']);
  }

  /** Everything arrives again. */
  heal(): void {
    for (const name of this.#places.keys()) this.#rule(name, ['flush', 'table', 'ip', 'cut']);
  }

  #rule(at: string, words: readonly string[]): void {
    const [program = 'ip', ...rest] = this.place(at).through;
    run(program, [...rest, 'nft', ...words]);
  }

  close(): void {
    process.off('exit', this.#onExit);
    for (const name of this.#places.keys()) spawnSync('ip', ['netns', 'del', this.#namespace(name)]);
    this.#places.clear();
    for (const link of linksOf(this.#bridge)) spawnSync('ip', ['link', 'del', link]);
  }
}

/** The bridge, and what hangs on it as long as processes are in its namespaces. */
function linksOf(bridge: string): string[] {
  return readdirSync('/sys/class/net').filter((link) => link === bridge || link.startsWith(`${bridge}.`));
}

/** Of processes that were killed. */
function removeLeftOver(): void {
  const isGone = (pid: string | undefined): boolean => pid !== undefined && !existsSync(`/proc/${pid}`);
  for (const namespace of existsSync(NAMESPACES) ? readdirSync(NAMESPACES) : []) {
    if (isGone(/^hawser-(\d+)-/.exec(namespace)?.[1])) spawnSync('ip', ['netns', 'del', namespace]);
  }
  for (const link of readdirSync('/sys/class/net')) {
    if (isGone(/^hw(\d+)-\d+$/.exec(link)?.[1]))
      for (const each of linksOf(link)) spawnSync('ip', ['link', 'del', each]);
  }
}

function run(program: string, args: readonly string[], input = ''): string {
  const { status, error, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8', input });
  if (status === 0) return stdout;
  throw new Error(`${program} ${args.join(' ')}: ${error?.message ?? stderr.trim()}`);
}
