// A thousand receivers that never read or never ack, written to all the time, beside pairs that do as they should: what
// the stuck ones cost in memory, and what they cost the others.
import { setTimeout as sleep } from 'node:timers/promises';
import { Histogram } from './histogram.ts';
import { type Job, type Outcome, ownCpuMs, until } from './job.ts';
import { type Link, type LinkOwner, textOf } from './link.ts';
import { Pair } from './pair.ts';
import { anonymousKiB, cpuMs, growth, metrics, peakKiB, residentKiB, threadsMs } from './sampling.ts';
import { inParallel, Setup } from './setup.ts';
import { SHARED, Traffic } from './traffic.ts';
import { CMD, type Envelope, type Keys } from './wire.ts';

const PAIRS = 50;
const PAIR_PAYLOAD_SIZE = 100;
/** Every second one never reads, the others read and never ack. */
const STUCK = 1000;
const SENDERS = 20;
const STUCK_PAYLOAD_SIZE = 1000;
/** In flight to each stuck receiver: a sender has 50 of them, so at most 200 in flight. */
const STUCK_WINDOW = 4;
/** More than the 256 unacked pushes of a session: from there on its window is full, and the rest is on disk. */
const FILL_PER_STUCK = 280;
const TICK_MS = 10;
/** What a late tick catches up on. */
const OFFERS_PER_TICK_MAX = 200;
const HEARTBEAT_MS = 25_000;
const SETUP_PARALLEL = 4;
const LOGIN_PARALLEL = 16;
const BEFORE_WARM_UP_MS = 5000;
const BEFORE_MS = 10_000;
const WARM_UP_MS = 10_000;
const ROUNDS = 6;
const PHASE_MS = 5000;
/** After the stuck load begins or ends, before what follows is measured. */
const SWITCH_MS = 300;
const SAMPLE_MS = 500;
const FILL_TIMEOUT_MS = 90_000;
const SETTLE_TIMEOUT_MS = 15_000;
const RECOVERY_TIMEOUT_MS = 90_000;
const AFTERMATH_MS = 500;
const HEARTBEAT = Buffer.alloc(4);

/** The connections of the stuck receivers. */
class StuckLinks implements LinkOwner {
  readonly failures: string[] = [];
  readonly links: Link[] = [];
  /** From now on the server may end them. */
  isOver = false;

  ready(): void {}

  frame(link: Link, bytes: Buffer, envelope: Envelope): void {
    if (envelope.cmd === CMD.push || envelope.cmd === CMD.heartbeat) return;
    if (envelope.cmd === CMD.conflict && this.isOver) link.close();
    else this.failures.push(`stuck ${link.slot}: cmd ${envelope.cmd}: ${textOf(link, bytes, envelope)}`);
  }

  closed(link: Link, reason: string): void {
    if (reason !== '' && !this.isOver) this.failures.push(`stuck ${link.slot}: ${reason}`);
  }

  sendHeartbeats(): void {
    for (const link of this.links) link.write(HEARTBEAT);
  }
}

/** Offers messages to the stuck receivers, one after the other, at a steady rate. */
class Pacer {
  /** Messages that a full window kept back: they are not sent later. */
  heldBack = 0;
  readonly #traffic: Traffic;
  readonly #perSecond: number;
  #timer: NodeJS.Timeout | undefined;
  #next = 0;

  constructor(traffic: Traffic, perSecond: number) {
    this.#traffic = traffic;
    this.#perSecond = perSecond;
  }

