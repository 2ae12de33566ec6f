import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { Bench } from './testing/bench.ts';
import { FakeCluster } from './testing/cluster.ts';

let cluster: FakeCluster;
let bench: Bench;

beforeEach(async () => {
  cluster = new FakeCluster();
  bench = await Bench.open({ cluster });
});

/** The lease is over, and something comes. */
function lapse(): void {
  cluster.heldUntil = 0;
  cluster.hear('there', { type: 'takeOver', name: 'ann', token: 2 });
}

test('a node whose lease has lapsed ends as fenced when something comes', () => {
  lapse();
  assert.equal(bench.fatal.length, 1);
});

test('a node that has stopped, and given up its lease, is not fenced by what still comes', async () => {
  await bench.core.stop();
  lapse();
  assert.deepEqual(bench.fatal, []);
});
