// What the witness makes of what clients see: each rule that it judges by, and each doubt in the server's favour.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Connection } from '../sim/connection.ts';
import { Messages, type SentMessage } from '../sim/message.ts';
import { Trace } from '../sim/trace.ts';
import { Witness } from './witness.ts';

/** A server that runs, a sender that is logged in, and a clock that goes by itself and can be set on. */
class Scene {
  now = 1000;
  readonly messages = new Messages();
  readonly witness = new Witness(() => this.now++, this.messages, new Trace(() => this.now, 0));
  readonly sender: Connection;
  #connections = 0;

  constructor() {
    this.witness.serverStarted();
    this.sender = this.login('ann');
  }

  connect(name: string): Connection {
    const connection = new Connection(this.#connections++, this.witness.number, { name, role: 'app', nack: true });
    this.witness.opened(connection);
    return connection;
  }

  login(name: string): Connection {
    const connection = this.connect(name);
    this.witness.loggedIn(connection, this.now++);
    return connection;
  }

  send(ttl = 0, on = this.sender): SentMessage {
    const message = this.messages.make('ann', 'bob', `m-${this.messages.all.length}`, 3, ttl);
    this.witness.sent(on, message, false);
    return message;
  }

  push(on: Connection, message: SentMessage): void {
    this.witness.pushed(on, message.from, message.to, message.msgId, message.id, message.text);
  }

  /** Acks it and learns that the ack has been counted. */
  ack(on: Connection, message: SentMessage): void {
    this.witness.ackHanded(on, [message.msgId]);
    this.fence(on, message);
  }

  fence(on: Connection, ...acked: SentMessage[]): void {
    this.witness.answered(on, this.now++, acked);
  }

  crash(): void {
    this.witness.serverEnded('crash');
    this.witness.serverStarted();
  }

  get broken(): string[] {
    return this.witness.violations.map(({ rule }) => rule);
  }
}

test('a message that was acked and never came is lost; one without an ack may be', () => {
  const scene = new Scene();
  const [acked] = [scene.send(), scene.send()];
  scene.witness.acked(scene.sender, acked.msgId);
  scene.crash();
  scene.witness.checkDelivered();
  assert.deepEqual(scene.broken, ['lost']);
});

test('a message with a ttl is lost only while that has not passed', () => {
  const scene = new Scene();
  const message = scene.send(2);
  scene.witness.acked(scene.sender, message.msgId);
  scene.now += 2500;
  scene.witness.checkDelivered();
  assert.deepEqual(scene.broken, []);
  scene.witness.acked(scene.sender, scene.send(2).msgId);
  scene.witness.checkDelivered();
  assert.deepEqual(scene.broken, ['lost']);
});

test('what was pushed and not acked has to come again', () => {
  const scene = new Scene();
  const message = scene.send();
  scene.witness.acked(scene.sender, message.msgId);
  scene.push(scene.login('bob'), message);
  scene.crash();
  scene.witness.checkDelivered();
  assert.deepEqual(scene.broken, ['lost']);
});

test('an ack of what was never sent, or not since the server runs, is unsafe', () => {
  const scene = new Scene();
  scene.witness.acked(scene.sender, 'unheard');
  scene.witness.serverEnded('crash');
  const unsent = scene.send();
  scene.witness.serverStarted();
  scene.witness.acked(scene.login('ann'), unsent.msgId);
  assert.deepEqual(scene.broken, ['unsafe ack', 'unsafe ack']);
});

test('a message comes before what was sent behind it on the same connection', () => {
  const scene = new Scene();
  const bob = scene.login('bob');
  const [first, second, third] = [scene.send(), scene.send(), scene.send()];
  scene.push(bob, first);
  scene.push(bob, third);
  assert.deepEqual(scene.broken, ['order']);
  assert.match(scene.witness.violations[0]?.text ?? '', new RegExp(`not yet message ${second.id} `));
});

test('a crash loses no message in the middle of those that it leaves', () => {
  const scene = new Scene();
  const [first, second] = [scene.send(), scene.send()];
  scene.crash();
  scene.push(scene.login('bob'), second);
  assert.deepEqual(scene.broken, ['order']);
  assert.ok(!first.isAcked);
});

test('a message whose sender was told to try again may come behind later ones', () => {
  const scene = new Scene();
  const bob = scene.login('bob');
  const [refused, second] = [scene.send(), scene.send()];
  scene.witness.refused(scene.sender, refused.msgId, true, 'later');
  scene.push(bob, second);
  scene.push(bob, refused);
  assert.deepEqual(scene.broken, []);
});

test('a message that was lost with a connection may be accepted from the next one, behind what came there', () => {
  const scene = new Scene();
  const [lost, kept] = [scene.send(), scene.send()];
  const next = scene.login('ann');
  scene.witness.sent(next, kept, false);
  scene.witness.sent(next, lost, false);
  const bob = scene.login('bob');
  scene.push(bob, kept);
  scene.push(bob, lost);
  assert.deepEqual(scene.broken, []);
});

test('an acked push does not come again, and once more after each crash', () => {
  const scene = new Scene();
  const message = scene.send();
  const bob = scene.login('bob');
  scene.push(bob, message);
  scene.ack(bob, message);
  scene.crash();
  const again = scene.login('bob');
  scene.push(again, message);
  scene.ack(again, message);
  assert.deepEqual(scene.broken, []);
  scene.push(scene.login('bob'), message);
  assert.deepEqual(scene.broken, ['delivered again']);
});

test('sent again after a crash, an acked message may come as it was stored, and as it was sent', () => {
  const scene = new Scene();
  const message = scene.send();
  const bob = scene.login('bob');
  scene.push(bob, message);
  scene.ack(bob, message);
  scene.crash();
  scene.witness.sent(scene.login('ann'), message, false);
  for (let i = 0; i < 2; i++) {
    const again = scene.login('bob');
    scene.push(again, message);
    scene.ack(again, message);
  }
  assert.deepEqual(scene.broken, []);
  scene.push(scene.login('bob'), message);
  assert.deepEqual(scene.broken, ['delivered again']);
});

test('an ack that is not known to have got there counts for nothing', () => {
  const scene = new Scene();
  const message = scene.send();
  const bob = scene.login('bob');
  scene.push(bob, message);
  scene.witness.ackHanded(bob, [message.msgId]);
  scene.push(scene.login('bob'), message);
  assert.deepEqual(scene.broken, []);
});

test('a push on an older connection may have been under way when the newer one was acked', () => {
  const scene = new Scene();
  const message = scene.send();
  const older = scene.login('bob');
  const newer = scene.login('bob');
  scene.push(newer, message);
  scene.ack(newer, message);
  scene.push(older, message);
  assert.deepEqual(scene.broken, []);
});

test('what an answered heartbeat proves is not believed of a server that has ended', () => {
  const scene = new Scene();
  const message = scene.send();
  const bob = scene.login('bob');
  scene.push(bob, message);
  scene.witness.ackHanded(bob, [message.msgId]);
  scene.witness.serverEnded('crash');
  scene.fence(bob, message);
  scene.witness.serverStarted();
  scene.push(scene.login('bob'), message);
  assert.deepEqual(scene.broken, []);
});

test('a session that is superseded is pushed nothing more', () => {
  const scene = new Scene();
  const older = scene.login('bob');
  const before = scene.send();
  scene.login('bob');
  // Written before, or after: nobody can tell.
  scene.push(older, before);
  assert.deepEqual(scene.broken, []);
  scene.push(older, scene.send());
  assert.deepEqual(scene.broken, ['superseded']);
});

test('a session that answers is not superseded', () => {
  const scene = new Scene();
  const older = scene.login('bob');
  const message = scene.send();
  scene.login('bob');
  scene.fence(older);
  scene.push(older, message);
  assert.deepEqual(scene.broken, ['superseded']);
});

test('nothing comes behind cmd 103', () => {
  const scene = new Scene();
  const bob = scene.login('bob');
  const message = scene.send();
  scene.witness.superseded(bob);
  scene.push(bob, message);
  assert.deepEqual(scene.broken, ['superseded']);
});

test('a push is repeated after 5 s, if it cannot have been written earlier than it was seen', () => {
  const scene = new Scene();
  const bob = scene.login('bob');
  const message = scene.send();
  scene.push(bob, message);
  scene.now += 4000;
  scene.push(bob, message);
  assert.deepEqual(scene.broken, ['too soon again']);

  const doubtful = new Scene();
  const slow = doubtful.login('bob');
  const held = doubtful.send();
  doubtful.now += 6000;
  doubtful.push(slow, held);
  doubtful.push(slow, held);
  assert.deepEqual(doubtful.broken, []);
});

test('a message is not delivered to who comes after its ttl', () => {
  const scene = new Scene();
  const early = scene.login('bob');
  const [first, second] = [scene.send(2), scene.send(2)];
  for (const { msgId } of [first, second]) scene.witness.acked(scene.sender, msgId);
  scene.now += 2500;
  // It may have been written in time.
  scene.push(early, first);
  assert.deepEqual(scene.broken, []);
  scene.push(scene.login('bob'), second);
  assert.deepEqual(scene.broken, ['ttl late']);
});

test('a message goes to its receiver, as it was sent, from who may send it', () => {
  const scene = new Scene();
  const message = scene.send();
  const { from, to, msgId, id, text } = message;
  scene.push(scene.login('eve'), message);
  scene.push(scene.connect('bob'), message);
  scene.witness.pushed(scene.login('bob'), from, to, msgId, id, `${text} `);
  scene.witness.pushed(scene.login('bob'), from, to, 'other', id, text);
  assert.deepEqual(scene.broken, ['wrong party', 'not logged in', 'wrong party', 'wrong party']);

  const strays = new Scene();
  const stray = strays.messages.make('ann', 'bob', 's', 3, 0);
  strays.witness.sent(strays.sender, stray, true);
  strays.witness.refused(strays.sender, 's', false, 'not allowed');
  strays.push(strays.login('bob'), stray);
  strays.witness.acked(strays.sender, 's');
  assert.deepEqual(strays.broken, ['not allowed', 'not allowed']);
});

test('refusals have a reason, and temporary ones are told to who asked', () => {
  const scene = new Scene();
  const message = scene.send();
  scene.witness.refused(scene.sender, message.msgId, false, 'no');
  const quiet = new Connection(9, scene.witness.number, { name: 'ann', role: 'app', nack: false });
  scene.witness.refused(quiet, message.msgId, true, 'later');
  assert.deepEqual(scene.broken, ['refused without reason', 'refusal told']);
});

test('at most 256 pushes are unacked, and no two with the same msgid', () => {
  const scene = new Scene();
  const bob = scene.login('bob');
  for (let i = 0; i < 256; i++) scene.push(bob, scene.send());
  assert.deepEqual(scene.broken, []);
  scene.push(bob, scene.send());
  assert.deepEqual(scene.broken, ['window']);

  const twins = new Scene();
  const receiver = twins.login('bob');
  const eve = twins.login('eve');
  const [one, other] = [twins.messages.make('ann', 'bob', '1', 3, 0), twins.messages.make('eve', 'bob', '1', 3, 0)];
  twins.witness.sent(twins.sender, one, false);
  twins.witness.sent(eve, other, false);
  twins.push(receiver, one);
  twins.push(receiver, other);
  assert.deepEqual(twins.broken, ['window of ids']);
});
