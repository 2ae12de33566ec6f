import { cmd } from '@hawser/protocol';
import { Core } from '@hawser/server/core/core';
import type { CoreOptions } from '@hawser/server/core/services';
import type { Bug } from './bugs.ts';
import type { Checker } from './checker.ts';
import { ServerTime, type WallClock } from './clock.ts';
import { Connection } from './connection.ts';
import type { CrashKind, Disk } from './disk.ts';
import { FakeCipher, FakePasswords, FakeRsa, fakeDigests, QuietLog } from './fakes.ts';
import { type FrameReader, readFrames, type ServerFrame } from './frames.ts';
import type { Hub, Link } from './hub.ts';
import { Process } from './process.ts';
import type { Random } from './random.ts';
import type { Scheduler } from './scheduler.ts';
import { SimStore, type StoreLimits } from './store.ts';
import type { Trace } from './trace.ts';
import { type Peer, SimWire } from './wire.ts';

const RAN_NOTED_EVERY_MS = 60_000;
const SWEEP_EVERY_MS = 3_600_000;
const STOP_TIMEOUT_MS = 10_000;
const ADDRESS = '10.0.0.1';

export interface HostPorts {
  /** Which of the hosts it is, from 0. */
  readonly number: number;
  /** The other nodes, when there are any. */
  readonly hub: Hub | undefined;
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
  readonly link: Link | undefined;
  readonly time: ServerTime;
  readonly store: SimStore;
  readonly log: QuietLog;
  core: Core | undefined;
  readonly connections: Map<SimWire, Connection>;
}

/** A machine with the server on it: it crashes, stops and starts again, over the same disk. */
export class Host {
  readonly #ports: HostPorts;
  readonly name: string;
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

  /** The cluster as the present run sees it. */
  get link(): Link | undefined {
    return this.#run?.link;
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
    const { number, hub, scheduler, random, wall, disk, checker, trace, options, limits, bug } = this.#ports;
    const process = new Process(scheduler);
    // Nodes agree on how long their store has been in service, but for the time that it takes to ask.
    const ran = hub === undefined ? disk.ran : scheduler.now + random.between(-5, 5);
    const time = new ServerTime(scheduler, process, random, wall, ran);
    const link = hub?.join(this.name, this.#runs + 1, (this.#runs + 1) * 100 + number, process, time);
    const cluster = link && hub && { isVoid: () => hub.isVoid(link.self), isCut: () => link.isCutFromStore };
    const store = new SimStore({ disk, scheduler, random, checker, trace, limits, process, cluster });
    const log = new QuietLog();
    // Each run of each host has a number of its own.
    const run: Run = {
      number: ++this.#runs * 100 + number,
      process,
      link,
      time,
      store,
      log,
      core: undefined,
      connections: new Map(),
    };
    this.#run = run;
    this.#isStopping = false;
    trace.note('server started', run.number);
    checker.serverStarted();
    const rsa = new FakeRsa(process, random);
    const passwords = new FakePasswords(process, random);
    const createCipher = (key: Uint8Array) => new FakeCipher(key);
    const onFatal = (): void => {
      if (this.#run !== run) return;
      trace.note('server failed');
      scheduler.after(random.between(0, 50), () => {
        if (this.#run === run) this.crash('process');
      });
    };
    store.onBroken = onFatal;
    bug?.store?.(store);
    const ports = { time, log, store, passwords, digests: fakeDigests, rsa, cluster: link, onFatal, createCipher };
    void Core.open(ports, options).then((core) => {
      if (this.#run !== run) return;
      run.core = core;
      bug?.core?.(core);
      observe(core, checker, run.number);
      this.#noteRan(run);
      this.#sweep(run, core);
    });
  }

  #noteRan(run: Run): void {
    run.time.after(RAN_NOTED_EVERY_MS, () => {
      this.#ports.disk.ran = run.time.ran();
      this.#noteRan(run);
    });
  }

  #sweep(run: Run, core: Core): void {
    run.time.after(SWEEP_EVERY_MS, () => {
      core.delivery.sweepInboxes().catch(() => {});
      this.#sweep(run, core);
    });
  }

  /** The process dies, or the machine loses power. */
  crash(kind: CrashKind): void {
    const run = this.#run;
    if (run === undefined) return;
    this.crashes++;
    this.#end(run);
    const { hub, disk, scheduler, random, checker, trace } = this.#ports;
    const lost = hub === undefined ? disk.crash(kind, scheduler.now) : 0;
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
    void core.stop().then(() => {
      if (this.#run !== run) return;
      // Last writes get to their sockets.
      scheduler.after(30, () => {
        if (this.#run !== run) return;
        killed.call = undefined;
        disk.ran = run.time.ran();
        run.store.close();
        run.link?.leave();
        this.#end(run);
        trace.note('server stopped', run.number);
        checker.serverEnded('stop', run.number);
        for (const wire of run.connections.keys()) wire.serverCrashed(true);
        stopped();
      });
    });
  }

  /** Nothing of the present run happens for so long, as after SIGSTOP. */
  pause(ms: number): void {
    const run = this.#run;
    if (run === undefined) return;
    run.process.pause(ms);
    this.#ports.trace.note('node', Math.round(ms), -1, `${this.name} is paused`);
  }

  /** Its way to the hub and to other nodes is cut for so long, and perhaps the one to the store. */
  cut(ms: number, alsoFromStore: boolean): void {
    const link = this.#run?.link;
    if (link === undefined) return;
    link.cutFor(ms, alsoFromStore);
    const what = alsoFromStore ? 'is cut off' : 'is cut off, but not from the store';
    this.#ports.trace.note('node', Math.round(ms), -1, `${this.name} ${what}`);
  }

  #end(run: Run): void {
    run.process.isOver = true;
    this.#run = undefined;
    this.#isStopping = false;
    this.#ports.scheduler.alwaysSettles = this.#ports.hub !== undefined;
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
    if (run === undefined || core === undefined || this.#isStopping) return undefined;
    const { scheduler, random, checker, trace } = this.#ports;
    const { hub } = this.#ports;
    // All come from one address, as behind a carrier's NAT.
    const place = core.admit(ADDRESS);
    if (place === undefined) return undefined;
    const id = this.#connections++ * (hub === undefined ? 1 : 10) + this.#ports.number;
    const isVoid = (): boolean => run.link !== undefined && hub?.isVoid(run.link.self) === true;
    const connection = new Connection(id, run.number, client, isVoid);
    const reader: FrameReader = {
      cipher: () => wire.cipher,
      pushed: ({ from, to, msgid, msg }) => checker.pushed(connection, from, to, msgid, msg.n, JSON.stringify(msg)),
      answered: (frame) => answered(checker, connection, frame),
    };
    const wire: SimWire = new SimWire({
      scheduler,
      random,
      time: run.time,
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
