import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ClusterAway } from '../../core/ports.ts';
import { parseRedisAddress } from './address.ts';
import type { RedisCluster } from './cluster.ts';
import { Nodes, patientTimes } from './node-harness.ts';
import { noRedis, RedisServer } from './server-harness.ts';

async function claim(run: RedisCluster, name: string) {
  const from = performance.now();
  for (;;) {
    try {
      return await run.claim(name);
    } catch (error) {
      if (!(error instanceof ClusterAway) || performance.now() - from > 60_000) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

describe('under Sentinel', { skip: noRedis }, () => {
  test('when the master dies, nodes follow to the replica, and it gives nobody a name whose last claim it never got', async () => {
    const master = await RedisServer.start('repl-diskless-sync-delay 0');
    const replica = await RedisServer.start(`replicaof 127.0.0.1 ${master.port}`);
    const watch = [
      `sentinel monitor hawser 127.0.0.1 ${master.port} 1`,
      'sentinel down-after-milliseconds hawser 700',
      'sentinel failover-timeout hawser 5000',
    ];
    const sentinel = await RedisServer.start(watch.join('\n'), 'redis-sentinel');
    const nodes = new Nodes(parseRedisAddress(`redis+sentinel://127.0.0.1:1,127.0.0.1:${sentinel.port}/hawser`), {
      times: patientTimes,
    });
    try {
      for (const what of ['connected_slaves:1', 'state=online']) {
        while (!String(await master.ask('INFO', 'replication')).includes(what))
          await new Promise((r) => setTimeout(r, 50));
      }
      while (!String(await sentinel.ask('INFO', 'sentinel')).includes('slaves=1')) {
        await new Promise((r) => setTimeout(r, 50));
      }
      const [a, b] = [await nodes.join('a'), await nodes.join('b')];
      const known = await a.claim('known');
      // From here on the replica gets nothing of what is written.
      replica.freeze();
      const { token } = await a.claim('unknown');
      await master.kill();
      replica.thaw();
      const second = await claim(b, 'unknown');
      assert.deepEqual(second.previous, [a.self], 'a has told it again');
      assert.ok(second.token > token);
      const third = await claim(b, 'known');
      assert.deepEqual(third.previous, [a.self]);
      assert.ok(third.token > known.token);
      assert.match(String(await replica.ask('INFO', 'replication')), /role:master/);
      assert.ok(nodes.now() < a.heldUntil && nodes.now() < b.heldUntil);
      const packets: string[] = [];
      b.listen({ packet: (from) => packets.push(from), taken: () => {} });
      // The bus has moved, too.
      while (packets.length === 0) {
        a.send(b.self, { type: 'absent', to: 'ann' });
        await new Promise((r) => setTimeout(r, 50));
      }
    } finally {
      await nodes.close();
      for (const server of [sentinel, master, replica]) await server.close();
    }
  });
});
