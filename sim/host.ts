import { cmd } from '@hawser/protocol';
import type { NameKind } from '@hawser/server/core/accounts';
import { Core, type CorePorts } from '@hawser/server/core/core';
import type { Time } from '@hawser/server/core/ports';
import type { CoreOptions } from '@hawser/server/core/services';
import { type Backing, type Opened, Ways } from './backing.ts';
import type { Bug } from './bugs.ts';
import type { Checker } from './checker.ts';
import { ServerTime, type WallClock } from './clock.ts';
import { Connection } from './connection.ts';
import type { CrashKind, Disk } from './disk.ts';
import { FakeCipher, FakePasswords, FakeRsa, fakeDigests, QuietLog } from './fakes.ts';
import { type FrameReader, readFrames, type ServerFrame } from './frames.ts';
import { Process } from './process.ts';
import type { Random } from './random.ts';
import type { Scheduler } from './scheduler.ts';
import { SimStore, type StoreLimits } from './store.ts';
import type { Trace } from './trace.ts';
import { type Peer, SimWire } from './wire.ts';

const RAN_NOTED_EVERY_MS = 60_000;
const RAN_WATCHED_EVERY_MS = 1000;
const SWEEP_EVERY_MS = 3_600_000;
const STOP_TIMEOUT_MS = 10_000;
const ADDRESS = '10.0.0.1';

export interface HostPorts {
  /** Which of the hosts it is, from 0. */
  readonly number: number;
  /** What it shares with other nodes, when there are any. */
  readonly backing: Backing | undefined;
  readonly scheduler: Scheduler;
  readonly random: Random;
  readonly wall: WallClock;
  readonly disk: Disk;
  readonly checker: Checker;
  readonly trace: Trace;
  readonly options: CoreOptions;
  readonly limits: StoreLimits;
  readonly bug: Bug | undefined;
}

/** One run of the server, from its start to its crash or end. */
interface Run {
  readonly number: number;
  readonly process: Process;
  /** Its name among all runs of all nodes. */
  readonly name: string;
  time: Time | undefined;
  store: SimStore | undefined;
  opened: Opened | undefined;
  readonly log: QuietLog;
  core: Core | undefined;
  readonly connections: Map<SimWire, Connection>;
}

/** A machine with the server on it: it crashes, stops and starts again, over the same disk. */
export class Host {
  readonly #ports: HostPorts;
  readonly name: string;
  readonly ways = new Ways();
  #run: Run | undefined;
  #runs = 0;
  #connections = 0;
  #isStopping = false;
  crashes = 0;
  stops = 0;

  constructor(ports: HostPorts) {
    this.#ports = ports;
    this.name = `n${ports.number}`;
  }

  get isListening(): boolean {
    return this.#run?.core !== undefined && !this.#isStopping;
  }

  get isDown(): boolean {
    return this.#run === undefined;
  }

  get core(): Core | undefined {
    return this.#run?.core;
  }

  get logged(): readonly string[] {
    return this.#run?.log.errors ?? [];
  }

  // ---- its life

  start(): void {
    if (this.#run !== undefined) return;
    const { number, backing, scheduler, checker, trace } = this.#ports;
    // Each run of each host has a number of its own.
    const run: Run = {
      number: ++this.#runs * 100 + number,
      name: `${this.name}.${this.#runs}`,
      process: new Process(scheduler),
      time: undefined,
      store: undefined,
      opened: undefined,
      log: new QuietLog(),
      core: undefined,
      connections: new Map(),
    };
    this.#run = run;
    this.#isStopping = false;
    trace.note('server started', run.number);
    checker.serverStarted();
    if (backing === undefined) this.#openAlone(run);
    else this.#openNode(run, backing);
  }

  #openAlone(run: Run): void {
    const { scheduler, random, wall, disk, checker, trace, limits, bug } = this.#ports;
    const { process } = run;
    const time = new ServerTime(scheduler, process, random, wall, disk.ran);
    const store = new SimStore({ disk, scheduler, random, checker, trace, limits, process });
    store.onBroken = () => this.#fail(run);
    bug?.store?.(store);
    run.time = time;
    run.store = store;
    this.#serve(run, { time, store });
    this.#noteRan(run);
  }

