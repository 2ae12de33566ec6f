// Messages to devices that are away, and their way out when they come back.
import { setTimeout as sleep } from 'node:timers/promises';
import { Histogram } from './histogram.ts';
import { type Job, type Outcome, ownCpuMs, until } from './job.ts';
import { Pair } from './pair.ts';
import { cpuMs, growth, metrics } from './sampling.ts';
import { inParallel, Setup } from './setup.ts';
import { Traffic } from './traffic.ts';
import { CMD, type Keys } from './wire.ts';

const PAIRS = 16;
/** Well within half an inbox, which is what one sender may fill: 50,000 messages, 32 MiB. */
const MESSAGES_PER_PAIR = 10_000;
const PAYLOAD_SIZE = 100;
const SETUP_PARALLEL = 4;
const TIMEOUT_MS = 120_000;
const SETTLE_MS = 500;
/** Longer than the second after which a backlog is pushed unasked. */
const LEFTOVERS_MS = 2000;

export async function away(job: Job, keys: Keys): Promise<Outcome> {
  const setup = new Setup(job.endpoint, keys);
  const device = (index: number) => setup.device(`device-${index}`, index);
  for (const link of await inParallel(PAIRS, SETUP_PARALLEL, device)) {
    link.send(CMD.logout, 'logout', null);
    link.close();
  }
  const users = await inParallel(PAIRS, SETUP_PARALLEL, (index) =>
    setup.user(`user-${index}`, [`device-${index}`], index),
  );
  await sleep(SETTLE_MS);
  const pairs = users.map(
    (user, index) =>
      new Pair(index, user, `user-${index}`, `device-${index}`, PAYLOAD_SIZE, job.window, MESSAGES_PER_PAIR),
  );
  const traffic = new Traffic(keys, pairs);
  for (const link of users) link.owner = traffic;
  const messages = PAIRS * MESSAGES_PER_PAIR;

  // Flood: every ack is a message synced.
  const metricsAtStart = await metrics(job.adminPort);
  const latencies = new Histogram();
  traffic.latencies = latencies;
  const flood = { atMs: performance.now(), cpuMs: cpuMs(job.pid), ownMs: ownCpuMs() };
  traffic.start();
  const allAcked = await until(() => traffic.acked === messages, TIMEOUT_MS);
  const floodSeconds = (traffic.lastAckAtMs - flood.atMs) / 1000;
  const ownMs = ownCpuMs() - flood.ownMs;
  await sleep(SETTLE_MS);
  const floodCpuMs = cpuMs(job.pid) - flood.cpuMs;
  const metricsAfterFlood = await metrics(job.adminPort);
  const floodViolations: string[] = [];
  if (!allAcked) floodViolations.push(`${traffic.acked} of ${messages} to away devices acked`);
  if (traffic.delivered > 0) floodViolations.push(`${traffic.delivered} delivered to devices that are away`);

  // Drain: from the first cmd 202 until the last message has come; the CPU time includes what the last acks cause.
  const devices = await inParallel(PAIRS, PAIRS, async (index) => {
    const link = await device(index);
    link.owner = traffic;
    return link;
  });
  const drain = { atMs: performance.now(), cpuMs: cpuMs(job.pid) };
  for (const link of devices) link.send(CMD.fetch, 'fetch', null);
  await until(() => traffic.delivered === traffic.sent, TIMEOUT_MS);
  const drainSeconds = (traffic.lastDeliveryAtMs - drain.atMs) / 1000;
  await sleep(SETTLE_MS);
  const drainCpuMs = cpuMs(job.pid) - drain.cpuMs;
  const metricsAfterDrain = await metrics(job.adminPort);

  // Nothing may be left: what was acked does not come again.
  for (const link of devices) link.close();
  await sleep(SETTLE_MS);
  for (const link of await inParallel(PAIRS, PAIRS, device)) {
    link.owner = traffic;
    link.send(CMD.fetch, 'fetch', null);
    devices.push(link);
  }
  await sleep(LEFTOVERS_MS);
  const violations = [...floodViolations, ...traffic.audit()];
  for (const link of [...devices, ...users]) link.close();

  const floodWrites = growth('hawser_store_writes_total', metricsAtStart, metricsAfterFlood);
  const drainWrites = growth('hawser_store_writes_total', metricsAfterFlood, metricsAfterDrain);
  return {
    figures: {
      syncedPerSecond: messages / floodSeconds,
      cpuUsPerSynced: (floodCpuMs * 1000) / messages,
      syncP50Ms: latencies.percentile(50),
      syncP99Ms: latencies.percentile(99),
      storeWritesPer1000Synced: floodWrites === null ? null : (floodWrites * 1000) / messages,
      drainedPerSecond: messages / drainSeconds,
      cpuUsPerDrained: (drainCpuMs * 1000) / messages,
      storeWritesPer1000Drained: drainWrites === null ? null : (drainWrites * 1000) / messages,
      generatorBusyPercent: ownMs / floodSeconds / 10,
      parsedPushes: pairs.reduce((sum, pair) => sum + pair.parsed, 0),
    },
    violations,
  };
}
