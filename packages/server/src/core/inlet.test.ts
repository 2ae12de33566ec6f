import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { serverLimits } from '@hawser/protocol';
import { Inlet } from './inlet.ts';
import type { Hop, Message } from './message.ts';
import type { Forward } from './packets.ts';

let inlet: Inlet;
let numbers: number;
beforeEach(() => {
  inlet = new Inlet();
  numbers = 0;
});

const grant = (node = 'a'): number => inlet.grant(node, () => ++numbers);

function forward(stream: number, seq: number, more: Partial<Forward> = {}): Forward {
  const message = { from: 'ann', msgId: `m-${seq}`, msg: new Uint8Array(1), wall: 0, ran: 0, ttl: 0 };
  return { type: 'forward', to: 'bob', stream, seq, finishedTo: 0, isSettled: true, ...message, ...more };
}

function acked(msgId: string, hop: Hop | undefined, hash = 7): void {
  inlet.finish({ from: 'ann', msgId, hash, hop } as Message, 0);
}

const knows = (msgId: string, hash = 7): boolean => inlet.hasFinished({ from: 'ann', msgId, hash });

test('messages of a stream are taken one after the other; behind a gap nothing is, and that is told once', () => {
  const stream = grant();
  assert.equal(inlet.admit(forward(stream, 0), 'a'), 'next');
  assert.equal(inlet.admit(forward(stream, 1), 'a'), 'next');
  assert.equal(inlet.admit(forward(stream, 3), 'a'), 'refuse');
  assert.equal(inlet.admit(forward(stream, 2), 'a'), 'ignore');
  assert.equal(inlet.admit(forward(stream, 4), 'a'), 'ignore');
});

test('a stream that was not granted is refused, also one of a session before', () => {
  assert.equal(inlet.admit(forward(1, 0), 'a'), 'refuse');
  const stream = grant();
  assert.equal(inlet.admit(forward(stream, 0), 'b'), 'refuse', 'it is another node that may begin it');
  assert.deepEqual(inlet.end(), [['a', stream]]);
  assert.equal(inlet.admit(forward(stream, 0), 'a'), 'refuse');
});

test('a stream that has not begun is granted once more under its number, one that has is not', () => {
  const first = grant();
  assert.equal(grant(), first);
  inlet.admit(forward(first, 0), 'a');
  assert.notEqual(grant(), first);
});

test('a stream that a sender would be late for is not granted once more: a new one is, and takes what comes', () => {
  const first = grant();
  inlet.read('ann');
  const second = grant();
  assert.notEqual(second, first);
  assert.equal(inlet.admit(forward(second, 0), 'a'), 'next');
});

test('what still comes of a sender of whom something was read from the store is late', () => {
  const stream = grant();
  assert.equal(inlet.admit(forward(stream, 0), 'a'), 'next');
  inlet.read('ann');
  assert.equal(inlet.admit(forward(stream, 1, { from: 'eve' }), 'a'), 'next');
  assert.equal(inlet.admit(forward(stream, 2), 'a'), 'refuse');
});

test('an acked push is remembered, with its content, until the sending node says that it cannot be stored', () => {
  const stream = grant();
  inlet.admit(forward(stream, 0), 'a');
  acked('m-0', { node: 'a', stream, seq: 0 });
  assert.ok(knows('m-0'));
  assert.ok(!knows('m-0', 8), 'other content is another message');
  inlet.admit(forward(stream, 1), 'a');
  assert.ok(knows('m-0'));
  inlet.admit(forward(stream, 2, { finishedTo: 1 }), 'a');
  assert.ok(!knows('m-0'));
});

test('it is remembered until a new stream begins, when all before it has been read', () => {
  const stream = grant();
  inlet.admit(forward(stream, 0), 'a');
  acked('m-0', { node: 'a', stream, seq: 0 });
  acked('from another node', { node: 'b', stream, seq: 0 });
  const next = grant();
  assert.ok(knows('m-0'));
  inlet.admit(forward(next, 0), 'a');
  assert.ok(!knows('m-0'));
  assert.ok(knows('from another node'));
});

test('it is remembered longer where the sending node has given something up that its sender may repeat elsewhere', () => {
  const stream = grant();
  inlet.admit(forward(stream, 0), 'a');
  acked('m-0', { node: 'a', stream, seq: 0 });
  inlet.admit(forward(grant(), 0, { isSettled: false }), 'a');
  assert.ok(knows('m-0'));
  inlet.age(serverLimits.finishedPushesKeptMs);
  assert.ok(!knows('m-0'));
});

test('acked pushes are handed from node to node, for ten minutes, and 4,096 of them', () => {
  inlet.inherit([{ from: 'ann', msgId: 'm', hash: 7, ago: 0 }], 0);
  assert.deepEqual(inlet.finished(100), [{ from: 'ann', msgId: 'm', hash: 7, ago: 100 }]);
  inlet.age(serverLimits.finishedPushesKeptMs - 1);
  assert.ok(knows('m'));
  inlet.age(serverLimits.finishedPushesKeptMs);
  assert.ok(!knows('m') && inlet.isEmpty);
  for (let i = 0; i <= serverLimits.finishedPushesMax; i++) acked(`${i}`, undefined);
  assert.ok(!knows('0') && knows('1'), 'the oldest goes first');
});

test('what is handed on and on is forgotten in its time all the same, and first of all', () => {
  acked('here', undefined);
  inlet.inherit([{ from: 'ann', msgId: 'handed', hash: 7, ago: 5000 }], 0);
  inlet.age(serverLimits.finishedPushesKeptMs - 5000);
  assert.deepEqual([knows('handed'), knows('here')], [false, true]);
  inlet.inherit([{ from: 'ann', msgId: 'handed', hash: 7, ago: 5000 }], 0);
  for (let i = 2; i <= serverLimits.finishedPushesMax; i++) acked(`${i}`, undefined);
  assert.deepEqual([knows('handed'), knows('here')], [false, true]);
});

test('whoever stored something is told once how far all has been read', () => {
  inlet.nudged('a', 5);
  inlet.nudged('b', 6);
  inlet.nudged('a', 4);
  assert.deepEqual(inlet.takeNudges(), [
    ['a', 5],
    ['b', 6],
  ]);
  assert.deepEqual(inlet.takeNudges(), []);
});
