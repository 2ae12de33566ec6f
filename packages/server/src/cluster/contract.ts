/** What the Cluster port promises, for every adapter to be held to, and for the simulator's stand-in. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Packet } from '../core/packets.ts';
import { type Cluster, ClusterAway } from '../core/ports.ts';

/** Nodes that know each other, none at first. */
export interface ClusterHarness {
  /** A new run of a node. */
  join(node: string): Promise<Cluster>;
  /** Ends a run as `kill -9` would. */
  crash(run: Cluster): void;
  /** Ends a run in good order. */
  leave(run: Cluster): Promise<void>;
  /** Whether nobody can reach the directory. */
  setAway(isAway: boolean): void;
  /** As the runs count it. */
  now(run: Cluster): number;
  /** Lets time go on until the promise settles. */
  settle<Value>(promise: Promise<Value>): Promise<Value>;
  /** Lets time go on until it is so; rejects when that takes a minute. */
  until(isSo: () => boolean, what: string): Promise<void>;
  close(): Promise<void>;
}

export interface ClusterAdapter {
  /** How many of the tests may run at the same time; 1 where they share what one of them takes away. */
  readonly concurrency?: number;
  open(): Promise<ClusterHarness>;
}

class Listener {
  readonly packets: (readonly [from: string, packet: Packet])[] = [];
  readonly taken: (readonly [name: string, token: number])[] = [];

  constructor(run: Cluster) {
    run.listen({
      packet: (from, packet) => {
        this.packets.push([from, packet]);
      },
      taken: (name, token) => {
        this.taken.push([name, token]);
      },
    });
  }
}

export function clusterContract(name: string, adapter: ClusterAdapter): void {
  const check = (sentence: string, body: (harness: ClusterHarness) => Promise<void>): void => {
    test(sentence, async () => {
      const harness = await adapter.open();
      try {
        await body(harness);
      } finally {
        await harness.close();
      }
    });
  };
  describe(`${name} keeps the Cluster contract`, { concurrency: adapter.concurrency ?? 8 }, () => {
    namesContract(check);
    runsContract(check);
    busContract(check);
  });
}

type Check = (sentence: string, body: (harness: ClusterHarness) => Promise<void>) => void;

