import type { Checker } from './checker.ts';
import type { WallClock } from './clock.ts';
import type { Disk, DiskTrouble } from './disk.ts';
import type { Host } from './host.ts';
import type { Hub } from './hub.ts';
import type { Member } from './member.ts';
import type { Random } from './random.ts';
import type { Scheduler } from './scheduler.ts';
import type { Trace } from './trace.ts';

/** How often what goes wrong: means in ms; `Infinity` is never. */
export interface FaultPlan {
  readonly crashEveryMs: number;
  readonly stopEveryMs: number;
  readonly diskEveryMs: number;
  readonly diskTroubles: readonly DiskTrouble[];
  readonly networkEveryMs: number;
  readonly jumpEveryMs: number;
  /** In a cluster: nodes that are paused or cut off, directories that are away, packets that are lost. */
  readonly nodeEveryMs: number;
  readonly loss: number;
}

export function drawFaults(random: Random): FaultPlan {
  const perhaps = (probability: number, least: number, most: number): number =>
    random.chance(probability) ? random.magnitude(least, most) : Infinity;
  return {
    crashEveryMs: perhaps(0.6, 5000, 60_000),
    stopEveryMs: perhaps(0.3, 5000, 60_000),
    diskEveryMs: perhaps(0.5, 2000, 40_000),
    diskTroubles: (['slow', 'failing', 'full', 'away'] as const).filter((trouble) =>
      random.chance(trouble === 'slow' ? 0.8 : 0.25),
    ),
    networkEveryMs: perhaps(0.8, 200, 10_000),
    jumpEveryMs: perhaps(0.3, 5000, 60_000),
    nodeEveryMs: Infinity,
    loss: 0,
  };
}

/** In a cluster the store is a database: it is slow or away, and does not end the servers. */
export function drawClusterFaults(random: Random): FaultPlan {
  const plan = drawFaults(random);
  return {
    ...plan,
    diskTroubles: (['slow', 'away'] as const).filter(() => random.chance(0.5)),
    nodeEveryMs: random.chance(0.7) ? random.magnitude(1000, 30_000) : Infinity,
    loss: random.chance(0.4) ? random.magnitude(0.001, 0.2) : 0,
  };
}

export interface FaultPorts {
  readonly scheduler: Scheduler;
  readonly random: Random;
  readonly wall: WallClock;
  readonly disk: Disk;
  readonly hosts: readonly Host[];
  readonly hub: Hub | undefined;
  readonly clients: readonly Member[];
  readonly checker: Checker;
  readonly trace: Trace;
}

/** Makes trouble until it is told to heal. */
export class Faults {
  readonly #ports: FaultPorts;
  readonly #plan: FaultPlan;
  #isOver = false;

  constructor(plan: FaultPlan, ports: FaultPorts) {
    this.#plan = plan;
    this.#ports = ports;
  }

  start(): void {
    const plan = this.#plan;
    this.#repeat(plan.crashEveryMs, () => this.#crash());
    this.#repeat(plan.stopEveryMs, () => this.#stop());
    if (plan.diskTroubles.length > 0) this.#repeat(plan.diskEveryMs, () => this.#disturbDisk());
    this.#repeat(plan.networkEveryMs, () => this.#disturbNetwork());
    this.#repeat(plan.jumpEveryMs, () => this.#jump());
    this.#repeat(plan.nodeEveryMs, () => this.#disturbNode());
    const { hosts, hub } = this.#ports;
    if (hub !== undefined) hub.loss = plan.loss;
    for (const host of hosts) this.#revive(host);
  }

  #repeat(meanMs: number, call: () => void): void {
    if (meanMs === Infinity) return;
    const { scheduler, random } = this.#ports;
    scheduler.after(random.wait(meanMs), () => {
      if (this.#isOver) return;
      call();
      this.#repeat(meanMs, call);
    });
  }

  /** A server that failed is started again, as by its supervisor. */
  #revive(host: Host): void {
    const { scheduler, random } = this.#ports;
    scheduler.after(random.between(200, 3000), () => {
      if (host.isDown) host.start();
      this.#revive(host);
    });
  }

  #crash(): void {
    const { hosts, random } = this.#ports;
    random.pick(hosts).crash(random.chance(0.6) ? 'power' : 'process');
  }

  #stop(): void {
    const { hosts, scheduler, random } = this.#ports;
    const host = random.pick(hosts);
    host.stop(() => scheduler.after(random.magnitude(10, 2000), () => host.start()));
  }

  #disturbDisk(): void {
    const { disk, random, scheduler, trace } = this.#ports;
    if (disk.trouble !== 'none') return;
    disk.trouble = random.pick(this.#plan.diskTroubles);
    trace.note('disk', -1, -1, disk.trouble);
    const lastsMs = disk.trouble === 'slow' ? random.magnitude(100, 20_000) : random.magnitude(20, 5000);
    scheduler.after(lastsMs, () => {
      disk.trouble = 'none';
      trace.note('disk', -1, -1, 'well');
    });
  }

  #disturbNetwork(): void {
    const { random, clients, trace, scheduler } = this.#ports;
    const client = random.pick(clients);
    const wire = client.wire;
    if (wire === undefined) return;
    const what = random.pick(['cut', 'stall', 'freeze', 'vanish'] as const);
    trace.note('network', -1, -1, `${what} ${client.party.name}`);
    switch (what) {
      case 'cut':
        wire.cut();
        break;
      case 'stall':
        wire.stall(random.magnitude(50, 60_000));
        break;
      case 'freeze':
        wire.freeze();
        scheduler.after(random.magnitude(50, 60_000), () => wire.thaw());
        break;
      case 'vanish':
        client.vanish();
        break;
    }
  }

  #disturbNode(): void {
    const { random, hosts, hub, scheduler, trace } = this.#ports;
    if (hub === undefined) return;
    const host = random.pick(hosts);
    const ms = random.magnitude(50, 20_000);
    switch (random.pick(['pause', 'cut', 'one way', 'hub'] as const)) {
      case 'pause':
        host.pause(ms);
        break;
      case 'cut':
        host.cut(ms, random.chance(0.5));
        break;
      case 'one way': {
        const other = random.pick(hosts);
        hub.cut(host.name, other.name, ms);
        trace.note('node', Math.round(ms), -1, `nothing goes from ${host.name} to ${other.name}`);
        break;
      }
      case 'hub':
        if (hub.isAway) break;
        hub.isAway = true;
        trace.note('node', Math.round(ms), -1, 'the hub is away');
        scheduler.after(ms, () => {
          hub.isAway = false;
        });
        break;
    }
  }

  #jump(): void {
    const { wall, random, checker, trace } = this.#ports;
    const ms = (random.chance(0.5) ? 1 : -1) * Math.round(random.magnitude(10, random.chance(0.3) ? 3.5e9 : 100_000));
    checker.noteWall();
    wall.jump(ms);
    checker.wallJumped();
    trace.note('clock jumped', ms);
  }

  /** The end of trouble: the disk works, the server runs and is not disturbed any more. */
  heal(): void {
    this.#isOver = true;
    const { disk, hub } = this.#ports;
    disk.trouble = 'none';
    hub?.heal();
  }
}
