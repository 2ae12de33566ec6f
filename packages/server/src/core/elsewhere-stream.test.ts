import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { serverLimits } from '@hawser/protocol';
import type { Delivery } from './delivery.ts';
import { Elsewhere } from './elsewhere.ts';
import type { Mailbox } from './mailbox.ts';
import { Message, stage } from './message.ts';
import type { Forward, Packet } from './packets.ts';
import type { Routing } from './routing.ts';
import type { Sender } from './sender.ts';
import { VirtualTime } from './testing/time.ts';

let time: VirtualTime;
let elsewhere: Elsewhere;
/** In the committer, in order. */
let committing: Message[];
let stored: string[];
let sent: Packet[];
/** To be stored later, if they are not acked. */
let waiting: Message[];
let news: number;
let numbers: number;

beforeEach(async () => {
  time = new VirtualTime();
  [committing, stored, sent, waiting, news, numbers] = [[], [], [], [], 0, 0];
  const home = {
    name: 'lamp',
    get isCommitting() {
      return committing.length > 0;
    },
    commit(message: Message) {
      message.stage = stage.queued;
      committing.push(message);
    },
  };
  const delivery = {
    ...{ time, counters: { forwarded: 0 }, giveUp: () => {} },
    persistLater: (message: Message) => waiting.push(message),
  };
  const routing = {
    cluster: { self: 'a', locate: async () => 'b' },
    nextNumber: () => ++news,
    send: (_node: string, packet: Packet) => sent.push(packet),
    hasRoute: () => {},
    hasNoRoute: () => {},
    nudgeLater: (each: Elsewhere) => each.nudge(),
    nudgeDelayMs: () => serverLimits.nudgeAgainAfterMs,
  };
  elsewhere = new Elsewhere(home, delivery as unknown as Delivery, routing as unknown as Routing);
  // The first message of a session is stored, and its news finds the receiver's node.
  send();
  commit();
  await time.settle();
});

/** As a mailbox does whose receiver is on another node. */
function send(): Message {
  const message = new Message({} as Mailbox, 'ann', `m-${++numbers}`, new Uint8Array(1), 7, 0, 0, 0);
  if (elsewhere.forward(message)) return message;
  elsewhere.endStream();
  message.stage = stage.queued;
  committing.push(message);
  return message;
}

/** All that is in the committer is stored. */
function commit(): void {
  for (const message of committing.splice(0)) {
    message.stage = stage.stored;
    stored.push(message.msgId);
    elsewhere.hasNews(stored.length);
    elsewhere.left(message);
  }
}

/** The receiver's node has pushed all that it knows of by this news, and grants a stream. */
function caughtUp(upTo: number, stream: number): void {
  elsewhere.caughtUp('b', { type: 'caughtUp', to: 'lamp', news: upTo, stream });
}

function forwarded(): string[] {
  return sent.filter((packet): packet is Forward => packet.type === 'forward').map(({ msgId }) => msgId);
}

test('a pause in what is stored begins a stream', () => {
  caughtUp(news, 1);
  send();
  assert.deepEqual(forwarded(), ['m-2']);
  assert.deepEqual(stored, ['m-1']);
});

test('without a pause too: what comes behind an answer that is too old waits for the next one, and goes in its order', () => {
  const first = news;
  send();
  caughtUp(first, 1);
  send();
  send();
  assert.deepEqual(
    committing.map(({ msgId }) => msgId),
    ['m-2'],
    'those behind it are not being stored',
  );
  commit();
  caughtUp(news, 2);
  send();
  assert.deepEqual(forwarded(), ['m-3', 'm-4', 'm-5']);
  assert.deepEqual(stored, ['m-1', 'm-2']);
});

test('what has waited too long is stored with all that waits, in order; for a while nothing waits again', async () => {
  const first = news;
  send();
  caughtUp(first, 1);
  const oldest = send();
  send();
  await time.pass(serverLimits.holdMsMax - 1);
  elsewhere.persist(oldest);
  assert.deepEqual([waiting, committing.length], [[oldest], 1], 'it may wait a little longer');
  await time.pass(1);
  elsewhere.persist(oldest);
  send();
  commit();
  assert.deepEqual(stored, ['m-1', 'm-2', 'm-3', 'm-4', 'm-5']);
  send();
  caughtUp(first, 1);
  send();
  commit();
  assert.deepEqual(stored.slice(5), ['m-6', 'm-7']);
});

test('nobody who is leaving waits', () => {
  const first = news;
  send();
  caughtUp(first, 1);
  const message = send();
  message.sender = { isLeaving: true } as Sender;
  elsewhere.persist(message);
  commit();
  assert.deepEqual(stored, ['m-1', 'm-2', 'm-3']);
});

test('what waits is stored before what must be, and when the receiver is not there any more', () => {
  const first = news;
  send();
  caughtUp(first, 1);
  send();
  elsewhere.endStream();
  commit();
  assert.deepEqual(stored, ['m-1', 'm-2', 'm-3']);
  const second = news;
  send();
  caughtUp(second - 1, 1);
  send();
  elsewhere.absent('b');
  commit();
  assert.deepEqual(stored.slice(3), ['m-4', 'm-5']);
  assert.deepEqual(forwarded(), []);
});

test('no more waits than a window holds', () => {
  const first = news;
  send();
  caughtUp(first, 1);
  for (let i = 0; i <= serverLimits.windowMessagesMax; i++) send();
  commit();
  assert.equal(stored.length, numbers);
  assert.deepEqual(
    stored,
    Array.from({ length: numbers }, (_, i) => `m-${i + 1}`),
  );
});

test('a stream begins with doubt for ten minutes after a message was given up that the receiver may have been pushed', async () => {
  const areSettled = (): boolean[] =>
    sent.filter((packet): packet is Forward => packet.type === 'forward').map(({ isSettled }) => isSettled);
  /** The stream ends, what was in it is stored or given up, and a new one begins. */
  const beginAgain = (stream: number, giveUp: boolean): void => {
    elsewhere.endStream();
    for (const message of committing.splice(0)) {
      message.stage = giveUp ? stage.accepted : stage.stored;
      elsewhere.left(message);
    }
    caughtUp(news, stream);
    send();
  };
  caughtUp(news, 1);
  send();
  beginAgain(2, false);
  assert.deepEqual(areSettled(), [true, true]);
  beginAgain(3, true);
  assert.deepEqual(areSettled(), [true, true, false]);
  elsewhere.end();
  assert.equal(elsewhere.isUnused, false);
  await time.pass(serverLimits.finishedPushesKeptMs - 1);
  elsewhere.age(time.now());
  assert.equal(elsewhere.isUnused, false);
  await time.pass(1);
  elsewhere.age(time.now());
  assert.equal(elsewhere.isUnused, true);
});
