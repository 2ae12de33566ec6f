// What a message costs that crosses from one node to another, beside one on a single server: the two are measured by turns.
import { setTimeout as sleep } from 'node:timers/promises';
import { Histogram } from '../histogram.ts';
import { type At, type Job, type Outcome, until } from '../job.ts';
import { Pair } from '../pair.ts';
import { summary } from '../report.ts';
import { cpuMs, metrics } from '../sampling.ts';
import { inParallel, Setup } from '../setup.ts';
import { Traffic } from '../traffic.ts';
import type { Keys } from '../wire.ts';

const PAIRS = 50;
const PAYLOAD_SIZE = 100;
const SETUP_PARALLEL = 4;
const ROUNDS = 5;
/** Single messages with time between them, before there is any load: so streams between the nodes come to be. */
const FIRST_MESSAGES = 4;
const FIRST_EVERY_MS = 250;
/** Of each phase: streams between nodes begin anew in it. */
const LEAD_MS = 1000;
const SETTLE_TIMEOUT_MS = 15_000;
const AFTERMATH_MS = 300;

/** Users at one server, each with a device at the other, or at the same one. */
async function trafficOf(from: At, to: At, keys: Keys, window: number): Promise<Traffic> {
  const [users, devices] = [new Setup(from.endpoint, keys), new Setup(to.endpoint, keys)];
  const receivers = await inParallel(PAIRS, SETUP_PARALLEL, (i) => devices.device(`device-${i}`, i));
  const senders = await inParallel(PAIRS, SETUP_PARALLEL, (i) => users.user(`user-${i}`, [`device-${i}`], i));
  const pairs = senders.map(
    (sender, i) => new Pair(i, sender, `user-${i}`, `device-${i}`, PAYLOAD_SIZE, window, Infinity),
  );
  return new Traffic(keys, pairs, [...receivers, ...senders]);
}

async function meet(traffic: Traffic): Promise<void> {
  for (const pair of traffic.pairs) pair.limit = 0;
  traffic.start();
  for (let i = 0; i < FIRST_MESSAGES; i++) {
    for (const pair of traffic.pairs) traffic.offer(pair);
    await sleep(FIRST_EVERY_MS);
  }
  traffic.stop();
  for (const pair of traffic.pairs) pair.limit = Infinity;
}

type Phase = { perSecond: number; cpuUs: number[]; writesPer1000: number; clientBytes: number; busBytes: number };

class Measured {
  readonly phases: Phase[] = [];
  readonly latencies = new Histogram();
  readonly #traffic: Traffic;
  readonly #servers: readonly At[];
  readonly #pids: readonly number[];

  /** `more` are processes whose CPU time is told behind that of the servers. */
  constructor(traffic: Traffic, servers: readonly At[], more: readonly number[] = []) {
    this.#traffic = traffic;
    this.#servers = servers;
    this.#pids = [...servers.map(({ pid }) => pid), ...more];
  }

  /** Of all servers together. */
  async #counters(): Promise<(name: string) => number> {
    const all = await Promise.all(this.#servers.map(({ adminPort }) => metrics(adminPort)));
    return (name) => all.reduce((sum, each) => sum + (each.get(name) ?? 0), 0);
  }

  async phase(measureMs: number): Promise<void> {
    const traffic = this.#traffic;
    traffic.start();
    await sleep(LEAD_MS);
    const before = await this.#counters();
    const start = { atMs: performance.now(), cpu: this.#pids.map(cpuMs), delivered: traffic.delivered };
    traffic.latencies = this.latencies;
    await sleep(measureMs);
    traffic.latencies = null;
    const seconds = (performance.now() - start.atMs) / 1000;
    const used = this.#pids.map((pid, i) => cpuMs(pid) - start.cpu[i]!);
    const messages = traffic.delivered - start.delivered;
    const after = await this.#counters();
    const grown = (...names: string[]): number => names.reduce((sum, name) => sum + after(name) - before(name), 0);
    // Scraped a little later than the messages were counted.
    const accepted = grown('hawser_messages_accepted_total');
    this.phases.push({
      perSecond: messages / seconds,
      cpuUs: used.map((ms) => (ms * 1000) / messages),
      writesPer1000: (grown('hawser_store_writes_total') * 1000) / accepted,
      clientBytes: grown('hawser_bytes_received_total', 'hawser_bytes_sent_total') / accepted,
      busBytes: grown('hawser_bus_bytes_total') / accepted,
    });
    await this.settle();
  }

  async settle(): Promise<void> {
    const traffic = this.#traffic;
    traffic.stop();
    await until(() => traffic.acked === traffic.sent && traffic.delivered === traffic.sent, SETTLE_TIMEOUT_MS);
  }

  median(of: (phase: Phase) => number): number {
    return summary(this.phases.map(of))?.median ?? 0;
  }
}

function both({ cpuUs: [sender = 0, receiver = 0] }: Phase): number {
  return sender + receiver;
}

export async function across(job: Job, keys: Keys): Promise<Outcome> {
  const [single, a, b] = job.nodes as [At, At, At];
  const atOne = await trafficOf(single, single, keys, job.window);
  const between = await trafficOf(a, b, keys, job.window);
  const one = new Measured(atOne, [single]);
  const two = new Measured(between, [a, b], [job.redisPid ?? 0]);
  for (const [traffic, measured] of [
    [atOne, one],
    [between, two],
  ] as const) {
    await meet(traffic);
    traffic.start();
    await sleep(job.warmUpMs);
    await measured.settle();
  }
  for (let round = 0; round < ROUNDS; round++) {
    // The other way round every second time, so that a drift of the machine hits both alike.
    for (const measured of round % 2 === 0 ? [one, two] : [two, one]) await measured.phase(job.measureMs / 2);
  }
  await sleep(AFTERMATH_MS);
  const violations = [...atOne.audit(), ...between.audit()];
  const times = two.phases.map((phase, i) => both(phase) / (one.phases[i]?.cpuUs[0] ?? 0));
  for (const traffic of [atOne, between]) traffic.close();
  return {
    figures: {
      acrossTimes: summary(times)?.median ?? null,
      acrossTimesWorst: summary(times)?.max ?? null,
      cpuUsPerMessageOne: one.median(({ cpuUs }) => cpuUs[0] ?? 0),
      cpuUsPerMessageBoth: two.median(both),
      cpuUsPerMessageSender: two.median(({ cpuUs }) => cpuUs[0] ?? 0),
      cpuUsPerMessageReceiver: two.median(({ cpuUs }) => cpuUs[1] ?? 0),
      cpuUsPerMessageRedis: two.median(({ cpuUs }) => cpuUs[2] ?? 0),
      deliveredPerSecondOne: one.median(({ perSecond }) => perSecond),
      deliveredPerSecondAcross: two.median(({ perSecond }) => perSecond),
      storeWritesPer1000One: one.median(({ writesPer1000 }) => writesPer1000),
      storeWritesPer1000Across: two.median(({ writesPer1000 }) => writesPer1000),
      clientBytesPerMessage: two.median(({ clientBytes }) => clientBytes),
      busBytesPerMessage: two.median(({ busBytes }) => busBytes),
      ackP50MsOne: one.latencies.percentile(50),
      ackP50MsAcross: two.latencies.percentile(50),
      ackP99MsOne: one.latencies.percentile(99),
      ackP99MsAcross: two.latencies.percentile(99),
    },
    violations,
  };
}
