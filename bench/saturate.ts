// A load whose pairs send as fast as their windows let them: what a message costs, and how many come through.
import { setTimeout as sleep } from 'node:timers/promises';
import { Histogram } from './histogram.ts';
import { type Job, type Outcome, ownCpuMs, until } from './job.ts';
import type { Load } from './load.ts';
import { cpuMs, growth, metrics } from './sampling.ts';

const SETTLE_TIMEOUT_MS = 15_000;
/** Long enough for a message that was pushed twice to show. */
const AFTERMATH_MS = 300;

export async function saturate(job: Job, load: Load): Promise<Outcome> {
  load.start();
  await sleep(job.warmUpMs);
  const metricsBefore = await metrics(job.adminPort);
  const latencies = new Histogram();
  const start = { atMs: performance.now(), cpuMs: cpuMs(job.pid), ownMs: ownCpuMs(), delivered: load.delivered };
  load.latencies = latencies;
  await sleep(job.measureMs);
  load.latencies = null;
  const seconds = (performance.now() - start.atMs) / 1000;
  const serverMs = cpuMs(job.pid) - start.cpuMs;
  const ownMs = ownCpuMs() - start.ownMs;
  const delivered = load.delivered - start.delivered;
  const metricsAfter = await metrics(job.adminPort);
  const scraped = load.delivered - start.delivered;

  load.stop();
  await until(() => load.acked === load.sent && load.delivered === load.sent, SETTLE_TIMEOUT_MS);
  await sleep(AFTERMATH_MS);
  const violations = load.audit();
  load.close();
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
      messages: load.sent,
    },
    violations,
  };
}
