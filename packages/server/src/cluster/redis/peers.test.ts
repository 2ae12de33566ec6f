import assert from 'node:assert/strict';
import { test } from 'node:test';
import { VirtualTime } from '../../core/testing/time.ts';
import { Peers } from './peers.ts';

const times = { leaseMs: 3000, renewMs: 1000, marginMs: 500, witnessHoldMs: 2000 };

class Table {
  readonly time = new VirtualTime();
  readonly peers = new Peers('me', this.time, times);
  readonly values = new Map([['me', '1 ']]);

  /** Renewals, once a second, of `me` alone. */
  async pass(seconds: number): Promise<void> {
    for (let i = 0; i < seconds; i++) {
      await this.time.pass(1000);
      this.peers.see(this.values);
    }
  }

  get lapsed(): string[] {
    return this.peers.lapsed.map(([node]) => node);
  }
}

test('a run of which the table says the same for longer than a lease has lapsed, and no other', async () => {
  const table = new Table();
  table.values.set('a', '7 ').set('b', '7 ');
  table.peers.see(table.values);
  await table.pass(2);
  table.values.set('b', '8 ');
  await table.pass(1);
  assert.deepEqual(table.lapsed, []);
  await table.pass(1);
  assert.deepEqual(table.lapsed, ['a']);
  assert.deepEqual(table.peers.lapsed, [['a', '7 ']]);
});

test('while this node did not see the table nobody lapses: others may not have reached it either', async () => {
  const table = new Table();
  table.values.set('a', '7 ');
  table.peers.see(table.values);
  await table.time.pass(10_000);
  table.peers.see(table.values);
  assert.deepEqual(table.lapsed, []);
  await table.pass(3);
  assert.deepEqual(table.lapsed, []);
  await table.pass(1);
  assert.deepEqual(table.lapsed, ['a']);
});

test('when another server has the table, everybody has the time of a lease anew', async () => {
  const table = new Table();
  table.values.set('a', '7 ');
  table.peers.see(table.values);
  await table.pass(3);
  table.peers.startAnew();
  await table.pass(3);
  assert.deepEqual(table.lapsed, []);
  await table.pass(1);
  assert.deepEqual(table.lapsed, ['a']);
});

test('a run that the table has never had lapses like one that it forgot', async () => {
  const table = new Table();
  let calls = 0;
  table.peers.onVoid('gone', () => calls++);
  table.peers.see(table.values);
  await table.pass(4);
  assert.deepEqual(table.peers.lapsed, [['gone', '']]);
  assert.equal(calls, 0);
  table.values.set('gone', 'V');
  await table.pass(1);
  assert.equal(calls, 1);
  assert.ok(table.peers.isVoid('gone'));
});

test('a run that is condemned is not void yet, and never lives again', async () => {
  const table = new Table();
  table.values.set('a', 'v');
  await table.pass(1);
  assert.deepEqual(table.peers.condemned, ['a']);
  assert.equal(table.peers.isVoid('a'), false);
  table.peers.isOver('a');
  // A table that lags behind.
  table.values.set('a', '7 ');
  await table.pass(1);
  assert.ok(table.peers.isVoid('a'));
  assert.deepEqual(table.peers.alive, []);
});

test('a run that has been void for long is forgotten', async () => {
  const table = new Table();
  table.values.set('a', 'V');
  await table.pass(1);
  assert.deepEqual(table.peers.forgetOld(5000), []);
  table.values.delete('a');
  await table.pass(6);
  assert.deepEqual(table.peers.forgetOld(5000), ['a']);
  assert.deepEqual(table.peers.forgetOld(5000), []);
});

test('a run that is void and of which the table says otherwise is to be marked there, until it is', async () => {
  const table = new Table();
  table.values.set('a', 'v').set('b', '7 ').set('c', 'V');
  await table.pass(1);
  assert.deepEqual(table.peers.unmarked, []);
  // That it is over could not be written, or was lost with the server that had it.
  table.peers.isOver('a');
  await table.pass(1);
  assert.deepEqual(table.peers.unmarked, ['a']);
  table.values.set('c', '3 ');
  await table.pass(1);
  assert.deepEqual(table.peers.unmarked, ['a', 'c']);
  table.values.set('a', 'V').set('c', 'V');
  await table.pass(1);
  assert.deepEqual(table.peers.unmarked, []);
});
