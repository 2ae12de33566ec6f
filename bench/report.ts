// Medians, spreads, machine facts, and the table.
import { closeSync, fsyncSync, openSync, rmSync, statfsSync, writeSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, release, totalmem } from 'node:os';
import { join } from 'node:path';

/** Name in the JSON, text in the table, digits after the point. */
const FIGURES: readonly (readonly [name: string, text: string, digits: number])[] = [
  ['deliveredPerSecond', 'delivered/s', 0],
  ['cpuUsPerMessage', 'server CPU µs/message', 2],
  ['storeWritesPer1000', 'store writes/1,000 messages', 1],
  ['cpuUsPerMessageSender', 'sending node CPU µs/message', 2],
  ['cpuUsPerMessageReceiver', 'receiving node CPU µs/message', 2],
  ['cpuUsPerMessageRedis', 'Redis CPU µs/message', 2],
  ['acrossTimes', 'CPU of both nodes / of a single server', 2],
  ['acrossTimesWorst', '  worst round', 2],
  ['cpuUsPerMessageBoth', 'both nodes CPU µs/message', 2],
  ['cpuUsPerMessageOne', 'single server CPU µs/message', 2],
  ['deliveredPerSecondAcross', 'delivered/s between nodes', 0],
  ['deliveredPerSecondOne', 'delivered/s on the single server', 0],
  ['storeWritesPer1000Across', 'store writes/1,000 messages between nodes', 2],
  ['storeWritesPer1000One', 'store writes/1,000 on the single server', 2],
  ['clientBytesPerMessage', 'bytes/message to and from clients', 0],
  ['busBytesPerMessage', 'bytes/message to and from Redis, between nodes', 0],
  ['ackP50MsAcross', 'ack latency p50 ms between nodes', 3],
  ['ackP50MsOne', 'ack latency p50 ms on the single server', 3],
  ['ackP99MsAcross', 'ack latency p99 ms between nodes', 3],
  ['ackP99MsOne', 'ack latency p99 ms on the single server', 3],
  ['cpuUsPerMessageMeanOf2', '2 nodes: CPU µs/message of one, mean', 1],
  ['cpuUsPerMessageMeanOf3', '3 nodes: the same', 1],
  ['cpuUsPerMessageMeanOf4', '4 nodes: the same', 1],
  ['cpuUsPerMessageWorstOf2', '2 nodes: of the dearest', 1],
  ['cpuUsPerMessageWorstOf3', '3 nodes: of the dearest', 1],
  ['cpuUsPerMessageWorstOf4', '4 nodes: of the dearest', 1],
  ['risePercentOf3', '3 nodes: a node / the same among 2, the worst of both, %', 1],
  ['risePercentOf4', '4 nodes: the same', 1],
  ['worstPercentOf3', '3 nodes: the dearest / the mean of 2, %', 1],
  ['worstPercentOf4', '4 nodes: the dearest / the mean of 2, %', 1],
  ['cpuUsPerMessageRedisOf2', '2 nodes: Redis CPU µs/message', 1],
  ['cpuUsPerMessageRedisOf3', '3 nodes: Redis CPU µs/message', 1],
  ['cpuUsPerMessageRedisOf4', '4 nodes: Redis CPU µs/message', 1],
  ['takeoverP50Ms', 'takeover p50 ms', 2],
  ['takeoverP95Ms', 'takeover p95 ms', 2],
  ['takeoverP99Ms', 'takeover p99 ms', 2],
  ['takeoverMaxMs', 'takeover max ms', 2],
  ['takeovers', 'takeovers', 0],
  ['latencyTimesAfterKill', 'delivery latency p95, after / before the kill', 2],
  ['deliveryP50MsQuiet', 'delivery latency p50 ms, before', 3],
  ['deliveryP50MsAfterKill', 'delivery latency p50 ms, after', 3],
  ['deliveryP95MsQuiet', 'delivery latency p95 ms, before', 3],
  ['deliveryP95MsAfterKill', 'delivery latency p95 ms, after', 3],
  ['clientsHit', 'clients that lost their node', 0],
  ['backAfterMs', 'all clients back after ms', 0],
  ['cameAgain', 'pushes that came again', 0],
  ['messagesPerBatch', 'messages/batch', 1],
  ['claimsPerSecond', 'claims/s', 0],
  ['claimP50Ms', 'claim p50 ms', 2],
  ['claimP95Ms', 'claim p95 ms', 2],
  ['cpuUsPerClaim', 'node CPU µs/claim', 1],
  ['cpuUsPerClaimRedis', 'Redis CPU µs/claim', 1],
  ['redisBytesPerName', 'Redis bytes/name', 0],
  ['cpuUsPerHeartbeat', 'server CPU µs/heartbeat', 1],
  ['heartbeatsPerSecond', 'heartbeats/s', 0],
  ['duePerSecond', 'due/s', 0],
  ['maximumPerSecond', 'maximum/s, found before', 0],
  ['deliveryP50Ms', 'delivery latency p50 ms', 3],
  ['deliveryP95Ms', 'delivery latency p95 ms', 3],
  ['deliveryP99Ms', 'delivery latency p99 ms', 3],
  ['deliveryMaxMs', 'delivery latency max ms', 2],
  ['ackP50Ms', 'ack latency p50 ms', 3],
  ['ackP95Ms', 'ack latency p95 ms', 3],
  ['ackP99Ms', 'ack latency p99 ms', 3],
  ['ackMaxMs', 'ack latency max ms', 2],
  ['sentLateP99Ms', 'sent late p99 ms, in the above', 3],
  ['loginsPerSecond', 'logins/s', 0],
  ['cpuUsPerLogin', 'server CPU µs/login', 0],
  ['loginP50Ms', 'login p50 ms', 1],
  ['loginP99Ms', 'login p99 ms', 1],
  ['residentKiBPerConnection', 'resident KiB/connection', 2],
  ['residentKiBPerFurtherConnection', 'resident KiB/further connection', 2],
  ['residentMiBBefore', 'resident MiB before', 1],
  ['residentMiBAfter', 'resident MiB after', 1],
  ['residentMiBGrown', 'resident MiB more, all stored', 1],
  ['anonymousMiBGrown', '  of it not mapped files', 1],
  ['residentMiBFresh', 'resident MiB of the fresh server', 1],
  ['residentMiBSpread', 'resident MiB, most less least', 1],
  ['residentMiBPerMinute', 'resident MiB/minute, slope', 1],
  ['residentMiBFloorDrift', 'resident MiB, least of last third less least of first', 1],
  ['residentMiBSpreadBefore', 'resident MiB, most less least, before', 1],
  ['residentMiBStuck', 'resident MiB, mean', 1],
  ['residentMiBPeak', 'resident MiB, peak', 1],
  ['heapUsedMiBBefore', 'heap used MiB before', 1],
  ['heapUsedMiBAfter', 'heap used MiB after', 1],
  ['externalMiBAfter', 'external MiB after', 1],
  ['setupSeconds', 'setting up, s', 1],
  ['syncedPerSecond', 'synced/s', 0],
  ['cpuUsPerSynced', 'server CPU µs/synced', 2],
  ['postgresCpuUsPerSynced', 'PostgreSQL CPU µs/synced', 2],
  ['syncP50Ms', 'ack latency p50 ms', 2],
  ['syncP99Ms', 'ack latency p99 ms', 2],
  ['storeWritesPer1000Synced', 'store writes/1,000 synced', 1],
  ['drainedPerSecond', 'drained/s', 0],
  ['cpuUsPerDrained', 'server CPU µs/drained', 2],
  ['storeWritesPer1000Drained', 'store writes/1,000 drained', 1],
  ['readyMs', 'ready after a restart, ms', 0],
  ['readyMsFresh', 'ready with no data, ms', 0],
  ['readyCpuMs', 'server CPU ms until ready after a restart', 0],
  ['readyCpuMsFresh', 'server CPU ms until ready with no data', 0],
  ['stopMs', 'stopped after ms', 0],
  ['residentMiBReady', 'resident MiB when ready', 1],
  ['residentMiBRestarted', 'resident MiB 2 s later', 1],
  ['residentMiBBeforeDrain', 'resident MiB before the drain', 1],
  ['residentMiBDrained', 'resident MiB after the drain', 1],
  ['pairsPercent', 'pairs: rate with the load / without, %', 1],
  ['pairsPercentWorst', '  worst round', 1],
  ['pairsPercentByCpu', 'pairs: the same by CPU time, %', 1],
  ['pairsPercentByCpuWorst', '  worst round', 1],
  ['deliveredPerSecondWith', 'pairs: delivered/s with', 0],
  ['deliveredPerSecondWithout', 'pairs: delivered/s without', 0],
  ['deliveredPerSecondBefore', 'pairs: delivered/s before', 0],
  ['cpuUsPerMessageWith', 'server CPU µs/message of a pair with', 2],
  ['cpuUsPerMessageWithout', 'server CPU µs/message of a pair without', 2],
  ['cpuUsPerMessageBefore', 'server CPU µs/message of a pair before', 2],
  ['collectorUsPerMessageWith', "  of it V8's threads, with", 2],
  ['collectorUsPerMessageWithout', "  of it V8's threads, without", 2],
  ['collectorUsPerMessageBefore', "  of it V8's threads, before", 2],
  ['storeMsPerSecondWith', "  of the store's threads ms/s, with", 1],
  ['storeMsPerSecondWithout', "  of the store's threads ms/s, without", 1],
  ['serverMsPerSecondWith', '  of all ms/s, with', 1],
  ['serverMsPerSecondWithout', '  of all ms/s, without', 1],
  ['ackP95MsWith', 'pairs: ack latency p95 ms with', 2],
  ['ackP95MsWithout', 'pairs: ack latency p95 ms without', 2],
  ['ackP95MsBefore', 'pairs: ack latency p95 ms before', 2],
  ['ackMaxMsWith', 'pairs: longest ack latency ms with', 0],
  ['ackMaxMsWithout', 'pairs: longest ack latency ms without', 0],
  ['ackMaxMsBefore', 'pairs: longest ack latency ms before', 0],
  ['floodP95Times', 'pairs: ack latency p95, with / without', 2],
  ['floodP95TimesWorst', '  worst round', 2],
  ['ackP50MsWith', 'pairs: ack latency p50 ms with', 2],
  ['ackP50MsWithout', 'pairs: ack latency p50 ms without', 2],
  ['ackP99MsWith', 'pairs: ack latency p99 ms with', 2],
  ['ackP99MsWithout', 'pairs: ack latency p99 ms without', 2],
  ['floodOpenedPerSecond', 'flood: connections/s', 0],
  ['floodAgreedPerSecond', 'flood: key exchanges answered 100/s', 0],
  ['floodRefusedPerSecond', 'flood: key exchanges refused/s', 0],
  ['floodEnded', 'flood: connections ended before an answer', 0],
  ['floodSlowEnded', 'flood: slow sockets ended', 0],
  ['serverBusyPercentWith', 'server busy % with', 0],
  ['serverBusyPercentWithout', 'server busy % without', 0],
  ['storedPercentWith', 'pairs: stored before their ack, % with', 1],
  ['storedPercentWithout', 'pairs: stored before their ack, % without', 1],
  ['storedPercentBefore', 'pairs: stored before their ack, % before', 1],
  ['stuckPerSecond', 'acked/s to the stuck', 0],
  ['commitsPerSecond', 'commits/s, with', 0],
  ['stuckHeldBack', 'held back from the stuck', 0],
  ['redelivered', 'redelivered', 0],
  ['cpuUsPerRecovered', 'server CPU µs/message recovered', 2],
  ['backSeconds', 'apps: all back after s', 1],
  ['backP50Seconds', '  half of them', 1],
  ['backPerSecond', '  a second', 1],
  ['attemptsPerApp', '  connections per app', 2],
  ['cpuMsPerApp', '  server CPU ms/app', 1],
  ['serverBusyPercent', 'server busy %', 0],
  ['serverLoadPercent', 'server busy %, at that rate', 0],
  ['generatorBusyPercent', 'generator busy %', 0],
  ['generatorBusyPercentDrain', 'generator busy %, drain', 0],
];

