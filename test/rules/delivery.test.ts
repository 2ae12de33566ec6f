// PROTOCOL.md, "Delivery". What a kill -9 does is in ../durability.test.ts.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type Server, startServer } from '../harness.ts';
import { type Client, type Pushed, unique } from '../mini-client.ts';
import {
  addDevice,
  connect,
  eventually,
  expectAck,
  expectCode,
  leave,
  login,
  newApp,
  newDevice,
  newUser,
  sleep,
} from '../parties.ts';

let server: Server;
/** Stores only after a second what is not acked, and pushes no backlog unasked. */
let patient: Server;
const patienceMs = 1_000;
before(async () => {
  server = await startServer();
  patient = await startServer({ args: ['--persist-after', String(patienceMs), '--backlog-after', '30'] });
});
after(() => Promise.all([server?.[Symbol.asyncDispose](), patient?.[Symbol.asyncDispose]()]));

function idsOf(messages: readonly Pushed[]): string[] {
  return messages.map((message) => message.msgid);
}

function series(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, i) => `${prefix}-${i}`);
}

/** Sends a message under every id in one write, and waits for all the acks. */
async function leaveAll(sender: Client, to: string, ids: readonly string[]): Promise<void> {
  sender.sendRaw(Buffer.concat(ids.map((msgId) => sender.frame(200, { to, msg: msgId }, { msgId }))));
  for (const id of ids) expectAck(await sender.reply(id));
}

/** No ack came before the patient server may have stored anything that was sent at `sentAt`. */
async function expectNoAckYet(sender: Client, sentAt: number, ms = 200): Promise<void> {
  await sender.fence();
  await sleep(ms);
  await sender.fence();
  // What came later may be due to the disk; that a slow machine got so far is no failure.
  const early = sender.frames.filter((frame) => frame.cmd === 200 && frame.at - sentAt < patienceMs - 10);
  assert.deepEqual(early.map(String), []);
}

/** An app with a device that it has added and that is connected. */
async function newPair(at: Server): Promise<{ readonly app: Client; readonly device: Client } & Disposable> {
  const app = await newApp(at);
  const device = await newDevice(at);
  expectCode(await app.bind(device.name), 203, 100);
  return {
    app,
    device,
    [Symbol.dispose]() {
      app.destroy();
      device.destroy();
    },
  };
}

describe('the ack', () => {
  test('does not come while the receiver has not acked and nothing is on disk, and comes when the receiver acks', async () => {
    using pair = await newPair(patient);
    const { app, device } = pair;
    const sentAt = performance.now();
    const msgId = app.post(device.name, 'on');
    await device.message(msgId);
    await expectNoAckYet(app, sentAt, 300);
    device.ack([msgId]);
    expectAck(await app.reply(msgId));
    assert.deepEqual(await app.quiet(50), [], 'one ack only');
  });

  test('is not brought about by an ack of something else, by a fetch, by a heartbeat or by another session', async () => {
    using pair = await newPair(patient);
    const { app, device } = pair;
    using stranger = await newDevice(patient);
    const sentAt = performance.now();
    const msgId = app.post(device.name, 'on');
    await device.message(msgId);
    device.ack(['something else', `${msgId}x`, '']);
    device.send(201, []);
    device.fetch();
    await device.fence();
    stranger.ack([msgId]);
    app.ack([msgId]);
    await stranger.fence();
    await expectNoAckYet(app, sentAt);
    device.ack([msgId]);
    expectAck(await app.reply(msgId));
  });

  test('comes without the receiver when the message is on disk', async () => {
    using pair = await newPair(server);
    const { app, device } = pair;
    const away = await addDevice(app);
    const msgId = await leave(app, device.name, 'for a device that never acks');
    await device.message(msgId);
    await leave(app, away, 'for a device that is away');
  });

  test('given for a device that is away survives kill -9', async () => {
    await using own = await startServer();
    using app = await newApp(own);
    const device = await addDevice(app);
    const ids = series('kept', 10);
    await leaveAll(app, device, ids);
    await own.kill9();
    await own.restart();
    using back = await newDevice(own, { name: device });
    back.fetch();
    assert.deepEqual(idsOf(await back.received(10)), ids);
  });

  test('given for a device that is there but does not ack survives kill -9', async () => {
    await using own = await startServer();
    using pair = await newPair(own);
    const ids = series('kept', 10);
    await leaveAll(pair.app, pair.device.name, ids);
    await own.kill9();
    await own.restart();
    using back = await newDevice(own, { name: pair.device.name });
    back.fetch();
    assert.deepEqual(idsOf(await back.received(10)), ids);
  });

  test('carries the msgId, and acks of several messages may be told apart', async () => {
    using pair = await newPair(patient);
    const { app, device } = pair;
    const first = app.post(device.name, 1);
    const second = app.post(device.name, 2);
    await device.received(2);
    device.ack([second]);
    expectAck(await app.reply(second));
    device.ack([first]);
    expectAck(await app.reply(first));
  });
});

