/**
 * Torture of a cluster: nodes, Redis and PostgreSQL are killed -9 and frozen under load, and what goes one way between a node
 * and others is cut. Clients come to any node, behind hostile proxies. Judged by the same witness as one server.
 *
 *     npm run torture-cluster                        twenty rounds of everything
 *     npm run torture-cluster -- --rounds 100 --seed 7
 *     npm run torture-cluster -- --faults redis,cut-redis
 */
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { noRedis, RedisServer } from '@hawser/server/cluster/redis/server-harness';
import { Postgres, postgresFolder } from '../scripts/postgres.ts';
import { Random } from '../sim/random.ts';
import { rules } from '../sim/rules.ts';
import { Trace } from '../sim/trace.ts';
import type { Reached } from './client.ts';
import { type Fault, faults, isCut, suffer, type Victims } from './cluster-faults.ts';
import { ClusterWitness } from './cluster-witness.ts';
import { Fleet } from './fleet.ts';
import { LOOPBACK, Network } from './network.ts';
import { Node } from './node.ts';
import { drawPlan } from './plan.ts';

const USAGE = `npm run torture-cluster -- [options]
  --seed N       a fresh one when not given
  --rounds N     how many rounds (20)
  --minutes M    no round begins after this
  --clients C    how many clients (40)
  --faults LIST  what happens, in turn (${faults.join(',')})`;
const NODES = ['a', 'b', 'c'];
const DRAIN_MS = 150_000;
const DRAINS_MAX = 4;
/** Nodes look into the store once a minute for what nobody told them of. */
const STALL_MS = 70_000;
const LOOK_MS = 50;
const QUIET_MS = 300;
const MESSAGES_PER_SECOND_MAX = 5000;
const TRACED = 300_000;
/** Inboxes that are never full: what nobody was pushed then was lost. */
const ARGS = ['--inbox-messages', '5000000', '--inbox-bytes', '4000000000', '--connections-per-address', '100000'];

interface Options {
  readonly seed: number;
  readonly rounds: number;
  readonly until: number;
  readonly clients: number;
  readonly faults: readonly Fault[];
  readonly network: Network | undefined;
}

/** Some nodes and their clients, over some rounds with one history. */
class ClusterTorture {
  readonly fleet: Fleet;
  readonly counts = new Map<Fault, number>();
  readonly #options: Options;
  readonly #random: Random;
  readonly #trace = new Trace(() => performance.now(), TRACED);
  readonly #nodes: Node[] = [];

