// How a node finds the node of a receiver that it has stored something for.
import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { serverLimits } from '@hawser/protocol';
import type { Packet } from './packets.ts';
import type { Cluster, ClusterListener } from './ports.ts';
import { Bench } from './testing/bench.ts';
import type { BenchClient } from './testing/client.ts';

let bench: Bench;
let listener: ClusterListener;
let sent: [node: string, packet: Packet][];
let owner: string | undefined;
let located: number;
let ann: BenchClient;

beforeEach(async () => {
  sent = [];
  owner = 'b';
  located = 0;
  let tokens = 0;
  const cluster: Cluster = {
    self: 'here',
    heldUntil: Number.POSITIVE_INFINITY,
    listen: (others) => {
      listener = others;
    },
    claim: async () => ({ token: ++tokens, previous: [] }),
    confirm: () => {},
    release: () => {},
    locate: async () => {
      located++;
      return owner;
    },
    onVoid: () => () => {},
    others: async () => [],
    send: (node, packet) => void sent.push([node, packet]),
  };
  bench = await Bench.open({ cluster });
  await bench.away('bob');
  ann = await bench.app('ann');
});

async function post(msgId: string): Promise<void> {
  ann.post('bob', msgId);
  await bench.pass(serverLimits.commitSpacingMs);
}

async function absent(node: string): Promise<void> {
  listener.packet(node, { type: 'absent', to: 'bob' });
  await bench.settle();
}

const nudged = (): string[] => sent.flatMap(([node, packet]) => (packet.type === 'nudge' ? [node] : []));

test('a receiver that has gone to another node since it was found is looked for there', async () => {
  await post('one');
  owner = 'c';
  await post('two');
  assert.deepEqual([nudged(), located], [['b', 'b'], 1]);
  await absent('b');
  assert.deepEqual([nudged(), located], [['b', 'b', 'c'], 2]);
});

test('one that has left since it was found reads what is stored when it comes: it is not looked for', async () => {
  await post('one');
  await absent('b');
  await bench.pass(serverLimits.nudgeAgainAfterMsMax);
  assert.deepEqual([nudged(), located], [['b'], 1]);
});
