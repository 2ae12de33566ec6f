import type { StoredMessage } from '@hawser/server/core/ports';
import { Backing } from './backing.ts';
import type { Bug } from './bugs.ts';
import { Checker, type Violation } from './checker.ts';
import { Client } from './client.ts';
import { WallClock } from './clock.ts';
import { Disk } from './disk.ts';
import { drawClusterFaults, drawFaults, Faults } from './faults.ts';
import { drawHabits, drawPace, warlike } from './habits.ts';
import { Host } from './host.ts';
import type { Member } from './member.ts';
import { Messages } from './message.ts';
import type { Party } from './party.ts';
import { Random } from './random.ts';
import { drawDeviceAge, drawLimits, drawOptions, drawParties, initially } from './scenario.ts';
import { Scheduler } from './scheduler.ts';
import { drawSdkHabits, SdkClient } from './sdk-client.ts';
import { Trace } from './trace.ts';

export interface SimulationOptions {
  readonly seed: number;
  /** How long there is trouble; drawn from the seed when not given. */
  readonly minutes?: number | undefined;
  readonly clients?: number | undefined;
  /** Servers; more than one are a cluster. */
  readonly nodes?: number | undefined;
  /** Some of the clients are the client's package. */
  readonly sdk?: boolean | undefined;
  /** Each name has two clients that take it from one another without end. */
  readonly war?: boolean | undefined;
  readonly bug?: Bug | undefined;
  /** Entries of the trace to keep in words. */
  readonly traced?: number;
}

export interface Outcome {
  readonly seed: number;
  readonly violations: readonly Violation[];
  readonly hash: string;
  readonly simulatedMs: number;
  readonly events: number;
  readonly clients: number;
  readonly messages: number;
  readonly crashes: number;
  readonly stops: number;
  readonly figures: Checker['figures'];
  readonly trace: Trace;
}

/** How long all may take to be delivered, and connections to be noticed as gone. */
const DRAIN_MS = 240_000;
const STEP_MS = 500;
/** How long nodes keep routes that nobody uses, and what they know of acked pushes. */
const ROUTES_IDLE_MS = 680_000;

/** Which of the clients are the package: the first one, and others with a likelihood of this run's own. */
function drawSdkShare({ seed, sdk }: SimulationOptions): (client: number) => boolean {
  if (sdk !== true) return () => false;
  const random = new Random(seed, 5);
  const share = random.pick([0.3, 0.6, 1]);
  return (client) => random.chance(share) || client === 0;
}

/** One run: trouble, then all is well and everything must be delivered, then everybody leaves. */
export async function simulate(options: SimulationOptions): Promise<Outcome> {
  const undo = options.bug?.global?.();
  try {
    return await run(options);
  } finally {
    undo?.();
  }
}

