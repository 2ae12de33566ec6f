import type { Backing } from './backing.ts';
import type { Checker } from './checker.ts';
import type { WallClock } from './clock.ts';
import type { Disk, DiskTrouble } from './disk.ts';
import type { Host } from './host.ts';
import type { Member } from './member.ts';
import type { Party } from './party.ts';
import type { Random } from './random.ts';
import type { Scheduler } from './scheduler.ts';
import type { Trace } from './trace.ts';

/** A removal has ended by then, whatever came of it, if the database can be reached. */
const REMOVAL_MS = 60_000;

/** How often what goes wrong: means in ms; `Infinity` is never. */
export interface FaultPlan {
  readonly crashEveryMs: number;
  readonly stopEveryMs: number;
  readonly diskEveryMs: number;
  readonly diskTroubles: readonly DiskTrouble[];
  readonly networkEveryMs: number;
  readonly jumpEveryMs: number;
  /** In a cluster: nodes that are paused or cut off from what they share. */
  readonly nodeEveryMs: number;
  /** Redis is frozen, restarted with nothing or without its last writes, its connections break; and how much it loses. */
  readonly redisEveryMs: number;
  readonly loss: number;
  /** PostgreSQL is frozen, crashes, is full, its connections break; and how often transactions are in each other's way. */
  readonly postgresEveryMs: number;
  readonly conflicts: number;
  /** An operator removes a user or a device. */
  readonly removeEveryMs: number;
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
    redisEveryMs: Infinity,
    loss: 0,
    postgresEveryMs: Infinity,
    conflicts: 0,
    removeEveryMs: Infinity,
  };
}

/** In a cluster the disk is that of a database, which may be slow; what else is wrong is wrong with the database. */
export function drawClusterFaults(random: Random): FaultPlan {
  const plan = drawFaults(random);
  return {
    ...plan,
    diskTroubles: (['slow'] as const).filter(() => random.chance(0.5)),
    nodeEveryMs: random.chance(0.7) ? random.magnitude(1000, 30_000) : Infinity,
    redisEveryMs: random.chance(0.6) ? random.magnitude(3000, 60_000) : Infinity,
    loss: random.chance(0.4) ? random.magnitude(0.001, 0.2) : 0,
    postgresEveryMs: random.chance(0.6) ? random.magnitude(2000, 60_000) : Infinity,
    conflicts: random.chance(0.3) ? random.magnitude(0.001, 0.2) : 0,
    removeEveryMs: random.chance(0.4) ? random.magnitude(1000, 30_000) : Infinity,
  };
}

export interface FaultPorts {
  readonly scheduler: Scheduler;
  readonly random: Random;
  readonly wall: WallClock;
  readonly disk: Disk;
  readonly hosts: readonly Host[];
  readonly backing: Backing | undefined;
  readonly clients: readonly Member[];
  /** Names that may be removed. */
  readonly parties: readonly Party[];
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
    this.#repeat(plan.redisEveryMs, () => this.#disturbRedis());
    this.#repeat(plan.removeEveryMs, () => this.#remove());
    this.#repeat(plan.removeEveryMs, () => this.#ports.random.pick(this.#ports.hosts).sweepDevices());
    this.#repeat(plan.postgresEveryMs, () => this.#disturbPostgres());
    const { hosts, backing } = this.#ports;
    if (backing !== undefined) {
      backing.redis.loss = plan.loss;
      backing.database.conflicts = plan.conflicts;
    }
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
    const { random, hosts } = this.#ports;
    const host = random.pick(hosts);
    const ms = random.magnitude(50, 20_000);
    switch (random.pick(['pause', 'cut', 'cut', 'apart'] as const)) {
      case 'pause':
        host.pause(ms);
        break;
      case 'cut':
        host.cut(ms, random.pick(['redis', 'postgres']), random.pick(['both', 'there', 'back']));
        break;
      case 'apart':
        host.cut(ms, 'redis', 'both');
        host.cut(ms, 'postgres', 'both');
        break;
    }
  }

  /** The clients of that name come again: users register, as nobody of them knows whether it was removed. */
  #remove(): void {
    const { random, hosts, parties, disk, scheduler } = this.#ports;
    const party = random.pick(parties);
    const host = random.pick(hosts);
    if (party === undefined || host.core === undefined) return;
    const { name, role } = party;
    disk.beginRemoval(name);
    let isOver = false;
    const over = (): void => {
      if (!isOver) disk.endRemoval(name, scheduler.now);
      isOver = true;
    };
    host.remove(name, role === 'app' ? 'user' : 'device').then(over, over);
    // Where its node ended meanwhile, the others keep the name until that is void.
    scheduler.after(REMOVAL_MS, over);
  }

  #disturbRedis(): void {
    const { random, backing } = this.#ports;
    if (backing === undefined || backing.redis.isDown) return;
    const { redis } = backing;
    switch (random.pick(['freeze', 'empty', 'failover', 'break', 'jump'] as const)) {
      case 'freeze':
        redis.freeze(random.magnitude(20, 10_000));
        break;
      case 'empty':
        redis.replace(random.magnitude(5, 5000), Number.POSITIVE_INFINITY);
        break;
      case 'failover':
        redis.replace(random.magnitude(5, 5000), random.magnitude(0.1, 2000));
        break;
      case 'break':
        redis.breakConnections(random.pick([0.3, 1]));
        break;
      case 'jump':
        redis.jump((random.chance(0.5) ? 1 : -1) * random.magnitude(1, 100_000));
        break;
    }
  }

  #disturbPostgres(): void {
    const { random, backing, scheduler, trace } = this.#ports;
    if (backing === undefined || backing.database.isDown) return;
    const { database } = backing;
    switch (random.pick(['freeze', 'crash', 'break', 'full', 'jump'] as const)) {
      case 'freeze':
        database.freeze(random.magnitude(20, 10_000));
        break;
      case 'crash':
        database.crash(random.magnitude(50, 5000));
        break;
      case 'break':
        database.breakConnections(random.pick([0.3, 1]));
        break;
      case 'full':
        database.isFull = true;
        trace.note('disk', -1, -1, 'PostgreSQL is full');
        scheduler.after(random.magnitude(20, 5000), () => {
          database.isFull = false;
        });
        break;
      case 'jump':
        database.jump((random.chance(0.5) ? 1 : -1) * random.magnitude(1, 30_000));
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
    const { disk, backing, hosts } = this.#ports;
    disk.trouble = 'none';
    backing?.heal();
    for (const host of hosts) host.heal();
  }
}
