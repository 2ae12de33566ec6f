import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Random } from '../sim/random.ts';
import { Server } from '../test/harness.ts';
import type { ClusterWitness } from './cluster-witness.ts';
import type { Place } from './network.ts';
import { HostileProxy } from './proxy.ts';

const STARTS_MAX = 4;

/** One node of a cluster with the proxy before it. It is started again whenever it ends. */
export class Node {
  readonly name: string;
  readonly proxy: HostileProxy;
  readonly server: Server;
  ends = 0;
  readonly #folder = mkdtempSync(join(tmpdir(), 'hawser-torture-'));
  readonly #witness: ClusterWitness;
  #isStarting = false;

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
    this.proxy.target = this.server.port;
    await this.proxy.listen();
    this.server.mayEnd();
  }

  get isUp(): boolean {
    return this.server.alive && !this.#isStarting;
  }

  async kill(): Promise<void> {
    this.#witness.ended();
    await this.server.kill9();
  }

  async freeze(forMs: number): Promise<void> {
    if (!this.isUp) return;
    this.#witness.ended();
    process.kill(this.server.pid, 'SIGSTOP');
    await sleep(forMs);
    process.kill(this.server.pid, 'SIGCONT');
  }

  /** As a supervisor does. */
  async keepUp(): Promise<void> {
    if (this.server.alive || this.#isStarting) return;
    this.#isStarting = true;
    this.ends++;
    this.#witness.ended();
    try {
      await this.server.start();
      this.server.mayEnd();
      this.proxy.target = this.server.port;
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
