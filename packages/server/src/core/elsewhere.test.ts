// How a node finds the node of a receiver that it has stored something for.
import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { serverLimits } from '@hawser/protocol';
import { StoreAway } from './ports.ts';
import { Bench } from './testing/bench.ts';
import type { BenchClient } from './testing/client.ts';
import { FakeCluster } from './testing/cluster.ts';

let bench: Bench;
let cluster: FakeCluster;
let ann: BenchClient;

beforeEach(async () => {
  cluster = new FakeCluster();
  cluster.owner = 'b';
  bench = await Bench.open({ cluster });
  await bench.away('bob');
  ann = await bench.app('ann');
});

async function post(msgId: string): Promise<void> {
  ann.post('bob', msgId);
  await bench.pass(serverLimits.commitSpacingMs);
}

async function absent(node: string): Promise<void> {
  cluster.hear(node, { type: 'absent', to: 'bob' });
  await bench.settle();
}

const nudged = (): string[] => cluster.sent.flatMap(([node, packet]) => (packet.type === 'nudge' ? [node] : []));

test('a receiver that has gone to another node since it was found is looked for there', async () => {
  await post('one');
  cluster.owner = 'c';
  await post('two');
  assert.deepEqual([nudged(), cluster.located], [['b', 'b'], 1]);
  await absent('b');
  assert.deepEqual([nudged(), cluster.located], [['b', 'b', 'c'], 2]);
});

test('one that has left since it was found reads what is stored when it comes: it is not looked for', async () => {
  await post('one');
  await absent('b');
  await bench.pass(serverLimits.nudgeAgainAfterMsMax);
  assert.deepEqual([nudged(), cluster.located], [['b'], 1]);
});

test('what is given up when the stream was ended leaves doubt: it may have been acked there, and the ack be lost', async () => {
  const caughtUp = (stream: number): void => {
    const { news } = cluster.sentOf('nudge').at(-1)!;
    cluster.hear('b', { type: 'caughtUp', to: 'bob', news, stream });
  };
  await post('first');
  caughtUp(7);
  bench.store.fail('append', new StoreAway('for a test'));
  ann.post('bob', 'one');
  await bench.pass(serverLimits.persistAfterMs + serverLimits.commitSpacingMs);
  cluster.hear('b', { type: 'refused', to: 'bob', stream: 7, seq: 0 });
  await bench.settle();
  assert.equal(bench.core.delivery.hasPending('ann'), false);
  bench.store.mend('append');
  await post('two');
  caughtUp(8);
  await post('three');
  assert.deepEqual(
    cluster.sentOf('forward').map(({ msgId, stream, isSettled }) => [msgId, stream, isSettled]),
    [
      ['one', 7, true],
      ['three', 8, false],
    ],
  );
});

test('an ack that comes late, from a node that the receiver has left, is not one of what went to the next node', async () => {
  const caughtUp = (node: string): void => {
    const { news } = cluster.sentOf('nudge').at(-1)!;
    cluster.hear(node, { type: 'caughtUp', to: 'bob', news, stream: 7 });
  };
  const acked = async (node: string): Promise<void> => {
    cluster.hear(node, { type: 'acked', to: 'bob', stream: 7, seqs: [0] });
    await bench.settle();
  };
  await post('first');
  caughtUp('b');
  ann.post('bob', 'one');
  await bench.pass(serverLimits.persistAfterMs + serverLimits.commitSpacingMs);
  cluster.owner = 'c';
  await absent('b');
  caughtUp('c');
  bench.store.hold('append');
  ann.post('bob', 'two');
  await bench.settle();
  assert.deepEqual(
    cluster.sent.flatMap(([node, packet]) => (packet.type === 'forward' ? [[node, packet.msgId, packet.stream]] : [])),
    [
      ['b', 'one', 7],
      ['c', 'two', 7],
    ],
  );
  await acked('b');
  assert.deepEqual(
    [ann.acks, await bench.inbox('bob')],
    [
      ['first', 'one'],
      ['first', 'one'],
    ],
  );
  await acked('c');
  assert.deepEqual(ann.acks, ['first', 'one', 'two']);
});
