// Latency at a fixed rate: 5,000 messages a second, or four fifths of what was reached just before.
import { setTimeout as sleep } from 'node:timers/promises';
import { Histogram } from './histogram.ts';
import { type Job, type Outcome, until } from './job.ts';
import type { Load } from './load.ts';
import { cpuMs, growth, metrics } from './sampling.ts';
import { follow, Schedule } from './schedule.ts';
import { Setup } from './setup.ts';
import { oneToOne } from './throughput.ts';
import { Traffic } from './traffic.ts';
import type { Keys } from './wire.ts';

const MESSAGES_PER_SECOND = 5000;
const PART_OF_MAXIMUM = 0.8;
/** For the maximum: in flight per pair, and how long it is looked for, warm-up and measured. */
const MAXIMUM_WINDOW = 20;
const MAXIMUM_WARM_UP_MS = 2000;
const MAXIMUM_MEASURE_MS = 3000;
/** From the making of a schedule to its first message. */
const LEAD_MS = 20;
const SETTLE_TIMEOUT_MS = 20_000;
const AFTERMATH_MS = 300;

export type Latencies = { acks: Histogram; deliveries: Histogram; late: Histogram };

export function latencyFigures({ acks, deliveries, late }: Latencies): Record<string, number> {
  return {
    deliveryP50Ms: deliveries.percentile(50),
    deliveryP95Ms: deliveries.percentile(95),
    deliveryP99Ms: deliveries.percentile(99),
    deliveryMaxMs: deliveries.maxMs,
    ackP50Ms: acks.percentile(50),
    ackP95Ms: acks.percentile(95),
    ackP99Ms: acks.percentile(99),
    ackMaxMs: acks.maxMs,
    sentLateP99Ms: late.percentile(99),
  };
}

/** All pairs send by one schedule; resolves when all of it has come back, or has not in time. */
async function paced(load: Load, perSecond: number, durationMs: number): Promise<Latencies> {
  const { pairs } = load;
  const found: Latencies = { acks: new Histogram(), deliveries: new Histogram(), late: new Histogram() };
  const schedule = new Schedule(performance.now() + LEAD_MS, perSecond, durationMs, pairs.length);
  for (const [index, pair] of pairs.entries()) {
    const sentBefore = pair.sent;
    pair.limit = sentBefore;
    pair.deliveries = found.deliveries;
    // Called when the pair's next message is booked, which then counts as sent.
    pair.dueAtMs = () => {
      const dueAtMs = schedule.dueAtMs((pair.sent - 1 - sentBefore) * pairs.length + index);
      found.late.record(performance.now() - dueAtMs);
      return dueAtMs;
    };
  }
  load.latencies = found.acks;
  load.start();
  await follow(schedule, (n) => load.offer(pairs[n % pairs.length]!));
  await until(() => pairs.every((pair) => pair.sent === pair.limit) && load.acked === load.sent, SETTLE_TIMEOUT_MS);
  await until(() => load.delivered === load.sent, SETTLE_TIMEOUT_MS);
  load.stop();
  return found;
}

/** As many as the server can, with 20 in flight per pair: messages a second. */
async function maximum(load: Load): Promise<number> {
  for (const pair of load.pairs) pair.limit = Infinity;
  load.start();
  await sleep(MAXIMUM_WARM_UP_MS);
  const [before, beganAtMs] = [load.delivered, performance.now()];
  await sleep(MAXIMUM_MEASURE_MS);
  const perSecond = ((load.delivered - before) * 1000) / (performance.now() - beganAtMs);
  load.stop();
  await until(() => load.acked === load.sent && load.delivered === load.sent, SETTLE_TIMEOUT_MS);
  return perSecond;
}

/** `load` is measured at the fixed rate, or at a part of its maximum, and closed. */
export async function measureLatency(job: Job, load: Load, isPartOfMaximum: boolean): Promise<Outcome> {
  let maximumPerSecond: number | null = null;
  if (isPartOfMaximum) {
    for (const pair of load.pairs) pair.window = MAXIMUM_WINDOW;
    maximumPerSecond = await maximum(load);
  }
  for (const pair of load.pairs) pair.window = Infinity;
  const perSecond = maximumPerSecond === null ? MESSAGES_PER_SECOND : maximumPerSecond * PART_OF_MAXIMUM;
  await paced(load, perSecond, job.warmUpMs);
  const metricsBefore = await metrics(job.adminPort);
  const start = { atMs: performance.now(), cpuMs: cpuMs(job.pid), delivered: load.delivered };
  const latencies = await paced(load, perSecond, job.measureMs);
  const seconds = (performance.now() - start.atMs) / 1000;
  const serverMs = cpuMs(job.pid) - start.cpuMs;
  const delivered = load.delivered - start.delivered;
  const writes = growth('hawser_store_writes_total', metricsBefore, await metrics(job.adminPort));
  await sleep(AFTERMATH_MS);
  const violations = load.audit();
  load.close();
  if (delivered === 0) violations.push('nothing was delivered');
  return {
    figures: {
      ...latencyFigures(latencies),
      duePerSecond: perSecond,
      maximumPerSecond,
      cpuUsPerMessage: (serverMs * 1000) / delivered,
      storeWritesPer1000: writes === null ? null : (writes * 1000) / delivered,
      serverLoadPercent: serverMs / seconds / 10,
      messages: load.sent,
    },
    violations,
  };
}

async function loadOf(job: Job, keys: Keys): Promise<Load> {
  const { links, pairs } = await oneToOne(new Setup(job.endpoint, keys), { window: Infinity });
  return new Traffic(keys, pairs, links);
}

export async function latency(job: Job, keys: Keys): Promise<Outcome> {
  return measureLatency(job, await loadOf(job, keys), false);
}

export async function latency80(job: Job, keys: Keys): Promise<Outcome> {
  return measureLatency(job, await loadOf(job, keys), true);
}
