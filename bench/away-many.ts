// A million messages for ten thousand receivers that are away, and some of the receivers coming back. Two jobs, since
// the server may be stopped and started between them: what the first one stored, the second knows without being told.
import { setTimeout as sleep } from 'node:timers/promises';
import { Histogram } from './histogram.ts';
import { type Job, type Outcome, ownCpuMs, until } from './job.ts';
import { codeOf, type Link, type LinkOwner, textOf } from './link.ts';
import { Pair } from './pair.ts';
import { anonymousKiB, cpuMs, cpuMsOfAll, growth, mebibytes, metrics, peakKiB, residentKiB } from './sampling.ts';
import { inParallel, Setup } from './setup.ts';
import { SHARED, Traffic } from './traffic.ts';
import { CMD, type Envelope, type Keys } from './wire.ts';

const USERS = 100;
const DEVICES_PER_USER = 100;
const RECEIVERS = USERS * DEVICES_PER_USER;
const MESSAGES_PER_RECEIVER = 100;
const PAYLOAD_SIZE = 100;
/** One receiver in so many comes back: ten of each user. */
const RETURNING_EVERY = 10;
const SETUP_PARALLEL = 4;
const RETURNING_PARALLEL = 16;
const SETTLE_BEFORE_MS = 3000;
/** For what the last acks cause, compactions and garbage collection. */
const SETTLE_MS = 10_000;
const FILL_TIMEOUT_MS = 250_000;
const DRAIN_TIMEOUT_MS = 60_000;
const AFTERMATH_MS = 500;
/** Longer than the second after which a backlog is pushed unasked. */
const LEFTOVERS_MS = 2000;

const deviceId = (receiver: number) => `absent-${receiver}`;
const userId = (user: number) => `author-${user}`;
const userOf = (receiver: number) => Math.floor(receiver / DEVICES_PER_USER);

function messagesEach({ messagesPerReceiver = MESSAGES_PER_RECEIVER }: Job): number {
  return messagesPerReceiver;
}

function pairOf(receiver: number, sender: Link | null, job: Job): Pair {
  const { window, payloadSize = PAYLOAD_SIZE } = job;
  const from = userId(userOf(receiver));
  return new Pair(receiver, sender, from, deviceId(receiver), payloadSize, window, messagesEach(job));
}

function postgresMs({ postgresPid }: Job): number {
  return postgresPid === undefined ? 0 : cpuMsOfAll(postgresPid);
}

export async function fill(job: Job, keys: Keys): Promise<Outcome> {
  const setup = new Setup(job.endpoint, keys);
  const freshKiB = residentKiB(job.pid);
  const setupAtMs = performance.now();
  const users = await inParallel(USERS, SETUP_PARALLEL, (user) => {
    const first = user * DEVICES_PER_USER;
    const devices = Array.from({ length: DEVICES_PER_USER }, (_, i) => deviceId(first + i));
    return setup.user(userId(user), devices, SHARED);
  });
  const setupSeconds = (performance.now() - setupAtMs) / 1000;
  const pairs = Array.from({ length: RECEIVERS }, (_, i) => pairOf(i, users[userOf(i)]!, job));
  const traffic = new Traffic(keys, pairs);
  for (const link of users) link.owner = traffic;
  await sleep(SETTLE_BEFORE_MS);

  const messages = RECEIVERS * messagesEach(job);
  const metricsBefore = await metrics(job.adminPort);
  const beforeKiB = residentKiB(job.pid);
  const anonymousBeforeKiB = anonymousKiB(job.pid);
  const latencies = new Histogram();
  traffic.latencies = latencies;
  const start = { atMs: performance.now(), cpuMs: cpuMs(job.pid), ownMs: ownCpuMs(), postgresMs: postgresMs(job) };
  traffic.start();
  await until(() => traffic.acked === messages, FILL_TIMEOUT_MS);
  const seconds = (traffic.lastAckAtMs - start.atMs) / 1000;
  const ownMs = ownCpuMs() - start.ownMs;
  await sleep(SETTLE_MS);
  const afterKiB = residentKiB(job.pid);
  const anonymousAfterKiB = anonymousKiB(job.pid);
  const serverMs = cpuMs(job.pid) - start.cpuMs;
  const databaseMs = postgresMs(job) - start.postgresMs;
  const metricsAfter = await metrics(job.adminPort);

  const violations = [...traffic.violations];
  if (traffic.acked !== messages) violations.push(`${traffic.acked} of ${messages} to away devices acked`);
  if (traffic.delivered > 0) violations.push(`${traffic.delivered} delivered to devices that are away`);
  for (const link of users) link.close();
  const writes = growth('hawser_store_writes_total', metricsBefore, metricsAfter);
  return {
    figures: {
      residentMiBGrown: (afterKiB - beforeKiB) / 1024,
      anonymousMiBGrown: (anonymousAfterKiB - anonymousBeforeKiB) / 1024,
      residentMiBFresh: freshKiB / 1024,
      residentMiBBefore: beforeKiB / 1024,
      residentMiBAfter: afterKiB / 1024,
      residentMiBPeak: peakKiB(job.pid) / 1024,
      heapUsedMiBBefore: mebibytes('nodejs_heap_size_used_bytes', metricsBefore),
      heapUsedMiBAfter: mebibytes('nodejs_heap_size_used_bytes', metricsAfter),
      externalMiBAfter: mebibytes('nodejs_external_memory_bytes', metricsAfter),
      setupSeconds,
      syncedPerSecond: messages / seconds,
      cpuUsPerSynced: (serverMs * 1000) / messages,
      postgresCpuUsPerSynced: job.postgresPid === undefined ? null : (databaseMs * 1000) / messages,
      syncP50Ms: latencies.percentile(50),
      syncP99Ms: latencies.percentile(99),
      storeWritesPer1000Synced: writes === null ? null : (writes * 1000) / messages,
      generatorBusyPercent: ownMs / seconds / 10,
    },
    violations,
  };
}