function namesContract(check: Check): void {
  check('each claim of a name has a greater token than all before, whoever makes it', async (harness) => {
    const [a, b] = [await harness.join('a'), await harness.join('b')];
    const tokens: number[] = [];
    for (const run of [a, b, b, a]) tokens.push((await harness.settle(run.claim('ann'))).token);
    assert.deepEqual(
      tokens,
      tokens.toSorted((x, y) => x - y),
    );
    assert.equal(new Set(tokens).size, 4);
    a.release('ann', tokens[3] ?? 0);
    await harness.until(() => true, 'a turn');
    assert.ok((await harness.settle(b.claim('ann'))).token > (tokens[3] ?? 0), 'also after a release');
  });

  check(
    'whoever had a name is previous until a later claim has been confirmed, and nobody is of a new one',
    async (harness) => {
      const [a, b, c] = [await harness.join('a'), await harness.join('b'), await harness.join('c')];
      assert.deepEqual((await harness.settle(a.claim('ann'))).previous, []);
      assert.deepEqual((await harness.settle(a.claim('ann'))).previous, [], 'oneself');
      assert.deepEqual((await harness.settle(b.claim('ann'))).previous, [a.self]);
      const third = await harness.settle(c.claim('ann'));
      assert.deepEqual(third.previous.toSorted(), [a.self, b.self].toSorted());
      c.confirm('ann', third.token, [a.self]);
      const fourth = await harness.settle(c.claim('ann'));
      assert.deepEqual(fourth.previous, [b.self]);
      c.confirm('ann', third.token, [b.self]);
      const fifth = await harness.settle(c.claim('ann'));
      assert.deepEqual(fifth.previous, [b.self], 'an older claim confirms nothing');
      c.confirm('ann', fifth.token, [b.self]);
      assert.deepEqual((await harness.settle(c.claim('ann'))).previous, []);
      assert.deepEqual((await harness.settle(c.claim('bea'))).previous, []);
    },
  );

  check('a node that had a name and comes back to it is not asked itself, but those since are', async (harness) => {
    const [a, b] = [await harness.join('a'), await harness.join('b')];
    await harness.settle(a.claim('ann'));
    const { token, previous } = await harness.settle(b.claim('ann'));
    b.confirm('ann', token, previous);
    assert.deepEqual((await harness.settle(a.claim('ann'))).previous, [b.self]);
  });

  check('who holds a name is told at once; nobody does after a release, which is remembered', async (harness) => {
    const [a, b] = [await harness.join('a'), await harness.join('b')];
    assert.equal(await harness.settle(a.locate('ann')), undefined);
    const { token } = await harness.settle(a.claim('ann'));
    assert.equal(await harness.settle(b.locate('ann')), a.self);
    a.release('ann', token);
    assert.equal(await harness.settle(a.locate('ann')), undefined);
    assert.deepEqual((await harness.settle(b.claim('ann'))).previous, [a.self]);
    assert.equal(await harness.settle(a.locate('ann')), b.self);
  });

  check('a release of an older claim changes nothing', async (harness) => {
    const [a, b] = [await harness.join('a'), await harness.join('b')];
    const { token } = await harness.settle(a.claim('ann'));
    await harness.settle(b.claim('ann'));
    a.release('ann', token);
    assert.equal(await harness.settle(a.locate('ann')), b.self);
  });

  check('whoever held a name is told that it is taken, and by which claim', async (harness) => {
    const [a, b] = [await harness.join('a'), await harness.join('b')];
    const [atA, atB] = [new Listener(a), new Listener(b)];
    await harness.settle(a.claim('ann'));
    await harness.settle(a.claim('bea'));
    const { token } = await harness.settle(b.claim('ann'));
    await harness.until(() => atA.taken.length > 0, 'a is told');
    // Perhaps twice: by who claimed it, and when it sees to its names.
    for (const taken of atA.taken) assert.deepEqual(taken, ['ann', token]);
    assert.deepEqual(atB.taken, []);
  });

  check(
    'of many claims at the same time the one with the greatest token holds, and all others are told',
    async (harness) => {
      const runs = [await harness.join('a'), await harness.join('b'), await harness.join('c')];
      const listeners = runs.map((run) => new Listener(run));
      const names = ['ann', 'bea', 'zoë 漢 {x}', '}'];
      for (const name of names) {
        const claims = await harness.settle(Promise.all(runs.flatMap((run) => [run.claim(name), run.claim(name)])));
        const tokens = claims.map(({ token }) => token);
        assert.equal(new Set(tokens).size, 6);
        const newest = Math.max(...tokens);
        const winner = runs[Math.floor(tokens.indexOf(newest) / 2)];
        assert.equal(await harness.settle(runs[0]!.locate(name)), winner?.self);
        const isTold = (listener: Listener): boolean =>
          listener.taken.some(([taken, token]) => taken === name && token <= newest);
        await harness.until(
          () => runs.every((run, i) => run === winner || isTold(listeners[i]!)),
          'the others are told',
        );
      }
    },
  );

  check('claims and questions fail in time while the directory is away, and go on when it is back', async (harness) => {
    const a = await harness.join('a');
    const { token } = await harness.settle(a.claim('ann'));
    harness.setAway(true);
    const from = harness.now(a);
    await assert.rejects(harness.settle(a.claim('ann')), ClusterAway);
    await assert.rejects(harness.settle(a.locate('ann')), ClusterAway);
    assert.ok(harness.now(a) - from < 15_000, `it took ${harness.now(a) - from} ms`);
    harness.setAway(false);
    const backAt = harness.now(a);
    let newer = 0;
    while (newer === 0 && harness.now(a) - backAt < 60_000) {
      const at = harness.now(a);
      await harness.until(() => harness.now(a) >= at + 50, 'time goes on');
      newer = await harness.settle(a.claim('ann')).then(
        (claim) => claim.token,
        () => 0,
      );
    }
    assert.ok(newer > token);
  });
}

