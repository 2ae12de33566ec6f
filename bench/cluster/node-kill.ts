// A node of three that is killed at half of what the cluster can carry: what those who wait for messages see of it.
import { setTimeout as sleep } from 'node:timers/promises';
import { Histogram } from '../histogram.ts';
import { type Job, type Outcome, until } from '../job.ts';
import type { Keys } from '../wire.ts';
import { Roamer, Stream, type World } from './roamer.ts';

const PAIRS = 150;
const START_AT_ONCE = 8;
const START_TIMEOUT_MS = 60_000;
/** For the maximum. */
const WINDOW = 4;
const MAXIMUM_LEAD_MS = 3000;
const MAXIMUM_MEASURE_MS = 5000;
const PART_OF_MAXIMUM = 0.5;
/** What the maximum has left behind is over by then. */
const QUIET_LEAD_MS = 8000;
/** From when all are back until latency is to be what it was. */
const CALM_AFTER_MS = 5000;
const BACK_TIMEOUT_MS = 60_000;
const SETTLE_TIMEOUT_MS = 40_000;
const BEAT_MS = 1;

class Load implements World {
  readonly keys: Keys;
  dispatchers: readonly number[];
  readonly streams = Array.from({ length: PAIRS }, (_, i) => new Stream(i, `device-${i}`));
  readonly users: readonly Roamer[];
  readonly devices: readonly Roamer[];
  readonly violations: string[] = [];
  /** In each second, how late what came then was. */
  readonly seconds: Histogram[] = [];
  latencies: Histogram | undefined;
  delivered = 0;
  #isSaturating = false;
  readonly #beganAtMs = performance.now();

  constructor(keys: Keys, dispatchers: readonly number[]) {
    this.keys = keys;
    this.dispatchers = dispatchers;
    this.users = this.streams.map((stream, i) => new Roamer(`user-${i}`, true, stream, this));
    this.devices = this.streams.map((stream) => new Roamer(stream.to, false, stream, this));
  }

  get all(): readonly Roamer[] {
    return [...this.users, ...this.devices];
  }

  onAcked = (stream: Stream): void => {
    if (!this.#isSaturating) return;
    const user = this.users[this.streams.indexOf(stream)]!;
    if (stream.unacked.size < WINDOW) user.send(performance.now());
  };

  onDelivered = (dueAtMs: number): void => {
    const now = performance.now();
    this.delivered++;
    this.latencies?.record(now - dueAtMs);
    const second = Math.floor((now - this.#beganAtMs) / 1000);
    this.seconds[second] ??= new Histogram();
    this.seconds[second].record(now - dueAtMs);
  };

  violation = (text: string): void => {
    if (this.violations.length < 10) this.violations.push(text);
  };

  get second(): number {
    return Math.floor((performance.now() - this.#beganAtMs) / 1000);
  }

  async start(): Promise<boolean> {
    for (let i = 0; i < PAIRS; i += START_AT_ONCE) {
      // Devices first, so that no user adds a name that is not known yet.
      for (const each of this.devices.slice(i, i + START_AT_ONCE)) void each.connect();
      for (const each of this.users.slice(i, i + START_AT_ONCE)) void each.connect();
      const started = this.all.filter((_, n) => n % PAIRS < i + START_AT_ONCE);
      if (!(await until(() => started.every(({ isOnline }) => isOnline), START_TIMEOUT_MS))) return false;
    }
    return true;
  }

  /** As many as it can with a few in flight from each: messages a second. */
  async maximum(): Promise<number> {
    this.#isSaturating = true;
    for (const user of this.users) for (let i = 0; i < WINDOW; i++) user.send(performance.now());
    await sleep(MAXIMUM_LEAD_MS);
    const [before, beganAtMs] = [this.delivered, performance.now()];
    await sleep(MAXIMUM_MEASURE_MS);
    const perSecond = ((this.delivered - before) * 1000) / (performance.now() - beganAtMs);
    this.#isSaturating = false;
    await this.settled();
    return perSecond;
  }

  settled(): Promise<boolean> {
    return until(
      () => this.streams.every(({ sent, acked, delivered }) => acked === sent && delivered === sent),
      SETTLE_TIMEOUT_MS,
    );
  }

  /** Messages of all users by turns, each due at a time that nothing can shift, until the result is called. */
  pace(perSecond: number): () => void {
    const startMs = performance.now();
    let next = 0;
    const timer = setInterval(() => {
      const due = ((performance.now() - startMs) * perSecond) / 1000;
      for (; next < due; next++) this.users[next % PAIRS]!.send(startMs + (next * 1000) / perSecond);
    }, BEAT_MS);
    return () => clearInterval(timer);
  }
}

async function recorded(load: Load, ms: number): Promise<Histogram> {
  const latencies = new Histogram();
  load.latencies = latencies;
  await sleep(ms);
  load.latencies = undefined;
  return latencies;
}

export async function nodeKill(job: Job, keys: Keys): Promise<Outcome> {
  const nodes = job.nodes ?? [];
  const victim = nodes[0]!;
  // The dispatchers of the others: in a cluster one is asked that lives.
  const load = new Load(
    keys,
    nodes.slice(1).flatMap(({ httpPort }) => httpPort ?? []),
  );
  const violations: string[] = [];
  if (!(await load.start())) return { figures: {}, violations: [...load.violations, 'not all clients came'] };
  const maximum = await load.maximum();
  const perSecond = maximum * PART_OF_MAXIMUM;
  const stop = load.pace(perSecond);
  await sleep(QUIET_LEAD_MS);
  const quiet = await recorded(load, job.measureMs);

  const hit = load.all.filter(({ port }) => port === victim.endpoint.port);
  const killedAtMs = performance.now();
  const killedInSecond = load.second;
  process.kill(victim.pid, 'SIGKILL');
  await until(() => hit.every(({ isOnline }) => !isOnline), BACK_TIMEOUT_MS);
  if (!(await until(() => load.all.every(({ isOnline }) => isOnline), BACK_TIMEOUT_MS))) {
    violations.push('not all clients came back');
  }
  const backAfterMs = performance.now() - killedAtMs;
  await sleep(CALM_AFTER_MS);
  const after = await recorded(load, job.measureMs);
  stop();
  await load.settled();

  const sum = (of: (stream: Stream) => number): number => load.streams.reduce((all, each) => all + of(each), 0);
  const sent = sum((each) => each.sent);
  violations.push(...load.violations);
  for (const [what, count] of [
    ['acked and not delivered', sum((each) => each.lost)],
    ['delivered out of order', sum((each) => each.outOfOrder)],
    ['not acked in the end', sent - sum((each) => each.acked)],
  ] as const) {
    if (count > 0) violations.push(`${count} of ${sent} ${what}`);
  }
  for (const each of load.all) each.close();
  return {
    figures: {
      latencyTimesAfterKill: after.percentile(95) / quiet.percentile(95),
      deliveryP50MsQuiet: quiet.percentile(50),
      deliveryP95MsQuiet: quiet.percentile(95),
      deliveryP50MsAfterKill: after.percentile(50),
      deliveryP95MsAfterKill: after.percentile(95),
      clientsHit: hit.length,
      backAfterMs,
      duePerSecond: perSecond,
      maximumPerSecond: maximum,
      cameAgain: sum((each) => each.again),
      messages: sent,
    },
    violations,
    series: {
      p95OfSecondMs: Array.from(load.seconds, (each) => each?.percentile(95) ?? 0),
      killedInSecond: [killedInSecond],
    },
  };
}
