import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { clusterContract } from '../contract.ts';
import { parseRedisAddress } from './address.ts';
import { Nodes } from './node-harness.ts';
import { freePort, noRedis, RedisServer } from './server-harness.ts';

const SLOTS = 16_384;

/** Three masters of a Redis Cluster that share the slots. */
async function startShards(): Promise<RedisServer[]> {
  const servers: RedisServer[] = [];
  const busPorts: number[] = [];
  for (let i = 0; i < 3; i++) {
    const busPort = await freePort();
    busPorts.push(busPort);
    servers.push(await RedisServer.start(`cluster-enabled yes\ncluster-port ${busPort}\ncluster-node-timeout 2000`));
  }
  for (const [i, server] of servers.entries()) {
    const [from, to] = [Math.floor((SLOTS * i) / 3), Math.floor((SLOTS * (i + 1)) / 3) - 1];
    await server.ask('CLUSTER', 'ADDSLOTSRANGE', String(from), String(to));
    const [first] = servers;
    if (i > 0) await server.ask('CLUSTER', 'MEET', '127.0.0.1', String(first?.port), String(busPorts[0]));
  }
  for (const server of servers) {
    const isWhole = async (): Promise<boolean> => {
      const info = String(await server.ask('CLUSTER', 'INFO'));
      return info.includes('cluster_state:ok') && info.includes('cluster_slots_ok:16384');
    };
    while (!(await isWhole())) await sleep(50);
  }
  return servers;
}

describe('on a Redis Cluster of three masters', { skip: noRedis }, () => {
  let servers: RedisServer[] = [];
  let harnesses = 0;

  before(async () => {
    servers = await startShards();
  });

  after(async () => {
    for (const server of servers) await server.close();
  });

  const open = async (): Promise<Nodes> => {
    const hosts = servers.map(({ port }) => `127.0.0.1:${port}`).join(',');
    return new Nodes(parseRedisAddress(`redis+cluster://${hosts}`), {
      prefix: `test${++harnesses}:`,
      setAway: (isAway) => {
        for (const server of servers) isAway ? server.freeze() : server.thaw();
      },
    });
  };

  clusterContract('Redis Cluster', { open, concurrency: 1 });

  test('names are spread over all masters', async () => {
    const nodes = await open();
    try {
      const a = await nodes.join('a');
      for (let i = 0; i < 100; i++) await a.claim(`name-${i}`);
      for (const server of servers) {
        const keys = (await server.ask('KEYS', `test${harnesses}:name:*`)) as string[];
        assert.ok(keys.length > 15, `${keys.length} of 100 names`);
      }
    } finally {
      await nodes.close();
    }
  });
});
