import { describe } from 'node:test';
import { clusterContract } from '../contract.ts';
import { Nodes } from './node-harness.ts';
import { noRedis, RedisServer } from './server-harness.ts';

describe('on one server', { skip: noRedis }, () => {
  clusterContract('Redis', {
    async open() {
      const server = await RedisServer.start();
      return new Nodes(server.address, {
        setAway: (isAway) => (isAway ? server.freeze() : server.thaw()),
        close: () => server.close(),
      });
    },
  });
});