  #openNode(run: Run, backing: Backing): void {
    const { scheduler, random, wall } = this.#ports;
    const { process, name, number, log } = run;
    let time: Time | undefined;
    const timeOn = (ran: () => number): Time => {
      time = new ServerTime(scheduler, process, random, wall, ran);
      run.time = time;
      return time;
    };
    const onError = (): void => this.#fail(run);
    backing.open({ name, number, ways: this.ways, process, log, onError, timeOn }).then(
      (opened) => {
        if (this.#run !== run || time === undefined) return;
        run.opened = opened;
        this.#watchRan(run);
        this.#serve(run, { time, ...opened.ports });
      },
      () => {
        // It could not start: its supervisor tries again.
        if (this.#run === run) this.crash('process');
      },
    );
  }

  #fail(run: Run): void {
    const { scheduler, random, trace } = this.#ports;
    if (this.#run !== run) return;
    trace.note('server failed');
    scheduler.after(random.between(0, 50), () => {
      if (this.#run === run) this.crash('process');
    });
  }

  #serve(run: Run, below: Pick<CorePorts, 'time' | 'store' | 'cluster'>): void {
    const { random, checker, options, bug } = this.#ports;
    const { process, log } = run;
    const rsa = new FakeRsa(process, random);
    const passwords = new FakePasswords(process, random);
    const createCipher = (key: Uint8Array) => new FakeCipher(key);
    const onFatal = (): void => this.#fail(run);
    const ports = { ...below, log, passwords, digests: fakeDigests, rsa, onFatal, createCipher };
    void Core.open(ports, options).then((core) => {
      if (this.#run !== run) return;
      run.core = core;
      bug?.core?.(core);
      observe(core, checker, run.number);
      this.#sweep(run, core);
    });
  }

  /** What the node has it that its store has been in service, for the checker. */
  #watchRan(run: Run): void {
    const { scheduler, checker } = this.#ports;
    if (run.process.isOver || run.opened === undefined) return;
    checker.noteRan(run.opened.store.ran() - scheduler.now);
    scheduler.after(RAN_WATCHED_EVERY_MS, () => this.#watchRan(run));
  }

  #noteRan(run: Run): void {
    run.time?.after(RAN_NOTED_EVERY_MS, () => {
      this.#ports.disk.ran = run.time?.ran() ?? 0;
      this.#noteRan(run);
    });
  }

  #sweep(run: Run, core: Core): void {
    run.time?.after(SWEEP_EVERY_MS, () => {
      core.delivery.sweepInboxes().catch(() => {});
      this.#sweep(run, core);
    });
  }

  /** The process dies, or the machine loses power. */
  crash(kind: CrashKind): void {
    const run = this.#run;
    if (run === undefined) return;
    this.crashes++;
    const { backing, disk, scheduler, random, checker, trace } = this.#ports;
    this.#end(run, kind === 'process');
    const lost = backing === undefined ? disk.crash(kind, scheduler.now) : 0;
    trace.note('server crashed', run.number, lost, kind);
    checker.serverEnded('crash', run.number);
    for (const wire of run.connections.keys()) wire.serverCrashed(kind === 'process' || random.chance(0.5));
  }

