// What the witness of a cluster judges otherwise than that of one server, and each doubt in the cluster's favour.
import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { Connection } from '../sim/connection.ts';
import { Messages, type SentMessage } from '../sim/message.ts';
import { Trace } from '../sim/trace.ts';
import { ClusterWitness } from './cluster-witness.ts';

let now: number;
let connections: number;
let messages: Messages;
let witness: ClusterWitness;
let bob: Connection;

beforeEach(() => {
  now = 1000;
  connections = 0;
  messages = new Messages();
  witness = new ClusterWitness(() => now++, messages, new Trace(() => now, 0));
  witness.serverStarted();
  bob = login('bob');
});

function login(name: string, nack = true, isVoid = () => false): Connection {
  const connection = new Connection(connections++, witness.number, { name, role: 'app', nack }, isVoid);
  witness.opened(connection);
  witness.loggedIn(connection, now++);
  return connection;
}

function send(on: Connection): SentMessage {
  const message = messages.make(on.name, 'bob', `m-${messages.all.length}`, 3, 0);
  witness.sent(on, message, false);
  return message;
}

function push({ from, to, msgId, id, text }: SentMessage): void {
  witness.pushed(bob, from, to, msgId, id, text);
}

const ack = (message: SentMessage): void => witness.ackHanded(bob, [message.msgId]);
const fence = (...acked: SentMessage[]): void => witness.answered(bob, now++, acked);
const broken = (): string[] => witness.violations.map(({ rule }) => rule);

test('a message that came before an earlier one is out of order while the database is there', () => {
  const ann = login('ann');
  const [, second] = [send(ann), send(ann)];
  push(second);
  assert.deepEqual(broken(), ['order']);
});

test('what was on its way while it was away may have been refused: that is known when it is told, or acked', () => {
  witness.storeGoes();
  const ann = login('ann');
  const [first, second, third, fourth] = [send(ann), send(ann), send(ann), send(ann)];
  push(second);
  witness.refused(ann, first.msgId, true, 'try again later');
  witness.sent(ann, first, false);
  witness.acked(ann, first.msgId);
  assert.deepEqual(broken(), [], 'it was refused, and sent again');
  push(fourth);
  assert.deepEqual(broken(), [], 'it may be refused yet');
  witness.acked(ann, third.msgId);
  assert.deepEqual(broken(), ['order'], 'it was never refused');
  assert.deepEqual(witness.doubts, { refused: 1, unknown: 0 });
});

test('what was sent once by a client that is not told, and is acked, was not refused', () => {
  witness.storeGoes();
  const ann = login('ann', false);
  const [first, second] = [send(ann), send(ann)];
  push(second);
  assert.deepEqual(broken(), []);
  witness.acked(ann, first.msgId);
  assert.deepEqual(broken(), ['order'], 'it comes behind one that was sent behind it');
  const [third, fourth] = [send(ann), send(ann)];
  witness.acked(ann, third.msgId);
  push(fourth);
  assert.deepEqual(broken(), ['order', 'order'], 'it was acked before');
});

test('a message that comes behind a later one of another connection is out of order when it was not refused', () => {
  witness.storeGoes();
  const [older, newer] = [login('ann', false), login('ann', false)];
  const [first, refused] = [send(older), send(older)];
  push(send(newer));
  push(first);
  push(refused);
  assert.deepEqual(broken(), []);
  for (const message of [refused, refused]) witness.sent(older, message, false);
  for (const { msgId } of [first, refused]) witness.acked(older, msgId);
  // For the first time at all, and on the connection: the first thing that is known of it is told.
  assert.deepEqual(broken(), ['order']);
  witness.settle();
  assert.deepEqual(witness.doubts, { refused: 0, unknown: 1 });
});

