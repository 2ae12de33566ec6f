/**
 * Torture of a cluster: nodes are killed -9 and frozen, and Redis is killed -9, under load and behind hostile proxies; clients
 * come to any node. Judged by the same witness as one server. It does not know yet that a message is refused without a
 * word while the database is away, and comes behind later ones when it is sent again: PostgreSQL is left alone here.
 *
 *     npm run torture-cluster -- --rounds 20 --seed 7
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { RedisServer } from '@hawser/server/cluster/redis/server-harness';
import { Postgres } from '../scripts/postgres.ts';
import type { Connection } from '../sim/connection.ts';
import { Random } from '../sim/random.ts';
import { Trace } from '../sim/trace.ts';
import { Server } from '../test/harness.ts';
import { Fleet } from './fleet.ts';
import { drawPlan } from './plan.ts';
import { HostileProxy } from './proxy.ts';
import { Witness } from './witness.ts';

const NAMES = ['a', 'b', 'c'];
const DRAIN_MS = 150_000;
/** Nodes look into the store once a minute for what nobody told them of. */
const STALL_MS = 70_000;
const LOOK_MS = 50;
const QUIET_MS = 300;
const TRACED = 300_000;
const faults = ['node', 'redis', 'freeze'] as const;

/**
 * While one node ends the others go on: what is sent to any may be taken. What only the one knew is lost, as after a crash of
 * a server, so that each end of a node begins another run of all of them.
 */
class ClusterWitness extends Witness {
  protected override mayBeTaken(_connection: Connection): boolean {
    return true;
  }

  ended(): void {
    this.serverEnded('crash');
    this.serverStarted();
  }
}

/** One node with the proxy before it. It is started again whenever it ends. */
class Node {
  readonly proxy: HostileProxy;
  readonly server: Server;
  readonly #folder = mkdtempSync(join(tmpdir(), 'hawser-torture-'));
  readonly #witness: ClusterWitness;
  #isStarting = false;
  ends = 0;

  constructor(name: string, args: readonly string[], random: Random, witness: ClusterWitness) {
    this.proxy = new HostileProxy(random);
    this.server = new Server(this.#folder, { args: [...args, '--node', name] });
    this.#witness = witness;
  }

  async open(): Promise<void> {
    await this.server.start();
    this.proxy.target = this.server.port;
    await this.proxy.listen();
    this.server.mayEnd();
  }

  get isUp(): boolean {
    return this.server.alive && !this.#isStarting;
  }

  /** What is repeated from now on, elsewhere, may be taken once more. */
  async kill(): Promise<void> {
    this.#witness.ended();
    await this.server.kill9();
  }

  async freeze(forMs: number): Promise<void> {
    if (!this.isUp) return;
    this.#witness.ended();
    process.kill(this.server.pid, 'SIGSTOP');
    await sleep(forMs);
    process.kill(this.server.pid, 'SIGCONT');
  }

  /** As a supervisor does. */
  async keepUp(): Promise<void> {
    if (this.server.alive || this.#isStarting) return;
    this.#isStarting = true;
    this.ends++;
    this.#witness.ended();
    try {
      await this.server.start();
      this.server.mayEnd();
      this.proxy.target = this.server.port;
    } catch {
      // The database or Redis is away: again with the next look.
    } finally {
      this.#isStarting = false;
    }
  }

  async close(): Promise<void> {
    this.#isStarting = true;
    this.proxy.close();
    await this.server.kill9();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

async function main(seed: number, rounds: number, clients: number): Promise<boolean> {
  const random = new Random(seed);
  const trace = new Trace(() => performance.now(), TRACED);
  const nodes: Node[] = [];
  const port = (): number => {
    const up = nodes.filter(({ isUp }) => isUp);
    return random.pick(up.length > 0 ? up : nodes).proxy.port;
  };
  const fleet = new Fleet(seed, clients, port, trace, ClusterWitness);
  const witness = fleet.witness as ClusterWitness;
  await using postgres = await Postgres.start(['shared_buffers=64MB']);
  const redis = await RedisServer.start();
  const counts = { node: 0, redis: 0, freeze: 0 };
  let isOver = false;
  let watching: NodeJS.Timeout | undefined;
  try {
    const args = ['--postgres', postgres.url(), '--redis', `redis://127.0.0.1:${redis.port}`];
    args.push('--inbox-messages', '5000000', '--inbox-bytes', '4000000000', '--connections-per-address', '100000');
    for (const [i, name] of NAMES.entries()) nodes.push(new Node(name, args, new Random(seed, 10 + i), witness));
    witness.serverStarted();
    for (const node of nodes) await node.open();
    await fleet.enter(nodes[0]!.server);
    fleet.start();
    watching = setInterval(() => {
      if (!isOver) for (const node of nodes) void node.keepUp();
    }, LOOK_MS);
    for (let round = 1; round <= rounds && !witness.hasFailed; round++) {
      const began = performance.now();
      const plan = drawPlan(random, 'kill');
      const fault = random.pick(faults);
      counts[fault]++;
      const awayMs = random.magnitude(50, 6000);
      fleet.disturb(random);
      fleet.messagesPerSecond = Math.min(plan.messagesPerSecond, 5000);
      for (const { proxy } of nodes) proxy.disturb(plan.proxy);
      const before = { sent: fleet.messages.all.length, acked: witness.counts.acked };
      await sleep(plan.floodMs);
      const node = random.pick(nodes);
      if (fault === 'node') await node.kill();
      else if (fault === 'redis') {
        await redis.kill();
        await sleep(awayMs);
        await redis.start();
      } else await node.freeze(awayMs);
      await sleep(random.magnitude(50, 2000));
      for (const { proxy } of nodes) proxy.heal();
      fleet.mend();
      const isDrained = await fleet.drained(DRAIN_MS, STALL_MS);
      if (isDrained) await sleep(QUIET_MS);
      else if (!witness.hasFailed) witness.checkDelivered();
      if (!isDrained && !witness.hasFailed)
        witness.broken('not drained', 'not all that was sent is answered and delivered');
      const sent = fleet.messages.all.length - before.sent;
      const seconds = ((performance.now() - began) / 1000).toFixed(1);
      console.log(`round ${round}: ${fault}; ${sent} sent, ${witness.counts.acked - before.acked} acked; ${seconds} s`);
    }
    if (!witness.hasFailed) witness.checkDelivered();
  } finally {
    isOver = true;
    clearInterval(watching);
    fleet.close();
    for (const node of nodes) await node.close();
    await redis.close();
  }
  const ends = nodes.reduce((sum, node) => sum + node.ends, 0);
  const { acked, again, superseded } = witness.counts;
  console.log(`seed ${seed}: ${JSON.stringify(counts)}, ${ends} ends of nodes, ${superseded} takeovers`);
  console.log(
    `${fleet.messages.all.length} sent, ${acked} acked, ${again} came again, ${witness.violations.length} violations`,
  );
  const [first] = witness.violations;
  if (first === undefined) return true;
  for (const line of trace.lines(60, first.message?.id)) console.log(line);
  for (const { rule, text } of witness.violations.slice(0, 5)) console.log(`✖ ${rule}: ${text}`);
  for (const { server } of nodes)
    console.log(
      server
        .logs()
        .slice(-40)
        .map((line) => line.slice(0, 200))
        .join('\n'),
    );
  return false;
}

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
    rounds: { type: 'string', default: '20' },
    clients: { type: 'string', default: '40' },
  },
});
process.exit((await main(Number(values.seed), Number(values.rounds), Number(values.clients))) ? 0 : 1);
