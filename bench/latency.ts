// Latency at a fixed rate: 5,000 messages a second, or four fifths of what was reached just before.
import { setTimeout as sleep } from 'node:timers/promises';
import { Histogram } from './histogram.ts';
import { type Job, type Outcome, until } from './job.ts';
import { Pair } from './pair.ts';
import { cpuMs, growth, metrics } from './sampling.ts';
import { follow, Schedule } from './schedule.ts';
import { inParallel, Setup } from './setup.ts';
import { Traffic } from './traffic.ts';
import type { Keys } from './wire.ts';

const PAIRS = 50;
const PAYLOAD_SIZE = 100;
const SETUP_PARALLEL = 4;
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
async function paced(traffic: Traffic, perSecond: number, durationMs: number): Promise<Latencies> {
  const { pairs } = traffic;
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
  traffic.latencies = found.acks;
  traffic.start();
  await follow(schedule, (n) => traffic.offer(pairs[n % pairs.length]!));
  await until(
    () => pairs.every((pair) => pair.sent === pair.limit) && traffic.acked === traffic.sent,
    SETTLE_TIMEOUT_MS,
  );
  await until(() => traffic.delivered === traffic.sent, SETTLE_TIMEOUT_MS);
  traffic.stop();
  return found;
}

/** As many as the server can, with 20 in flight per pair: messages a second. */
async function maximum(traffic: Traffic): Promise<number> {
  for (const pair of traffic.pairs) pair.limit = Infinity;
  traffic.start();
  await sleep(MAXIMUM_WARM_UP_MS);
  const [before, beganAtMs] = [traffic.delivered, performance.now()];
  await sleep(MAXIMUM_MEASURE_MS);
  const perSecond = ((traffic.delivered - before) * 1000) / (performance.now() - beganAtMs);
  traffic.stop();
  await until(() => traffic.acked === traffic.sent && traffic.delivered === traffic.sent, SETTLE_TIMEOUT_MS);
  return perSecond;
}

async function measure(job: Job, keys: Keys, isPartOfMaximum: boolean): Promise<Outcome> {
  const setup = new Setup(job.endpoint, keys);
  const devices = await inParallel(PAIRS, SETUP_PARALLEL, (index) => setup.device(`device-${index}`, index));
  const users = await inParallel(PAIRS, SETUP_PARALLEL, (index) =>
    setup.user(`user-${index}`, [`device-${index}`], index),
  );
  const open = users.map((user, i) => new Pair(i, user, `user-${i}`, `device-${i}`, PAYLOAD_SIZE, Infinity, Infinity));
  const traffic = new Traffic(keys, open);
  for (const link of [...devices, ...users]) link.owner = traffic;

  let maximumPerSecond: number | null = null;
  if (isPartOfMaximum) {
    for (const pair of open) pair.window = MAXIMUM_WINDOW;
    maximumPerSecond = await maximum(traffic);
    for (const pair of open) pair.window = Infinity;
  }
  const perSecond = maximumPerSecond === null ? MESSAGES_PER_SECOND : maximumPerSecond * PART_OF_MAXIMUM;
  await paced(traffic, perSecond, job.warmUpMs);
  const metricsBefore = await metrics(job.adminPort);
  const start = { atMs: performance.now(), cpuMs: cpuMs(job.pid), delivered: traffic.delivered };
  const latencies = await paced(traffic, perSecond, job.measureMs);
  const seconds = (performance.now() - start.atMs) / 1000;
  const serverMs = cpuMs(job.pid) - start.cpuMs;
  const delivered = traffic.delivered - start.delivered;
  const writes = growth('hawser_store_writes_total', metricsBefore, await metrics(job.adminPort));
  await sleep(AFTERMATH_MS);
  const violations = traffic.audit();
  for (const link of [...devices, ...users]) link.close();
  if (delivered === 0) violations.push('nothing was delivered');
  return {
    figures: {
      ...latencyFigures(latencies),
      duePerSecond: perSecond,
      maximumPerSecond,
      cpuUsPerMessage: (serverMs * 1000) / delivered,
      storeWritesPer1000: writes === null ? null : (writes * 1000) / delivered,
      serverLoadPercent: serverMs / seconds / 10,
      messages: traffic.sent,
    },
    violations,
  };
}

export function latency(job: Job, keys: Keys): Promise<Outcome> {
  return measure(job, keys, false);
}

export function latency80(job: Job, keys: Keys): Promise<Outcome> {
  return measure(job, keys, true);
}
