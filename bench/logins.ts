// How many new encrypted device logins a second.
import { setTimeout as sleep } from 'node:timers/promises';
import { Crowd } from './crowd.ts';
import { Histogram } from './histogram.ts';
import { type Job, type Outcome, ownCpuMs, until } from './job.ts';
import { cpuMs } from './sampling.ts';
import type { Keys } from './wire.ts';

const PARALLEL = 64;
/** Several addresses, as devices have. */
const SOURCES = 8;
const CLOSE_TIMEOUT_MS = 10_000;

export async function logins(job: Job, keys: Keys): Promise<Outcome> {
  const crowd = new Crowd({ endpoint: job.endpoint, keys, parallel: PARALLEL, sources: SOURCES, keep: false });
  crowd.run(Infinity);
  await sleep(job.warmUpMs);
  const latencies = new Histogram();
  const start = { atMs: performance.now(), cpuMs: cpuMs(job.pid), ownMs: ownCpuMs(), loggedIn: crowd.loggedIn };
  crowd.latencies = latencies;
  await sleep(job.measureMs);
  const seconds = (performance.now() - start.atMs) / 1000;
  const serverMs = cpuMs(job.pid) - start.cpuMs;
  const ownMs = ownCpuMs() - start.ownMs;
  const loggedIn = crowd.loggedIn - start.loggedIn;
  crowd.stop();
  const closed = await until(() => crowd.idle, CLOSE_TIMEOUT_MS);
  const violations = [...crowd.failures];
  if (!closed) violations.push('connections that were closed here stay open there');
  if (loggedIn === 0) violations.push('nobody could log in');
  return {
    figures: {
      loginsPerSecond: loggedIn / seconds,
      cpuUsPerLogin: (serverMs * 1000) / loggedIn,
      loginP50Ms: latencies.percentile(50),
      loginP99Ms: latencies.percentile(99),
      serverBusyPercent: serverMs / seconds / 10,
      generatorBusyPercent: ownMs / seconds / 10,
    },
    violations,
  };
}
