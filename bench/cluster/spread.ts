// What a message costs each of several nodes that all write to each other, every node at the same fixed rate.
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { type At, type Job, type Outcome, until } from '../job.ts';
import { Pair } from '../pair.ts';
import { cpuMs, cpuMsOfAll } from '../sampling.ts';
import { Schedule } from '../schedule.ts';
import { inParallel, Setup } from '../setup.ts';
import { SHARED, Traffic } from '../traffic.ts';
import type { Keys } from '../wire.ts';

/** Four nodes have one core: with twice as much they fill it, and what they then cost is what they take from each other. */
const PER_NODE_PER_SECOND = 500;
/** Pairs whose sender is at a node; as many to each of 1, 2 or 3 others. */
const PAIRS_OF_NODE = 24;
const PAYLOAD_SIZE = 100;
const SETUP_PARALLEL = 4;
const LEAD_MS = 20;
const SETTLE_TIMEOUT_MS = 15_000;
const AFTERMATH_MS = 300;

/** Offers messages as they fall due, by a timer: a generator that spins would take the core from Redis. */
async function follow(schedule: Schedule, offer: (n: number) => void): Promise<void> {
  for (let next = 0; next < schedule.count; await sleep(1)) {
    const due = schedule.dueBy(performance.now());
    while (next < due) offer(next++);
  }
}

/** Every node writes to every other: the receivers of its pairs, which share their sender, are at the others by turns. */
async function trafficOf(nodes: readonly At[], keys: Keys): Promise<Traffic> {
  // Others each time: the same ones with the same ids and contents would be taken for repeats.
  const tag = randomBytes(4).toString('hex');
  const setups = nodes.map(({ endpoint }) => new Setup(endpoint, keys));
  const places = Array.from({ length: nodes.length * PAIRS_OF_NODE }, (_, i) => i);
  const home = (i: number): number => i % nodes.length;
  const other = (i: number): number =>
    (home(i) + 1 + (Math.floor(i / nodes.length) % (nodes.length - 1))) % nodes.length;
  const devices = await inParallel(places.length, SETUP_PARALLEL, (i) =>
    setups[other(i)]!.device(`device-${tag}-${i}`, i),
  );
  const users = await inParallel(nodes.length, SETUP_PARALLEL, (node) => {
    const own = places.filter((i) => home(i) === node).map((i) => `device-${tag}-${i}`);
    return setups[node]!.user(`user-${tag}-${node}`, own, SHARED);
  });
  const pairs = places.map((i) => {
    const user = home(i);
    return new Pair(i, users[user]!, `user-${tag}-${user}`, `device-${tag}-${i}`, PAYLOAD_SIZE, Infinity, Infinity);
  });
  return new Traffic(keys, pairs, [...devices, ...users]);
}

async function paced(traffic: Traffic, perSecond: number, durationMs: number): Promise<void> {
  const { pairs } = traffic;
  for (const pair of pairs) pair.limit = pair.sent;
  const schedule = new Schedule(performance.now() + LEAD_MS, perSecond, durationMs, pairs.length);
  traffic.start();
  await follow(schedule, (n) => traffic.offer(pairs[n % pairs.length]!));
  await until(() => traffic.acked === traffic.sent && traffic.delivered === traffic.sent, SETTLE_TIMEOUT_MS);
  traffic.stop();
}

export async function spread(job: Job, keys: Keys): Promise<Outcome> {
  const nodes = job.nodes ?? [];
  const traffic = await trafficOf(nodes, keys);
  const perSecond = nodes.length * PER_NODE_PER_SECOND;
  await paced(traffic, perSecond, job.warmUpMs);
  const pids = [...nodes.map(({ pid }) => pid), job.redisPid ?? 0];
  const start = { atMs: performance.now(), cpu: pids.map(cpuMs), postgres: cpuMsOfAll(job.postgresPid ?? 0) };
  const sentBefore = traffic.sent;
  await paced(traffic, perSecond, job.measureMs);
  const seconds = (performance.now() - start.atMs) / 1000;
  const used = pids.map((pid, i) => cpuMs(pid) - start.cpu[i]!);
  const postgresMs = cpuMsOfAll(job.postgresPid ?? 0) - start.postgres;
  const messages = traffic.sent - sentBefore;
  await sleep(AFTERMATH_MS);
  const violations = traffic.audit();
  traffic.close();
  // Each node has sent as many as it has received.
  const ofNode = used.slice(0, nodes.length).map((ms) => (ms * 1000 * nodes.length) / messages);
  return {
    figures: {
      perNodePerSecond: messages / seconds / nodes.length,
      cpuUsPerMessageMean: ofNode.reduce((sum, each) => sum + each, 0) / nodes.length,
      cpuUsPerMessageWorst: Math.max(...ofNode),
      cpuUsPerMessageRedis: ((used[nodes.length] ?? 0) * 1000) / messages,
      postgresCpuUsPerMessage: (postgresMs * 1000) / messages,
    },
    violations,
    series: { ofNode },
  };
}
