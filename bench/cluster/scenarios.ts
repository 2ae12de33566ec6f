// The scenarios of a cluster: which nodes there are, and what the generator is told to do with them.
import type { Job, Outcome } from '../job.ts';
import { summary } from '../report.ts';
import { generate } from '../server.ts';
import { Cluster, type Settings } from './nodes.ts';

export type ClusterScenario = (settings: Settings, warmUpMs: number, measureMs: number) => Promise<Outcome>;

/** Where nodes are, and where the generator is with Redis, where they are kept apart. */
const NODES_CORE = 0;
const GENERATOR_CORE = 1;

type Times = { warmUpMs: number; measureMs: number };

function jobOf(cluster: Cluster, kind: Job['kind'], times: Times, window: number): Job {
  const { nodes, redisPid, postgresPid } = cluster;
  const { endpoint, adminPort, pid } = nodes[0]!;
  return { kind, endpoint, adminPort, pid, ...times, window, nodes, redisPid, postgresPid };
}

/** Runs with a cluster that is gone when it is over; what was wrong with the ends of nodes is in the outcome. */
async function withCluster(settings: Settings, work: (cluster: Cluster) => Promise<Outcome>): Promise<Outcome> {
  const cluster = await Cluster.start(settings);
  let outcome: Outcome;
  try {
    outcome = await work(cluster);
  } finally {
    await cluster[Symbol.asyncDispose]();
  }
  return { ...outcome, violations: [...outcome.violations, ...cluster.violations] };
}

/** Three servers on one core: one that is alone, and two nodes. */
function across(window: number): ClusterScenario {
  return (settings, warmUpMs, measureMs) =>
    withCluster(settings, async (cluster) => {
      await cluster.addSingle(NODES_CORE);
      for (const name of ['a', 'b']) await cluster.add(name, NODES_CORE);
      cluster.pinRedis(GENERATOR_CORE);
      return generate(GENERATOR_CORE, jobOf(cluster, 'across', { warmUpMs, measureMs }, window));
    });
}

const MORE_NODES = ['a', 'b', 'c', 'd'];
/** So many nodes, one after the other: up and down, so that a drift hits all alike; the first time is to warm up. */
const COUNTS = [2, 2, 3, 4, 4, 3, 2];
/** For nodes that are new: a process whose code has not been compiled for its work yet is dear, however many there are. */
const NEW_WARM_UP_MS = 20_000;

/** The same two nodes throughout, a third and a fourth that come and go. */
const spread: ClusterScenario = (settings, warmUpMs, measureMs) =>
  withCluster(settings, async (cluster) => {
    const found = new Map<number, Outcome[]>([2, 3, 4].map((count) => [count, []]));
    for (const [i, count] of COUNTS.entries()) {
      const added = MORE_NODES.slice(cluster.nodes.length, count);
      for (const name of added) await cluster.add(name, NODES_CORE);
      await cluster.stop(...MORE_NODES.slice(count, cluster.nodes.length));
      cluster.pinRedis(GENERATOR_CORE);
      const times = { warmUpMs: added.length > 0 ? Math.max(NEW_WARM_UP_MS, warmUpMs) : warmUpMs, measureMs };
      const job = jobOf(cluster, 'spread', times, Number.MAX_SAFE_INTEGER);
      const outcome = await generate(GENERATOR_CORE, job);
      if (i > 0) found.get(count)!.push(outcome);
    }
    return summaryOf(found);
  });

function summaryOf(found: ReadonlyMap<number, readonly Outcome[]>): Outcome {
  const all: Outcome = { figures: {}, violations: [], series: {} };
  const medians = (outcomes: readonly Outcome[], name: string): number | null =>
    summary(outcomes.flatMap(({ figures }) => figures[name] ?? []))?.median ?? null;
  const two = medians(found.get(2) ?? [], 'cpuUsPerMessageMean');
  const ofNode = (count: number, node: number): number =>
    summary((found.get(count) ?? []).flatMap(({ series }) => series?.ofNode?.[node] ?? []))?.median ?? Number.NaN;
  for (const [count, outcomes] of found) {
    const worst = medians(outcomes, 'cpuUsPerMessageWorst');
    all.figures[`cpuUsPerMessageMeanOf${count}`] = medians(outcomes, 'cpuUsPerMessageMean');
    all.figures[`cpuUsPerMessageWorstOf${count}`] = worst;
    all.figures[`cpuUsPerMessageRedisOf${count}`] = medians(outcomes, 'cpuUsPerMessageRedis');
    if (count > 2) {
      all.figures[`worstPercentOf${count}`] = two === null || worst === null ? null : (worst * 100) / two;
      const rises = [0, 1].map((node) => (ofNode(count, node) * 100) / ofNode(2, node));
      all.figures[`risePercentOf${count}`] = Math.max(...rises);
    }
    all.series![`ofNodeAmong${count}`] = outcomes.flatMap(({ series }) => series?.ofNode ?? []);
    all.violations.push(...outcomes.flatMap(({ violations }) => violations));
  }
  return all;
}

/** Nodes and generator wherever the system puts them. */
function onNodes(names: readonly string[], kind: Job['kind'], window: number): ClusterScenario {
  return (settings, warmUpMs, measureMs) =>
    withCluster(settings, async (cluster) => {
      for (const name of names) await cluster.add(name, null);
      return generate(null, jobOf(cluster, kind, { warmUpMs, measureMs }, window));
    });
}

const nodeKill: ClusterScenario = (settings, warmUpMs, measureMs) =>
  withCluster(settings, async (cluster) => {
    for (const name of ['a', 'b', 'c']) await cluster.add(name, null);
    cluster.mayBeKilled('a');
    return generate(null, jobOf(cluster, 'nodeKill', { warmUpMs, measureMs }, 0));
  });

export const CLUSTER_SCENARIOS: Readonly<Record<string, ClusterScenario>> = {
  'cluster-across': across(20),
  'cluster-across-1': across(1),
  'cluster-spread': spread,
  'cluster-away': onNodes(['a'], 'awayAcross', 1),
  'cluster-away-2': onNodes(['a', 'b'], 'awayAcross', 1),
  'cluster-takeover': onNodes(['a', 'b'], 'takeover', 0),
  'cluster-kill': nodeKill,
};
