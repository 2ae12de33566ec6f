// A Redis that evicts keys forgets who holds which name: whoever runs the nodes is told at the start.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MemoryWitness } from '../witness.ts';
import { newRun, RedisCluster } from './cluster.ts';
import { patientTimes, quietLog, realTime } from './node-harness.ts';
import { noRedis, RedisServer } from './server-harness.ts';

describe('the policy of Redis when its memory is full', { skip: noRedis, concurrency: 2 }, () => {
  /** What a node that joins is warned of. */
  async function warnings({ address }: RedisServer): Promise<string[]> {
    const told: string[] = [];
    const log = { ...quietLog, warn: (_: object, text: string) => void told.push(text) };
    const run = newRun('a');
    const witness = new MemoryWitness();
    witness.enter(run);
    const cluster = await RedisCluster.open({ address, run, witness, time: realTime, log, times: patientTimes });
    await cluster.leave();
    // On a busy machine it may be warned of more.
    return told.filter((text) => text.includes('maxmemory'));
  }

  test('one that evicts is warned of, whatever it evicts', async () => {
    const server = await RedisServer.start('maxmemory 64mb');
    try {
      for (const policy of ['allkeys-lru', 'volatile-ttl']) {
        await server.ask('CONFIG', 'SET', 'maxmemory-policy', policy);
        assert.deepEqual(await warnings(server), [
          `Redis has maxmemory-policy ${policy}: when its memory is full it forgets who is where. Set noeviction`,
        ]);
      }
    } finally {
      await server.close();
    }
  });

  test('one that refuses writes instead is not', async () => {
    const server = await RedisServer.start('maxmemory 64mb');
    try {
      assert.deepEqual(await warnings(server), []);
    } finally {
      await server.close();
    }
  });
});