function runsContract(check: Check): void {
  check('runs of a node are told apart', async (harness) => {
    const [a, again] = [await harness.join('a'), await harness.join('a')];
    assert.notEqual(a.self, again.self);
  });

  check('while all is well what a node holds is its own further and further', async (harness) => {
    const [a, b] = [await harness.join('a'), await harness.join('b')];
    const [first, firstOfB] = [a.heldUntil, b.heldUntil];
    assert.ok(first > harness.now(a));
    await harness.until(() => harness.now(a) > first && harness.now(b) > firstOfB, 'time goes on');
    assert.ok(a.heldUntil > harness.now(a) && b.heldUntil > harness.now(b));
  });

  check('a run that has crashed is void, not before what it holds has run out', async (harness) => {
    const [a, b] = [await harness.join('a'), await harness.join('b')];
    await harness.settle(a.claim('ann'));
    let voidAt = 0;
    b.onVoid(a.self, () => {
      voidAt = harness.now(b);
    });
    harness.crash(a);
    const heldForMs = a.heldUntil - harness.now(a);
    const crashedAt = harness.now(b);
    assert.equal(voidAt, 0);
    await harness.until(() => voidAt > 0, 'it is void');
    assert.ok(voidAt - crashedAt >= heldForMs, `${voidAt - crashedAt} ms, and it held for ${heldForMs}`);
    assert.equal(await harness.settle(b.locate('ann')), undefined);
    assert.deepEqual((await harness.settle(b.claim('ann'))).previous, []);
  });

  check('a run that has ended in good order is void soon, and one that is void already at once', async (harness) => {
    const [a, b] = [await harness.join('a'), await harness.join('b')];
    const { token } = await harness.settle(a.claim('ann'));
    a.release('ann', token);
    assert.equal(b.isVoid(a.self), false);
    await harness.settle(harness.leave(a));
    let calls = 0;
    b.onVoid(a.self, () => calls++);
    await harness.until(() => calls === 1, 'it is void');
    assert.equal(b.isVoid(a.self), true);
    b.onVoid(a.self, () => calls++);
    assert.equal(calls, 1, 'never within the call');
    await harness.until(() => calls === 2, 'it is void still');
  });

  check('who has called it off is not told that a run is void', async (harness) => {
    const [a, b] = [await harness.join('a'), await harness.join('b')];
    let told = 0;
    b.onVoid(a.self, () => assert.fail('called'))();
    b.onVoid(a.self, () => told++);
    harness.crash(a);
    await harness.until(() => told > 0, 'it is void');
    b.onVoid(a.self, () => assert.fail('called'))();
    b.onVoid(a.self, () => told++);
    await harness.until(() => told > 1, 'it is void still');
    assert.equal(told, 2, 'once each');
  });

  check('the others are all runs that have begun, until they are void', async (harness) => {
    const [a, b, c] = [await harness.join('a'), await harness.join('b'), await harness.join('c')];
    const othersOf = async (run: Cluster): Promise<string[]> => [...(await harness.settle(run.others()))].sort();
    // At once, whether it has been heard of or not.
    assert.deepEqual(await othersOf(a), [b.self, c.self].toSorted());
    assert.deepEqual(await othersOf(c), [a.self, b.self].toSorted());
    const again = await harness.join('b');
    assert.ok((await othersOf(a)).includes(again.self));
    let voids = 0;
    for (const run of [b, c]) a.onVoid(run.self, () => voids++);
    await harness.settle(harness.leave(c));
    harness.crash(b);
    assert.ok((await othersOf(a)).includes(b.self), 'it may be paused');
    await harness.until(() => voids === 2, 'both are void');
    assert.deepEqual(await othersOf(a), [again.self]);
  });

  check('a new run of a node has nothing of the one before, which is asked like any other', async (harness) => {
    const a = await harness.join('a');
    await harness.settle(a.claim('ann'));
    const again = await harness.join('a');
    assert.deepEqual((await harness.settle(again.claim('ann'))).previous, [a.self]);
  });
}

function busContract(check: Check): void {
  const nudge = (news: number): Packet => ({ type: 'nudge', to: 'ann', position: 2 ** 40, news });

  check('packets come once, in the order sent, from whoever sent them', async (harness) => {
    const [a, b, c] = [await harness.join('a'), await harness.join('b'), await harness.join('c')];
    const [atB, atC] = [new Listener(b), new Listener(c)];
    for (let i = 0; i < 500; i++) {
      a.send(b.self, nudge(i));
      a.send(c.self, nudge(1000 + i));
      c.send(b.self, nudge(2000 + i));
    }
    await harness.until(() => atB.packets.length >= 1000 && atC.packets.length >= 500, 'all come');
    const of = (listener: Listener, run: Cluster): Packet[] =>
      listener.packets.filter(([from]) => from === run.self).map(([, packet]) => packet);
    const expected = (from: number): Packet[] => Array.from({ length: 500 }, (_, i) => nudge(from + i));
    assert.deepEqual(of(atB, a), expected(0));
    assert.deepEqual(of(atB, c), expected(2000));
    assert.deepEqual(of(atC, a), expected(1000));
  });

  check('a packet for a run that there is not goes nowhere', async (harness) => {
    const [a, b] = [await harness.join('a'), await harness.join('b')];
    const atB = new Listener(b);
    a.send('nobody.1', nudge(1));
    a.send(b.self, nudge(2));
    await harness.until(() => atB.packets.length > 0, 'the other comes');
    assert.deepEqual(atB.packets, [[a.self, nudge(2)]]);
  });

  check('a message crosses as it is', async (harness) => {
    const [a, b] = [await harness.join('a'), await harness.join('b')];
    const atB = new Listener(b);
    const forward: Packet = {
      ...{ type: 'forward', to: 'zoë', stream: 3, seq: 0, finishedTo: 0, isSettled: true, from: 'ann', msgId: '漢' },
      ...{ msg: new TextEncoder().encode('{"a":[1,2]}'), wall: 1_790_000_000_000, ran: 12_345, ttl: 60 },
    };
    a.send(b.self, forward);
    await harness.until(() => atB.packets.length > 0, 'it comes');
    const [, got] = atB.packets[0]!;
    assert.ok(got.type === 'forward');
    assert.deepEqual({ ...got, msg: Buffer.from(got.msg) }, { ...forward, msg: Buffer.from(forward.msg) });
  });
}