  constructor(options: Options) {
    this.#options = options;
    this.#random = new Random(options.seed);
    const server = (): Reached => {
      const up = this.#nodes.filter(({ isUp }) => isUp);
      return this.#random.pick(up.length > 0 ? up : this.#nodes).reach();
    };
    this.fleet = new Fleet(options.seed, options.clients, server, this.#trace, ClusterWitness);
  }

  get witness(): ClusterWitness {
    return this.fleet.witness as ClusterWitness;
  }

  async run(): Promise<void> {
    const { network, seed } = this.#options;
    const at = (name: string) => network && { ...network.place(name), net: `${network.net}.0/24` };
    await using postgres = await Postgres.start(['shared_buffers=64MB'], undefined, at('postgres'));
    const redis = await RedisServer.start('', 'redis-server', at('redis'));
    let watching: NodeJS.Timeout | undefined;
    try {
      const args = ['--postgres', postgres.url(), '--redis', `redis://${redis.host}:${redis.port}`, ...ARGS];
      for (const [i, name] of NODES.entries()) {
        const place = network?.place(name) ?? LOOPBACK;
        this.#nodes.push(new Node(name, place, args, new Random(seed, 10 + i), this.witness));
      }
      this.witness.serverStarted();
      for (const node of this.#nodes) await node.open();
      await this.fleet.enter(this.#nodes[0]!.server);
      this.fleet.start();
      watching = setInterval(() => {
        for (const node of this.#nodes) void node.keepUp();
      }, LOOK_MS);
      // Logins take a while on a busy machine: the first round is to have its share of trouble, too.
      this.fleet.mend();
      if (!(await this.#drained())) this.#judge();
      await this.#rounds({ nodes: this.#nodes, redis, postgres, network, witness: this.witness });
    } finally {
      clearInterval(watching);
      this.fleet.close();
      for (const node of this.#nodes) await node.close();
      await redis.close();
    }
  }

  async #rounds(victims: Victims): Promise<void> {
    const { witness, fleet } = this;
    const { rounds, until } = this.#options;
    const figures = () => ({
      sent: fleet.messages.all.length,
      acked: witness.counts.acked,
      again: witness.counts.again,
      ...witness.judged,
      taken: witness.figures.taken,
      unknown: witness.doubts.unknown,
    });
    for (let round = 0; round < rounds && performance.now() < until && !witness.hasFailed; round++) {
      const began = performance.now();
      const before = figures();
      const what = await this.#round(round, victims);
      const now = figures();
      const seconds = ((performance.now() - began) / 1000).toFixed(1);
      const since = (name: keyof typeof now): string => `${now[name] - before[name]}`;
      console.log(
        `round ${round + 1}: ${what}; ${since('sent')} sent, ${since('acked')} acked, ${since('again')} again; judged: order of ` +
          `${since('order')}, not of ${since('excused')} and ${since('unknown')}, nothing behind ${since('taken')} acks; ${seconds} s`,
      );
    }
    if (!witness.hasFailed) witness.checkDelivered();
  }

  /** One round of trouble, after which all is well and everything must be delivered. Returns what happened. */
  async #round(round: number, victims: Victims): Promise<string> {
    const { fleet, witness } = this;
    const random = this.#random;
    const plan = drawPlan(random, 'kill');
    const fault = this.#options.faults[round % this.#options.faults.length]!;
    this.counts.set(fault, (this.counts.get(fault) ?? 0) + 1);
    this.#trace.note('phase', round, -1, fault);
    fleet.disturb(random);
    fleet.messagesPerSecond = Math.min(plan.messagesPerSecond, MESSAGES_PER_SECOND_MAX);
    for (const { proxy } of this.#nodes) proxy.disturb(plan.proxy);
    await sleep(plan.floodMs);
    const what = await suffer(fault, random, victims);
    this.#trace.note('phase', round, -1, `over: ${what}`);
    await sleep(random.magnitude(50, 2000));
    for (const { proxy } of this.#nodes) proxy.heal();
    fleet.mend();
    if (await this.#drained()) await sleep(QUIET_MS);
    else this.#judge();
    witness.settle();
    return what;
  }

  /** On a machine that is so busy that nodes are fenced, or do not start in time, nothing is known: it is given more of it. */
  async #drained(): Promise<boolean> {
    for (let tries = 0; ; tries++) {
      const ends = this.#ends;
      if (await this.fleet.drained(DRAIN_MS, STALL_MS)) return true;
      const isDisturbed = this.#ends > ends || this.#nodes.some(({ isUp }) => !isUp);
      if (this.witness.hasFailed || !isDisturbed || tries === DRAINS_MAX) return false;
      console.log('  nodes ended, or did not start in time: it goes on');
    }
  }

  get #ends(): number {
    return this.#nodes.reduce((sum, node) => sum + node.ends, 0);
  }

  /** Whoever could not come could not be given anything: then nothing is said of what was lost. */
  #judge(): void {
    const { witness, fleet } = this;
    if (witness.hasFailed) return;
    for (const { party, isOnline } of fleet.clients) {
      if (!isOnline) witness.broken('not drained', `${party.name} could not come back`);
    }
    if (!witness.hasFailed) witness.checkDelivered();
    if (!witness.hasFailed) witness.broken('not drained', 'not all that was sent is answered and delivered');
  }

  text(): string {
    const { witness, fleet } = this;
    const { counts, violations, doubts, judged, figures } = witness;
    const broken = (rule: string): number => violations.filter((each) => each.rule === rule).length;
    const rounds = [...this.counts].map(([fault, count]) => `${fault} ${count}`).join(', ');
    return [
      `seed ${this.#options.seed}: ${rounds}; ${this.#ends} ends of nodes, ${counts.superseded} takeovers`,
      `${fleet.messages.all.length} sent, ${counts.acked} acked, ${counts.again} came again`,
      `judged: that ${counts.acked} acked messages came; the order of ${judged.order} first pushes, of which ${doubts.unknown} ` +
        `cannot be judged, not of ${judged.excused} that may come late; that nothing came behind ${figures.taken} acks`,
      `lost = ${broken('lost')}, out of order = ${broken('order')}, delivered again = ${broken('delivered again')}, ` +
        `all violations = ${violations.length}`,
    ].join('\n');
  }

  /** What went wrong, and where the rest of it lies. */
  explain(): string {
    const { violations } = this.witness;
    const [first] = violations;
    if (first === undefined) return '';
    const folder = mkdtempSync(join(tmpdir(), 'hawser-torture-kept-'));
    writeFileSync(join(folder, 'trace.txt'), `${this.#trace.lines(TRACED).join('\n')}\n`);
    for (const { name, server } of this.#nodes)
      writeFileSync(join(folder, `node-${name}.log`), `${server.logs().join('\n')}\n`);
    return [
      ...this.#trace
        .lines(TRACED, first.message?.id)
        .filter((line) => line.includes('phase') || line.includes(`message ${first.message?.id}`))
        .slice(-60),
      ...violations.slice(0, 10).map(({ at, rule, text }) => `✖ ${(at / 1000).toFixed(3)} ${rule}: ${text}`),
      `  the page says: ${rules[first.rule]}`,
      `  kept: ${folder} (trace.txt, a log of each node)`,
    ].join('\n');
  }
}

function usage(problem: string): never {
  console.error(`torture-cluster: ${problem}\n\n${USAGE}`);
  process.exit(2);
}

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
    rounds: { type: 'string', default: '20' },
    minutes: { type: 'string', default: 'Infinity' },
    clients: { type: 'string', default: '40' },
    faults: { type: 'string', default: faults.join(',') },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) {
  console.log(USAGE);
  process.exit(0);
}
const asked = values.faults
  .split(',')
  .map((name) => faults.find((known) => known === name) ?? usage(`no fault ${name}`));
if (postgresFolder() === undefined || noRedis !== false)
  usage('it needs a PostgreSQL and a Redis: npm test installs them');
const network = asked.some(isCut) ? Network.open([...NODES, 'redis', 'postgres']) : undefined;
if (typeof network === 'string') console.log(`▶ nothing is cut here: ${network}`);
const chosen = typeof network === 'string' ? asked.filter((fault) => !isCut(fault)) : asked;
if (chosen.length === 0) process.exit(0);

const torture = new ClusterTorture({
  seed: Number(values.seed),
  rounds: Number(values.rounds),
  until: performance.now() + Number(values.minutes) * 60_000,
  clients: Number(values.clients),
  faults: chosen,
  network: typeof network === 'string' ? undefined : network,
});
await torture.run();
console.log(torture.text());
if (torture.witness.hasFailed) console.log(torture.explain());
process.exit(torture.witness.hasFailed ? 1 : 0);
