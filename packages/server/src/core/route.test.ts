import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { serverLimits } from '@hawser/protocol';
import type { Mailbox } from './mailbox.ts';
import { Message, stage } from './message.ts';
import type { Forward } from './packets.ts';
import { Route } from './route.ts';

const { routeMessagesMax, routeBytesMax } = serverLimits;

let route: Route;
beforeEach(() => {
  route = new Route();
  route.owner = 'b';
  route.begin(7, true);
});

function packetOf(msgId: string, bytes = 1): { message: Message; packet: Forward } {
  const mailbox = { name: 'bob' } as Mailbox;
  const message = new Message(mailbox, 'ann', msgId, new Uint8Array(bytes), 0, 0, 0, 0);
  return { message, packet: route.forward(message, message.msg!, 0) };
}

const forward = (msgId: string): Message => packetOf(msgId).message;

test('messages are numbered from 0, and say what is finished before them', () => {
  const numbered = (msgId: string): unknown => {
    const { to, stream, seq, finishedTo } = packetOf(msgId).packet;
    return { to, stream, seq, finishedTo };
  };
  assert.deepEqual(numbered('a'), { to: 'bob', stream: 7, seq: 0, finishedTo: 0 });
  assert.deepEqual(numbered('b'), { to: 'bob', stream: 7, seq: 1, finishedTo: 0 });
  route.acked('b', 7, [1]);
  assert.deepEqual(numbered('c'), { to: 'bob', stream: 7, seq: 2, finishedTo: 0 });
  route.acked('b', 7, [0]);
  assert.deepEqual(numbered('d'), { to: 'bob', stream: 7, seq: 3, finishedTo: 2 });
  route.acked('b', 7, [2, 3]);
  assert.deepEqual(numbered('e'), { to: 'bob', stream: 7, seq: 4, finishedTo: 4 });
});

test('256 messages and 256 KiB are on their way at most, or one that is larger', () => {
  assert.ok(route.hasRoom(routeBytesMax + 1));
  for (let i = 0; i < routeMessagesMax; i++) {
    assert.ok(route.hasRoom(1), `${i}`);
    forward(`${i}`);
  }
  assert.ok(!route.hasRoom(1));
  route.acked('b', 7, [3]);
  assert.ok(route.hasRoom(1));
  assert.ok(!route.hasRoom(routeBytesMax));
});

test('the oldest on its way is 4,096 behind the newest at most', () => {
  const first = forward('first');
  for (let seq = 1; seq < serverLimits.routeSpanMax; seq++) {
    assert.ok(route.hasRoom(1), `${seq}`);
    forward(`${seq}`);
    route.acked('b', 7, [seq]);
  }
  assert.ok(!route.hasRoom(1));
  assert.deepEqual(route.acked('b', 7, [0]), [first]);
  assert.ok(route.hasRoom(1));
});

test('a stream that ends gives back what was not acked, in order; an ack of it still counts until it is stored', () => {
  const [, second, third] = [forward('a'), forward('b'), forward('c')];
  route.acked('b', 7, [0]);
  assert.deepEqual(route.end(), [second, third]);
  assert.ok(!route.isDirect && !route.isIdle);
  assert.deepEqual(route.end(), [], 'there is no stream to end');
  assert.deepEqual(route.acked('b', 7, [1, 99]), [second]);
  route.left(third);
  assert.deepEqual(route.acked('b', 7, [2]), []);
  assert.ok(route.isIdle);
});

test('what is stored is still removed when its ack comes, until the owner has read to there', () => {
  const [first, second] = [forward('a'), forward('b')];
  route.end();
  for (const message of [first, second]) {
    message.stage = stage.stored;
    route.left(message);
  }
  assert.ok(route.isIdle);
  assert.deepEqual(route.acked('b', 7, [0]), [first]);
  assert.deepEqual(route.acked('b', 7, [0]), []);
  route.begin(8, true);
  assert.deepEqual(route.acked('b', 7, [1]), []);
});

test('an ack counts for its stream only, and once', () => {
  const message = forward('a');
  assert.deepEqual(route.acked('b', 6, [0]), []);
  assert.deepEqual(route.acked('b', 7, [0, 0]), [message]);
});

test('an ack counts only where it comes from the node that the message went to: another numbers its streams alike', () => {
  const [first, second] = [forward('a'), forward('b')];
  assert.deepEqual(route.acked('c', 7, [0]), []);
  route.end();
  assert.deepEqual(route.acked('c', 7, [0]), []);
  second.stage = stage.stored;
  route.left(second);
  assert.deepEqual(route.acked('c', 7, [1]), []);
  assert.deepEqual(route.acked('b', 7, [0, 1]), [first, second]);
});

test('what found no room in the inbox is waited for, for a while', () => {
  const message = forward('a');
  route.end();
  assert.ok(route.expects(message));
  assert.deepEqual(route.overdue(1e6, 0), [], 'it may yet be stored');
  message.refusedAt = 1000;
  assert.deepEqual(route.overdue(1999, 1000), []);
  assert.deepEqual(route.overdue(2000, 1000), [message]);
  route.left(message);
  assert.ok(!route.expects(message));
});

test('nor is it given up while it is on its way to the store once more', () => {
  const message = forward('a');
  route.end();
  message.refusedAt = 1000;
  for (const on of [stage.queued, stage.writing]) {
    message.stage = on;
    assert.deepEqual(route.overdue(1e6, 1000), []);
  }
  message.stage = stage.accepted;
  assert.deepEqual(route.overdue(1e6, 1000), [message]);
});
