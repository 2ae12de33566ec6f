// Users write to their devices as fast as the acks come.
import { setTimeout as sleep } from 'node:timers/promises';
import { Histogram } from './histogram.ts';
import { type Job, type Outcome, ownCpuMs, until } from './job.ts';
import { Pair } from './pair.ts';
import { cpuMs, growth, metrics } from './sampling.ts';
import { inParallel, Setup } from './setup.ts';
import { Traffic } from './traffic.ts';
import type { Keys } from './wire.ts';

const PAIRS = 50;
const PAYLOAD_SIZE = 100;
const SETUP_PARALLEL = 4;
const SETTLE_TIMEOUT_MS = 15_000;
/** Long enough for a message that was pushed twice to show. */
const AFTERMATH_MS = 300;

export async function throughput(job: Job, keys: Keys): Promise<Outcome> {
  const setup = new Setup(job.endpoint, keys);
  const devices = await inParallel(PAIRS, SETUP_PARALLEL, (index) => setup.device(`device-${index}`, index));
  const users = await inParallel(PAIRS, SETUP_PARALLEL, (index) =>
    setup.user(`user-${index}`, [`device-${index}`], index),
  );
  const pairs = users.map(
    (user, index) => new Pair(index, user, `user-${index}`, `device-${index}`, PAYLOAD_SIZE, job.window, Infinity),
  );
  const traffic = new Traffic(keys, pairs);
  for (const link of [...devices, ...users]) link.owner = traffic;

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
  for (const link of [...devices, ...users]) link.close();
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
