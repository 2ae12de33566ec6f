// As fast as the acks come: users to their devices, a thousand devices to one user, one user to a thousand devices.
import { Crowd } from './crowd.ts';
import { type Job, type Outcome, until } from './job.ts';
import type { Link } from './link.ts';
import { Pair } from './pair.ts';
import { saturate } from './saturate.ts';
import { inParallel, Setup } from './setup.ts';
import { SHARED, Traffic } from './traffic.ts';
import type { Keys } from './wire.ts';

const PAIRS = 50;
const PAYLOAD_SIZE = 100;
const IDLE_PARALLEL = 64;
const IDLE_SOURCES = 8;
const IDLE_TIMEOUT_MS = 60_000;
/** Within the time after which the server closes who says nothing. */
const HEARTBEAT_MS = 20_000;
const SETUP_PARALLEL = 4;
const MANY = 1000;
const MANY_PARALLEL = 16;

type Shape = { links: Link[]; pairs: Pair[] };

/** The 50 pairs of most scenarios. */
export async function oneToOne(setup: Setup, job: Pick<Job, 'window' | 'pairs' | 'payloadSize'>): Promise<Shape> {
  const { window, pairs: count = PAIRS, payloadSize = PAYLOAD_SIZE } = job;
  const devices = await inParallel(count, SETUP_PARALLEL, (index) => setup.device(`device-${index}`, index));
  const users = await inParallel(count, SETUP_PARALLEL, (index) =>
    setup.user(`user-${index}`, [`device-${index}`], index),
  );
  const pairs = users.map(
    (user, index) => new Pair(index, user, `user-${index}`, `device-${index}`, payloadSize, window, Infinity),
  );
  return { links: [...devices, ...users], pairs };
}

/** Many devices and the one user that has added them all. */
async function many(setup: Setup): Promise<{ devices: Link[]; user: Link }> {
  const devices = await inParallel(MANY, MANY_PARALLEL, (index) => setup.device(`device-${index}`, index));
  const ids = devices.map((_, index) => `device-${index}`);
  return { devices, user: await setup.user('user', ids, SHARED) };
}

async function manyToOne(setup: Setup, { window }: Job): Promise<Shape> {
  const { devices, user } = await many(setup);
  const pairs = devices.map(
    (device, index) => new Pair(index, device, `device-${index}`, 'user', PAYLOAD_SIZE, window, Infinity),
  );
  return { links: [...devices, user], pairs };
}

async function oneToMany(setup: Setup, { window }: Job): Promise<Shape> {
  const { devices, user } = await many(setup);
  const pairs = devices.map(
    (_, index) => new Pair(index, user, 'user', `device-${index}`, PAYLOAD_SIZE, window, Infinity),
  );
  return { links: [...devices, user], pairs };
}

/** Connections that log in, stay and send heartbeats; returns what was wrong with them, and ends them. */
async function idleBeside({ endpoint, idle = 0 }: Job, keys: Keys): Promise<() => string[]> {
  const crowd = new Crowd({ endpoint, keys, parallel: IDLE_PARALLEL, sources: IDLE_SOURCES, keep: true });
  crowd.run(idle);
  const timer = setInterval(() => crowd.sendHeartbeats(), HEARTBEAT_MS);
  await until(() => crowd.loggedIn === idle, IDLE_TIMEOUT_MS);
  return () => {
    clearInterval(timer);
    const failures = [...crowd.failures];
    if (crowd.loggedIn !== idle) failures.push(`${crowd.loggedIn} of ${idle} logged in`);
    crowd.closeAll();
    return failures;
  };
}

async function measure(job: Job, keys: Keys, shape: (setup: Setup, job: Job) => Promise<Shape>): Promise<Outcome> {
  const endIdle = await idleBeside(job, keys);
  const { links, pairs } = await shape(new Setup(job.endpoint, keys), job);
  const outcome = await saturate(job, new Traffic(keys, pairs, links));
  outcome.violations.push(...endIdle());
  outcome.figures.parsedPushes = pairs.reduce((sum, pair) => sum + pair.parsed, 0);
  return outcome;
}

export function throughput(job: Job, keys: Keys): Promise<Outcome> {
  return measure(job, keys, oneToOne);
}

export function fanIn(job: Job, keys: Keys): Promise<Outcome> {
  return measure(job, keys, manyToOne);
}

export function fanOut(job: Job, keys: Keys): Promise<Outcome> {
  return measure(job, keys, oneToMany);
}
