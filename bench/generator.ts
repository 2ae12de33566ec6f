// The load generator's process: one job as JSON in its only argument, one outcome as JSON on standard output.
import { randomBytes } from 'node:crypto';
import { away } from './away.ts';
import { drain, fill } from './away-many.ts';
import { across } from './cluster/across.ts';
import { awayAcross } from './cluster/away.ts';
import { nodeKill } from './cluster/node-kill.ts';
import { spread } from './cluster/spread.ts';
import { takeover } from './cluster/takeover.ts';
import { comeback, people } from './comeback.ts';
import { flood } from './flood.ts';
import { heartbeats } from './heartbeats.ts';
import { idle } from './idle.ts';
import type { Job, Outcome } from './job.ts';
import { latency, latency80 } from './latency.ts';
import { logins } from './logins.ts';
import { mqttLatency, mqttLatency80, mqttThroughput } from './mqtt.ts';
import { stuck } from './stuck.ts';
import { fanIn, fanOut, throughput } from './throughput.ts';
import { Keys } from './wire.ts';

const SCENARIOS = {
  throughput,
  fanIn,
  fanOut,
  latency,
  latency80,
  logins,
  idle,
  away,
  stuck,
  fill,
  drain,
  flood,
  mqttThroughput,
  mqttLatency,
  mqttLatency80,
  heartbeats,
  people,
  comeback,
  across,
  awayAcross,
  spread,
  takeover,
  nodeKill,
} as const;

const job: Job = JSON.parse(process.argv[2] ?? '');
let outcome: Outcome;
try {
  outcome = await SCENARIOS[job.kind](job, new Keys(randomBytes(16)));
} catch (error) {
  outcome = { figures: {}, violations: [error instanceof Error ? error.message : String(error)] };
}
process.stdout.write(`${JSON.stringify(outcome)}\n`, () => process.exit());
