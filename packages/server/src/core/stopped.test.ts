import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Cluster, ClusterListener } from './ports.ts';
import { Bench } from './testing/bench.ts';

async function node(): Promise<{ bench: Bench; lapse: () => void; hear: () => void }> {
  let listener: ClusterListener | undefined;
  let heldUntil = Number.POSITIVE_INFINITY;
  const cluster: Cluster = {
    self: 'here',
    get heldUntil() {
      return heldUntil;
    },
    listen: (others) => {
      listener = others;
    },
    claim: async () => ({ token: 1, previous: [] }),
    confirm: () => {},
    release: () => {},
    locate: async () => undefined,
    onVoid: () => () => {},
    others: async () => [],
    send: () => {},
  };
  return {
    bench: await Bench.open({ cluster }),
    lapse: () => {
      heldUntil = 0;
    },
    hear: () => listener?.packet('there', { type: 'takeOver', name: 'ann', token: 2 }),
  };
}

test('a node whose lease has lapsed ends as fenced when something comes', async () => {
  const { bench, lapse, hear } = await node();
  lapse();
  hear();
  assert.equal(bench.fatal.length, 1);
});

test('a node that has stopped, and given up its lease, is not fenced by what still comes', async () => {
  const { bench, lapse, hear } = await node();
  await bench.core.stop();
  lapse();
  hear();
  assert.deepEqual(bench.fatal, []);
});
