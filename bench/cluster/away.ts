// Messages to receivers that are away, committed to one PostgreSQL by one node or several.
import { setTimeout as sleep } from 'node:timers/promises';
import { Histogram } from '../histogram.ts';
import { type Job, type Outcome, ownCpuMs, until } from '../job.ts';
import { Pair } from '../pair.ts';
import { cpuMs, cpuMsOfAll, growth, metrics } from '../sampling.ts';
import { inParallel, Setup } from '../setup.ts';
import { SHARED, Traffic } from '../traffic.ts';
import type { Keys } from '../wire.ts';

const USERS = 100;
const DEVICES_PER_USER = 100;
const RECEIVERS = USERS * DEVICES_PER_USER;
const MESSAGES_PER_RECEIVER = 40;
const PAYLOAD_SIZE = 200;
const SETUP_PARALLEL = 4;
const SETTLE_BEFORE_MS = 2000;
const TIMEOUT_MS = 120_000;
/** The acks are out; what the database does behind them, for so long, is counted too. */
const AFTERMATH_MS = 2000;

const deviceId = (receiver: number): string => `device-${receiver}`;
const userOf = (receiver: number): number => Math.floor(receiver / DEVICES_PER_USER);

export async function awayAcross(job: Job, keys: Keys): Promise<Outcome> {
  const nodes = job.nodes ?? [];
  const setups = nodes.map(({ endpoint }) => new Setup(endpoint, keys));
  const users = await inParallel(USERS, SETUP_PARALLEL, (user) => {
    const devices = Array.from({ length: DEVICES_PER_USER }, (_, i) => deviceId(user * DEVICES_PER_USER + i));
    return setups[user % setups.length]!.user(`user-${user}`, devices, SHARED);
  });
  const pairs = Array.from({ length: RECEIVERS }, (_, i) => {
    const user = userOf(i);
    const limit = MESSAGES_PER_RECEIVER;
    return new Pair(i, users[user]!, `user-${user}`, deviceId(i), PAYLOAD_SIZE, job.window, limit);
  });
  const traffic = new Traffic(keys, pairs, users);
  await sleep(SETTLE_BEFORE_MS);
  const messages = RECEIVERS * MESSAGES_PER_RECEIVER;
  const batches = async (): Promise<number> => {
    const all = await Promise.all(nodes.map(({ adminPort }) => metrics(adminPort)));
    return all.reduce((sum, each) => sum + (growth('hawser_store_batches_total', new Map(), each) ?? 0), 0);
  };
  const batchesBefore = await batches();
  const hawserMs = (): number => nodes.reduce((sum, { pid }) => sum + cpuMs(pid), 0);
  const postgresMs = (): number => cpuMsOfAll(job.postgresPid ?? 0);
  const start = { atMs: performance.now(), hawser: hawserMs(), postgres: postgresMs(), own: ownCpuMs() };
  traffic.latencies = new Histogram();
  traffic.start();
  await until(() => traffic.acked === messages, TIMEOUT_MS);
  const seconds = (traffic.lastAckAtMs - start.atMs) / 1000;
  const generatorBusyPercent = (ownCpuMs() - start.own) / seconds / 10;
  await sleep(AFTERMATH_MS);
  const [hawser, postgres] = [hawserMs() - start.hawser, postgresMs() - start.postgres];
  const violations = [...traffic.violations];
  if (traffic.acked !== messages) violations.push(`${traffic.acked} of ${messages} to away devices acked`);
  if (traffic.delivered > 0) violations.push(`${traffic.delivered} delivered to devices that are away`);
  traffic.close();
  return {
    figures: {
      syncedPerSecond: messages / seconds,
      cpuUsPerSynced: (hawser * 1000) / messages,
      postgresCpuUsPerSynced: (postgres * 1000) / messages,
      messagesPerBatch: messages / ((await batches()) - batchesBefore),
      syncP50Ms: traffic.latencies.percentile(50),
      syncP99Ms: traffic.latencies.percentile(99),
      generatorBusyPercent,
    },
    violations,
  };
}
