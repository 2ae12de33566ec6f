// As fast as the acks come: users to their devices, a thousand devices to one user, one user to a thousand devices.
import type { Job, Outcome } from './job.ts';
import type { Link } from './link.ts';
import { Pair } from './pair.ts';
import { saturate } from './saturate.ts';
import { inParallel, Setup } from './setup.ts';
import { SHARED, Traffic } from './traffic.ts';
import type { Keys } from './wire.ts';

const PAIRS = 50;
const PAYLOAD_SIZE = 100;
const SETUP_PARALLEL = 4;
const MANY = 1000;
const MANY_PARALLEL = 16;

type Shape = { links: Link[]; pairs: Pair[] };

/** The 50 pairs of most scenarios. */
export async function oneToOne(setup: Setup, window: number): Promise<Shape> {
  const devices = await inParallel(PAIRS, SETUP_PARALLEL, (index) => setup.device(`device-${index}`, index));
  const users = await inParallel(PAIRS, SETUP_PARALLEL, (index) =>
    setup.user(`user-${index}`, [`device-${index}`], index),
  );
  const pairs = users.map(
    (user, index) => new Pair(index, user, `user-${index}`, `device-${index}`, PAYLOAD_SIZE, window, Infinity),
  );
  return { links: [...devices, ...users], pairs };
}

/** Many devices and the one user that has added them all. */
async function many(setup: Setup): Promise<{ devices: Link[]; user: Link }> {
  const devices = await inParallel(MANY, MANY_PARALLEL, (index) => setup.device(`device-${index}`, index));
  const ids = devices.map((_, index) => `device-${index}`);
  return { devices, user: await setup.user('user', ids, SHARED) };
}

async function manyToOne(setup: Setup, window: number): Promise<Shape> {
  const { devices, user } = await many(setup);
  const pairs = devices.map(
    (device, index) => new Pair(index, device, `device-${index}`, 'user', PAYLOAD_SIZE, window, Infinity),
  );
  return { links: [...devices, user], pairs };
}

async function oneToMany(setup: Setup, window: number): Promise<Shape> {
  const { devices, user } = await many(setup);
  const pairs = devices.map(
    (_, index) => new Pair(index, user, 'user', `device-${index}`, PAYLOAD_SIZE, window, Infinity),
  );
  return { links: [...devices, user], pairs };
}

async function measure(job: Job, keys: Keys, shape: typeof oneToOne): Promise<Outcome> {
  const { links, pairs } = await shape(new Setup(job.endpoint, keys), job.window);
  const outcome = await saturate(job, new Traffic(keys, pairs, links));
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
