// As fast as the acks come: users to their devices, a thousand devices to one user, one user to a thousand devices.
import { setTimeout as sleep } from 'node:timers/promises';
import { Histogram } from './histogram.ts';
import { type Job, type Outcome, ownCpuMs, until } from './job.ts';
import type { Link } from './link.ts';
import { Pair } from './pair.ts';
import { cpuMs, growth, metrics } from './sampling.ts';
import { inParallel, Setup } from './setup.ts';
import { SHARED, Traffic } from './traffic.ts';
import type { Keys } from './wire.ts';

const PAIRS = 50;
const PAYLOAD_SIZE = 100;
const SETUP_PARALLEL = 4;
const MANY = 1000;
const MANY_PARALLEL = 16;
const SETTLE_TIMEOUT_MS = 15_000;
/** Long enough for a message that was pushed twice to show. */
const AFTERMATH_MS = 300;

type Shape = { links: Link[]; pairs: Pair[] };

async function oneToOne(setup: Setup, window: number): Promise<Shape> {
  const devices = await inParallel(PAIRS, SETUP_PARALLEL, (index) => setup.device(`device-${index}`, index));
  const users = await inParallel(PAIRS, SETUP_PARALLEL, (index) =>
    setup.user(`user-${index}`, [`device-${index}`], index),
  );
  const pairs = users.map(
    (user, index) => new Pair(index, user, `user-${index}`, `device-${index}`, PAYLOAD_SIZE, window, Infinity),
  );
  return { links: [...devices, ...users], pairs };
}

/** Many devices and the one user that has added them all. */
async function many(setup: Setup): Promise<{ devices: Link[]; user: Link }> {
  const devices = await inParallel(MANY, MANY_PARALLEL, (index) => setup.device(`device-${index}`, index));
  const ids = devices.map((_, index) => `device-${index}`);
  return { devices, user: await setup.user('user', ids, SHARED) };
}

async function manyToOne(setup: Setup, window: number): Promise<Shape> {
  const { devices, user } = await many(setup);
  const pairs = devices.map(
    (device, index) => new Pair(index, device, `device-${index}`, 'user', PAYLOAD_SIZE, window, Infinity),
  );
  return { links: [...devices, user], pairs };
}

async function oneToMany(setup: Setup, window: number): Promise<Shape> {
  const { devices, user } = await many(setup);
  const pairs = devices.map(
    (_, index) => new Pair(index, user, 'user', `device-${index}`, PAYLOAD_SIZE, window, Infinity),
  );
  return { links: [...devices, user], pairs };
}

async function measure(job: Job, keys: Keys, shape: typeof oneToOne): Promise<Outcome> {
  const { links, pairs } = await shape(new Setup(job.endpoint, keys), job.window);
  const traffic = new Traffic(keys, pairs);
  for (const link of links) link.owner = traffic;

  traffic.start();
  await sleep(job.warmUpMs);
  const metricsBefore = await metrics(job.adminPort);
  const latencies = new Histogram();
  const start = { atMs: performance.now(), cpuMs: cpuMs(job.pid), ownMs: ownCpuMs(), delivered: traffic.delivered };
  traffic.latencies = latencies;
  await sleep(job.measureMs);
  traffic.latencies = null;
  const seconds = (performance.now() - start.atMs) / 1000;
  const serverMs = cpuMs(job.pid) - start.cpuMs;
  const ownMs = ownCpuMs() - start.ownMs;
  const delivered = traffic.delivered - start.delivered;
  const metricsAfter = await metrics(job.adminPort);
  const scraped = traffic.delivered - start.delivered;

  traffic.stop();
  await until(() => traffic.acked === traffic.sent && traffic.delivered === traffic.sent, SETTLE_TIMEOUT_MS);
  await sleep(AFTERMATH_MS);
  const violations = traffic.audit();
  for (const link of links) link.close();
  if (delivered === 0) violations.push('nothing was delivered');

  const writes = growth('hawser_store_writes_total', metricsBefore, metricsAfter);
  const accepted = growth('hawser_messages_accepted_total', metricsBefore, metricsAfter) ?? scraped;
  return {
    figures: {
      deliveredPerSecond: delivered / seconds,
      cpuUsPerMessage: (serverMs * 1000) / delivered,
      storeWritesPer1000: writes === null ? null : (writes * 1000) / accepted,
      ackP50Ms: latencies.percentile(50),
      ackP99Ms: latencies.percentile(99),
      serverBusyPercent: serverMs / seconds / 10,
      generatorBusyPercent: ownMs / seconds / 10,
      parsedPushes: pairs.reduce((sum, pair) => sum + pair.parsed, 0),
      messages: traffic.sent,
    },
    violations,
  };
}

export function throughput(job: Job, keys: Keys): Promise<Outcome> {
  return measure(job, keys, oneToOne);
}

export function fanIn(job: Job, keys: Keys): Promise<Outcome> {
  return measure(job, keys, manyToOne);
}

export function fanOut(job: Job, keys: Keys): Promise<Outcome> {
  return measure(job, keys, oneToMany);
}
