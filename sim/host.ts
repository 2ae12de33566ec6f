import { cmd } from '@hawser/protocol';
import { Core } from '@hawser/server/core/core';
import type { CoreOptions } from '@hawser/server/core/services';
import type { Bug } from './bugs.ts';
import type { Checker } from './checker.ts';
import { ServerTime, type WallClock } from './clock.ts';
import { Connection } from './connection.ts';
import type { CrashKind, Disk } from './disk.ts';
import { FakeCipher, FakePasswords, FakeRsa, QuietLog } from './fakes.ts';
import { type FrameReader, readFrames, type ServerFrame } from './frames.ts';
import type { Random } from './random.ts';
import type { Scheduler } from './scheduler.ts';
import { SimStore, type StoreLimits } from './store.ts';
import type { Trace } from './trace.ts';
import { type Peer, SimWire } from './wire.ts';

const RAN_NOTED_EVERY_MS = 60_000;
const SWEEP_EVERY_MS = 3_600_000;
const STOP_TIMEOUT_MS = 10_000;

export interface HostPorts {
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
  readonly time: ServerTime;
  readonly store: SimStore;
  readonly log: QuietLog;
  core: Core | undefined;
  readonly connections: Map<SimWire, Connection>;
}

/** A machine with the server on it: it crashes, stops and starts again, over the same disk. */
export class Host {
  readonly #ports: HostPorts;
  #run: Run | undefined;
  #runs = 0;
  #connections = 0;
  #isStopping = false;
  crashes = 0;
  stops = 0;

  constructor(ports: HostPorts) {
    this.#ports = ports;
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
    const { scheduler, random, wall, disk, checker, trace, options, limits, bug } = this.#ports;
    const time = new ServerTime(scheduler, random, wall, disk.ran);
    const store = new SimStore({ disk, scheduler, random, checker, trace, limits });
    const log = new QuietLog();
    const run: Run = {
      number: ++this.#runs,
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
    const rsa = new FakeRsa(scheduler, random);
    const passwords = new FakePasswords(scheduler, random);
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
    void Core.open({ time, log, store, passwords, rsa, onFatal, createCipher }, options).then((core) => {
      if (this.#run !== run) return;
      run.core = core;
      bug?.core?.(core);
      observe(core, checker);
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
    const { disk, scheduler, random, checker, trace } = this.#ports;
    const lost = disk.crash(kind, scheduler.now);
    trace.note('server crashed', run.number, lost, kind);
    checker.serverEnded('crash');
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
        this.#end(run);
        trace.note('server stopped');
        checker.serverEnded('stop');
        for (const wire of run.connections.keys()) wire.serverCrashed(true);
        stopped();
      });
    });
  }

  #end(run: Run): void {
    run.time.isOver = true;
    run.store.isOver = true;
    this.#run = undefined;
    this.#isStopping = false;
    this.#ports.scheduler.alwaysSettles = false;
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
    const connection = new Connection(this.#connections++, run.number, client);
    const reader: FrameReader = {
      cipher: () => wire.cipher,
      pushed: ({ from, to, msgid, msg }) => checker.pushed(connection, from, to, msgid, msg.n, JSON.stringify(msg)),
      answered: (frame) => answered(checker, connection, frame),
    };
    const wire: SimWire = new SimWire({
      scheduler,
      random,
      time: run.time,
      peer,
      latencyMs,
      secure,
      written: (bytes) => {
        const frames = readFrames(bytes, reader);
        if (frames !== 'broken') return frames;
        checker.broken('wrong party', `connection ${connection.id} was written what cannot be read`);
        return [];
      },
      closed: () => {
        run.connections.delete(wire);
        if (!connection.isClosed) trace.note('gone', connection.id);
        checker.closed(connection);
      },
    });
    run.connections.set(wire, connection);
    trace.note('connected', connection.id);
    const session = core.connect(wire);
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
function observe(core: Core, checker: Checker): void {
  const { delivery, counters } = core;
  const accept = delivery.accept.bind(delivery);
  delivery.accept = (sender, msgId, isEncrypt, to, msg, ttl) => {
    const before = counters.accepted;
    const outcome = accept(sender, msgId, isEncrypt, to, msg, ttl);
    checker.accepted(sender.name, msgId, to, msg, outcome, counters.accepted > before);
    return outcome;
  };
  const acked = delivery.acked.bind(delivery);
  delivery.acked = (message) => {
    checker.ackTaken(message.to, message.msgId);
    acked(message);
  };
}