describe('refusals', () => {
  test('a message to nobody, to somebody unknown and to somebody not allowed gets code 200', async () => {
    using app = await newApp(server);
    using device = await newDevice(server);
    expectCode(await app.say('', 1), 200, 200);
    const unknown = await app.say(unique('nobody'), 1);
    const forbidden = await app.say(device.name, 1);
    expectCode(unknown, 200, 200);
    expectCode(forbidden, 200, 200);
    assert.equal(unknown.text, forbidden.text, 'one text for both');
  });

  test('the same text refuses a device', async () => {
    using app = await newApp(server);
    using device = await newDevice(server);
    const unknown = await device.say(unique('nobody'), 1);
    const forbidden = await device.say(app.name, 1);
    expectCode(unknown, 200, 200);
    expectCode(forbidden, 200, 200);
    assert.equal(unknown.text, forbidden.text);
  });

  test('a msgId that is empty or longer than 128 bytes gets code 200', async () => {
    using app = await newApp(server);
    for (const msgId of ['', 'x'.repeat(129), 'é'.repeat(65), 'x'.repeat(10_000)]) {
      app.send(200, { to: app.name, msg: 1 }, { msgId });
      const answer = await app.takeCmd(200);
      expectCode(answer, 200, 200);
      assert.equal(answer.msgId, msgId);
    }
    assert.deepEqual(await app.quiet(20), []);
  });

  test('a msgId of one byte, of 128 bytes and of any characters is carried unchanged', async () => {
    using app = await newApp(server, { autoAck: true });
    for (const msgId of [
      'x',
      'x'.repeat(128),
      'é'.repeat(64),
      '__proto__',
      'a"b\\c\n\u0000\u2028',
      '{"msgid":"x"}',
      '😀',
    ]) {
      expectAck(await app.say(app.name, msgId, { msgId }));
      const pushed = await app.message(msgId);
      assert.equal(pushed.msg, msgId);
    }
  });
});

describe('who may write to whom', () => {
  test('an app to a device it has added, and to no other', async () => {
    using pair = await newPair(server);
    using other = await newApp(server);
    const msgId = await leave(pair.app, pair.device.name, 'on');
    const pushed = await pair.device.message(msgId);
    assert.deepEqual([pushed.from, pushed.to, pushed.msg], [pair.app.name, pair.device.name, 'on']);
    expectCode(await other.say(pair.device.name, 'off'), 200, 200);
    assert.deepEqual(await pair.device.quiet(50), []);
  });

  test('a device to all users that have added it, and to no other', async () => {
    using pair = await newPair(server);
    using second = await newApp(server);
    using other = await newApp(server);
    expectCode(await second.bind(pair.device.name), 203, 100);
    for (const app of [pair.app, second]) {
      const msgId = await leave(pair.device, app.name, 'rang');
      const pushed = await app.message(msgId);
      assert.deepEqual([pushed.from, pushed.to], [pair.device.name, app.name]);
    }
    expectCode(await pair.device.say(other.name, 'rang'), 200, 200);
    assert.deepEqual(await other.quiet(50), []);
  });

  test('a device neither to itself nor to another device, even of the same user', async () => {
    using pair = await newPair(server);
    using sibling = await newDevice(server);
    expectCode(await pair.app.bind(sibling.name), 203, 100);
    expectCode(await pair.device.say(pair.device.name, 1), 200, 200);
    expectCode(await pair.device.say(sibling.name, 1), 200, 200);
    assert.deepEqual(await pair.device.quiet(20), []);
    assert.deepEqual(await sibling.quiet(20), []);
  });

  test('a user to every user, also to oneself', async () => {
    using first = await newApp(server);
    using second = await newApp(server);
    await second.message(await leave(first, second.name, 'hello'));
    await first.message(await leave(second, first.name, 'hello yourself'));
    await first.message(await leave(first, first.name, 'note'));
  });

  test('removal ends it at once in both directions, on live sessions', async () => {
    using pair = await newPair(server);
    const { app, device } = pair;
    await device.message(await leave(app, device.name, 1));
    await app.message(await leave(device, app.name, 1));
    expectCode(await app.unbind(device.name), 204, 100);
    expectCode(await app.say(device.name, 2), 200, 200);
    expectCode(await device.say(app.name, 2), 200, 200);
    expectCode(await app.bind(device.name), 203, 100);
    await device.message(await leave(app, device.name, 3));
    await app.message(await leave(device, app.name, 3));
  });

  test("one user's removal does not end another's right", async () => {
    using pair = await newPair(server);
    using second = await newApp(server);
    expectCode(await second.bind(pair.device.name), 203, 100);
    expectCode(await pair.app.unbind(pair.device.name), 204, 100);
    await pair.device.message(await leave(second, pair.device.name, 1));
    await second.message(await leave(pair.device, second.name, 1));
  });

  test('what was accepted is delivered, also after a removal', async () => {
    using app = await newApp(server);
    const id = await addDevice(app);
    const msgId = await leave(app, id, 'accepted');
    expectCode(await app.unbind(id), 204, 100);
    using device = await newDevice(server, { name: id });
    device.fetch();
    await device.message(msgId);
  });

  test('a device may be added and written to before it is first seen', async () => {
    using app = await newApp(server);
    const id = await addDevice(app);
    const msgId = await leave(app, id, 'welcome');
    using device = await newDevice(server, { name: id });
    device.fetch();
    assert.equal((await device.message(msgId)).msg, 'welcome');
    await app.message(await leave(device, app.name, 'thanks'));
  });

  test('bindings count after a restart', async () => {
    await using own = await startServer();
    const user = await newUser(own);
    const [kept, removed] = [unique('device'), unique('device')];
    {
      using app = await login(own, user);
      await addDevice(app, kept);
      await addDevice(app, removed);
      expectCode(await app.unbind(removed), 204, 100);
    }
    await own.restart();
    using app = await login(own, user);
    await leave(app, kept, 1);
    expectCode(await app.say(removed, 1), 200, 200);
    using device = await newDevice(own, { name: removed });
    expectCode(await device.say(user, 1), 200, 200);
  });
});

