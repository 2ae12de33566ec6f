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

function login(name: string, nack = true): Connection {
  const connection = new Connection(connections++, witness.number, { name, role: 'app', nack });
  witness.opened(connection);
  witness.loggedIn(connection, now++);
  return connection;
}

function send(on: Connection): SentMessage {
  const message = messages.make('ann', 'bob', `m-${messages.all.length}`, 3, 0);
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

test('while it is away the earlier one may have been refused: that is known when it is told, or acked', () => {
  witness.storeGoes();
  const ann = login('ann');
  const [first, second, third, fourth] = [send(ann), send(ann), send(ann), send(ann)];
  push(second);
  witness.refused(ann, first.msgId, true, 'try again later');
  witness.acked(ann, first.msgId);
  assert.deepEqual(broken(), [], 'it was refused, and sent again');
  push(fourth);
  witness.acked(ann, third.msgId);
  assert.deepEqual(broken(), ['order'], 'it was never refused');
  assert.deepEqual(witness.doubts, { judged: 2, unknown: 0 });
});

test('of a client that is not told, or has gone, nobody knows', () => {
  witness.storeGoes();
  const [silent, gone] = [login('ann', false), login('ann')];
  const [first, second] = [send(silent), send(silent)];
  push(second);
  witness.acked(silent, first.msgId);
  const [third, fourth] = [send(gone), send(gone)];
  push(fourth);
  witness.closed(gone);
  const back = login('ann');
  witness.sent(back, third, false);
  witness.acked(back, third.msgId);
  push(first);
  push(third);
  assert.deepEqual(broken(), []);
  assert.deepEqual(witness.doubts, { judged: 0, unknown: 2 });
});

test('once the database is back what comes is judged again', () => {
  witness.storeGoes();
  const ann = login('ann');
  const [, second] = [send(ann), send(ann)];
  push(second);
  witness.storeIsBack();
  assert.equal(witness.doubts.unknown, 1);
  push(send(ann));
  assert.deepEqual(broken(), ['order']);
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

test('what waits behind a login when a node ends may be taken then, and come once more, if nobody was acked', () => {
  const gone = login('ann');
  const [waiting, acked] = [send(gone), send(gone)];
  witness.acked(gone, acked.msgId);
  witness.closed(gone);
  const ann = login('ann');
  for (const message of [waiting, acked]) witness.sent(ann, message, false);
  witness.ended();
  bob = login('bob');
  for (const message of [waiting, acked]) {
    push(message);
    ack(message);
    fence(message);
  }
  bob = login('bob');
  push(waiting);
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