export type Run = {
  scenario: string;
  target: string;
  run: number;
  figures: Record<string, number | null>;
  violations: string[];
  series: Record<string, number[]>;
};

export type Summary = { median: number; min: number; max: number };

export function summary(values: readonly number[]): Summary | null {
  if (values.length === 0) return null;
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle]!;
  const median = sorted.length % 2 === 1 ? upper : (sorted[middle - 1]! + upper) / 2;
  return { median, min: sorted[0]!, max: sorted[sorted.length - 1]! };
}

function valuesOf(runs: readonly Run[], scenario: string, target: string, name: string): (number | null)[] {
  return runs
    .filter((run) => run.scenario === scenario && run.target === target)
    .map((run) => run.figures[name] ?? null);
}

function numbers(values: readonly (number | null)[]): number[] {
  return values.filter((value) => value !== null);
}

/** Server over another, run by run: both were measured within the same minute. */
function ratios(server: readonly (number | null)[], floor: readonly (number | null)[]): number[] {
  return numbers(
    server.map((value, run) => {
      const other = floor[run] ?? null;
      return value === null || other === null || other === 0 ? null : value / other;
    }),
  );
}

/** Each of these loads should keep the server busier than this, and the generator less. */
const BUSY_PERCENT = 90;
/** Messages sent later than this part of the latency measured make it the generator's. */
const LATE_PART = 0.3;