describe('the same msgId again', () => {
  test('with the same content is acked again and not delivered again, received or not', async () => {
    using pair = await newPair(server);
    const { app, device } = pair;
    const msgId = await leave(app, device.name, { on: true });
    await device.message(msgId);
    expectAck(await app.say(device.name, { on: true }, { msgId }));
    device.ack([msgId]);
    await device.fence();
    expectAck(await app.say(device.name, { on: true }, { msgId }));
    assert.deepEqual(
      (await device.quiet()).filter((frame) => frame.startsWith('201')),
      [],
    );
    assert.equal(device.count(msgId), 1);
  });

  test('with the same content is not delivered again to a device that was away', async () => {
    using app = await newApp(server);
    const id = await addDevice(app);
    const msgId = await leave(app, id, 'once');
    await leave(app, id, 'once', msgId);
    const last = await leave(app, id, 'last');
    using device = await newDevice(server, { name: id });
    device.fetch();
    await device.message(last);
    assert.deepEqual(idsOf(device.messages), [msgId, last]);
  });

  test('with another msg or another receiver is refused, and the first stays as it was', async () => {
    using app = await newApp(server);
    const id = await addDevice(app);
    const msgId = await leave(app, id, { n: 1 });
    for (const [to, msg] of [
      [id, { n: 2 }],
      [id, null],
      [id, [1]],
      [app.name, { n: 1 }],
    ] as const) {
      expectCode(await app.say(to, msg, { msgId }), 200, 200);
    }
    assert.deepEqual(await app.quiet(20), []);
    using device = await newDevice(server, { name: id });
    device.fetch();
    assert.deepEqual((await device.message(msgId)).msg, { n: 1 });
    await device.fence();
    assert.equal(device.count(msgId), 1);
  });

  test('from another sender is another message', async () => {
    using first = await newApp(server);
    using second = await newApp(server);
    using receiver = await newApp(server, { autoAck: true });
    await leave(first, receiver.name, 'of the first', 'same');
    await leave(second, receiver.name, 'of the second', 'same');
    const pushed = await receiver.received(2);
    assert.deepEqual(
      pushed.map((message) => [message.from, message.msg]),
      [
        [first.name, 'of the first'],
        [second.name, 'of the second'],
      ],
    );
  });

  test('joins the first when that is still pending: one delivery, and an ack once the receiver acks', async () => {
    using pair = await newPair(patient);
    const { app, device } = pair;
    const sentAt = performance.now();
    const msgId = app.post(device.name, 'once');
    await device.message(msgId);
    app.post(device.name, 'once', { msgId });
    await expectNoAckYet(app, sentAt);
    device.ack([msgId]);
    expectAck(await app.reply(msgId));
    assert.deepEqual(
      (await device.quiet(50)).filter((frame) => frame.startsWith('201')),
      [],
    );
    assert.equal(device.count(msgId), 1);
  });

  test('is refused with other content also while the first is pending', async () => {
    using pair = await newPair(patient);
    const { app, device } = pair;
    const msgId = app.post(device.name, 'once');
    await device.message(msgId);
    expectCode(await app.say(device.name, 'other', { msgId }), 200, 200);
    device.ack([msgId]);
    expectAck(await app.reply(msgId));
  });

  test("over a newer session: the ack goes to the sender's newest session", async () => {
    using receiver = await newApp(patient);
    const name = await newUser(patient);
    using older = await login(patient, name);
    const sentAt = performance.now();
    const msgId = older.post(receiver.name, 'once');
    await receiver.message(msgId);
    using newer = await login(patient, name);
    await older.waitClosed();
    newer.post(receiver.name, 'once', { msgId });
    await expectNoAckYet(newer, sentAt);
    receiver.ack([msgId]);
    expectAck(await newer.reply(msgId));
    assert.deepEqual(
      older.frames.filter((frame) => frame.cmd === 200 && frame.at - sentAt < patienceMs - 10),
      [],
    );
    assert.equal(receiver.count(msgId), 1);
  });

  test('is remembered over a reconnect of the sender', async () => {
    using receiver = await newApp(server, { autoAck: true });
    const name = await newUser(server);
    using older = await login(server, name);
    const msgId = await leave(older, receiver.name, 'once');
    older.destroy();
    using newer = await login(server, name);
    await leave(newer, receiver.name, 'once', msgId);
    await receiver.fence();
    assert.equal(receiver.count(msgId), 1);
  });

  test('is remembered behind 999 other ids', async () => {
    using app = await newApp(server, { autoAck: true });
    const msgId = await leave(app, app.name, 'once');
    await leaveAll(app, app.name, series('other', 999));
    await leave(app, app.name, 'once', msgId);
    await app.fence();
    assert.equal(app.count(msgId), 1);
  });

  test('is recognised after a restart while the first lies in an inbox', async () => {
    await using own = await startServer();
    const to = await newUser(own);
    const name = await newUser(own);
    {
      using sender = await login(own, name);
      await leave(sender, to, 'once', 'lying');
    }
    await own.restart();
    using sender = await login(own, name);
    await leave(sender, to, 'once', 'lying');
    expectCode(await sender.say(to, 'other', { msgId: 'lying' }), 200, 200);
    await leave(sender, to, 'last', 'last');
    using receiver = await login(own, to);
    receiver.fetch();
    await receiver.message('last');
    assert.deepEqual(idsOf(receiver.messages), ['lying', 'last']);
    assert.equal(receiver.messages[0]?.msg, 'once');
  });

  test('after a refusal is judged anew', async () => {
    using app = await newApp(server);
    const id = unique('device');
    const msgId = unique('m');
    expectCode(await app.say(id, 1, { msgId }), 200, 200);
    await addDevice(app, id);
    expectAck(await app.say(id, 1, { msgId }));
  });
});

