// PROTOCOL.md, "Names and sessions".

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type Server, startServer } from '../harness.ts';
import { Client, encodeFrame, unique } from '../mini-client.ts';
import {
  addDevice,
  connect,
  expectAck,
  expectCode,
  leave,
  login,
  md5,
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

/** `unique`, filled up to exactly so many bytes. */
function nameOf(bytes: number, filler = 'x'): string {
  const start = unique('name');
  const rest = bytes - Buffer.byteLength(start);
  const name = start + filler.repeat(Math.floor(rest / Buffer.byteLength(filler)));
  return name + 'y'.repeat(bytes - Buffer.byteLength(name));
}

describe('names', () => {
  const good: readonly (readonly [string, () => string])[] = [
    ['128 bytes', () => nameOf(128)],
    ['128 bytes of fewer characters', () => nameOf(128, '名')],
    ['emoji', () => unique('😀👍🏽')],
    ['spaces inside and around', () => ` ${unique('a b')} `],
    ['punctuation', () => unique('a/b:c*d?e"f<g>h|i\\j\'k`l$m%n#o&p')],
    ['separators that are no control characters', () => unique('a\u2028b\u2029c\u00a0d\u200be\ufeff')],
    ['a number', () => unique('1').replaceAll('-', '0')],
    ['a name of Object.prototype before it', () => unique('__proto__')],
  ];
  const bad: readonly (readonly [string, string])[] = [
    ['the empty text', ''],
    ['129 bytes', 'x'.repeat(129)],
    ['43 characters in 129 bytes', '名'.repeat(43)],
    ['10,000 bytes', 'x'.repeat(10_000)],
    ['NUL', 'a\u0000b'],
    ['a line feed', 'a\nb'],
    ['a carriage return', 'a\rb'],
    ['a tab', 'a\tb'],
    ['escape', 'a\u001b[31mb'],
    ['the last of the C0 controls', 'a\u001fb'],
    ['delete', 'a\u007fb'],
    ['a C1 control', 'a\u0085b'],
    ['a control character at the end', 'ab\u0001'],
    ['half a surrogate pair', 'a\ud800b'],
  ];

  for (const [what, make] of good) {
    test(`a user may be named with ${what}`, async () => {
      const name = make();
      using app = await newApp(server, { name });
      const msgId = await leave(app, name, 'me');
      const pushed = await app.message(msgId);
      assert.deepEqual([pushed.from, pushed.to], [name, name]);
    });

    test(`a device may be named with ${what}`, async () => {
      const name = make();
      using app = await newApp(server);
      expectCode(await app.bind(name), 203, 100);
      using device = await newDevice(server, { name });
      const msgId = await leave(app, name, 'on');
      assert.equal((await device.message(msgId)).to, name);
      expectCode(await app.unbind(name), 204, 100);
    });
  }

  for (const [i, [what, name]] of bad.entries()) {
    // Ten logins that failed hold up the next ones of the same address for 20 s each. Only Linux has these from the start.
    const at = process.platform === 'linux' ? { localAddress: `127.0.1.${i + 1}` } : {};
    test(`a name is refused for ${what}`, async () => {
      using client = await connect(server, at);
      expectCode(await client.register(name, password), 102, 200);
      expectCode(await client.auth(name), 101, 200);
      const answer = await client.login(name, password);
      assert.equal(answer.cmd, 100);
      assert.ok(answer.code === 200 || answer.code === 1002, `${answer}`);
      using app = await newApp(server);
      expectCode(await app.bind(name), 203, 200);
      expectCode(await app.say(name, 1), 200, 200);
      const removed = await app.unbind(name);
      assert.equal(removed.cmd, 204);
      assert.ok(removed.code === 200 || removed.code === 2002, `${removed}`);
    });
  }

  test('the names of Object.prototype are names like others', async () => {
    await using own = await startServer();
    for (const name of ['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'valueOf']) {
      using stranger = await connect(own);
      expectCode(await stranger.login(name, password), 100, 1002);
      using app = await newApp(own, { name });
      using sender = await newApp(own);
      expectCode(await sender.bind(name), 203, 200);
      const msgId = await leave(sender, name, name);
      assert.deepEqual((await app.message(msgId)).msg, name);
    }
    for (const name of ['isPrototypeOf', '__defineGetter__', 'length', 'then']) {
      using app = await newApp(own);
      expectCode(await app.bind(name), 203, 100);
      expectCode(await app.bind(name), 203, 2001);
      using device = await newDevice(own, { name });
      await leave(app, name, 1);
      await device.received(1);
    }
  });

  test('names are compared byte by byte: case, accents in two encodings and spaces tell them apart', async () => {
    const base = unique('Name');
    const forms = [
      base,
      base.toLowerCase(),
      base.toUpperCase(),
      `${base} `,
      ` ${base}`,
      `${base}\u00e9`,
      `${base}e\u0301`,
    ];
    const apps: Client[] = [];
    try {
      for (const name of forms) apps.push(await newApp(server, { name }));
      using sender = await newApp(server);
      for (const [i, name] of forms.entries()) {
        const msgId = await leave(sender, name, i);
        assert.equal((await apps[i]?.message(msgId))?.to, name);
      }
      for (const app of apps) {
        await app.fence();
        assert.equal(app.messages.length, 1);
      }
    } finally {
      for (const app of apps) app.destroy();
    }
  });
});

describe('one name space', () => {
  test('registering the name of a device that has authenticated is answered 1001', async () => {
    using device = await newDevice(server);
    using client = await connect(server);
    expectCode(await client.register(device.name, password), 102, 1001);
    device.destroy();
    expectCode(await client.register(device.name, password), 102, 1001);
    expectCode(await client.login(device.name, password), 100, 1002);
  });

  test('registering the name of a device that was added and never seen is answered 1001', async () => {
    using app = await newApp(server);
    const id = await addDevice(app);
    using client = await connect(server);
    expectCode(await client.register(id, password), 102, 1001);
  });

  test("authenticating as a device under a user's name is answered 200 and disturbs nobody", async () => {
    using app = await newApp(server);
    using impostor = await connect(server);
    expectCode(await impostor.auth(app.name), 101, 200);
    expectCode(await impostor.say(app.name, 1), 200, 300);
    assert.deepEqual(await app.quiet(50), []);
    assert.equal(app.closed, undefined);
    expectAck(await app.say(app.name, 1));
  });

  test("adding a user's name as a device is answered 200, one's own as well", async () => {
    using app = await newApp(server);
    const other = await newUser(server);
    expectCode(await app.bind(other), 203, 200);
    expectCode(await app.bind(app.name), 203, 200);
  });

  test('a name that an attempt to log in, to remove or to write mentioned is still free', async () => {
    using app = await newApp(server);
    const name = unique('free');
    expectCode(await app.unbind(name), 204, 2002);
    expectCode(await app.say(name, 1), 200, 200);
    using client = await connect(server);
    expectCode(await client.login(name, password), 100, 1002);
    expectCode(await client.register(name, password), 102, 100);
    expectCode(await client.auth(name), 101, 200);
  });

  test('names keep their kind over a restart', async () => {
    await using own = await startServer();
    const user = await newUser(own);
    const device = unique('device');
    const added = unique('device');
    {
      using session = await newDevice(own, { name: device });
      using app = await login(own, user);
      await addDevice(app, added);
      await session.fence();
    }
    await own.restart();
    using client = await connect(own);
    expectCode(await client.register(device, password), 102, 1001);
    expectCode(await client.register(added, password), 102, 1001);
    expectCode(await client.register(user, password), 102, 1001);
    expectCode(await client.auth(user), 101, 200);
  });
});

describe('one session', () => {
  for (const kind of ['app', 'device'] as const) {
    const enter = async (name: string) => (kind === 'app' ? login(server, name) : newDevice(server, { name }));
    const fresh = async () => (kind === 'app' ? newUser(server) : unique('device'));

    test(`a newer session of an ${kind} wins: the older one gets cmd 103 without data and is closed`, async () => {
      const name = await fresh();
      using older = await enter(name);
      using newer = await enter(name);
      const conflict = await older.takeCmd(103);
      assert.deepEqual([conflict.data.length, conflict.isEncrypt], [0, false]);
      assert.equal((await older.waitClosed()).how, 'fin');
      assert.equal(older.frames.filter((frame) => frame.cmd === 103).length, 1);
      assert.deepEqual(await newer.quiet(), [], 'the newer one notices nothing');
    });

    test(`messages go to the newer session of an ${kind}, also after the older one has closed`, async () => {
      const name = await fresh();
      using sender = await newApp(server);
      if (kind === 'device') await addDevice(sender, name);
      using older = await enter(name);
      using newer = await enter(name);
      await older.waitClosed();
      older.destroy();
      await newer.fence();
      const msgId = await leave(sender, name, 'for the newer');
      await newer.message(msgId);
      assert.equal(older.messages.length, 0);
    });

    test(`what an older session of an ${kind} did not ack goes to the newer one; its late acks are ignored`, async () => {
      const name = await fresh();
      using sender = await newApp(server);
      if (kind === 'device') await addDevice(sender, name);
      using older = await Client.connect(server, { holdOpen: true });
      await older.awaitKey();
      if (kind === 'app') expectCode(await older.login(name, password), 100, 100);
      else expectCode(await older.auth(name), 101, 100);
      const acked = await leave(sender, name, 'acked');
      await older.message(acked);
      older.ack([acked]);
      const kept = await leave(sender, name, 'kept');
      await older.message(kept);
      await older.fence();
      using newer = await enter(name);
      await older.takeCmd(103);
      older.ack([kept]);
      newer.fetch();
      await newer.message(kept);
      await newer.fence();
      assert.equal(newer.count(acked), 0);
    });
  }

  test('frames that were read before a takeover stand', async () => {
    using receiver = await newApp(server);
    using older = await newApp(server);
    const ids = Array.from({ length: 20 }, (_, i) => `stand-${i}`);
    older.sendRaw(Buffer.concat(ids.map((msgId) => older.frame(200, { to: receiver.name, msg: 0 }, { msgId }))));
    await older.fence();
    using newer = await login(server, older.name);
    await older.takeCmd(103);
    await receiver.received(20);
    await newer.fence();
  });

  test('a wrong password takes nothing over', async () => {
    using app = await newApp(server);
    using guess = await connect(server);
    expectCode(await guess.login(app.name, md5('guess')), 100, 1002);
    assert.deepEqual(await app.quiet(50), []);
    assert.equal(app.closed, undefined);
  });

  test('different names have sessions side by side', async () => {
    using first = await newApp(server);
    using second = await newApp(server);
    using third = await newDevice(server);
    for (const client of [first, second, third]) assert.deepEqual(await client.quiet(20), []);
  });
});

describe('a second login on one connection', () => {
  test('the same user again is verified again and answered 100, and nothing else happens', async () => {
    using app = await newApp(server);
    expectCode(await app.login(app.name, password), 100, 100);
    expectAck(await app.say(app.name, 1));
    assert.equal(app.frames.filter((frame) => frame.cmd === 103).length, 0);
    expectCode(
      await app.request(100, { username: app.name, password: md5('wrong') }, { timeoutMs: 15_000 }),
      100,
      1002,
    );
    expectAck(await app.say(app.name, 2));
  });

  test('the same device again is answered 100, and nothing else happens', async () => {
    using device = await newDevice(server);
    expectCode(await device.auth(device.name), 101, 100);
    assert.deepEqual(await device.quiet(50), []);
    assert.equal(device.closed, undefined);
  });

  test('the same user again does not push again what is outstanding', async () => {
    using app = await newApp(server);
    const msgId = await leave(app, app.name, 1);
    await app.message(msgId);
    expectCode(await app.login(app.name, password), 100, 100);
    assert.deepEqual(await app.quiet(), []);
    assert.equal(app.count(msgId), 1);
  });

  test('another name, the other role and a registration get 200 and leave the session as it was', async () => {
    const other = await newUser(server);
    const deviceName = unique('device');
    using app = await newApp(server);
    for (const [cmd, body] of [
      [100, { username: other, password }],
      [100, { username: other, password: md5('wrong') }],
      [101, { id: deviceName }],
      [101, { id: app.name }],
      [102, { username: unique('user'), password }],
    ] as const) {
      expectCode(await app.request(cmd, body, { timeoutMs: 15_000 }), cmd, 200);
    }
    const msgId = await leave(app, app.name, 1);
    const pushed = await app.message(msgId);
    assert.equal(pushed.from, app.name);

    using device = await newDevice(server);
    for (const [cmd, body] of [
      [100, { username: other, password }],
      [101, { id: deviceName }],
      [102, { username: unique('user'), password }],
    ] as const) {
      expectCode(await device.request(cmd, body, { timeoutMs: 15_000 }), cmd, 200);
    }
    expectCode(await app.bind(device.name), 203, 100);
    await leave(app, device.name, 'still you');
    await device.received(1);
  });

  test('a refused registration on a session registers nobody', async () => {
    using app = await newApp(server);
    const name = unique('user');
    expectCode(await app.request(102, { username: name, password }), 102, 200);
    using client = await connect(server);
    expectCode(await client.login(name, password), 100, 1002);
  });

  test('a refused device auth on a session disturbs the real device and makes no name known', async () => {
    using app = await newApp(server);
    using device = await newDevice(server);
    expectCode(await app.request(101, { id: device.name }), 101, 200);
    assert.deepEqual(await device.quiet(50), []);
    assert.equal(device.closed, undefined);
    const name = unique('free');
    expectCode(await app.request(101, { id: name }), 101, 200);
    await newUser(server, name);
  });
});

describe('deadlines', { concurrency: true }, () => {
  test('a connection that sends no login in time is closed, heartbeats or not', async () => {
    await using own = await startServer({ args: ['--login-timeout', '1'] });
    using silent = await Client.connect(own);
    using beating = await Client.connect(own);
    const beat = setInterval(() => beating.sendRaw(encodeFrame({})), 100);
    const started = performance.now();
    try {
      await Promise.all([silent.waitClosed(8_000), beating.waitClosed(8_000)]);
    } finally {
      clearInterval(beat);
    }
    assert.ok(performance.now() - started > 500, 'not at once');
    assert.deepEqual(
      silent.frames.map((frame) => frame.cmd),
      [1],
    );
  });

  test('neither a key nor a part of a frame counts as a login', async () => {
    await using own = await startServer({ args: ['--login-timeout', '1'] });
    using keyed = await connect(own, { encrypt: true });
    using partial = await Client.connect(own);
    partial.sendRaw(Buffer.from([0, 0, 0, 100, 8]));
    await Promise.all([keyed.waitClosed(8_000), partial.waitClosed(8_000)]);
  });

  test('a session is not closed by the deadline for logins', async () => {
    await using own = await startServer({ args: ['--login-timeout', '3'] });
    using app = await newApp(own);
    using device = await newDevice(own);
    using late = await Client.connect(own);
    await late.waitClosed(12_000);
    await app.fence();
    await device.fence();
  });

  test('a connection from which nothing is received for the idle time is closed', async () => {
    await using own = await startServer({ args: ['--idle-timeout', '1'] });
    using device = await newDevice(own);
    const started = performance.now();
    const { how, at } = await device.waitClosed(8_000);
    assert.equal(how, 'fin');
    assert.ok(at - started > 500, 'not at once');
  });

  test('heartbeats keep a connection open', async () => {
    await using own = await startServer({ args: ['--idle-timeout', '2'] });
    using device = await newDevice(own);
    using silent = await newDevice(own);
    const beat = setInterval(() => device.sendRaw(encodeFrame({})), 200);
    try {
      await silent.waitClosed(12_000);
      await sleep(1_000);
      await device.fence();
    } finally {
      clearInterval(beat);
    }
  });

  test('what is written to a connection keeps it open as well', async () => {
    await using own = await startServer({ args: ['--idle-timeout', '3'] });
    using app = await newApp(own);
    using device = await newDevice(own);
    using silent = await newDevice(own);
    expectCode(await app.bind(device.name), 203, 100);
    const say = setInterval(() => app.post(device.name, 'tick'), 200);
    try {
      await silent.waitClosed(15_000);
      await sleep(1_000);
      assert.equal(device.closed, undefined);
      assert.ok(device.messages.length > 5);
    } finally {
      clearInterval(say);
    }
    await device.waitClosed(15_000);
  });

  test('a part of a frame that never becomes whole does not keep a connection open for ever', async () => {
    await using own = await startServer({ args: ['--idle-timeout', '1'] });
    using device = await newDevice(own);
    device.sendRaw(Buffer.from([0, 0, 1]));
    await device.waitClosed(8_000);
  });
});