test('nobody knows whether it was refused where it was repeated unasked, or its client had gone', () => {
  witness.storeGoes();
  const [silent, gone] = [login('ann', false), login('ann')];
  const [first, second] = [send(silent), send(silent)];
  push(second);
  witness.sent(silent, first, false);
  witness.acked(silent, first.msgId);
  const [third, fourth] = [send(gone), send(gone)];
  push(fourth);
  witness.closed(gone);
  const back = login('ann');
  witness.sent(back, third, false);
  witness.acked(back, third.msgId);
  const leaving = login('ann', false);
  const [fifth, sixth] = [send(leaving), send(leaving)];
  push(sixth);
  leaving.isLeft = true;
  witness.acked(leaving, fifth.msgId);
  const before = login('ann', false);
  const [seventh, eighth] = [send(before), send(before)];
  push(eighth);
  witness.acked(login('ann', false), seventh.msgId);
  for (const message of [first, third, fifth, seventh]) push(message);
  assert.deepEqual(broken(), []);
  witness.settle();
  assert.deepEqual(witness.doubts, { refused: 0, unknown: 4 });
});

test('what was answered before it went, or sent when all that it was asked is over, is judged at once', () => {
  const ann = login('ann', false);
  const [first, second] = [send(ann), send(ann)];
  witness.sent(ann, first, false);
  witness.acked(ann, first.msgId);
  witness.storeGoes();
  push(second);
  assert.deepEqual(broken(), ['order'], 'it had been acked');
  witness.storeIsBack();
  now += 14_000;
  const cat = login('cat');
  const [, fourth] = [send(cat), send(cat)];
  push(fourth);
  assert.deepEqual(broken(), ['order'], 'a statement may take that long');
  now += 1000;
  bob = login('bob');
  const ben = login('ben');
  const [fifth, sixth] = [send(ben), send(ben)];
  push(sixth);
  push(fifth);
  assert.deepEqual(
    broken(),
    ['order', 'order', 'order', 'order'],
    'missing at first, and late on the connection and at all',
  );
});

test('what comes again may have been stored anew behind others, if its client was not told of the refusal', () => {
  witness.storeGoes();
  for (const nack of [false, true]) {
    const ann = login('ann', nack);
    const [first, second] = [send(ann), send(ann)];
    push(first);
    witness.acked(ann, first.msgId);
    bob = login('bob');
    push(second);
    push(first);
    assert.deepEqual(broken(), nack ? ['order'] : []);
  }
});

test('acks count on the connections of nodes that go on while another ends', () => {
  const ann = login('ann');
  const [during, after] = [send(ann), send(ann)];
  for (const message of [during, after]) push(message);
  witness.ended();
  ack(during);
  fence(during);
  witness.isBack();
  ack(after);
  fence(after);
  bob = login('bob');
  push(during);
  assert.deepEqual(broken(), [], 'the node that had ended was not void yet');
  push(after);
  assert.deepEqual(broken(), ['delivered again']);
});

test('acks on connections of a node that has ended count for nothing', () => {
  const message = send(login('ann'));
  let isVoid = false;
  bob = login('bob', true, () => isVoid);
  push(message);
  witness.ended();
  isVoid = true;
  ack(message);
  fence(message);
  bob = login('bob');
  push(message);
  assert.deepEqual(broken(), []);
});

test('an append of which nobody knows takes its time, and lets one come once more that is repeated behind it', () => {
  for (const [ms, isAway, expected] of [
    [49_000, true, 'delivered again'],
    [51_000, false, 'delivered again'],
    [51_000, true, undefined],
  ] as const) {
    const ann = login('ann', false);
    const message = send(ann);
    push(message);
    ack(message);
    fence(message);
    if (isAway) witness.storeGoes();
    witness.storeIsBack();
    now += ms;
    witness.sent(ann, message, false);
    bob = login('bob');
    push(message);
    assert.equal(broken().shift(), expected, `${ms} ms, ${isAway}`);
    ack(message);
    fence(message);
    witness.violations.length = 0;
    bob = login('bob');
    push(message);
    assert.deepEqual(broken(), ['delivered again'], 'once more, and not twice');
    witness.violations.length = 0;
    witness.acked(ann, message.msgId);
    now += 100_000;
  }
});

