import { setImmediate as turn } from 'node:timers/promises';
import { type ClusterHarness, clusterContract } from '@hawser/server/cluster/contract';
import type { Cluster } from '@hawser/server/core/ports';
import { ServerTime, WallClock } from './clock.ts';
import { Disk } from './disk.ts';
import { Hub, type Link } from './hub.ts';
import { Process } from './process.ts';
import { Random } from './random.ts';
import { Scheduler } from './scheduler.ts';
import { Trace } from './trace.ts';

const STEP_MS = 5;

class HubHarness implements ClusterHarness {
  readonly #scheduler = new Scheduler();
  readonly #random = new Random(1);
  readonly #wall = new WallClock(this.#scheduler);
  readonly #hub: Hub;
  readonly #runs = new Map<Cluster, { readonly link: Link; readonly process: Process; readonly time: ServerTime }>();
  readonly #disk = new Disk(this.#random);

  constructor() {
    const trace = new Trace(() => this.#scheduler.now, 0);
    this.#hub = new Hub({ scheduler: this.#scheduler, random: this.#random, trace, disk: this.#disk });
  }

  async join(node: string): Promise<Cluster> {
    const process = new Process(this.#scheduler);
    const time = new ServerTime(this.#scheduler, process, this.#random, this.#wall, 0);
    const run = this.#runs.size + 1;
    const link = this.#hub.join(node, run, run, process, time);
    this.#runs.set(link, { link, process, time });
    return link;
  }

  #run(run: Cluster) {
    const found = this.#runs.get(run);
    if (found === undefined) throw new Error('not of this hub');
    return found;
  }

  crash(run: Cluster): void {
    this.#run(run).process.isOver = true;
  }

  async leave(run: Cluster): Promise<void> {
    this.#run(run).link.leave();
  }

  setAway(isAway: boolean): void {
    this.#hub.isAway = isAway;
  }

  now(run: Cluster): number {
    return this.#run(run).time.now();
  }

  async settle<Value>(promise: Promise<Value>): Promise<Value> {
    let isSettled = false;
    const settled = (): void => {
      isSettled = true;
    };
    promise.then(settled, settled);
    await this.until(() => isSettled, 'it settles');
    return promise;
  }

  async until(isSo: () => boolean, what: string): Promise<void> {
    const giveUpAt = this.#scheduler.now + 30_000;
    do {
      if (this.#scheduler.now > giveUpAt) throw new Error(`not within half a minute: ${what}`);
      await this.#scheduler.run(this.#scheduler.now + STEP_MS, () => false);
      await turn();
    } while (!isSo());
  }

  async close(): Promise<void> {}
}

clusterContract("the simulator's hub", { open: async () => new HubHarness() });
