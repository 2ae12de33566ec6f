// What bench/main.ts asks of bench/generator.ts, and what it gets back.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Endpoint } from './link.ts';

/** What the generator can do; see bench/generator.ts. */
export type Kind =
  | 'throughput'
  | 'fanIn'
  | 'fanOut'
  | 'latency'
  | 'latency80'
  | 'logins'
  | 'idle'
  | 'away'
  | 'stuck'
  | 'fill'
  | 'drain'
  | 'flood'
  | 'mqttThroughput'
  | 'mqttLatency'
  | 'mqttLatency80'
  | 'heartbeats'
  | 'people'
  | 'comeback'
  | 'across'
  | 'spread'
  | 'awayAcross'
  | 'takeover'
  | 'nodeKill';

/** A server, as the generator reaches it. */
export type At = { endpoint: Endpoint; httpPort: number | null; adminPort: number | null; pid: number };

export type Job = {
  kind: Kind;
  endpoint: Endpoint;
  adminPort: number | null;
  /** The server's process, for its CPU time and memory. */
  pid: number;
  warmUpMs: number;
  measureMs: number;
  /** Messages in flight per pair of sender and receiver. */
  window: number;
  /** The PostgreSQL that the server stores in. */
  postgresPid?: number;
  /** Several servers, where it is about them, and the Redis between them. */
  nodes?: readonly At[];
  redisPid?: number;
} & Variation;

/** What makes one scenario of another; each has its default where it is used. */
export type Variation = {
  /** Of a message, with its quotes. */
  payloadSize?: number;
  pairs?: number;
  /** Connections that are logged in and do nothing, beside the pairs. */
  idle?: number;
  messagesPerReceiver?: number;
  /** To all stuck receivers together. */
  stuckPerSecond?: number;
};

export type Outcome = {
  /** By the names in bench/report.ts; null where the server does not tell. */
  figures: Record<string, number | null>;
  /** Promises of the protocol seen broken; the benchmark fails when there is one. */
  violations: string[];
  /** What was read again and again, for the JSON alone. */
  series?: Record<string, number[]>;
};

/** Waits until `done` holds; false when it did not in time. */
export async function until(done: () => boolean, timeoutMs: number): Promise<boolean> {
  const end = performance.now() + timeoutMs;
  while (!done()) {
    if (performance.now() > end) return false;
    await sleep(2);
  }
  return true;
}

/** This process's CPU time, in ms. */
export function ownCpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}