describe('order', () => {
  test('messages of one sender arrive in the order sent, in flight all at once', async () => {
    using pair = await newPair(server);
    pair.device.autoAck = true;
    const ids = series('flow', 1_000);
    await leaveAll(pair.app, pair.device.name, ids);
    assert.deepEqual(idsOf(await pair.device.received(1_000)), ids);
  });

  test('messages of several senders each keep their order', async () => {
    using receiver = await newApp(server, { autoAck: true });
    const senders = await Promise.all([newApp(server), newApp(server), newApp(server)]);
    try {
      await Promise.all(senders.map((sender) => leaveAll(sender, receiver.name, series(sender.name, 200))));
      const pushed = await receiver.received(600);
      for (const { name } of senders) {
        assert.deepEqual(idsOf(pushed.filter((message) => message.from === name)), series(name, 200));
      }
    } finally {
      for (const sender of senders) sender.destroy();
    }
  });

  test('it lasts across absence, reconnects, takeovers and a restart', async () => {
    await using own = await startServer();
    const name = await newUser(own);
    const senderName = await newUser(own);
    const ids = series('long', 500);
    const seen: string[] = [];
    const note = (message: { readonly msgid: string }) => {
      if (!seen.includes(message.msgid)) seen.push(message.msgid);
    };
    {
      using sender = await login(own, senderName);
      await leaveAll(sender, name, ids.slice(0, 100));
      const pending = leaveAll(sender, name, ids.slice(100, 200));
      using first = await login(own, name, { onPush: note });
      first.fetch();
      await first.received(50);
      first.destroy();
      await pending;
      using second = await login(own, name, { onPush: note, autoAck: true });
      const more = leaveAll(sender, name, ids.slice(200, 300));
      second.fetch();
      await second.received(20);
      using third = await login(own, name, { onPush: note });
      third.fetch();
      await more;
      await leaveAll(sender, name, ids.slice(300, 400));
    }
    await own.restart();
    using sender = await login(own, senderName);
    const rest = leaveAll(sender, name, ids.slice(400));
    using last = await login(own, name, { onPush: note, autoAck: true });
    last.fetch();
    await rest;
    await last.until(() => (seen.length >= ids.length ? true : undefined), `${ids.length} messages in all`, 15_000);
    assert.deepEqual(seen, ids);
  });

  test('a message that waits for its turn does not overtake and is not overtaken', async () => {
    using first = await newApp(server);
    using second = await newApp(server);
    using receiver = await newApp(server);
    await leave(first, receiver.name, 1, 'twin');
    await receiver.message('twin');
    await leave(second, receiver.name, 2, 'twin');
    await leave(second, receiver.name, 3, 'behind');
    receiver.ack(['twin']);
    await receiver.received(3);
    const ofSecond = receiver.messages.filter((message) => message.from === second.name);
    assert.deepEqual(idsOf(ofSecond), ['twin', 'behind']);
  });
});

