// npm run bench: a fresh server for every scenario and run, one generator process against it, a table at the end.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Postgres } from '../scripts/postgres.ts';
import { CLUSTER_SCENARIOS } from './cluster/scenarios.ts';
import type { Job, Kind, Outcome, Variation } from './job.ts';
import { page } from './page.ts';
import { findPeer, PEER_NAMES, type Peer } from './peers.ts';
import { runRedisBus } from './redis-bus.ts';
import { blocksOf, cautions, machineFacts, multiples, type Run, table } from './report.ts';
import { residentKiB } from './sampling.ts';
import { generate, killAll, makeData, nameOf, type Running, removeData, startServer, type Target } from './server.ts';

/** A job of the generator, or the server stopped and started on the same data. */
type Step = Kind | 'restart' | 'redis bus';

type Scenario = {
  steps: readonly Step[];
  window: number;
  /** Server on core 0, generator on core 1; else both wherever the system puts them. */
  pinned: boolean;
  quick: boolean;
  /** Whether the floor can do it. */
  floor: boolean;
  /** The server stores in a PostgreSQL of its own. */
  postgres?: boolean;
  vary?: Variation;
};

const SCENARIOS: Record<string, Scenario> = {
  throughput: { steps: ['throughput'], window: 20, pinned: true, quick: true, floor: true },
  'throughput-1': { steps: ['throughput'], window: 1, pinned: true, quick: true, floor: true },
  'throughput-16b': {
    steps: ['throughput'],
    window: 20,
    pinned: true,
    quick: false,
    floor: true,
    vary: { payloadSize: 16 },
  },
  'throughput-1k': {
    steps: ['throughput'],
    window: 20,
    pinned: true,
    quick: false,
    floor: true,
    vary: { payloadSize: 1024 },
  },
  'throughput-5': { steps: ['throughput'], window: 20, pinned: true, quick: false, floor: true, vary: { pairs: 5 } },
  'throughput-18k': {
    steps: ['throughput'],
    window: 20,
    pinned: true,
    quick: false,
    floor: true,
    vary: { idle: 17_900 },
  },
  latency: { steps: ['latency'], window: 0, pinned: true, quick: false, floor: true },
  'latency-80': { steps: ['latency80'], window: 0, pinned: true, quick: false, floor: true },
  'fan-in': { steps: ['fanIn'], window: 1, pinned: true, quick: false, floor: true },
  'fan-out': { steps: ['fanOut'], window: 1, pinned: true, quick: false, floor: true },
  logins: { steps: ['logins'], window: 0, pinned: false, quick: true, floor: true },
  'logins-pinned': { steps: ['logins'], window: 0, pinned: true, quick: false, floor: true },
  idle: { steps: ['idle'], window: 0, pinned: true, quick: false, floor: true },
  heartbeats: { steps: ['heartbeats'], window: 0, pinned: true, quick: false, floor: false },
  away: { steps: ['away'], window: 128, pinned: true, quick: false, floor: false },
  stuck: { steps: ['stuck'], window: 20, pinned: true, quick: false, floor: false },
  'stuck-2': { steps: ['stuck'], window: 20, pinned: true, quick: false, floor: false, vary: { stuckPerSecond: 2000 } },
  flood: { steps: ['flood'], window: 20, pinned: false, quick: false, floor: false },
  'flood-pinned': { steps: ['flood'], window: 20, pinned: true, quick: false, floor: false },
  'away-many': { steps: ['fill', 'drain'], window: 1, pinned: true, quick: false, floor: false },
  'postgres-append': {
    steps: ['fill'],
    window: 1,
    pinned: false,
    quick: false,
    floor: false,
    postgres: true,
    vary: { payloadSize: 200 },
  },
  'redis-bus': { steps: ['redis bus'], window: 20, pinned: true, quick: false, floor: false },
  'redis-bus-1': { steps: ['redis bus'], window: 1, pinned: true, quick: false, floor: false },
  'stored-10m': {
    steps: ['fill', 'restart', 'throughput'],
    window: 20,
    pinned: true,
    quick: false,
    floor: false,
    vary: { messagesPerReceiver: 1000 },
  },
  comeback: { steps: ['people', 'restart', 'comeback'], window: 0, pinned: false, quick: false, floor: false },
  restart: { steps: ['fill', 'restart', 'drain'], window: 1, pinned: true, quick: false, floor: false },
};

/** What peers are measured by, in the shape of ours. */
const PEER_STEPS: Partial<Record<Step, Kind>> = {
  throughput: 'mqttThroughput',
  latency: 'mqttLatency',
  latency80: 'mqttLatency80',
};

