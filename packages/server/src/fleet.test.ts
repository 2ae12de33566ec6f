import assert from 'node:assert/strict';
import { test } from 'node:test';
import { serverLimits } from '@hawser/protocol';
import type { NodeOffer, NodeState } from './cluster/node-state.ts';
import { chooseAmong } from './fleet.ts';

const quiet = { version: '1', sessions: 0, messages: 0, lagMs: 0, isDraining: false };

function offer(node: string, more: Partial<NodeState> = {}): NodeOffer {
  const tcp = { ip: node, port: 1 };
  return { run: `${node}.1`, node, state: { ...quiet, tcp, connections: 0, connectionsMax: 1000, ...more } };
}

const ids = Array.from({ length: 600 }, (_, i) => `lamp-${i}`);

test('a client is sent to the same node as long as the nodes are the same, and never to one that is draining', () => {
  let now = 0;
  let offers = [offer('a'), offer('b'), offer('c')];
  const choose = chooseAmong(
    () => offers,
    () => now,
  );
  const first = ids.map((id) => choose(id, false)?.ip);
  assert.deepEqual(new Set(first), new Set(['a', 'b', 'c']));
  now += serverLimits.dispatcherHandedOutMs + 1;
  assert.deepEqual(
    ids.slice(0, 15).map((id) => choose(id, false)?.ip),
    first.slice(0, 15),
  );
  now += serverLimits.dispatcherHandedOutMs + 1;
  offers = [offer('a'), offer('b', { isDraining: true }), offer('c')];
  const second = ids.map((id) => choose(id, false)?.ip);
  assert.ok(!second.includes('b'));
  offers = [];
  assert.equal(choose('lamp', false), undefined);
});

test('those who were sent to a node count for it at once, though it says nothing of them yet', () => {
  const choose = chooseAmong(
    () => offers,
    () => 0,
  );
  const offers = [offer('a'), offer('b')];
  const sent = ids.map(() => choose('one and the same', false)?.ip);
  const most = Math.max(...['a', 'b'].map((ip) => sent.filter((each) => each === ip).length));
  assert.ok(most <= 1.25 * 300 + serverLimits.dispatcherLoadFree + 1, `${most}`);
});

test('only nodes with a TLS port are for clients that come over TLS, and a run that is known to go is for none', () => {
  const tls = { ip: 'secure', port: 2 };
  const offers = [offer('a'), offer('b', { tls })];
  let going = '';
  const choose = chooseAmong(
    () => offers,
    () => 0,
    (run) => run === going,
  );
  for (const id of ids.slice(0, 20)) assert.deepEqual(choose(id, true), tls);
  going = 'b.1';
  assert.equal(choose('lamp', true), undefined);
  for (const id of ids.slice(0, 20)) assert.equal(choose(id, false)?.ip, 'a');
});
