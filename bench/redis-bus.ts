// The bus and the directory on Redis alone: two nodes without a core, and a Redis server between them.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { RedisServer } from '@hawser/server/cluster/redis/server-harness';
import type { Outcome } from './job.ts';
import type { Ask, Told } from './redis-node.ts';
import { cpuMs } from './sampling.ts';

const PAIRS = 50;
const CLAIMS_AT_ONCE = 64;
const CLAIMS_MEASURE_MS = 4000;

const canPin = spawnSync('taskset', ['-V'], { stdio: 'ignore' }).status === 0;

class End {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  static async start(core: number, port: number, name: string): Promise<[End, string]> {
    const args = [join(import.meta.dirname, 'redis-node.ts'), `redis://127.0.0.1:${port}`, name];
    const [command, prefix] = canPin ? ['taskset', ['-c', String(core), process.execPath]] : [process.execPath, []];
    const child = spawn(command, [...prefix, ...args], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    const end = new End(child);
    const told = await end.next();
    if (told.what !== 'ready') throw new Error('a node of the benchmark is not ready');
    return [end, told.run];
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  async next(): Promise<Told> {
    const [told] = (await once(this.#child, 'message')) as [Told];
    return told;
  }

  tell(ask: Ask): void {
    this.#child.send(ask);
  }

  ask(ask: Ask): Promise<Told> {
    this.tell(ask);
    return this.next();
  }

  close(): void {
    this.#child.kill('SIGKILL');
  }
}

async function count(end: End): Promise<Extract<Told, { what: 'counted' }>> {
  const told = await end.ask({ what: 'count' });
  if (told.what !== 'counted') throw new Error('a node of the benchmark does not count');
  return told;
}

async function usedBytes(redis: RedisServer): Promise<number> {
  return Number(/used_memory_dataset:(\d+)/.exec(String(await redis.ask('INFO', 'memory')))?.[1]);
}

/** Messages from one node to another, each with its ack back, `window` in flight for each of 50 receivers; then claims. */
export async function runRedisBus(window: number, warmUpMs: number, measureMs: number): Promise<Outcome> {
  const redis = await RedisServer.start();
  const ends: End[] = [];
  try {
    const [sender] = await End.start(0, redis.port, 'sender');
    ends.push(sender);
    const [receiver, to] = await End.start(1, redis.port, 'receiver');
    ends.push(receiver);
    sender.tell({ what: 'send', to, pairs: PAIRS, window });
    await sleep(warmUpMs);
    const pids = [sender.pid, receiver.pid, redis.pid];
    const [before, cpuBefore, from] = [await count(sender), pids.map(cpuMs), performance.now()];
    await sleep(measureMs);
    const [after, cpuAfter, until] = [await count(sender), pids.map(cpuMs), performance.now()];
    const { lost } = await count(receiver);
    const messages = after.acked - before.acked;
    const perMessage = cpuAfter.map((cpu, i) => ((cpu - (cpuBefore[i] ?? 0)) * 1000) / messages);
    const [claimer] = await End.start(0, redis.port, 'claimer');
    ends.push(claimer);
    sender.close();
    const [claimCpu, redisCpu] = [cpuMs(claimer.pid), cpuMs(redis.pid)];
    const bytesBefore = await usedBytes(redis);
    const told = await claimer.ask({ what: 'claim', atOnce: CLAIMS_AT_ONCE, measureMs: CLAIMS_MEASURE_MS });
    if (told.what !== 'claimed') throw new Error('a node of the benchmark does not claim');
    return {
      figures: {
        deliveredPerSecond: (messages * 1000) / (until - from),
        cpuUsPerMessageSender: perMessage[0] ?? null,
        cpuUsPerMessageReceiver: perMessage[1] ?? null,
        cpuUsPerMessageRedis: perMessage[2] ?? null,
        messagesPerBatch: messages / (after.batchesOut - before.batchesOut),
        claimsPerSecond: (told.claims * 1000) / CLAIMS_MEASURE_MS,
        claimP50Ms: told.p50Ms,
        claimP95Ms: told.p95Ms,
        cpuUsPerClaim: ((cpuMs(claimer.pid) - claimCpu) * 1000) / told.claims,
        redisBytesPerName: ((await usedBytes(redis)) - bytesBefore) / told.claims,
        cpuUsPerClaimRedis: ((cpuMs(redis.pid) - redisCpu) * 1000) / told.claims,
      },
      violations: lost > 0 ? [`${lost} packets were missing or out of order`] : [],
    };
  } finally {
    for (const end of ends) end.close();
    await redis.close();
  }
}
