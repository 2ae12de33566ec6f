import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { cmd, serverLimits } from '@hawser/protocol';
import type { RedisCluster } from './cluster/redis/cluster.ts';
import { Nodes, patientTimes, quietLog, realTime, until } from './cluster/redis/node-harness.ts';
import { noRedis, RedisServer } from './cluster/redis/server-harness.ts';
import { Core } from './core/core.ts';
import type { Passwords, Rsa } from './core/ports.ts';
import { digests } from './core/testing/bench.ts';
import { BenchClient } from './core/testing/client.ts';
import { MemoryStore } from './store/memory.ts';

const PASSWORD = '5f4dcc3b5aa765d61d8327deb882cf99';

const passwords: Passwords = {
  hash: async (password) => `hash of ${password}`,
  verify: async (password, hash) => hash === `hash of ${password}`,
};
const rsa: Rsa = {
  generate: async () => ({ publicDer: new Uint8Array(8), decrypt: () => Promise.reject(new Error('not here')) }),
};

class Node {
  readonly cluster: RedisCluster;
  readonly core: Core;
  readonly fatal: unknown[];

  private constructor(cluster: RedisCluster, core: Core, fatal: unknown[]) {
    this.cluster = cluster;
    this.core = core;
    this.fatal = fatal;
  }

  static async start(nodes: Nodes, name: string, store: MemoryStore): Promise<Node> {
    const cluster = await nodes.join(name);
    const fatal: unknown[] = [];
    const core = await Core.open(
      {
        ...{ time: realTime, log: quietLog, store, passwords, digests, rsa, cluster },
        createCipher: () => {
          throw new Error('nobody encrypts here');
        },
        onFatal: (error) => {
          fatal.push(error);
        },
      },
      {
        persistAfterMs: 200,
        redeliveryAfterMs: serverLimits.redeliveryAfterMs,
        backlogAfterMs: 50,
        inboxAgeMsMax: serverLimits.inboxAgeMsMax,
        loginTimeoutMs: serverLimits.loginTimeoutMs,
        idleTimeoutMs: Number.MAX_SAFE_INTEGER,
        allowPlainLogin: true,
        devices: 'tofu',
        pairing: 'open',
        deviceAgeMsMax: serverLimits.deviceAgeMsMax,
      },
    );
    return new Node(cluster, core, fatal);
  }

  /** An app that is logged in, as soon as that can be done. */
  async app(username: string): Promise<BenchClient> {
    for (let tries = 0; ; tries++) {
      const client = new BenchClient(this.core, realTime, '127.0.0.1');
      client.request(cmd.login, { username, password: PASSWORD, nack: true }, 'login');
      await until(() => client.answers.length > 0 || client.isEnded, 'the login is answered');
      const [answer] = client.answers;
      if (answer !== undefined && (answer.body as { code: number }).code === 100) return client;
      client.vanish();
      if (tries > 200) throw new Error(`the login was refused: ${JSON.stringify(answer)}`);
    }
  }
}

/** Acks what comes, and keeps it. */
function reader(client: BenchClient): () => void {
  let acked = 0;
  const timer = setInterval(() => {
    const ids = client.pushedIds.slice(acked);
    acked += ids.length;
    if (ids.length > 0 && !client.isEnded) client.ack(...ids);
  }, 2);
  return () => clearInterval(timer);
}

async function withNodes(body: (nodes: readonly Node[], server: RedisServer) => Promise<void>): Promise<void> {
  const server = await RedisServer.start();
  const nodes = new Nodes(server.address, { times: patientTimes });
  const store = new MemoryStore((call) => setImmediate(call));
  for (const name of ['ann', 'bea']) await store.createUser(name, await passwords.hash(PASSWORD), 1);
  const started: Node[] = [];
  try {
    for (const name of ['a', 'b', 'c']) started.push(await Node.start(nodes, name, store));
    await body(started, server);
    assert.deepEqual(
      started.flatMap(({ fatal }) => fatal),
      [],
    );
  } finally {
    for (const { core } of started) await core.stop();
    await nodes.close();
    await server.close();
  }
}

function series(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, i) => `${prefix}-${i}`);
}

describe('cores on one store and a real Redis', { skip: noRedis, concurrency: 2 }, () => {
  test('a message crosses from node to node, first by way of the store, then directly, and its ack comes back', () =>
    withNodes(async ([a, b]) => {
      const [ann, bea] = [await a!.app('ann'), await b!.app('bea')];
      const stop = reader(bea);
      for (const id of series('m', 50)) {
        ann.post('bea', id);
        await until(() => ann.acks.includes(id), `${id} is acked`);
      }
      stop();
      assert.deepEqual(bea.pushedIds, series('m', 50));
      assert.deepEqual(ann.acks, series('m', 50));
      // How many depends on how busy the machine is: what is not acked in time is stored.
      assert.ok(a!.core.counters.forwarded > 0, 'some went directly');
    }));

  test('a newer login on another node ends the older one with 103, and what was sent stays in order', () =>
    withNodes(async ([a, b, c]) => {
      const [ann, bea] = [await a!.app('ann'), await b!.app('bea')];
      const stop = reader(bea);
      const sent = series('older', 300);
      for (const id of sent) ann.post('bea', id);
      const from = performance.now();
      const again = await c!.app('ann');
      const tookMs = performance.now() - from;
      assert.ok(ann.isEnded);
      assert.equal(ann.answers.at(-1)?.cmd, cmd.conflict);
      assert.ok(tookMs < serverLimits.handoverTimeoutMs, `${tookMs} ms`);
      const acked = new Set(ann.acks);
      for (const id of series('newer', 300)) again.post('bea', id);
      await until(() => again.acks.length >= 300, 'all of the newer are acked');
      const wanted = [...sent.filter((id) => acked.has(id)), ...series('newer', 300)];
      await until(() => wanted.every((id) => bea.pushedIds.includes(id)), 'all come');
      stop();
      const got = bea.pushedIds.filter((id) => id.startsWith('newer') || acked.has(id));
      assert.deepEqual(got, wanted);
    }));

  test('while Redis is killed and comes back empty sessions go on, and every message arrives in order', () =>
    withNodes(async ([a, b, c], server) => {
      const [ann, bea] = [await a!.app('ann'), await b!.app('bea')];
      const stop = reader(bea);
      let next = 0;
      const sending = setInterval(() => {
        if (next < 400) ann.post('bea', `m-${next++}`);
      }, 5);
      await until(() => bea.pushes.length > 30, 'messages cross');
      await server.kill();
      await until(() => next > 200, 'messages are sent meanwhile');
      await server.start();
      await until(() => next === 400, 'all are sent');
      clearInterval(sending);
      await until(() => ann.acks.length === 400, 'all are acked');
      // Nobody told that they are there: it is told again when Redis is back.
      await until(() => bea.pushes.length >= 400, 'all come');
      stop();
      assert.deepEqual(bea.pushedIds, series('m', 400));
      const again = await c!.app('bea');
      assert.equal(bea.answers.at(-1)?.cmd, cmd.conflict, 'who has which name is known again');
      again.vanish();
      assert.ok(!ann.isEnded);
    }));
});