async function run(options: SimulationOptions): Promise<Outcome> {
  const random = new Random(options.seed);
  const scheduler = new Scheduler();
  const trace = new Trace(() => scheduler.now, options.traced ?? 0);
  const wall = new WallClock(scheduler);
  const disk = new Disk(new Random(options.seed, 1));
  const messages = new Messages();
  const nodes = options.nodes ?? 1;
  const checker = new Checker(scheduler, wall, disk, messages, trace, nodes > 1);
  disk.onDurable = (message) => checker.durable(message);
  const count = options.clients ?? Math.round(random.magnitude(2, 50));
  const parties = drawParties(random, options.war === true ? Math.ceil(count / 2) : count);
  disk.prepare(initially(parties));
  const coreOptions = { ...drawOptions(random), ...(nodes > 1 && drawDeviceAge(new Random(options.seed, 7))) };
  const limits = drawLimits(random);
  const backing =
    nodes > 1
      ? new Backing({ scheduler, random: new Random(options.seed, 4), disk, checker, trace, limits })
      : undefined;
  const hosts = Array.from(
    { length: nodes },
    (_, number) =>
      new Host({
        number,
        backing,
        scheduler,
        random: new Random(options.seed, 2 + 10 * number),
        wall,
        disk,
        checker,
        trace,
        options: coreOptions,
        limits,
        bug: options.bug,
      }),
  );
  const pace = drawPace(random, count);
  const clients: Member[] = [];
  const isSdk = drawSdkShare(options);
  const used = new Set<Party>();
  for (let i = 0; i < count; i++) {
    const rival = options.war === true ? parties[i % parties.length]! : random.pick(parties);
    const party = i < parties.length ? parties[i]! : rival;
    const own = new Random(options.seed, 100 + i);
    const drawn = drawHabits(own, pace);
    const habits = options.war === true ? { ...drawn, ...warlike } : drawn;
    const isMain = !used.has(party);
    used.add(party);
    const ports = { scheduler, random: own, hosts, checker, messages, trace };
    if (!isSdk(i)) clients.push(new Client(party, habits, isMain, ports));
    else {
      const both = { all: habits, sdk: drawSdkHabits(own) };
      clients.push(new SdkClient(party, both, { isMain, tag: `${party.name}.${i}`, patch: options.bug?.sdk }, ports));
    }
  }
  const plan = backing === undefined ? drawFaults(random) : drawClusterFaults(random);
  const faults = new Faults(plan, {
    scheduler,
    random: new Random(options.seed, 3),
    wall,
    disk,
    hosts,
    backing,
    clients,
    parties: parties.filter((party) => clients.every((client) => client.party !== party || client instanceof Client)),
    checker,
    trace,
  });
  const isDone = (): boolean => checker.hasFailed;
  // Nodes remember for minutes what they may be asked: that is waited for in some runs alone.
  const isPatient = new Random(options.seed, 6).chance(0.2);

  // Nodes wait for each other in ways that no event of the simulator ends.
  scheduler.alwaysSettles = backing !== undefined;
  for (const host of hosts) host.start();
  for (const client of clients) client.start();
  faults.start();
  const troubleMs = (options.minutes ?? random.magnitude(0.1, 2)) * 60_000;
  try {
    await scheduler.run(troubleMs, isDone);
    if (!checker.hasFailed) await drain();
    if (!checker.hasFailed) await leave();
  } catch (error) {
    checker.broken('server error', error instanceof Error ? (error.stack ?? error.message) : String(error));
  }
  for (const host of hosts) for (const line of host.logged) checker.broken('server error', line);
  return {
    seed: options.seed,
    violations: checker.violations,
    hash: trace.hash,
    simulatedMs: scheduler.now,
    events: scheduler.events,
    clients: count,
    messages: messages.all.length,
    crashes: hosts.reduce((sum, host) => sum + host.crashes, 0),
    stops: hosts.reduce((sum, host) => sum + host.stops, 0),
    figures: checker.figures,
    trace,
  };

  async function drain(): Promise<void> {
    trace.note('phase', -1, -1, 'all is well');
    faults.heal();
    // Connections that were disturbed go on being so; some clients come anew, some stay.
    for (const client of clients) client.drain(random.chance(0.5));
    const until = scheduler.now + DRAIN_MS;
    while (scheduler.now < until && !checker.hasFailed) {
      await scheduler.run(scheduler.now + STEP_MS, isDone);
      if (isDrained()) break;
    }
    if (checker.hasFailed) return;
    for (const client of clients) {
      if (!client.isOnline && !client.hasLeft) checker.broken('not back', `${client.party.name} is not online`);
      for (const { message } of client.pending.values()) {
        if (!checker.mayHaveExpired(message)) checker.broken('no answer', `${message} was not answered`, message);
      }
    }
    if (!checker.hasFailed) checkEmpty();
    checker.checkDelivered();
  }

  function isDrained(): boolean {
    if (!isEmpty() || hosts.some((host) => host.core === undefined)) return false;
    return clients.every((client) => client.pending.size === 0 && (client.isOnline || client.hasLeft));
  }

  /** What lies in inboxes and is to be delivered. */
  function* undelivered(): Generator<readonly [name: string, message: StoredMessage]> {
    for (const [name, inbox] of disk.seen.inboxes) {
      for (const message of inbox.messages.values()) if (!checker.isBroughtBack(message)) yield [name, message];
    }
  }

  function isEmpty(): boolean {
    return undelivered().next().done === true;
  }

  function checkEmpty(): void {
    for (const [name, first] of undelivered()) {
      const message = messages.ofBytes(first.msg);
      checker.broken('not drained', `in the inbox of ${name} lies ${message}`, message);
    }
  }

  async function leave(): Promise<void> {
    trace.note('phase', -1, -1, 'everybody leaves');
    for (const client of clients) client.leave();
    if (backing !== undefined && !isPatient) return;
    await scheduler.run(
      scheduler.now + coreOptions.idleTimeoutMs + (backing === undefined ? 80_000 : ROUTES_IDLE_MS),
      isDone,
    );
    for (const { core, name } of hosts) {
      if (core === undefined || checker.hasFailed) continue;
      const { mailboxes, pendingBytes } = core.delivery.stats;
      const { connections } = core;
      const sessions = core.directory.size;
      const holds = core.handover?.size ?? 0;
      if (mailboxes > 0 || pendingBytes > 0 || connections > 0 || sessions > 0 || holds > 0) {
        checker.broken('left over', JSON.stringify({ name, mailboxes, pendingBytes, connections, sessions, holds }));
      }
    }
  }
}
