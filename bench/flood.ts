// Honest pairs at a modest rate, by turns with and without a flood of key exchanges and slow sockets from another address.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FloodCounts } from './flood-source.ts';
import { Histogram } from './histogram.ts';
import { type Job, type Outcome, ownCpuMs, until } from './job.ts';
import { Pair } from './pair.ts';
import { summary } from './report.ts';
import { cpuMs, growth, metrics } from './sampling.ts';
import { inParallel, Setup } from './setup.ts';
import { Traffic } from './traffic.ts';
import type { Keys } from './wire.ts';

const PAIRS = 50;
const PAYLOAD_SIZE = 100;
/** In flight of each pair: far more than its rate needs. */
const WINDOW = 20;
/** Of all pairs together: 20 each. */
const MESSAGES_PER_SECOND = 1000;
const TICK_MS = 2;
const OFFERS_PER_TICK_MAX = 200;
const SETUP_PARALLEL = 4;
const WARM_UP_MS = 5000;
const ROUNDS = 6;
const PHASE_MS = 5000;
/** After the flood begins or ends, before what follows is measured. */
const SWITCH_MS = 1000;
const SETTLE_TIMEOUT_MS = 15_000;
const AFTERMATH_MS = 300;

/** Offers messages, one pair after the other, at a steady rate; returns what stops it. */
function pace(traffic: Traffic): () => void {
  let lastMs = performance.now();
  let due = 0;
  let next = 0;
  const timer = setInterval(() => {
    const nowMs = performance.now();
    due = Math.min(OFFERS_PER_TICK_MAX, due + ((nowMs - lastMs) * MESSAGES_PER_SECOND) / 1000);
    lastMs = nowMs;
    for (; due >= 1; due--) traffic.offer(traffic.pairs[next++ % traffic.pairs.length]!);
  }, TICK_MS);
  return () => clearInterval(timer);
}

async function tell(source: ChildProcess, what: 'begin' | 'pause' | 'count'): Promise<FloodCounts> {
  const answer = once(source, 'message');
  source.send(what);
  const [counts] = (await answer) as [FloodCounts];
  return { ...counts };
}

function median(values: readonly number[]): number {
  return summary(values)?.median ?? 0;
}

type Phase = { seconds: number; serverMs: number; ownMs: number; opened: number; agreed: number; refused: number };

export async function flood(job: Job, keys: Keys): Promise<Outcome> {
  const setup = new Setup(job.endpoint, keys);
  const devices = await inParallel(PAIRS, SETUP_PARALLEL, (index) => setup.device(`device-${index}`, index));
  const users = await inParallel(PAIRS, SETUP_PARALLEL, (index) =>
    setup.user(`user-${index}`, [`device-${index}`], index),
  );
  const traffic = new Traffic(
    keys,
    users.map((user, i) => new Pair(i, user, `user-${i}`, `device-${i}`, PAYLOAD_SIZE, WINDOW, 1)),
  );
  for (const link of [...devices, ...users]) link.owner = traffic;
  const source = fork(join(import.meta.dirname, 'flood-source.ts'), [JSON.stringify(job.endpoint)]);

  const phases = { with: [] as Phase[], without: [] as Phase[] };
  const latencies = { with: [] as Histogram[], without: [] as Histogram[] };

  async function measure(name: 'with' | 'without'): Promise<void> {
    const own = new Histogram();
    const before = await tell(source, 'count');
    const start = { atMs: performance.now(), cpuMs: cpuMs(job.pid), ownMs: ownCpuMs() };
    traffic.latencies = own;
    await sleep(PHASE_MS);
    traffic.latencies = null;
    const after = await tell(source, 'count');
    phases[name].push({
      seconds: (performance.now() - start.atMs) / 1000,
      serverMs: cpuMs(job.pid) - start.cpuMs,
      ownMs: ownCpuMs() - start.ownMs,
      opened: after.opened - before.opened,
      agreed: after.agreed - before.agreed,
      refused: after.refused - before.refused,
    });
    latencies[name].push(own);
  }

  traffic.start();
  const stop = pace(traffic);
  await sleep(WARM_UP_MS);
  const metricsBefore = await metrics(job.adminPort);
  for (let round = 0; round < ROUNDS; round++) {
    for (const name of ['without', 'with'] as const) {
      if (name === 'with') await tell(source, 'begin');
      await sleep(SWITCH_MS);
      await measure(name);
      if (name === 'with') await tell(source, 'pause');
    }
  }
  const metricsAfter = await metrics(job.adminPort);
  stop();
  const floods = await tell(source, 'count');
  source.disconnect();
  await until(() => traffic.acked === traffic.sent && traffic.delivered === traffic.sent, SETTLE_TIMEOUT_MS);
  await sleep(AFTERMATH_MS);
  traffic.stop();
  const violations = traffic.audit();
  for (const link of [...devices, ...users]) link.close();
  if (floods.agreed === 0) violations.push('no key exchange of the flood came through');

  const total = (name: 'with' | 'without', figure: keyof Phase) =>
    phases[name].reduce((sum, phase) => sum + phase[figure], 0);
  const series = (name: 'with' | 'without', percent: number) => latencies[name].map((each) => each.percentile(percent));
  const ratios = series('with', 95).map((ms, round) => ms / series('without', 95)[round]!);
  return {
    figures: {
      floodP95Times: median(ratios),
      floodP95TimesWorst: Math.max(...ratios),
      ackP50MsWith: median(series('with', 50)),
      ackP50MsWithout: median(series('without', 50)),
      ackP95MsWith: median(series('with', 95)),
      ackP95MsWithout: median(series('without', 95)),
      ackP99MsWith: median(series('with', 99)),
      ackP99MsWithout: median(series('without', 99)),
      ackMaxMsWith: Math.max(...series('with', 100)),
      ackMaxMsWithout: Math.max(...series('without', 100)),
      floodOpenedPerSecond: total('with', 'opened') / total('with', 'seconds'),
      floodAgreedPerSecond: total('with', 'agreed') / total('with', 'seconds'),
      floodRefusedPerSecond: total('with', 'refused') / total('with', 'seconds'),
      floodEnded: floods.ended,
      floodSlowEnded: floods.slowEnded,
      limited: growth('hawser_limited_total', metricsBefore, metricsAfter),
      messages: traffic.sent,
      serverBusyPercentWith: total('with', 'serverMs') / total('with', 'seconds') / 10,
      serverBusyPercentWithout: total('without', 'serverMs') / total('without', 'seconds') / 10,
      generatorBusyPercent: total('with', 'ownMs') / total('with', 'seconds') / 10,
    },
    violations,
    series: { ackP95MsWith: series('with', 95), ackP95MsWithout: series('without', 95) },
  };
}