  /** A clean end. `stopped` is called when the process has ended. */
  stop(stopped: () => void): void {
    const run = this.#run;
    const core = run?.core;
    if (run === undefined || core === undefined || this.#isStopping) return;
    const { disk, scheduler, checker, trace } = this.#ports;
    this.#isStopping = true;
    this.stops++;
    trace.note('server stopping');
    scheduler.alwaysSettles = true;
    const killed = scheduler.after(STOP_TIMEOUT_MS, () => {
      if (this.#run !== run) return;
      this.crash('process');
      stopped();
    });
    const stopped_ = (): void => {
      if (this.#run !== run) return;
      // Last writes get to their sockets.
      scheduler.after(30, () => {
        if (this.#run !== run) return;
        killed.call = undefined;
        if (run.store !== undefined) {
          disk.ran = run.time?.ran() ?? 0;
          run.store.close();
        }
        this.#end(run, true);
        trace.note('server stopped', run.number);
        checker.serverEnded('stop', run.number);
        for (const wire of run.connections.keys()) wire.serverCrashed(true);
        stopped();
      });
    };
    void core
      .stop()
      .then(() => run.opened?.close())
      .then(stopped_, () => {
        if (this.#run === run) this.crash('process');
        stopped();
      });
  }

  /** Nothing of the present run happens for so long, as after SIGSTOP. */
  pause(ms: number): void {
    const run = this.#run;
    if (run === undefined) return;
    run.process.pause(ms);
    this.#ports.checker.paused(run.number, ms);
    this.#ports.trace.note('node', Math.round(ms), -1, `${this.name} is paused`);
  }

  /** Its way to Redis is cut for so long, or that to PostgreSQL, or one direction of either. */
  cut(ms: number, to: 'redis' | 'postgres', direction: 'both' | 'there' | 'back'): void {
    const until = this.#ports.scheduler.now + ms;
    this.ways[to].cut(direction, until);
    const what =
      direction === 'both' ? 'is cut off from' : direction === 'there' ? 'does not reach' : 'hears nothing of';
    this.#ports.trace.note('node', Math.round(ms), -1, `${this.name} ${what} ${to}`);
  }

  /** What an operator does on this node. */
  async remove(name: string, kind: NameKind): Promise<void> {
    const run = this.#run;
    this.#ports.trace.note('node', -1, -1, `${this.name} is told to remove ${name}`);
    const isRemoved = await run?.core?.removeName(name, kind);
    this.#ports.trace.note('node', -1, -1, `${this.name} has removed ${name}: ${isRemoved}`);
  }

  /** Devices of no use to anybody are forgotten, as once an hour. */
  sweepDevices(): void {
    this.#run?.core?.deviceSweep.run().catch(() => {});
  }

  heal(): void {
    this.ways.redis.heal();
    this.ways.postgres.heal();
  }

  #end(run: Run, isSaid: boolean): void {
    run.process.end(isSaid);
    this.#run = undefined;
    this.#isStopping = false;
    this.#ports.scheduler.alwaysSettles = this.#ports.backing !== undefined;
  }

  // ---- connections

  connect(
    peer: Peer,
    client: Pick<Connection, 'name' | 'role' | 'nack'>,
    latencyMs: number,
    secure: boolean,
  ): { wire: SimWire; connection: Connection } | undefined {
    const run = this.#run;
    const core = run?.core;
    const time = run?.time;
    if (run === undefined || core === undefined || time === undefined || this.#isStopping) return undefined;
    const { scheduler, random, checker, trace } = this.#ports;
    const { backing } = this.#ports;
    // All come from one address, as behind a carrier's NAT.
    const place = core.admit(ADDRESS);
    if (place === undefined) return undefined;
    const id = this.#connections++ * (backing === undefined ? 1 : 10) + this.#ports.number;
    const isVoid = (): boolean => backing?.isVoid(run.name) === true;
    const connection = new Connection(id, run.number, client, isVoid);
    const reader: FrameReader = {
      cipher: () => wire.cipher,
      pushed: ({ from, to, msgid, msg }) => checker.pushed(connection, from, to, msgid, msg.n, JSON.stringify(msg)),
      answered: (frame) => answered(checker, connection, frame),
    };
    const wire: SimWire = new SimWire({
      scheduler,
      random,
      time,
      process: run.process,
      peer,
      latencyMs,
      secure,
      written: (bytes) => {
        if (isVoid()) checker.broken('superseded', `connection ${connection.id} was written to by a node that is void`);
        const frames = readFrames(bytes, reader);
        if (frames !== 'broken') return frames;
        checker.broken('wrong party', `connection ${connection.id} was written what cannot be read`);
        return [];
      },
      closed: () => {
        run.connections.delete(wire);
        place.leave();
        if (!connection.isClosed) trace.note('gone', connection.id);
        checker.closed(connection);
      },
    });
    run.connections.set(wire, connection);
    trace.note('connected', connection.id, run.number, client.name);
    const session = core.connect(wire, place);
    wire.serve(session);
    return { wire, connection };
  }
}

/** A frame other than a push, at the moment it is written. */
function answered(checker: Checker, connection: Connection, frame: ServerFrame): void {
  switch (frame.cmd) {
    case cmd.login:
    case cmd.authenticate:
      if (frame.code === 100) checker.loggedIn(connection);
      break;
    case cmd.conflict:
      // With data it answers a client that sent one.
      if (frame.isEmpty) checker.superseded(connection);
      break;
    case cmd.message:
      if (frame.isEmpty) checker.ackWritten(connection, frame.msgId);
      else checker.refusalWritten(connection, frame.msgId, frame.isRetry, frame.text);
      break;
    default:
  }
}

/** Watches two decisions that no bytes tell of: which message was taken when, and which ack counted. */
function observe(core: Core, checker: Checker, run: number): void {
  const { delivery, counters } = core;
  const accept = delivery.accept.bind(delivery);
  delivery.accept = (sender, msgId, isEncrypt, to, msg, ttl) => {
    const before = counters.accepted;
    const outcome = accept(sender, msgId, isEncrypt, to, msg, ttl);
    checker.accepted(run, sender.name, msgId, to, msg, outcome, counters.accepted > before);
    return outcome;
  };
  const acked = delivery.acked.bind(delivery);
  delivery.acked = (message) => {
    checker.ackTaken(run, message.to, message.msgId);
    acked(message);
  };
}
