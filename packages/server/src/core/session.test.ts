import assert from 'node:assert/strict';
import { test } from 'node:test';
import { serverLimits } from '@hawser/protocol';
import { Bench } from './testing/bench.ts';

test('messages that wait are not taken once the server may take nothing more', async () => {
  const bench = await Bench.open();
  const [ann, eve, zoe] = [await bench.app('ann'), await bench.app('eve'), await bench.away('zoe')];
  void bench.store.createUser('bob', 'a hash', 0);
  await bench.settle();

  // Who bob is has to be looked up, and what comes behind waits for that.
  bench.store.hold('name');
  ann.post('bob', 'first');
  ann.post('eve', 'second');
  bench.store.fail('append', new Error('for a test'));
  eve.post(zoe, 'other');
  await bench.settle();
  assert.equal(bench.fatal.length, 1);

  const { accepted } = bench.core.counters;
  bench.store.release('name');
  await bench.settle();
  assert.equal(bench.core.counters.accepted, accepted);
});

test('they are taken when nothing has happened', async () => {
  const bench = await Bench.open();
  const [ann, eve] = [await bench.app('ann'), await bench.app('eve')];
  void bench.store.createUser('bob', 'a hash', 0);
  await bench.settle();
  bench.store.hold('name');
  ann.post('bob', 'first');
  ann.post('eve', 'second');
  await bench.settle();
  assert.deepEqual(eve.pushedIds, []);
  bench.store.release('name');
  await bench.settle();
  assert.deepEqual(ann.acks, ['first']);
  assert.deepEqual(eve.pushedIds, ['second']);
});

test('a session on which nothing comes or goes lets go of its cipher for a while, and goes on with it', async () => {
  const bench = await Bench.open();
  const ann = await bench.app('ann');
  let rests = 0;
  const cipher = {
    encrypt: (bytes: Uint8Array, from: number, to: number) => bytes.slice(from, to),
    decrypt: (data: Uint8Array) => data,
    decryptAll: (pieces: readonly Uint8Array[]) => [...pieces],
    rest: () => rests++,
  };
  ann.session.cipher = cipher;
  await bench.pass(serverLimits.cipherRestsAfterMs - 1000);
  assert.equal(rests, 0);
  await bench.pass(2000);
  assert.ok(rests > 0);
  assert.equal(ann.session.cipher, cipher);
});

test('of the receivers of its messages a session keeps the last that it may write to, and no text that is none', async () => {
  const bench = await Bench.open();
  const [ann, bob] = [await bench.app('ann'), await bench.app('bob')];
  const text = 'z'.repeat(1_000_000);
  ann.post(text, 'to no name');
  await bench.settle();
  assert.deepEqual([ann.refusals.has('to no name'), ann.session.lastTo], [true, '']);
  ann.post('bob', 'to bob');
  ann.post(text, 'to no name again');
  ann.post('nobody', 'to nobody');
  await bench.settle();
  assert.deepEqual([ann.refusals.has('to nobody'), bob.pushedIds], [true, ['to bob']]);
  assert.equal(ann.session.lastTo, 'bob');
});
