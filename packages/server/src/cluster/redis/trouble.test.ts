import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { Packet } from '../../core/packets.ts';
import { ClusterAway } from '../../core/ports.ts';
import { parseRedisAddress } from './address.ts';
import type { RedisCluster } from './cluster.ts';
import type { LeaseTimes } from './lease.ts';
import { Nodes, patientTimes, testTimes, until } from './node-harness.ts';
import { noRedis, RedisServer } from './server-harness.ts';

type Listened = { taken: (readonly [string, number])[]; packets: Packet[] };

function listen(run: RedisCluster): Listened {
  const listened: Listened = { taken: [], packets: [] };
  run.listen({
    packet: (_, packet) => {
      listened.packets.push(packet);
    },
    taken: (name, token) => {
      listened.taken.push([name, token]);
    },
  });
  return listened;
}

/** Claims as soon as that can be done. */
async function claim(run: RedisCluster, name: string) {
  const from = performance.now();
  for (;;) {
    try {
      return await run.claim(name);
    } catch (error) {
      if (!(error instanceof ClusterAway) || performance.now() - from > 60_000) throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

function isOver(nodes: Nodes, run: RedisCluster): boolean {
  return nodes.now() >= run.heldUntil;
}

/** A way to a server that can be cut. */
async function startWay(to: number): Promise<{ readonly port: number; readonly cut: () => void }> {
  const sockets = new Set<Socket>();
  const way = createServer((socket) => {
    const onward = connect(to, '127.0.0.1');
    for (const each of [socket, onward]) sockets.add(each.on('error', () => {}));
    socket.pipe(onward).pipe(socket);
  });
  await new Promise<void>((resolve) => way.listen(0, '127.0.0.1', resolve));
  const cut = (): void => {
    way.close();
    for (const socket of sockets) socket.destroy();
  };
  return { port: (way.address() as AddressInfo).port, cut };
}

describe('Redis in trouble', { skip: noRedis, concurrency: 6 }, () => {
  async function withNodes(
    options: { readonly hasWitness?: boolean; readonly times?: LeaseTimes },
    body: (nodes: Nodes, server: RedisServer) => Promise<void>,
  ): Promise<void> {
    const server = await RedisServer.start();
    const nodes = new Nodes(server.address, options);
    try {
      await body(nodes, server);
    } finally {
      await nodes.close();
      await server.close();
    }
  }

  test('killed and started empty it is told all again, and gives nobody a name that it has forgotten who holds', () =>
    withNodes({ times: patientTimes }, async (nodes, server) => {
      const [a, b] = [await nodes.join('a'), await nodes.join('b')];
      const [atA] = [listen(a)];
      const first = await a.claim('ann');
      const gone = await a.claim('gone');
      a.release('gone', gone.token);
      await server.kill();
      await assert.rejects(b.claim('ann'), ClusterAway);
      await server.start();
      assert.equal(await server.ask('DBSIZE'), 0, 'it has forgotten everything');
      const second = await claim(b, 'ann');
      assert.deepEqual(second.previous, [a.self]);
      assert.ok(second.token > first.token);
      await until(() => atA.taken.length > 0, 'a is told');
      assert.deepEqual(atA.taken, [['ann', second.token]]);
      assert.deepEqual((await b.claim('gone')).previous, [a.self], 'who had it last is known again');
      assert.ok(!isOver(nodes, a) && !isOver(nodes, b));
    }));

  test('who has not been confirmed to have let go is known again, too', () =>
    withNodes({ times: patientTimes }, async (nodes, server) => {
      const [a, b] = [await nodes.join('a'), await nodes.join('b')];
      await a.claim('ann');
      await b.claim('ann');
      await server.kill();
      await server.start();
      const c = await nodes.join('c');
      assert.deepEqual((await claim(c, 'ann')).previous.toSorted(), [a.self, b.self].toSorted());
    }));

  test('a clock that was set back makes no token smaller', () =>
    withNodes({ times: patientTimes }, async (nodes, server) => {
      const a = await nodes.join('a');
      const { token } = await a.claim('ann');
      const ahead = token + 3_600_000_000;
      await server.ask('HSET', 'hawser:name:{ann}', 't', String(ahead));
      const second = await a.claim('ann');
      assert.equal(second.token, ahead + 1);
      await server.ask('DEL', 'hawser:name:{bea}');
      assert.ok((await a.claim('bea')).token > ahead, 'nor of another name');
    }));

  test('while it is away for longer than a lease and the witness is there, nobody ends, and then none is void', () =>
    withNodes({}, async (nodes, server) => {
      const [a, b] = [await nodes.join('a'), await nodes.join('b')];
      await a.claim('ann');
      const { heldUntil } = a;
      await server.kill();
      await until(() => nodes.now() > heldUntil + testTimes.leaseMs, 'two leases pass');
      assert.ok(!isOver(nodes, a) && !isOver(nodes, b));
      await server.start();
      assert.deepEqual((await claim(b, 'ann')).previous, [a.self]);
      const { heldUntil: later } = a;
      await until(() => nodes.now() > later + testTimes.leaseMs, 'another lease passes');
      assert.ok(!isOver(nodes, a) && !isOver(nodes, b));
      assert.deepEqual([...(nodes.witness?.fenced ?? [])], []);
    }));

  test('frozen it is away within bounds, and goes on', () =>
    withNodes({ times: patientTimes }, async (nodes, server) => {
      const [a, b] = [await nodes.join('a'), await nodes.join('b')];
      await a.claim('ann');
      server.freeze();
      const from = performance.now();
      await assert.rejects(b.claim('ann'), ClusterAway);
      await assert.rejects(b.locate('ann'), ClusterAway);
      assert.ok(performance.now() - from < 15_000);
      server.thaw();
      assert.deepEqual((await claim(b, 'ann')).previous, [a.self]);
    }));

  test('where it and the witness are away for longer than a lease every node is over', () =>
    withNodes({}, async (nodes, server) => {
      const a = await nodes.join('a');
      const { heldUntil } = a;
      if (nodes.witness !== undefined) nodes.witness.isAway = true;
      await server.kill();
      await until(() => isOver(nodes, a), 'the lease runs out');
      assert.ok(nodes.now() - heldUntil < testTimes.leaseMs + 10_000);
      await server.start();
      if (nodes.witness !== undefined) nodes.witness.isAway = false;
      await assert.rejects(a.claim('ann'), ClusterAway);
      const again = await nodes.join('a');
      await until(() => nodes.witness?.fenced.has(a.self) === true, 'the run is fenced');
      assert.ok((await claim(again, 'ann')).token > 0);
      assert.ok(isOver(nodes, a), 'for good');
    }));

  test('while the witness is away nobody is void, and Redis alone keeps the leases', () =>
    withNodes({}, async (nodes) => {
      const [a, b] = [await nodes.join('a'), await nodes.join('b')];
      await a.claim('ann');
      if (nodes.witness !== undefined) nodes.witness.isAway = true;
      nodes.crash(a);
      let isVoid = false;
      b.onVoid(a.self, () => {
        isVoid = true;
      });
      const from = nodes.now();
      await until(() => nodes.now() > from + 2 * testTimes.leaseMs, 'time passes');
      assert.ok(!isVoid, 'what it might have stored is not fenced off');
      assert.ok(!isOver(nodes, b));
      assert.deepEqual((await b.claim('ann')).previous, [a.self]);
      if (nodes.witness !== undefined) nodes.witness.isAway = false;
      await until(() => isVoid, 'now it is');
    }));

  test('a run is fenced before its names are given to others, and what it was told last has run out by then', () =>
    withNodes({}, async (nodes) => {
      const [a, b] = [await nodes.join('a'), await nodes.join('b')];
      await a.claim('ann');
      const { witness } = nodes;
      assert.ok(witness !== undefined);
      let fencedAt = 0;
      const fence = witness.fence.bind(witness);
      witness.fence = async (node) => {
        await fence(node);
        fencedAt ||= nodes.now();
      };
      nodes.crash(a);
      let voidAt = 0;
      b.onVoid(a.self, () => {
        voidAt = nodes.now();
      });
      await until(() => voidAt > 0, 'it is void');
      assert.ok(fencedAt > 0 && voidAt - fencedAt >= testTimes.witnessHoldMs, `${voidAt - fencedAt} ms`);
    }));

  test('without a witness a node that Redis forgot is waited for, and no name is given away meanwhile', () =>
    withNodes({ hasWitness: false }, async (nodes, server) => {
      const a = await nodes.join('a');
      await a.claim('ann');
      await server.kill();
      await server.start();
      const b = await nodes.join('b');
      assert.deepEqual((await claim(b, 'ann')).previous, [a.self]);
    }));

  test('a node that alone cannot reach Redis is fenced, and over before others have its names', () =>
    withNodes({}, async (nodes, server) => {
      const way = await startWay(server.port);
      try {
        const a = await nodes.join('a', parseRedisAddress(`redis://127.0.0.1:${way.port}`));
        const b = await nodes.join('b');
        await a.claim('ann');
        let isVoid = false;
        let wasOver = false;
        b.onVoid(a.self, () => {
          isVoid = true;
          wasOver = isOver(nodes, a);
        });
        const { heldUntil } = a;
        way.cut();
        await until(() => nodes.now() > heldUntil, 'a lease passes');
        const isFenced = nodes.witness?.fenced.has(a.self) === true;
        assert.ok(isFenced || !isOver(nodes, a), 'the witness keeps it until somebody has it fenced');
        await until(() => isVoid, 'it is void');
        assert.ok(wasOver);
        assert.deepEqual((await b.claim('ann')).previous, []);
      } finally {
        way.cut();
      }
    }));

  test('a node that does not reach Redis does not start, and says so in time', () =>
    withNodes({ hasWitness: false }, async (nodes) => {
      const from = nodes.now();
      await assert.rejects(nodes.join('a', parseRedisAddress('redis://127.0.0.1:1')), ClusterAway);
      assert.ok(nodes.now() - from < testTimes.leaseMs + 10_000);
    }));

  test('a subscription that breaks loses packets, and none comes twice or out of order', () =>
    withNodes({ times: patientTimes }, async (nodes, server) => {
      const [a, b] = [await nodes.join('a'), await nodes.join('b')];
      const atB = listen(b);
      let news = 0;
      const sending = setInterval(() => {
        for (let i = 0; i < 20; i++) a.send(b.self, { type: 'nudge', to: 'ann', position: 1, news: ++news });
      }, 2);
      await until(() => atB.packets.length > 500, 'packets come');
      for (let round = 0; round < 3; round++) {
        await server.ask('CLIENT', 'KILL', 'TYPE', 'pubsub');
        await server.ask('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
        const { length } = atB.packets;
        await until(() => atB.packets.length > length + 500, 'packets come again');
      }
      clearInterval(sending);
      const got = atB.packets.map((packet) => (packet.type === 'nudge' ? packet.news : 0));
      for (let i = 1; i < got.length; i++) assert.ok(got[i]! > got[i - 1]!, `${got[i - 1]} before ${got[i]}`);
      assert.ok(got.length < news, 'some were lost, or nothing was broken');
    }));

  test('what is no batch is counted and ignored', () =>
    withNodes({ times: patientTimes }, async (nodes, server) => {
      const [a, b] = [await nodes.join('a'), await nodes.join('b')];
      const atB = listen(b);
      await server.ask('PUBLISH', `hawser:bus:{${b.self}}`, 'GET / HTTP/1.1');
      a.send(b.self, { type: 'absent', to: 'ann' });
      await until(() => atB.packets.length > 0, 'the packet comes');
      assert.deepEqual(atB.packets, [{ type: 'absent', to: 'ann' }]);
      assert.equal(b.counters.malformed, 1);
    }));

  test('what Redis does not take is dropped beyond a bound, and counted', () =>
    withNodes({ times: patientTimes }, async (nodes, server) => {
      const [a, b] = [await nodes.join('a'), await nodes.join('b')];
      const atB = listen(b);
      server.freeze();
      const msg = new Uint8Array(60_000);
      for (let seq = 0; seq < 400; seq++) {
        const head = { type: 'forward', to: 'ann', stream: 1, seq, finishedTo: 0, isSettled: true } as const;
        a.send(b.self, { ...head, from: 'bea', msgId: 'm', msg, wall: 0, ran: 0, ttl: 0 });
      }
      await until(() => a.counters.dropped > 0, 'some are dropped');
      const { dropped } = a.counters;
      assert.ok(dropped > 200 && dropped < 300, `${dropped} of 400 dropped: 8 MiB are taken`);
      server.thaw();
      a.send(b.self, { type: 'absent', to: 'ann' });
      await until(() => atB.packets.some(({ type }) => type === 'absent'), 'the bus goes on');
    }));

  test('a run that ends in good order is void to others when the witness knows, which might yet do what it has asked', () =>
    withNodes({ times: patientTimes }, async (nodes) => {
      const [a, b, c] = [await nodes.join('a'), await nodes.join('b'), await nodes.join('c')];
      const voids: string[] = [];
      for (const run of [a, b]) c.onVoid(run.self, () => voids.push(run.self));
      const { witness } = nodes;
      assert.ok(witness);
      const [fence, held] = [witness.fence.bind(witness), Promise.withResolvers<void>()];
      witness.fence = async (run) => {
        await held.promise;
        await fence(run);
      };
      const left = a.leave();
      await c.announceNow();
      await c.announceNow();
      assert.deepEqual(voids, []);
      held.resolve();
      await left;
      await until(() => voids.length > 0, 'it is void');

      witness.fence = () => Promise.reject(new Error('the witness is away'));
      await b.leave();
      await c.announceNow();
      await c.announceNow();
      assert.deepEqual(voids, [a.self], 'of the other nobody knows yet what will be done of what it has asked');
    }));

  test('a process that is stopped past its lease knows that it is over before anybody hears from it again', () =>
    withNodes({}, async (nodes, server) => {
      const b = await nodes.join('b');
      const child = fork(join(import.meta.dirname, 'paused-node.ts'), [String(server.port)], { stdio: 'inherit' });
      try {
        const [run] = (await once(child, 'message')) as [string];
        nodes.witness?.enter(run);
        assert.equal(await b.locate('ann'), run);
        let voidAt = 0;
        b.onVoid(run, () => {
          voidAt = nodes.now();
        });
        child.kill('SIGSTOP');
        await until(() => voidAt > 0, 'it is void');
        assert.deepEqual((await b.claim('ann')).previous, []);
        child.kill('SIGCONT');
        const [last] = (await once(child, 'message')) as [{ heldForMs: number; isAway: boolean; passedMs: number }];
        assert.ok(last.heldForMs <= 0, `it holds for ${last.heldForMs} ms more`);
        assert.ok(last.passedMs > testTimes.leaseMs, 'it was stopped');
        assert.ok(last.isAway, 'its claims fail');
        assert.equal(await b.locate('ann'), b.self);
      } finally {
        child.kill('SIGKILL');
        await once(child, 'exit');
      }
    }));
});