const FILE_SYSTEMS: Record<number, string> = {
  61267: 'ext4',
  1481003842: 'xfs',
  2435016766: 'btrfs',
  2035054128: 'overlayfs',
  16914836: 'tmpfs',
};

/** Median time of appending 4 KiB and syncing it, in ms: what a group commit cannot beat. */
function syncMs(directory: string): number {
  const path = join(directory, 'sync-probe');
  const file = openSync(path, 'w');
  const block = Buffer.alloc(4096, 1);
  const times: number[] = [];
  for (let i = 0; i < 50; i++) {
    const start = performance.now();
    writeSync(file, block);
    fsyncSync(file);
    times.push(performance.now() - start);
  }
  closeSync(file);
  rmSync(path);
  return summary(times)?.median ?? 0;
}

export function machineFacts(dataRoot: string): Record<string, string | number> {
  const type = statfsSync(dataRoot).type;
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    node: process.version,
    kernel: release(),
    fileSystem: FILE_SYSTEMS[type] ?? `0x${type.toString(16)}`,
    syncMs: Number(syncMs(dataRoot).toFixed(3)),
    loadBefore: Number((loadavg()[0] ?? 0).toFixed(2)),
  };
}

function row(cells: readonly string[], widths: readonly number[]): string {
  return cells
    .map((cell, i) => (i === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[i]!)))
    .join('  ')
    .trimEnd();
}