describe('the backlog', { concurrency: true }, () => {
  test('a receiver with nothing stored gets messages at once, also if it never sends 202', async () => {
    // On this server nothing is pushed unasked for 30 s to a receiver with a backlog.
    using pair = await newPair(patient);
    const msgId = pair.app.post(pair.device.name, 1);
    await pair.device.message(msgId);
  });

  test('a receiver with a backlog gets nothing before it asks, and all of it when it asks', async () => {
    await using own = await startServer({ args: ['--backlog-after', '30'] });
    const ids = series('backlog', 300);
    const to = await newUser(own);
    using other = await newApp(own);
    await leaveAll(other, to, ids);
    using receiver = await login(own, to, { autoAck: true });
    assert.deepEqual(await receiver.quiet(300), []);
    receiver.fetch();
    assert.deepEqual(idsOf(await receiver.received(300)), ids);
  });

  test('a receiver that never sends 202 gets its backlog unasked', async () => {
    const name = await newUser(server);
    using sender = await newApp(server);
    const ids = series('unasked', 20);
    await leaveAll(sender, name, ids);
    using receiver = await login(server, name);
    assert.deepEqual(idsOf(await receiver.received(20, 10_000)), ids);
  });

  test('new messages come behind the backlog', async () => {
    await using own = await startServer({ args: ['--backlog-after', '30'] });
    const name = await newUser(own);
    using sender = await newApp(own);
    await leaveAll(sender, name, series('old', 5));
    using receiver = await login(own, name, { autoAck: true });
    await leaveAll(sender, name, series('new', 5));
    assert.deepEqual(await receiver.quiet(100), []);
    receiver.fetch();
    await leaveAll(sender, name, series('newer', 5));
    assert.deepEqual(idsOf(await receiver.received(15)), [
      ...series('old', 5),
      ...series('new', 5),
      ...series('newer', 5),
    ]);
  });

  test('a backlog larger than any window arrives whole and in order', async () => {
    const name = await newUser(server);
    using sender = await newApp(server);
    const ids = series('large', 3_000);
    await leaveAll(sender, name, ids);
    using receiver = await login(server, name, { autoAck: true });
    receiver.fetch();
    assert.deepEqual(idsOf(await receiver.received(3_000, 20_000)), ids);
    await receiver.fence();
    assert.equal(receiver.messages.length, 3_000);
  });

  test('a 202 that comes again at once or in mid-drain pushes nothing twice', async () => {
    const name = await newUser(server);
    using sender = await newApp(server);
    const ids = series('repeat', 200);
    await leaveAll(sender, name, ids);
    using receiver = await login(server, name);
    receiver.fetch();
    receiver.fetch();
    await receiver.received(1);
    receiver.fetch();
    await receiver.fence();
    receiver.fetch();
    receiver.ack(idsOf(receiver.messages));
    receiver.autoAck = true;
    await receiver.received(200);
    receiver.fetch();
    await receiver.quiet();
    assert.deepEqual(idsOf(receiver.messages), ids);
  });

  test('a 202 pushes again what was pushed on this connection 5 s ago, and only that', async () => {
    using pair = await newPair(server);
    const { app, device } = pair;
    const old = await leave(app, device.name, 'old');
    const acked = await leave(app, device.name, 'acked');
    await device.received(2);
    device.ack([acked]);
    await sleep(5_300);
    const young = await leave(app, device.name, 'young');
    await device.message(young);
    assert.equal(device.count(old), 1);
    device.fetch();
    await device.until(() => (device.count(old) === 2 ? true : undefined), 'second push');
    device.fetch();
    await device.quiet();
    assert.deepEqual([device.count(old), device.count(acked), device.count(young)], [2, 1, 1]);
  });
});