test('what a receiver acked may come once more after a crash of the database, not otherwise', () => {
  const ann = login('ann');
  const [before, across, after] = [send(ann), send(ann), send(ann)];
  for (const message of [before, across, after]) push(message);
  ack(before);
  fence(before);
  ack(across);
  witness.storeCrashed();
  fence(across);
  ack(after);
  fence(after);
  const again = login('bob');
  bob = again;
  push(before);
  push(across);
  assert.deepEqual(broken(), [], 'its deletion may be lost');
  push(after);
  assert.deepEqual(broken(), ['delivered again'], 'there was no crash behind that');
});

test('what a crash of the database brought back comes in its order to who logs in after that', () => {
  const ann = login('ann');
  const [first, second] = [send(ann), send(ann)];
  push(first);
  push(second);
  ack(first);
  ack(second);
  fence(first, second);
  const early = new Connection(connections++, witness.number, { name: 'bob', role: 'app', nack: true });
  witness.opened(early);
  const sentAt = now++;
  witness.storeCrashed();
  witness.loggedIn(early, sentAt);
  bob = early;
  push(second);
  push(first);
  assert.deepEqual(broken(), [], 'its login may have been answered before, and its inbox read');
  bob = login('bob');
  push(second);
  push(first);
  assert.deepEqual(broken(), ['order']);
});

test('what waits behind a login when a node ends may be taken then, and come once more, until it is acked there', () => {
  const gone = login('ann');
  const [waiting, answered, acked] = [send(gone), send(gone), send(gone)];
  for (const { msgId } of [answered, acked]) witness.acked(gone, msgId);
  witness.closed(gone);
  const ann = login('ann');
  for (const message of [waiting, answered, acked]) witness.sent(ann, message, false);
  witness.acked(ann, acked.msgId);
  witness.ended();
  bob = login('bob');
  for (const message of [waiting, answered, acked]) {
    push(message);
    ack(message);
    fence(message);
  }
  bob = login('bob');
  push(waiting);
  push(answered);
  assert.deepEqual(broken(), []);
  push(acked);
  assert.deepEqual(broken(), ['delivered again']);
});

test('what was handed over once is taken once, whichever other node ends, and keeps its place', () => {
  const ann = login('ann');
  const [first, second] = [send(ann), send(ann)];
  push(first);
  witness.ended();
  bob = login('bob');
  push(second);
  push(first);
  assert.deepEqual(broken(), ['order']);
  ack(first);
  fence(first);
  bob = login('bob');
  push(first);
  assert.deepEqual(broken(), ['order', 'delivered again']);
});

test('what is repeated on the same connection is known again there, whichever other node ends', () => {
  const ann = login('ann');
  const message = send(ann);
  witness.ended();
  witness.sent(ann, message, false);
  bob = login('bob');
  push(message);
  ack(message);
  fence(message);
  bob = login('bob');
  push(message);
  assert.deepEqual(broken(), ['delivered again']);
});

test('however many nodes end, a message is taken once at most from each connection that it came on', () => {
  const gone = login('ann');
  const message = send(gone);
  witness.closed(gone);
  witness.sent(login('ann'), message, false);
  for (let end = 0; end < 3; end++) witness.ended();
  for (let delivery = 0; delivery < 2; delivery++) {
    bob = login('bob');
    push(message);
    ack(message);
    fence(message);
  }
  assert.deepEqual(broken(), []);
  bob = login('bob');
  push(message);
  assert.deepEqual(broken(), ['delivered again']);
});

test('a database that is frozen or cut off forgets nothing', () => {
  witness.storeGoes();
  const message = send(login('ann'));
  push(message);
  ack(message);
  fence(message);
  bob = login('bob');
  push(message);
  assert.deepEqual(broken(), ['delivered again']);
});