export function fixed(value: number, digits: number): string {
  return value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function cells(found: Summary | null, digits: number): string[] {
  if (found === null) return ['–', ''];
  return [fixed(found.median, digits), `${fixed(found.min, digits)} … ${fixed(found.max, digits)}`];
}

/** Runs whose figures tell of something else than the server. */
export function cautions(runs: readonly Run[]): string[] {
  const found: string[] = [];
  for (const { scenario, target, run, figures } of runs) {
    const generator = figures.generatorBusyPercent ?? 0;
    const server = figures.serverBusyPercent ?? 100;
    const name = `${scenario} ${target}, run ${run}`;
    const { sentLateP99Ms, deliveryP99Ms } = figures;
    if (sentLateP99Ms != null && deliveryP99Ms != null && sentLateP99Ms > deliveryP99Ms * LATE_PART) {
      found.push(`${name}: much of p99 is the generator's own lateness (${sentLateP99Ms.toFixed(2)} ms)`);
    }
    if (generator > BUSY_PERCENT) found.push(`${name}: the generator may have been the bottleneck`);
    else if (server < BUSY_PERCENT) {
      found.push(`${name}: the server got or used only ${server.toFixed(0)} % of a core; other work on the machine?`);
    }
  }
  return found;
}

export type Line = {
  name: string;
  text: string;
  digits: number;
  /** One for each target. */
  found: (Summary | null)[];
  /** What the first target is, run by run, as a multiple of each other one. */
  multiples: (number | null)[];
};
export type Block = { scenario: string; lines: Line[] };

/** What was found, by scenario and figure; without the figures that nobody has. */
export function blocksOf(runs: readonly Run[], scenarios: readonly string[], targets: readonly string[]): Block[] {
  const blocks = scenarios.map((scenario) => {
    const lines = FIGURES.map(([name, text, digits]): Line => {
      const columns = targets.map((target) => valuesOf(runs, scenario, target, name));
      const found = columns.map((column) => summary(numbers(column)));
      const others = columns.slice(1).map((column) => summary(ratios(columns[0] ?? [], column))?.median ?? null);
      return { name, text, digits, found, multiples: others };
    });
    return { scenario, lines: lines.filter(({ found }) => found.some((it) => it !== null)) };
  });
  return blocks.filter(({ lines }) => lines.length > 0);
}

/** For each target a column and its spread; then the multiples. */
export function headerOf(targets: readonly string[]): string[] {
  const others = targets.slice(1);
  return ['', ...targets.flatMap((target) => [target, 'spread']), ...others.map((other) => `${targets[0]}/${other}`)];
}

export function cellsOf({ text, digits, found, multiples }: Line): string[] {
  const ratios = multiples.map((ratio) => (ratio === null ? '' : fixed(ratio, 2)));
  return [text, ...found.flatMap((it) => cells(it, digits)), ...ratios];
}

export function table(blocks: readonly Block[], targets: readonly string[]): string {
  const header = headerOf(targets);
  const rows = blocks.flatMap(({ scenario, lines }) => [
    [scenario],
    ...lines.map(cellsOf).map(([text, ...rest]) => [`  ${text}`, ...rest]),
  ]);
  const widths = header.map((_, i) => Math.max(...[header, ...rows].map((cells) => (cells[i] ?? '').length)));
  return [header, ...rows].map((cells) => row(cells, widths)).join('\n');
}

/** What a message costs as a multiple of what it costs the floor, one line for each scenario that has both. */
export function multiples(runs: readonly Run[], scenarios: readonly string[]): string[] {
  return scenarios.flatMap((scenario) => {
    const [server, floor] = ['server', 'floor'].map((target) => valuesOf(runs, scenario, target, 'cpuUsPerMessage'));
    const ratio = summary(ratios(server!, floor!));
    const [own, least] = [server!, floor!].map((values) => fixed(summary(numbers(values))?.median ?? 0, 2));
    if (ratio === null) return [];
    return [`${scenario}: ${own} CPU µs/message, ${fixed(ratio.median, 2)} times the floor's ${least}`];
  });
}