/** Waits for the answers to cmd 101; what comes behind one is the traffic's. */
class Returning implements LinkOwner {
  readonly #traffic: Traffic;

  constructor(traffic: Traffic) {
    this.#traffic = traffic;
  }

  ready(): void {}

  frame(link: Link, bytes: Buffer, envelope: Envelope): void {
    const text = textOf(link, bytes, envelope);
    if (envelope.cmd !== CMD.auth || codeOf(text) !== 100) {
      this.#traffic.violation(`login of pair ${link.slot}: cmd ${envelope.cmd} answered ${text}`);
    }
    link.owner = this.#traffic;
  }

  closed(link: Link, reason: string): void {
    this.#traffic.closed(link, reason);
  }
}

export async function drain(job: Job, keys: Keys): Promise<Outcome> {
  const setup = new Setup(job.endpoint, keys);
  const count = RECEIVERS / RETURNING_EVERY;
  const receiverAt = (slot: number) => slot * RETURNING_EVERY;
  const pairs = Array.from({ length: count }, (_, slot) => {
    const pair = pairOf(receiverAt(slot), null, job);
    pair.sentBefore(messagesEach(job));
    return pair;
  });
  const traffic = new Traffic(keys, pairs);
  const returning = new Returning(traffic);
  const metricsBefore = await metrics(job.adminPort);
  const beforeKiB = residentKiB(job.pid);

  // Keys are agreed before: RSA would be most of what is measured. Then all log in and fetch, without waiting.
  const links = await inParallel(count, RETURNING_PARALLEL, (slot) => setup.open(slot));
  const start = { atMs: performance.now(), cpuMs: cpuMs(job.pid), ownMs: ownCpuMs() };
  for (const link of links) {
    link.owner = returning;
    link.cork();
    link.send(CMD.auth, 'auth', { version: '1', id: deviceId(receiverAt(link.slot)), abilities: ['bench'] });
    link.send(CMD.fetch, 'fetch', null);
    link.uncork();
  }
  await until(() => traffic.delivered === traffic.sent, DRAIN_TIMEOUT_MS);
  const seconds = (traffic.lastDeliveryAtMs - start.atMs) / 1000;
  await sleep(AFTERMATH_MS);
  const drainCpuMs = cpuMs(job.pid) - start.cpuMs;
  const ownMs = ownCpuMs() - start.ownMs;
  const metricsAfter = await metrics(job.adminPort);
  const afterKiB = residentKiB(job.pid);

  // Nothing may be left: what was acked does not come again.
  for (const link of links) link.close();
  await sleep(AFTERMATH_MS);
  const again = await inParallel(count, RETURNING_PARALLEL, async (slot) => {
    const link = await setup.device(deviceId(receiverAt(slot)), slot);
    link.owner = traffic;
    link.send(CMD.fetch, 'fetch', null);
    return link;
  });
  await sleep(LEFTOVERS_MS);
  const violations = traffic.audit();
  for (const link of again) link.close();
  const writes = growth('hawser_store_writes_total', metricsBefore, metricsAfter);
  return {
    figures: {
      drainedPerSecond: traffic.sent / seconds,
      cpuUsPerDrained: (drainCpuMs * 1000) / traffic.sent,
      storeWritesPer1000Drained: writes === null ? null : (writes * 1000) / traffic.sent,
      residentMiBBeforeDrain: beforeKiB / 1024,
      residentMiBDrained: afterKiB / 1024,
      generatorBusyPercentDrain: ownMs / seconds / 10,
    },
    violations,
  };
}