/** What the server itself holds of a message when it acks it, to be read beside the peers'. */
const OWN_DURABILITY = "acked after the receiver's ack or a synced write; encrypted, as the peers are not";

const USAGE = `node bench/main.ts [options]
  --quick            one short run of throughput and logins, with the floor: under a minute
  --only A,B         these scenarios only: ${[...Object.keys(SCENARIOS), ...Object.keys(CLUSTER_SCENARIOS)].join(', ')}
  --cluster          those of a cluster, one run of each: a quarter of an hour
  --runs N           runs of each, 3 unless told
  --seconds N        measured seconds of throughput, latency, fan-in, fan-out and logins, 8 unless told
  --floor            the floor (bench/floor.ts) in turn with the server, and their ratio
  --floor-only       the floor alone
  --beside A,B       peers that are installed here, in turn with the server: ${PEER_NAMES.join(', ')}
  --modules DIR      where node_modules with aedes is, the repository unless told
  --server-args 'A'  further arguments for hawser serve
  --node-args 'A'    further arguments for the node that it runs on
  --data DIR         where data directories are made, bench/results unless told
  --json FILE        machine facts and all runs, as JSON
  --html FILE        the table and charts of it as one page`;

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    only: { type: 'string' },
    cluster: { type: 'boolean', default: false },
    runs: { type: 'string' },
    seconds: { type: 'string' },
    floor: { type: 'boolean', default: false },
    'floor-only': { type: 'boolean', default: false },
    beside: { type: 'string' },
    modules: { type: 'string', default: join(import.meta.dirname, '..') },
    'server-args': { type: 'string', default: '' },
    'node-args': { type: 'string', default: '' },
    data: { type: 'string', default: join(import.meta.dirname, 'results') },
    json: { type: 'string' },
    html: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});

function positive(name: string, text: string | undefined, otherwise: number): number {
  const value = text === undefined ? otherwise : Number(text);
  if (!(value > 0)) throw new Error(`--${name} must be a positive number`);
  return value;
}

function chosenScenarios(): string[] {
  const all = Object.keys(options.cluster ? CLUSTER_SCENARIOS : SCENARIOS);
  const names = options.only?.split(',') ?? all.filter((name) => !options.quick || SCENARIOS[name]?.quick);
  for (const name of names) {
    if (SCENARIOS[name] === undefined && CLUSTER_SCENARIOS[name] === undefined) {
      throw new Error(`no scenario ${name}\n\n${USAGE}`);
    }
  }
  return names;
}

const RESTART_SETTLE_MS = 2000;

/** Stops the server and starts it on the same data. */
async function restart(server: Running, start: () => Promise<Running>): Promise<[Running, Outcome]> {
  const stoppedAtMs = performance.now();
  const violations = await server.stop();
  const stopMs = performance.now() - stoppedAtMs;
  const restarted = await start();
  const { pid, readyMs, readyCpuMs } = restarted;
  const residentMiBReady = residentKiB(pid) / 1024;
  await sleep(RESTART_SETTLE_MS);
  const figures = {
    readyMs,
    readyMsFresh: server.readyMs,
    readyCpuMs,
    readyCpuMsFresh: server.readyCpuMs,
    stopMs,
    residentMiBReady,
    residentMiBRestarted: residentKiB(pid) / 1024,
  };
  return [restarted, { figures, violations }];
}

function words(text: string): string[] {
  return text.split(/\s+/).filter((word) => word !== '');
}

async function runOnce(name: string, target: Target, run: number, warmUpMs: number, measureMs: number): Promise<Run> {
  const [serverArgs, nodeArgs] = [words(options['server-args']), words(options['node-args'])];
  const all: Run = { scenario: name, target: nameOf(target), run, figures: {}, violations: [], series: {} };
  const onCluster = CLUSTER_SCENARIOS[name];
  if (onCluster !== undefined) {
    const settings = { data: options.data, serverArgs, nodeArgs };
    return { ...all, ...(await onCluster(settings, warmUpMs, measureMs)) };
  }
  const { steps, window, pinned, postgres = false, vary } = SCENARIOS[name]!;
  const add = ({ figures, violations, series }: Outcome) => {
    Object.assign(all.figures, figures);
    all.violations.push(...violations);
    Object.assign(all.series, series);
  };
  if (steps.includes('redis bus')) {
    // No server of ours is in it.
    add(await runRedisBus(window, warmUpMs, measureMs));
    return all;
  }
  const data = makeData(options.data);
  // As it comes, so that what is committed is synced; in the same file system as all other data.
  await using database = postgres ? await Postgres.start([], options.data) : undefined;
  if (database !== undefined) serverArgs.push('--postgres', database.url());
  const start = () => startServer(target, pinned ? 0 : null, data, serverArgs, nodeArgs);
  try {
    let server = await start();
    for (const step of steps) {
      if (step === 'restart') {
        const [restarted, outcome] = await restart(server, start);
        server = restarted;
        add(outcome);
      } else if (step !== 'redis bus') {
        const { pid, endpoint, adminPort } = server;
        const kind = typeof target === 'string' ? step : PEER_STEPS[step]!;
        const job: Job = { kind, endpoint, adminPort, pid, warmUpMs, measureMs, window, ...vary };
        if (database !== undefined) job.postgresPid = database.pid;
        add(await generate(pinned ? 1 : null, job));
      }
    }
    all.violations.push(...(await server.stop()));
  } catch (error) {
    all.violations.push(error instanceof Error ? error.message : String(error));
  }
  removeData(data);
  return all;
}