describe('redelivery', { concurrency: true }, () => {
  test('a push not acked is pushed again to the next session, and not after its ack', async () => {
    using app = await newApp(server);
    const id = await addDevice(app);
    const ids = series('again', 3);
    {
      using device = await newDevice(server, { name: id });
      await leaveAll(app, id, ids);
      await device.received(3);
    }
    {
      using device = await newDevice(server, { name: id });
      device.fetch();
      assert.deepEqual(idsOf(await device.received(3)), ids);
      device.ack([ids[0] ?? '', ids[2] ?? '']);
      await device.fence();
    }
    using device = await newDevice(server, { name: id });
    device.fetch();
    await device.received(1);
    await device.quiet();
    assert.deepEqual(idsOf(device.messages), [ids[1]]);
  });

  test('on the same connection it is pushed again after a while, and each time after a longer one', async () => {
    await using own = await startServer({ args: ['--redelivery-after', '1'] });
    using pair = await newPair(own);
    const { app, device } = pair;
    const msgId = await leave(app, device.name, 1);
    const started = performance.now();
    const times = (count: number) => () => (device.count(msgId) >= count ? performance.now() - started : undefined);
    assert.ok((await device.until(times(2), 'second push')) > 500);
    // Doubling means 1, 3 and 7 s; every second would mean 3 s.
    assert.ok((await device.until(times(4), 'fourth push', 30_000)) > 5_000);
    device.ack([msgId]);
    await device.fence();
    assert.deepEqual(new Set(idsOf(device.messages)), new Set([msgId]));
    assert.deepEqual(device.messages[3] && { ...device.messages[3], frame: 0 }, { ...device.messages[0], frame: 0 });
  });

  test('what is acked is not pushed again on the same connection', async () => {
    await using own = await startServer({ args: ['--redelivery-after', '0.3'] });
    using pair = await newPair(own);
    const { app, device } = pair;
    const acked = await leave(app, device.name, 1);
    await device.message(acked);
    device.ack([acked]);
    await device.fence();
    const before = device.count(acked);
    const witness = await leave(app, device.name, 2);
    await device.until(
      () => (device.count(witness) >= 3 ? true : undefined),
      'two redeliveries of the witness',
      10_000,
    );
    assert.equal(device.count(acked), before);
  });

  test('one that is never acked does not hold up those behind it', async () => {
    using app = await newApp(server);
    using device = await newDevice(server, {
      onPush: ({ msgid }, client) => {
        if (msgid !== 'stuck') client.ack([msgid]);
      },
    });
    expectCode(await app.bind(device.name), 203, 100);
    await leave(app, device.name, 'stuck', 'stuck');
    const ids = series('passing', 2_000);
    await leaveAll(app, device.name, ids);
    assert.deepEqual(idsOf(await device.received(2_001, 20_000)), ['stuck', ...ids]);
  });

  test('nor does a large one, though it fills the window in bytes', async () => {
    using app = await newApp(server);
    using device = await newDevice(server, {
      onPush: ({ msgid }, client) => {
        if (msgid !== 'stuck') client.ack([msgid]);
      },
    });
    expectCode(await app.bind(device.name), 203, 100);
    await leave(app, device.name, 'x'.repeat(300 * 1024), 'stuck');
    const ids = series('passing', 20);
    await leaveAll(app, device.name, ids);
    assert.deepEqual(idsOf(await device.received(21, 20_000)), ['stuck', ...ids]);
  });

  test('a receiver that never acks does not hold up other receivers of the same sender', async () => {
    using sender = await newApp(server);
    using mute = await newApp(server);
    using lively = await newApp(server, { autoAck: true });
    const flood = leaveAll(sender, mute.name, series('mute', 3_000));
    const ids = series('lively', 100);
    await Promise.all([flood, leaveAll(sender, lively.name, ids)]);
    assert.deepEqual(idsOf(await lively.received(100)), ids);
    mute.destroy();
    using again = await login(server, mute.name, { autoAck: true });
    again.fetch();
    assert.deepEqual(idsOf(await again.received(3_000, 20_000)), series('mute', 3_000));
  });
});

describe('acks of pushes', () => {
  test('count only for what was pushed to that session: not for what lies in its backlog', async () => {
    await using own = await startServer({ args: ['--backlog-after', '30'] });
    const name = await newUser(own);
    using sender = await newApp(own);
    const ids = series('ahead', 3);
    await leaveAll(sender, name, ids);
    using receiver = await login(own, name);
    receiver.ack(ids);
    await receiver.fence();
    receiver.fetch();
    assert.deepEqual(idsOf(await receiver.received(3)), ids);
  });

  test('count only for what was pushed to that session: not for what an earlier one received', async () => {
    await using own = await startServer({ args: ['--backlog-after', '30'] });
    const name = await newUser(own);
    using sender = await newApp(own);
    {
      using earlier = await login(own, name);
      await leave(sender, name, 1, 'seen before');
      await earlier.message('seen before');
    }
    using receiver = await login(own, name);
    receiver.ack(['seen before']);
    await receiver.fence();
    receiver.fetch();
    await receiver.message('seen before');
  });

  test('of unknown, repeated and foreign ids are ignored', async () => {
    using pair = await newPair(server);
    const { app, device } = pair;
    const mine = await leave(app, device.name, 1);
    await device.message(mine);
    using foreign = await newDevice(server);
    foreign.ack([mine]);
    assert.deepEqual(await foreign.quiet(20), []);
    app.ack([mine]);
    await app.fence();
    device.ack(['unknown', '__proto__', 'x'.repeat(1_000)]);
    device.destroy();
    using again = await newDevice(server, { name: device.name });
    again.fetch();
    await again.message(mine);
    again.ack([mine, mine]);
    again.ack([mine]);
    assert.deepEqual(await again.quiet(20), []);
  });

  test('may ack ten thousand ids at once, and the known ones among them count', async () => {
    using pair = await newPair(patient);
    const { app, device } = pair;
    const msgId = app.post(device.name, 1);
    await device.message(msgId);
    device.ack([...series('unknown', 10_000), msgId]);
    expectAck(await app.reply(msgId));
  });

  test('a session never has two outstanding pushes with one msgid: the second waits for the ack of the first', async () => {
    using first = await newApp(server);
    using second = await newApp(server);
    using receiver = await newApp(server);
    await leave(first, receiver.name, 1, 'same');
    await leave(second, receiver.name, 2, 'same');
    await leave(first, receiver.name, 3, 'other');
    await receiver.message('other');
    await receiver.quiet(100);
    assert.equal(receiver.count('same'), 1);
    receiver.ack(['same']);
    await receiver.until(() => (receiver.count('same') === 2 ? true : undefined), 'push of the second');
    const senders = receiver.messages.filter((message) => message.msgid === 'same').map((message) => message.from);
    assert.deepEqual(senders, [first.name, second.name]);
    receiver.ack(['same']);
    await receiver.fence();
    receiver.destroy();
    using again = await login(server, receiver.name);
    again.fetch();
    await again.message('other');
    assert.deepEqual(idsOf(again.messages), ['other']);
  });

  test('with one msgid in a backlog of several senders bring all of them, one after the other', async () => {
    const name = await newUser(server);
    const senders = await Promise.all(series('s', 4).map(() => newApp(server)));
    try {
      for (const sender of senders) await leave(sender, name, sender.name, 'same');
    } finally {
      for (const sender of senders) sender.destroy();
    }
    using receiver = await login(server, name, { autoAck: true });
    receiver.fetch();
    const pushed = await receiver.received(4);
    assert.deepEqual(new Set(pushed.map((message) => message.from)), new Set(senders.map((sender) => sender.name)));
    for (const message of pushed) assert.equal(message.msg, message.from);
    assert.ok(pushed.every((message, i) => i === 0 || message.frame !== pushed[i - 1]?.frame));
  });
});

