// PROTOCOL.md, "Extensions": `nack`, `ts` and `ttl`.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type Server, startServer } from '../harness.ts';
import { unique } from '../mini-client.ts';
import {
  addDevice,
  connect,
  expectAck,
  expectCode,
  leave,
  login,
  newApp,
  newDevice,
  newUser,
  password,
  sleep,
} from '../parties.ts';

let server: Server;
before(async () => {
  server = await startServer();
});
after(() => server?.[Symbol.asyncDispose]());

function keysOf(message: object): string[] {
  return Object.keys(message)
    .filter((key) => key !== 'frame')
    .sort();
}

describe('nack', () => {
  test('a client that did not ask for it gets no answer when an inbox is full', async () => {
    await using own = await startServer({ args: ['--inbox-messages', '2'] });
    const away = await newUser(own);
    using sender = await newApp(own);
    await leave(sender, away, 'first');
    sender.post(away, 'too much');
    assert.deepEqual(await sender.quiet(400), []);
  });

  for (const kind of ['app', 'device'] as const) {
    test(`an ${kind} that logged in with it gets code 200 with "retry":true, and may send again later`, async () => {
      await using own = await startServer({ args: ['--inbox-messages', '2'] });
      using owner = await newApp(own);
      const extra = { nack: true };
      using sender = kind === 'app' ? await newApp(own, { extra }) : await newDevice(own, { extra });
      if (kind === 'device') expectCode(await owner.bind(sender.name), 203, 100);
      const away = owner.name;
      owner.destroy();
      const first = await leave(sender, away, 'first');
      const answer = await sender.say(away, 'second', { msgId: 'second' });
      expectCode(answer, 200, 200);
      assert.deepEqual(Object.keys(answer.json as object).sort(), ['code', 'msg', 'retry']);
      assert.equal((answer.json as { readonly retry: unknown }).retry, true);
      using receiver = await login(own, away, { autoAck: true });
      receiver.fetch();
      await receiver.message(first);
      await receiver.fence();
      expectAck(await sender.say(away, 'second', { msgId: 'second' }));
      await receiver.message('second');
    });
  }

  test('a permanent refusal has no "retry"', async () => {
    using app = await newApp(server, { extra: { nack: true } });
    const answer = await app.say(unique('nobody'), 1);
    expectCode(answer, 200, 200);
    assert.deepEqual(Object.keys(answer.json as object).sort(), ['code', 'msg']);
  });

  test('"nack":false and "nack":null are as good as none', async () => {
    await using own = await startServer({ args: ['--inbox-messages', '2'] });
    for (const nack of [false, null]) {
      const away = await newUser(own);
      using sender = await newApp(own, { extra: { nack } });
      await leave(sender, away, 'first');
      sender.post(away, 'too much');
      assert.deepEqual(await sender.quiet(300), []);
    }
  });

  test('"nack" of another type is a wrong type: code 200', async () => {
    const name = await newUser(server);
    using client = await connect(server);
    for (const nack of ['true', 1, [], {}]) {
      expectCode(await client.request(100, { username: name, password, nack }, { timeoutMs: 15_000 }), 100, 200);
      expectCode(await client.request(101, { id: unique('device'), nack }), 101, 200);
    }
  });

  test('an encrypted session gets it encrypted', async () => {
    await using own = await startServer({ args: ['--inbox-messages', '2'] });
    const away = await newUser(own);
    using sender = await newApp(own, { extra: { nack: true }, encrypt: true });
    await leave(sender, away, 'first');
    const answer = await sender.say(away, 'second');
    expectCode(answer, 200, 200);
    assert.equal(answer.isEncrypt, true);
  });
});

describe('ts', () => {
  test('pushes to a session that logged in with "nack":true carry the time of acceptance in ms', async () => {
    using app = await newApp(server, { extra: { nack: true } });
    using device = await newDevice(server, { extra: { nack: true } });
    expectCode(await app.bind(device.name), 203, 100);
    for (const to of [app, device]) {
      const earliest = Date.now();
      const msgId = await leave(app, to.name, 1);
      const latest = Date.now();
      const message = await to.message(msgId);
      assert.deepEqual(keysOf(message), ['from', 'msg', 'msgid', 'to', 'ts']);
      assert.ok(Number.isInteger(message.ts));
      assert.ok((message.ts ?? 0) >= earliest - 1 && (message.ts ?? 0) <= latest + 1, `${message.ts}`);
    }
  });

  test('it is the time of acceptance, not that of the push, also over a restart', async () => {
    await using own = await startServer();
    const name = await newUser(own);
    const earliest = Date.now();
    let latest = 0;
    {
      using sender = await newApp(own);
      await leave(sender, name, 1, 'waiting');
      latest = Date.now();
    }
    await own.restart();
    await sleep(50);
    using receiver = await login(own, name, { extra: { nack: true } });
    receiver.fetch();
    const { ts } = await receiver.message('waiting');
    assert.ok(ts !== undefined && ts >= earliest - 1 && ts <= latest + 1, `${earliest} ≤ ${ts} ≤ ${latest}`);
  });

  test('a session that did not ask never sees it, whoever sent the message', async () => {
    using sender = await newApp(server, { extra: { nack: true } });
    for (const extra of [{}, { nack: false }, { nack: null }]) {
      using receiver = await newApp(server, { extra });
      const msgId = await leave(sender, receiver.name, 1);
      assert.deepEqual(keysOf(await receiver.message(msgId)), ['from', 'msg', 'msgid', 'to']);
    }
  });

  test('each session has what it asked for: a takeover changes it', async () => {
    const name = await newUser(server);
    using sender = await newApp(server);
    using older = await login(server, name, { extra: { nack: true } });
    const msgId = await leave(sender, name, 1);
    assert.equal(typeof (await older.message(msgId)).ts, 'number');
    using newer = await login(server, name);
    newer.fetch();
    assert.equal((await newer.message(msgId)).ts, undefined);
  });
});

