// Devices that log in on one node while they are on another, with messages on their way to them.
import { setTimeout as sleep } from 'node:timers/promises';
import { Histogram } from '../histogram.ts';
import { type At, type Job, type Outcome, until } from '../job.ts';
import { codeOf, type Link, type LinkOwner, textOf } from '../link.ts';
import { Pair } from '../pair.ts';
import { inParallel, Setup } from '../setup.ts';
import { Traffic } from '../traffic.ts';
import { CMD, type Envelope, type Keys } from '../wire.ts';

const DEVICES = 200;
/** In all: five a second to each device. */
const MESSAGES_PER_SECOND = 1000;
const TAKEOVERS_PER_SECOND = 25;
const PAYLOAD_SIZE = 100;
const SETUP_PARALLEL = 4;
const ANSWER_TIMEOUT_MS = 20_000;
const SETTLE_TIMEOUT_MS = 20_000;
const AFTERMATH_MS = 500;

const deviceId = (slot: number): string => `device-${slot}`;

/** Owns the connections of devices that come and go, and leaves to the traffic what is not about that. */
class Takeovers implements LinkOwner {
  readonly latencies = new Histogram();
  readonly violations: string[] = [];
  conflicts = 0;
  readonly #traffic: Traffic;
  readonly #coming = new Map<Link, { sentAtMs: number; done: () => void }>();
  /** They have been taken over, or are about to be. */
  readonly #leaving = new Set<Link>();

  constructor(traffic: Traffic) {
    this.#traffic = traffic;
  }

  ready(): void {}

  frame(link: Link, bytes: Buffer, envelope: Envelope): void {
    const coming = this.#coming.get(link);
    if (coming !== undefined && envelope.cmd === CMD.auth) {
      this.#coming.delete(link);
      const text = textOf(link, bytes, envelope);
      if (codeOf(text) === 100) this.latencies.record(performance.now() - coming.sentAtMs);
      else this.violations.push(`a takeover was answered ${text}`);
      link.send(CMD.fetch, 'fetch', null);
      coming.done();
    } else if (envelope.cmd === CMD.conflict) {
      if (!this.#leaving.has(link)) this.violations.push('a session was ended that nobody took over');
      this.conflicts++;
      link.close();
    } else this.#traffic.frame(link, bytes, envelope);
  }

  closed(link: Link, reason: string): void {
    if (!this.#leaving.delete(link) && reason !== '') this.violations.push(`device ${link.slot}: ${reason}`);
  }

  /** The key of `newer` is agreed. Resolves when it is logged in. */
  async take(older: Link, newer: Link): Promise<void> {
    this.#leaving.add(older);
    newer.owner = this;
    const answered = Promise.withResolvers<void>();
    this.#coming.set(newer, { sentAtMs: performance.now(), done: answered.resolve });
    newer.send(CMD.auth, 'auth', { version: '1', id: deviceId(newer.slot), abilities: ['bench'] });
    await Promise.race([answered.promise, sleep(ANSWER_TIMEOUT_MS, undefined, { ref: false })]);
    if (this.#coming.delete(newer)) this.violations.push(`device ${newer.slot}: no answer to its login`);
  }
}

export async function takeover(job: Job, keys: Keys): Promise<Outcome> {
  const nodes = job.nodes as [At, At];
  const setups = nodes.map(({ endpoint }) => new Setup(endpoint, keys)) as [Setup, Setup];
  const devices = await inParallel(DEVICES, SETUP_PARALLEL, (i) => setups[0].device(deviceId(i), i));
  const users = await inParallel(DEVICES, SETUP_PARALLEL, (i) => setups[i % 2]!.user(`user-${i}`, [deviceId(i)], i));
  const pairs = users.map((user, i) => new Pair(i, user, `user-${i}`, deviceId(i), PAYLOAD_SIZE, Infinity, Infinity));
  for (const pair of pairs) pair.limit = 0;
  const traffic = new Traffic(keys, pairs, users);
  const takeovers = new Takeovers(traffic);
  for (const link of devices) link.owner = takeovers;

  traffic.start();
  let offered = 0;
  const beganAtMs = performance.now();
  const offering = setInterval(() => {
    const due = ((performance.now() - beganAtMs) * MESSAGES_PER_SECOND) / 1000;
    while (offered < due) traffic.offer(pairs[offered++ % DEVICES]!);
  }, 2);
  await sleep(job.warmUpMs);

  // Every device is taken back and forth in its turn.
  const wanted = Math.max(1, Math.round((job.measureMs * TAKEOVERS_PER_SECOND) / 1000));
  const going: Promise<void>[] = [];
  const startMs = performance.now();
  for (let n = 0; n < wanted; n++) {
    await sleep(Math.max(0, startMs + (n * 1000) / TAKEOVERS_PER_SECOND - performance.now()));
    const slot = n % DEVICES;
    const to = (Math.floor(n / DEVICES) + 1) % 2;
    const older = devices[slot]!;
    const newer = await setups[to]!.open(slot);
    devices[slot] = newer;
    going.push(takeovers.take(older, newer));
  }
  await Promise.all(going);
  clearInterval(offering);
  await until(() => traffic.acked === traffic.sent && traffic.delivered === traffic.sent, SETTLE_TIMEOUT_MS);
  await sleep(AFTERMATH_MS);

  const violations = [...traffic.violations, ...new Set(takeovers.violations)];
  const outOfOrder = pairs.reduce((sum, pair) => sum + pair.outOfOrder, 0);
  // A push whose ack came behind a takeover comes again to the next session.
  const again = pairs.reduce((sum, pair) => sum + pair.duplicates, 0);
  if (traffic.acked !== traffic.sent) violations.push(`${traffic.sent} sent, ${traffic.acked} acked`);
  if (traffic.delivered !== traffic.sent) violations.push(`${traffic.sent} sent, ${traffic.delivered} delivered`);
  if (outOfOrder > 0) violations.push(`${outOfOrder} delivered out of order`);
  if (takeovers.conflicts !== wanted) violations.push(`${wanted} takeovers, ${takeovers.conflicts} sessions ended`);
  for (const link of devices) link.close();
  traffic.close();
  return {
    figures: {
      takeoverP50Ms: takeovers.latencies.percentile(50),
      takeoverP95Ms: takeovers.latencies.percentile(95),
      takeoverP99Ms: takeovers.latencies.percentile(99),
      takeoverMaxMs: takeovers.latencies.maxMs,
      takeovers: wanted,
      cameAgain: again,
      messages: traffic.sent,
    },
    violations,
  };
}