describe('a full inbox', { concurrency: true }, () => {
  test('takes half of its messages from one sender; more get no answer at all', async () => {
    await using own = await startServer({ args: ['--inbox-messages', '8'] });
    const away = await newUser(own);
    using first = await newApp(own);
    using second = await newApp(own);
    using third = await newApp(own);
    for (const [sender, prefix] of [
      [first, 'a'],
      [second, 'b'],
    ] as const) {
      await leaveAll(sender, away, series(prefix, 4));
      sender.post(away, 'too much', { msgId: `${prefix}-much` });
      assert.deepEqual(await sender.quiet(150), []);
    }
    third.post(away, 'full', { msgId: 'c-much' });
    assert.deepEqual(await third.quiet(150), []);
    using receiver = await login(own, away, { autoAck: true });
    receiver.fetch();
    await receiver.received(8);
    assert.deepEqual(await receiver.quiet(100), []);
    assert.deepEqual(new Set(idsOf(receiver.messages)), new Set([...series('a', 4), ...series('b', 4)]));
  });

  test('takes a message sent again under the same msgId once there is room', async () => {
    await using own = await startServer({ args: ['--inbox-messages', '4'] });
    const away = await newUser(own);
    using sender = await newApp(own);
    await leaveAll(sender, away, series('a', 2));
    sender.post(away, 'patience', { msgId: 'late' });
    assert.deepEqual(await sender.quiet(100), []);
    using receiver = await login(own, away, { autoAck: true });
    receiver.fetch();
    await receiver.received(2);
    await receiver.fence();
    expectAck(await sender.say(away, 'patience', { msgId: 'late' }));
    await receiver.message('late');
    await receiver.fence();
    assert.equal(receiver.count('late'), 1);
  });

  test('acks again what it already holds', async () => {
    await using own = await startServer({ args: ['--inbox-messages', '4'] });
    const away = await newUser(own);
    using sender = await newApp(own);
    await leaveAll(sender, away, series('a', 2));
    expectAck(await sender.say(away, 'a-1', { msgId: 'a-1' }));
  });

  test('stays full over a restart', async () => {
    await using own = await startServer({ args: ['--inbox-messages', '4'] });
    const away = await newUser(own);
    const name = await newUser(own);
    {
      using sender = await login(own, name);
      await leaveAll(sender, away, series('a', 2));
    }
    await own.restart();
    using sender = await login(own, name);
    sender.post(away, 'too much');
    assert.deepEqual(await sender.quiet(200), []);
    using other = await newApp(own);
    await leaveAll(other, away, series('b', 2));
  });

  test('is full by bytes as well, half of them from one sender', async () => {
    await using own = await startServer({ args: ['--inbox-bytes', '20000'] });
    const away = await newUser(own);
    using sender = await newApp(own, { extra: { nack: true } });
    let accepted = 0;
    for (let i = 0; i < 25; i += 1) {
      const answer = await sender.say(away, 'x'.repeat(1_000));
      if (answer.data.length > 0) {
        assert.equal((answer.json as { readonly retry: unknown }).retry, true);
        break;
      }
      accepted += 1;
    }
    assert.ok(accepted >= 1 && accepted <= 10, `${accepted} messages of 1,000 bytes in half of 20,000`);
    using other = await newApp(own);
    await leave(other, away, 'x'.repeat(1_000));
    using receiver = await login(own, away, { autoAck: true });
    receiver.fetch();
    await receiver.received(accepted + 1);
  });

  test('of one receiver leaves others alone', async () => {
    await using own = await startServer({ args: ['--inbox-messages', '2'] });
    const away = await newUser(own);
    using sender = await newApp(own);
    using lively = await newApp(own, { autoAck: true });
    await leave(sender, away, 1);
    sender.post(away, 2);
    for (let i = 0; i < 20; i += 1) await leave(sender, lively.name, i);
  });
});

