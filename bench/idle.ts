// What an idle logged-in connection costs in memory.
import { setTimeout as sleep } from 'node:timers/promises';
import { Crowd } from './crowd.ts';
import { type Job, type Outcome, until } from './job.ts';
import { residentKiB } from './sampling.ts';
import type { Keys } from './wire.ts';

const CONNECTIONS = 10_000;
const PARALLEL = 64;
const SETTLE_BEFORE_MS = 2000;
const SETTLE_MS = 5000;
const LOGINS_TIMEOUT_MS = 60_000;
const HEARTBEATS_TIMEOUT_MS = 20_000;

export async function idle(job: Job, keys: Keys): Promise<Outcome> {
  await sleep(SETTLE_BEFORE_MS);
  const before = residentKiB(job.pid);
  const crowd = new Crowd({ endpoint: job.endpoint, keys, parallel: PARALLEL, sources: 8, keep: true });
  const resident: number[] = [];
  const violations: string[] = [];
  for (const goal of [CONNECTIONS / 2, CONNECTIONS]) {
    crowd.run(goal);
    if (!(await until(() => crowd.loggedIn === goal, LOGINS_TIMEOUT_MS))) {
      violations.push(`${crowd.loggedIn} of ${goal} logged in`);
      break;
    }
    await sleep(SETTLE_MS);
    resident.push(residentKiB(job.pid));
  }
  crowd.sendHeartbeats();
  await until(() => crowd.heartbeats >= crowd.loggedIn, HEARTBEATS_TIMEOUT_MS);
  if (crowd.heartbeats !== crowd.loggedIn) violations.push(`${crowd.heartbeats} of ${crowd.loggedIn} still answer`);
  violations.push(...crowd.failures);
  crowd.closeAll();
  const [half, all] = resident;
  return {
    figures: {
      residentKiBPerConnection: all === undefined ? null : (all - before) / CONNECTIONS,
      residentKiBPerFurtherConnection:
        all === undefined || half === undefined ? null : (all - half) / (CONNECTIONS / 2),
      residentMiBBefore: before / 1024,
      residentMiBAfter: all === undefined ? null : all / 1024,
    },
    violations,
  };
}
