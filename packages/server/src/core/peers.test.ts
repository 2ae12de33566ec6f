// Who may write to whom where other nodes change it, too: what the store said of that is believed for a while.
import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { refusals, serverLimits } from '@hawser/protocol';
import { Bench } from './testing/bench.ts';
import type { BenchClient } from './testing/client.ts';
import { FakeCluster } from './testing/cluster.ts';

const { peersTrustedMs } = serverLimits;
const RETRY = { code: 200, msg: refusals.storeAway.msg, retry: true };

let bench: Bench;
let ann: BenchClient;

beforeEach(async () => {
  bench = await Bench.open({ cluster: new FakeCluster() });
  await done(bench.store.deviceSeen('lock', { version: '1', abilities: undefined }, 0, { ran: 0 }));
  ann = await bench.app('ann', { nack: true });
});

async function done(change: Promise<unknown>): Promise<void> {
  await bench.settle();
  await change;
}

/** By another node. */
const bind = () => done(bench.store.bind('ann', 'lock', 0, undefined));
const unbind = () => done(bench.store.unbind('ann', 'lock'));

/** Sends a message, of which it is not known whether it may be sent for so long; `change` comes behind the question. */
async function post(msgId: string, ms: number, change: () => Promise<void>): Promise<void> {
  bench.store.hold('peers');
  ann.post('lock', msgId);
  await bench.settle();
  await change();
  await bench.pass(ms);
  bench.store.release('peers');
  await bench.settle();
}

test('what is not allowed by an answer that is too old may be tried again', async () => {
  await post('m', peersTrustedMs, bind);
  assert.deepEqual([...ann.refusals], [['m', RETRY]]);
  assert.equal(bench.core.counters.refused.storeAway, 1);
  ann.post('lock', 'm');
  await bench.settle();
  assert.deepEqual(ann.acks, ['m']);
});

test('so may what is allowed by it', async () => {
  await bind();
  await bench.pass(peersTrustedMs);
  await post('m', peersTrustedMs, unbind);
  assert.deepEqual([ann.acks, ann.refusals.get('m')], [[], RETRY]);
});

test('an answer is believed for some seconds from when the question was asked', async () => {
  await bind();
  await post('one', peersTrustedMs - 1, unbind);
  assert.equal(ann.refusals.size, 0, 'it was so when it was asked');
  await bench.pass(1);
  ann.post('lock', 'two');
  await bench.settle();
  assert.deepEqual([...ann.refusals], [['two', { code: 200, msg: refusals.notAllowed.msg }]]);
});

test('each answer counts from its own question: what is a user takes no longer than it takes to say so', async () => {
  await done(bench.store.createUser('bob', 'hash', 0));
  bench.store.hold('peers');
  bench.store.hold('name');
  ann.post('bob', 'm');
  await bench.pass(peersTrustedMs - 1);
  bench.store.release('peers');
  await bench.pass(peersTrustedMs - 1);
  bench.store.release('name');
  await bench.settle();
  assert.deepEqual([ann.acks, ann.refusals.size], [['m'], 0]);
});