test('a message is dropped by age alone, which is logged and shown to the operator', async () => {
  // Three seconds, in days.
  await using own = await startServer({ args: ['--inbox-age', '0.000035'] });
  const away = await newUser(own);
  using sender = await newApp(own);
  await leave(sender, away, 'old');
  await sleep(3_300);
  const young = await leave(sender, away, 'young');
  using receiver = await login(own, away);
  receiver.fetch();
  await receiver.message(young);
  assert.deepEqual(await receiver.quiet(100), []);
  assert.deepEqual(idsOf(receiver.messages), [young]);
  // Lines about dropped messages come once in ten seconds.
  const line = `"receiver":"${away}","age":1,"ttl":0`;
  await eventually(
    () => own.logs().some((each) => each.includes(line)),
    () => own.logs().join('\n'),
    30_000,
  );
  const metrics = await fetch(`http://${own.host}:${own.adminPort}/metrics`, { headers: { connection: 'close' } });
  assert.match(await metrics.text(), /^\w*(?:expired|dropped)\w*(?:\{[^}]*\})? 1$/m);
});

describe('stopping', () => {
  test('SIGTERM ends the server with code 0 and loses nothing acked or pushed', async () => {
    await using own = await startServer();
    const name = await newUser(own);
    const away = await newUser(own);
    using sender = await newApp(own);
    using receiver = await login(own, name);
    const ids = series('kept', 50);
    await leaveAll(sender, away, ids);
    await leaveAll(
      sender,
      name,
      ids.map((id) => `${id}-online`),
    );
    assert.equal(await own.stop(), 0);
    await receiver.waitClosed();
    await sender.waitClosed();
    await own.restart();
    for (const [who, expected] of [
      [away, ids],
      [name, ids.map((id) => `${id}-online`)],
    ] as const) {
      using back = await login(own, who, { autoAck: true });
      back.fetch();
      assert.deepEqual(idsOf(await back.received(50)), expected);
    }
  });

  test('what was acked by its receiver does not come again after a restart in good order', async () => {
    await using own = await startServer();
    const name = await newUser(own);
    using sender = await newApp(own);
    await leaveAll(sender, name, series('done', 20));
    {
      using receiver = await login(own, name, { autoAck: true });
      receiver.fetch();
      await receiver.received(20);
      await leaveAll(sender, name, series('online', 20));
      await receiver.received(40);
      await receiver.fence();
    }
    await own.restart();
    using again = await login(own, name);
    again.fetch();
    assert.deepEqual(await again.quiet(), []);
  });

  test('a message pending at SIGTERM is acked only if it is kept', async () => {
    await using own = await startServer({ args: ['--persist-after', String(patienceMs)] });
    using sender = await newApp(own);
    using receiver = await newApp(own);
    const ids = series('pending', 50);
    sender.sendRaw(Buffer.concat(ids.map((msgId) => sender.frame(200, { to: receiver.name, msg: 0 }, { msgId }))));
    await receiver.received(ids.length);
    await own.stop();
    await sender.waitClosed();
    const acked = sender.frames.filter((frame) => frame.cmd === 200);
    for (const frame of acked) expectAck(frame);
    await own.restart();
    using back = await login(own, receiver.name, { autoAck: true });
    back.fetch();
    for (const frame of acked) await back.message(frame.msgId);
  });
});

test('an exchange between an app and its device, as existing clients do it', async () => {
  using app = await connect(server, { encrypt: true, autoAck: true });
  using device = await connect(server, { autoAck: true });
  const user = unique('user');
  const id = unique('device');
  expectCode(await app.register(user, '5f4dcc3b5aa765d61d8327deb882cf99'), 102, 100);
  expectCode(await app.login(user, '5f4dcc3b5aa765d61d8327deb882cf99'), 100, 100);
  app.fetch({ encrypt: false });
  expectCode(await device.auth(id), 101, 100);
  device.fetch();
  expectCode(await app.bind(id), 203, 100);
  expectAck(await app.say(id, { cmd: 'on' }));
  const [on] = await device.received(1);
  assert.deepEqual(on?.msg, { cmd: 'on' });
  expectAck(await device.say(user, { state: 'on' }));
  const [state] = await app.received(1);
  assert.deepEqual(state?.msg, { state: 'on' });
  expectCode(await app.unbind(id), 204, 100);
  assert.equal((await app.logout()).how, 'fin');
  assert.equal((await device.logout()).how, 'fin');
});