describe('ttl', () => {
  for (const ttl of [0, -1, 0.5, 1.5, 2_592_001, 1e15, '60', true, [], {}]) {
    test(`"ttl":${JSON.stringify(ttl)} is answered 200, and nothing is delivered`, async () => {
      using app = await newApp(server);
      const answer = await app.say(app.name, 1, { extra: { ttl } });
      expectCode(answer, 200, 200);
      assert.ok(answer.msg.includes('ttl'), `${answer}`);
      assert.deepEqual(await app.quiet(20), []);
    });
  }

  test('"ttl" may be 1, 2592000, null or written as 60.0, and the push does not show it', async () => {
    using app = await newApp(server);
    for (const ttl of ['1', '2592000', 'null', '60.0', '6e1']) {
      const msgId = unique('ttl');
      expectAck(await app.request(200, `{"to":"${app.name}","ttl":${ttl},"msg":7}`, { msgId }));
      const message = await app.message(msgId);
      assert.deepEqual(keysOf(message), ['from', 'msg', 'msgid', 'to']);
      assert.equal(message.msg, 7);
      app.ack([msgId]);
    }
  });

  test('an undelivered message is dropped when its time is up, and those beside it are not', async () => {
    using app = await newApp(server);
    const device = await addDevice(app);
    for (const to of [device, await newUser(server)]) {
      const before = await leave(app, to, 'before');
      const short = unique('short');
      expectAck(await app.say(to, 'short', { msgId: short, extra: { ttl: 1 } }));
      const long = unique('long');
      expectAck(await app.say(to, 'long', { msgId: long, extra: { ttl: 3600 } }));
      const behind = await leave(app, to, 'behind');
      await sleep(1_300);
      using receiver = to === device ? await newDevice(server, { name: to }) : await login(server, to);
      receiver.fetch();
      await receiver.message(behind);
      await receiver.fence();
      assert.deepEqual(
        receiver.messages.map((message) => message.msgid),
        [before, long, behind],
      );
    }
  });

  test('it is dropped after a restart, too', async () => {
    await using own = await startServer();
    const to = await newUser(own);
    {
      using sender = await newApp(own);
      expectAck(await sender.say(to, 'short', { msgId: 'short', extra: { ttl: 1 } }));
      await leave(sender, to, 'kept', 'kept');
    }
    await own.restart();
    await sleep(1_100);
    using receiver = await login(own, to);
    receiver.fetch();
    await receiver.message('kept');
    await receiver.fence();
    assert.equal(receiver.count('short'), 0);
  });

  test('a message that is delivered in time is delivered', async () => {
    using app = await newApp(server);
    const to = await newUser(server);
    const msgId = unique('in-time');
    expectAck(await app.say(to, 1, { msgId, extra: { ttl: 60 } }));
    using receiver = await login(server, to);
    receiver.fetch();
    await receiver.message(msgId);
  });
});

describe('existing clients never notice an extension', () => {
  test('answers to login, device auth, add and message have no field but code and msg', async () => {
    using app = await newApp(server);
    using device = await newDevice(server);
    for (const frame of [
      await app.bind(device.name),
      await app.unbind(device.name),
      await app.login(app.name, password),
    ]) {
      assert.deepEqual(Object.keys(frame.json as object).sort(), ['code', 'msg']);
    }
    for (const frame of [...app.frames, ...device.frames].filter((frame) => [100, 101, 102].includes(frame.cmd))) {
      assert.deepEqual(Object.keys(frame.json as object).sort(), ['code', 'msg']);
    }
  });

  test('no command from 205 upward comes to a client that did not use it', async () => {
    using app = await newApp(server, { autoAck: true });
    using device = await newDevice(server, { autoAck: true });
    expectCode(await app.bind(device.name), 203, 100);
    expectAck(await app.say(device.name, 1));
    expectAck(await device.say(app.name, 1));
    device.destroy();
    expectCode(await app.unbind(device.name), 204, 100);
    await app.fence();
    for (const frame of [...app.frames, ...device.frames]) assert.ok(frame.cmd <= 204, `${frame}`);
  });
});
