import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Random } from '../sim/random.ts';
import { Server } from '../test/harness.ts';
import type { Reached } from './client.ts';
import type { ClusterWitness } from './cluster-witness.ts';
import type { Place } from './network.ts';
import { HostileProxy } from './proxy.ts';

const STARTS_MAX = 4;
const FENCED = 'this node is fenced';
/** Of what it last said. */
const END_LINES = 20;

/** One node of a cluster with the proxy before it. It is started again whenever it ends. */
export class Node {
  readonly name: string;
  readonly proxy: HostileProxy;
  readonly server: Server;
  ends = 0;
  readonly #folder = mkdtempSync(join(tmpdir(), 'hawser-torture-'));
  readonly #witness: ClusterWitness;
  #isStarting = false;
  /** It has been started, and nobody has killed it since. */
  #isMeantToRun = false;
  #linesSeen = 0;
  /** Runs that have ended, or may have. */
  #runsOver = 0;

  constructor(name: string, place: Place, args: readonly string[], random: Random, witness: ClusterWitness) {
    this.name = name;
    this.proxy = new HostileProxy(random);
    this.proxy.targetHost = place.address;
    const at = place.through.length === 0 ? [] : ['--host', place.address, '--advertise', place.address];
    const clear = place.through.length === 0 ? [] : ['--allow-plain-login'];
    this.server = new Server(this.#folder, {
      args: [...args, ...at, ...clear, '--node', name],
      through: place.through,
    });
    this.#witness = witness;
  }

  async open(): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        await this.server.start();
        break;
      } catch (error) {
        // On a machine that is very busy a start takes longer than it may.
        if (tries === STARTS_MAX) throw error;
        await this.server.kill9();
      }
    }
    await this.proxy.listen();
    this.#started();
  }

  #started(): void {
    this.proxy.target = this.server.port;
    this.server.mayEnd();
    this.#isMeantToRun = true;
    this.#witness.isBack();
  }

  #ended(): void {
    this.#runsOver++;
    this.#witness.ended();
  }

  /** Where clients reach it now, and whether what they reached has ended since. */
  reach(): Reached {
    const runsOver = this.#runsOver;
    return { port: this.proxy.port, isVoid: () => this.#runsOver > runsOver };
  }

  /** A node that others have found void ends by itself, and says so; none ends for another reason. */
  async #checkEnd(): Promise<void> {
    // With all that it said.
    await this.server.ended();
    const lines = this.server.logs().slice(this.#linesSeen);
    this.#linesSeen += lines.length;
    if (!this.#isMeantToRun) return;
    this.#isMeantToRun = false;
    if (lines.some((line) => line.includes(FENCED))) return;
    this.#witness.broken('server error', `node ${this.name} ended by itself: ${lines.slice(-END_LINES).join('\n')}`);
  }

  get isUp(): boolean {
    return this.server.alive && !this.#isStarting;
  }

  async kill(): Promise<void> {
    this.#ended();
    this.#isMeantToRun = false;
    await this.server.kill9();
  }

  async freeze(forMs: number): Promise<void> {
    if (!this.isUp) return;
    this.#ended();
    process.kill(this.server.pid, 'SIGSTOP');
    await sleep(forMs);
    process.kill(this.server.pid, 'SIGCONT');
  }

  /** As a supervisor does. */
  async keepUp(): Promise<void> {
    if (this.server.alive || this.#isStarting) return;
    this.#isStarting = true;
    this.ends++;
    this.#ended();
    await this.#checkEnd();
    try {
      await this.server.start();
      this.#started();
    } catch {
      // The database or Redis is away: again with the next look.
    } finally {
      this.#isStarting = false;
    }
  }

  async close(): Promise<void> {
    this.#isStarting = true;
    this.proxy.close();
    await this.server.kill9();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