/** Whether `target` can do this scenario. */
function isFor(target: Target, scenario: Scenario | undefined): boolean {
  // Those of a cluster.
  if (scenario === undefined) return target === 'server';
  const { floor, steps } = scenario;
  if (typeof target !== 'string') return steps.every((step) => PEER_STEPS[step] !== undefined);
  return target === 'server' || floor;
}

/** The peers asked for that are here; of the others it is said that they are not. */
function chosenPeers(): Peer[] {
  return (options.beside?.split(',') ?? []).flatMap((name) => {
    const found = findPeer(name, options.modules);
    if (typeof found !== 'string') return [found];
    console.log(`${name} ${found}; it is left out`);
    return [];
  });
}

function headline({ figures }: Run): string {
  const [name, value] = Object.entries(figures)[0] ?? ['no figures', null];
  return value === null ? name : `${name} ${value.toFixed(1)}`;
}

async function main(): Promise<number> {
  if (options.help) {
    console.log(USAGE);
    return 0;
  }
  const runCount = positive('runs', options.runs, options.quick || options.cluster ? 1 : 3);
  const measureMs = 1000 * positive('seconds', options.seconds, options.quick ? 3 : 8);
  const warmUpMs = options.quick ? 1000 : 2000;
  const scenarios = chosenScenarios();
  const targets: Target[] = options['floor-only']
    ? ['floor']
    : options.floor || options.quick
      ? ['server', 'floor']
      : ['server'];
  const peers = chosenPeers();
  targets.push(...peers);
  const durability = [
    `server: ${OWN_DURABILITY}`,
    ...peers.map(({ name, version, durability }) => `${name} ${version}: ${durability}`),
  ];
  mkdirSync(options.data, { recursive: true });
  const machine = machineFacts(options.data);
  const facts = Object.entries(machine).map(([key, value]) => `${key} ${value}`);
  console.log(facts.join(' · '));

  const runs: Run[] = [];
  for (let run = 1; run <= runCount; run++) {
    for (const name of scenarios) {
      // In turn, and the other way round every second time, so that a drift of the machine hits both alike.
      for (const target of run % 2 === 1 ? targets : targets.toReversed()) {
        if (!isFor(target, SCENARIOS[name])) continue;
        const result = await runOnce(name, target, run, warmUpMs, measureMs);
        runs.push(result);
        process.stderr.write(`run ${run}/${runCount} ${name} ${nameOf(target)}: ${headline(result)}\n`);
        for (const text of result.violations) process.stderr.write(`  VIOLATION ${text}\n`);
      }
    }
  }

  const names = targets.map(nameOf);
  const blocks = blocksOf(runs, scenarios, names);
  console.log(`\n${table(blocks, names)}`);
  if (peers.length > 0) console.log(`\n${durability.join('\n')}`);
  for (const text of cautions(runs)) console.log(`CAUTION ${text}`);
  for (const text of multiples(runs, scenarios)) console.log(text);
  if (options.json !== undefined) {
    writeFileSync(
      options.json,
      `${JSON.stringify({ at: new Date().toISOString(), machine, durability, warmUpMs, measureMs, runs }, null, 2)}\n`,
    );
  }
  if (options.html !== undefined) {
    const notes = [...cautions(runs), ...runs.flatMap(({ violations }) => violations)];
    writeFileSync(options.html, page({ facts, durability, notes, targets: names, blocks }));
  }
  const broken = runs.reduce((sum, { violations }) => sum + violations.length, 0);
  if (broken > 0) console.log(`\nFAILED: ${broken} violations, named above and in the JSON`);
  return broken > 0 ? 1 : 0;
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    killAll();
    process.exit(1);
  });
}
process.exitCode = await main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  killAll();
  return 2;
});
