import assert from 'node:assert/strict';
import { test } from 'node:test';
import { serverLimits } from '@hawser/protocol';
import { type NodeState, readState, writeState } from '../node-state.ts';
import { leaseTimes } from './lease.ts';
import { Offers } from './offers.ts';

const { leaseMs, renewMs } = leaseTimes;
const state: NodeState = {
  version: '1.2.3',
  tcp: { ip: 'n1.example.org', port: 8888 },
  tls: undefined,
  ...{ sessions: 1, connections: 2, connectionsMax: 3, messages: 4, lagMs: 0, isDraining: false },
};

function row(counter: number, more: Partial<NodeState> = {}): string {
  return `${counter} ab,cd ${writeState({ ...state, ...more })}`;
}

function runs(offers: Offers, now: number): string[] {
  return offers.live(now).map(({ run }) => run);
}

test('a node is there as long as it renews its lease, and goes at once when it is void', () => {
  const offers = new Offers(leaseTimes);
  let counter = 0;
  const see = (now: number, b: string): void =>
    offers.see(
      new Map([
        ['a.1', row(++counter)],
        ['b.1', b],
      ]),
      now,
    );
  for (let now = 0; now < leaseMs; now += renewMs) {
    see(now, row(1));
    assert.deepEqual(runs(offers, now), ['a.1', 'b.1']);
  }
  see(leaseMs, row(1));
  assert.deepEqual(runs(offers, leaseMs), ['a.1'], 'it has said nothing new for a lease');
  see(leaseMs + renewMs, row(2));
  assert.deepEqual(runs(offers, leaseMs + renewMs), ['a.1', 'b.1']);
  see(leaseMs + 2 * renewMs, 'v');
  assert.deepEqual(runs(offers, leaseMs + 2 * renewMs), ['a.1']);
});

test('while the table cannot be read, and when it has lost everything, nodes are there as they were for a time', () => {
  const offers = new Offers(leaseTimes);
  const both = new Map([
    ['a.1', row(1)],
    ['b.1', row(1)],
  ]);
  offers.see(both, 0);
  const late = serverLimits.dispatcherMemoryMs - 1;
  assert.deepEqual(runs(offers, late), ['a.1', 'b.1']);
  assert.deepEqual(runs(offers, late + 1), []);
  // It is back, and only one of them has renewed its lease so far.
  offers.see(new Map([['a.1', row(1)]]), late);
  assert.deepEqual(runs(offers, late), ['a.1', 'b.1']);
  for (let now = late + renewMs, counter = 2; now <= late + leaseMs; now += renewMs, counter++) {
    offers.see(new Map([['a.1', row(counter)]]), now);
  }
  assert.deepEqual(runs(offers, late + leaseMs), ['a.1']);
});

test('what a node says is read as it was written, and nothing else is', () => {
  assert.deepEqual(readState(writeState(state)), state);
  const tls = { ip: '2001:db8::1', port: 1 };
  assert.deepEqual(readState(JSON.stringify({ ...state, tls, later: 'what a newer version says' })), { ...state, tls });
  for (const text of ['', '{', 'null', '[]', '7', `"${'x'.repeat(5000)}"`]) assert.equal(readState(text), undefined);
  for (const bad of [
    ...[{ version: 1 }, { tcp: undefined }, { tcp: { ip: 1, port: 1 } }, { tcp: { ip: 'a', port: 70_000 } }],
    ...[
      { tls: 'x' },
      { sessions: -1 },
      { connections: '2' },
      { connectionsMax: null },
      { isDraining: 0 },
      { lagMs: [] },
    ],
  ]) {
    assert.equal(readState(JSON.stringify({ ...state, ...bad })), undefined, JSON.stringify(bad));
  }
  const offers = new Offers(leaseTimes);
  offers.see(
    new Map([
      ['old.1', '7 ab'],
      ['eu-1.x', row(1)],
    ]),
    0,
  );
  assert.deepEqual(
    offers.live(0).map(({ run, node }) => [run, node]),
    [['eu-1.x', 'eu-1']],
  );
});