  start(): void {
    let lastMs = performance.now();
    let due = 0;
    this.#timer = setInterval(() => {
      const nowMs = performance.now();
      due = Math.min(OFFERS_PER_TICK_MAX, due + ((nowMs - lastMs) * this.#perSecond) / 1000);
      lastMs = nowMs;
      for (; due >= 1; due--) this.#offer();
    }, TICK_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  get isRunning(): boolean {
    return this.#timer !== undefined;
  }

  #offer(): void {
    const { pairs } = this.#traffic;
    const pair = pairs[this.#next++ % pairs.length]!;
    if (pair.sent < pair.limit) this.heldBack++;
    else this.#traffic.offer(pair);
  }
}

/** The server's memory, read at intervals. */
class MemorySamples {
  readonly atMs: number[] = [];
  readonly residentMiB: number[] = [];
  readonly anonymousMiB: number[] = [];
  readonly #timer: NodeJS.Timeout;

  constructor(pid: number) {
    const sample = () => {
      this.atMs.push(performance.now());
      this.residentMiB.push(residentKiB(pid) / 1024);
      this.anonymousMiB.push(anonymousKiB(pid) / 1024);
    };
    sample();
    this.#timer = setInterval(sample, SAMPLE_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  get spreadMiB(): number {
    return Math.max(...this.residentMiB) - Math.min(...this.residentMiB);
  }

  /** Least of the last third less least of the first: what collecting garbage does not give back. */
  get floorDriftMiB(): number {
    const third = Math.floor(this.residentMiB.length / 3);
    return Math.min(...this.residentMiB.slice(-third)) - Math.min(...this.residentMiB.slice(0, third));
  }

  /** Of the line through all samples, by least squares. */
  get mebibytesPerMinute(): number {
    const middleMs = mean(this.atMs);
    const middle = mean(this.residentMiB);
    let above = 0;
    let below = 0;
    for (let i = 0; i < this.atMs.length; i++) {
      const ms = this.atMs[i]! - middleMs;
      above += ms * (this.residentMiB[i]! - middle);
      below += ms * ms;
    }
    return (above / below) * 60_000;
  }
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1]! + sorted[sorted.length >> 1]!) / 2;
}

type Phase = {
  seconds: number;
  delivered: number;
  serverMs: number;
  /** Of it by V8's threads, and by the store's. */
  collectorMs: number;
  storeMs: number;
  ownMs: number;
  stuckAcked: number;
  /** As the server counts them, 0 when it does not. */
  stored: number;
  redelivered: number;
  batches: number;
};

const NO_PHASE: Phase = {
  seconds: 0,
  delivered: 0,
  serverMs: 0,
  collectorMs: 0,
  storeMs: 0,
  ownMs: 0,
  stuckAcked: 0,
  stored: 0,
  redelivered: 0,
  batches: 0,
};

function sum(phases: readonly Phase[]): Phase {
  return phases.reduce(
    (all, each) => ({
      seconds: all.seconds + each.seconds,
      delivered: all.delivered + each.delivered,
      serverMs: all.serverMs + each.serverMs,
      collectorMs: all.collectorMs + each.collectorMs,
      storeMs: all.storeMs + each.storeMs,
      ownMs: all.ownMs + each.ownMs,
      stuckAcked: all.stuckAcked + each.stuckAcked,
      stored: all.stored + each.stored,
      redelivered: all.redelivered + each.redelivered,
      batches: all.batches + each.batches,
    }),
    NO_PHASE,
  );
}

const rate = ({ delivered, seconds }: Phase) => delivered / seconds;
/** Of the pairs' messages alone: those to the stuck all are. */
const storedPercent = ({ delivered, stored, stuckAcked }: Phase) => (100 * (stored - stuckAcked)) / delivered;
/** All that the server did, over what it did for the pairs: its inverse is their rate where the server is saturated. */
const cpuUs = ({ delivered, serverMs }: Phase) => (serverMs * 1000) / delivered;

export async function stuck(job: Job, keys: Keys): Promise<Outcome> {
  const setup = new Setup(job.endpoint, keys);
  const devices = await inParallel(PAIRS, SETUP_PARALLEL, (index) => setup.device(`device-${index}`, index));
  const users = await inParallel(PAIRS, SETUP_PARALLEL, (index) =>
    setup.user(`user-${index}`, [`device-${index}`], index),
  );
  const senders = await inParallel(SENDERS, SETUP_PARALLEL, (index) => {
    const names = Array.from({ length: STUCK / SENDERS }, (_, i) => `stuck-${i * SENDERS + index}`);
    return setup.user(`sender-${index}`, names, SHARED);
  });
  const honest = new Traffic(
    keys,
    users.map((user, i) => new Pair(i, user, `user-${i}`, `device-${i}`, PAIR_PAYLOAD_SIZE, job.window, Infinity)),
  );
  const toStuck = new Traffic(
    keys,
    Array.from({ length: STUCK }, (_, i) => {
      const [from, to] = [`sender-${i % SENDERS}`, `stuck-${i}`];
      return new Pair(i, senders[i % SENDERS]!, from, to, STUCK_PAYLOAD_SIZE, STUCK_WINDOW, FILL_PER_STUCK);
    }),
  );
  for (const link of [...devices, ...users]) link.owner = honest;
  for (const link of senders) link.owner = toStuck;

  async function measure(ms: number, latencies: Histogram): Promise<Phase> {
    const metricsBefore = await metrics(job.adminPort);
    const start = { atMs: performance.now(), cpuMs: cpuMs(job.pid), threads: threadsMs(job.pid), ownMs: ownCpuMs() };
    const { delivered } = honest;
    const { acked } = toStuck;
    honest.latencies = latencies;
    await sleep(ms);
    honest.latencies = null;
    const threads = threadsMs(job.pid);
    const phase = {
      seconds: (performance.now() - start.atMs) / 1000,
      delivered: honest.delivered - delivered,
      serverMs: cpuMs(job.pid) - start.cpuMs,
      collectorMs: threads.collector - start.threads.collector,
      storeMs: threads.store - start.threads.store,
      ownMs: ownCpuMs() - start.ownMs,
      stuckAcked: toStuck.acked - acked,
    };
    const metricsAfter = await metrics(job.adminPort);
    return {
      ...phase,
      stored: growth('hawser_messages_stored_total', metricsBefore, metricsAfter) ?? 0,
      redelivered: growth('hawser_messages_redelivered_total', metricsBefore, metricsAfter) ?? 0,
      batches: growth('hawser_store_batches_total', metricsBefore, metricsAfter) ?? 0,
    };
  }

  // The pairs by themselves, before there is any stuck receiver: how much memory moves without them.
  honest.start();
  await sleep(BEFORE_WARM_UP_MS);
  const memoryBefore = new MemorySamples(job.pid);
  const latenciesBefore = new Histogram();
  const before = await measure(BEFORE_MS, latenciesBefore);
  memoryBefore.stop();
  honest.stop();

  // The stuck ones come, and are written to until their windows are full.
  const stuckLinks = new StuckLinks();
  await inParallel(STUCK, LOGIN_PARALLEL, async (index) => {
    const link = await setup.device(`stuck-${index}`, index);
    if (index % 2 === 0) link.pause();
    link.owner = stuckLinks;
    stuckLinks.links.push(link);
  });
  const heartbeats = setInterval(() => stuckLinks.sendHeartbeats(), HEARTBEAT_MS);
  toStuck.start();
  await until(() => toStuck.acked === STUCK * FILL_PER_STUCK, FILL_TIMEOUT_MS);

  const pacer = new Pacer(toStuck, job.stuckPerSecond ?? STUCK);
  honest.start();
  pacer.start();
  await sleep(WARM_UP_MS);

  // With and without the stuck receivers' senders, by turns; the receivers stay.
  const memory = new MemorySamples(job.pid);
  const phases = { with: [] as Phase[], without: [] as Phase[] };
  const latencies = { with: new Histogram(), without: new Histogram() };
  for (let round = 0; round < ROUNDS; round++) {
    for (const name of round % 2 === 0 ? (['with', 'without'] as const) : (['without', 'with'] as const)) {
      if (pacer.isRunning !== (name === 'with')) {
        if (name === 'with') pacer.start();
        else pacer.stop();
        await sleep(SWITCH_MS);
      }
      phases[name].push(await measure(PHASE_MS, latencies[name]));
    }
  }
  pacer.stop();
  memory.stop();

  honest.stop();
  const isSettled = () =>
    [honest, toStuck].every(({ acked, sent }) => acked === sent) && honest.delivered === honest.sent;
  await until(isSettled, SETTLE_TIMEOUT_MS);
  await sleep(AFTERMATH_MS);
  const violations = [...honest.audit(), ...stuckLinks.failures.slice(0, 10)];
  const sessions = (await metrics(job.adminPort)).get('hawser_sessions');
  const expected = 2 * PAIRS + SENDERS + STUCK;
  if (sessions !== undefined && sessions !== expected) violations.push(`${sessions} sessions of ${expected}`);

  // New sessions of the same names, which read and ack: now all must come, once and in order.
  clearInterval(heartbeats);
  stuckLinks.isOver = true;
  const recoveryMs = cpuMs(job.pid);
  const recovered = await inParallel(STUCK, LOGIN_PARALLEL, async (index) => {
    const link = await setup.device(`stuck-${index}`, index);
    link.owner = toStuck;
    link.send(CMD.fetch, 'fetch', null);
    return link;
  });
  await until(() => toStuck.delivered === toStuck.sent, RECOVERY_TIMEOUT_MS);
  await sleep(AFTERMATH_MS);
  const recoveryCpuMs = cpuMs(job.pid) - recoveryMs;
  violations.push(...toStuck.audit().map((text) => `to the stuck: ${text}`));
  for (const link of [...recovered, ...devices, ...users, ...senders]) link.close();

  const all = { with: sum(phases.with), without: sum(phases.without) };
  const measured = sum([all.with, all.without]);
  const rateRatios = phases.with.map((phase, i) => rate(phase) / rate(phases.without[i]!));
  const cpuRatios = phases.with.map((phase, i) => cpuUs(phases.without[i]!) / cpuUs(phase));
  return {
    figures: {
      residentMiBSpread: memory.spreadMiB,
      residentMiBPerMinute: memory.mebibytesPerMinute,
      residentMiBFloorDrift: memory.floorDriftMiB,
      residentMiBSpreadBefore: memoryBefore.spreadMiB,
      residentMiBBefore: memoryBefore.residentMiB.at(-1)!,
      residentMiBStuck: mean(memory.residentMiB),
      residentMiBPeak: peakKiB(job.pid) / 1024,
      pairsPercent: 100 * median(rateRatios),
      pairsPercentWorst: 100 * Math.min(...rateRatios),
      pairsPercentByCpu: 100 * median(cpuRatios),
      pairsPercentByCpuWorst: 100 * Math.min(...cpuRatios),
      deliveredPerSecondWith: rate(all.with),
      deliveredPerSecondWithout: rate(all.without),
      deliveredPerSecondBefore: rate(before),
      cpuUsPerMessageWith: cpuUs(all.with),
      cpuUsPerMessageWithout: cpuUs(all.without),
      cpuUsPerMessageBefore: cpuUs(before),
      collectorUsPerMessageWith: (all.with.collectorMs * 1000) / all.with.delivered,
      collectorUsPerMessageWithout: (all.without.collectorMs * 1000) / all.without.delivered,
      collectorUsPerMessageBefore: (before.collectorMs * 1000) / before.delivered,
      storeMsPerSecondWith: all.with.storeMs / all.with.seconds,
      storeMsPerSecondWithout: all.without.storeMs / all.without.seconds,
      serverMsPerSecondWith: all.with.serverMs / all.with.seconds,
      serverMsPerSecondWithout: all.without.serverMs / all.without.seconds,
      ackP95MsWith: latencies.with.percentile(95),
      ackP95MsWithout: latencies.without.percentile(95),
      ackP95MsBefore: latenciesBefore.percentile(95),
      ackMaxMsWith: latencies.with.percentile(100),
      ackMaxMsWithout: latencies.without.percentile(100),
      ackMaxMsBefore: latenciesBefore.percentile(100),
      storedPercentWith: storedPercent(all.with),
      storedPercentWithout: storedPercent(all.without),
      storedPercentBefore: storedPercent(before),
      stuckPerSecond: all.with.stuckAcked / all.with.seconds,
      commitsPerSecond: all.with.batches / all.with.seconds,
      stuckHeldBack: pacer.heldBack,
      redelivered: measured.redelivered,
      recoveredMessages: toStuck.sent,
      cpuUsPerRecovered: (recoveryCpuMs * 1000) / toStuck.sent,
      serverBusyPercent: measured.serverMs / measured.seconds / 10,
      generatorBusyPercent: measured.ownMs / measured.seconds / 10,
    },
    violations,
    series: {
      atSecond: memory.atMs.map((ms) => Math.round((ms - memory.atMs[0]!) / 100) / 10),
      residentMiB: memory.residentMiB,
      anonymousMiB: memory.anonymousMiB,
      residentMiBBefore: memoryBefore.residentMiB,
      deliveredPerSecondWith: phases.with.map(rate),
      deliveredPerSecondWithout: phases.without.map(rate),
      cpuUsPerMessageWith: phases.with.map(cpuUs),
      cpuUsPerMessageWithout: phases.without.map(cpuUs),
      storedPercentWith: phases.with.map(storedPercent),
      storedPercentWithout: phases.without.map(storedPercent),
      redeliveredWith: phases.with.map(({ redelivered }) => redelivered),
      redeliveredWithout: phases.without.map(({ redelivered }) => redelivered),
    },
  };
}
