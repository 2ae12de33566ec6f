// PROTOCOL.md, "Encryption".

import assert from 'node:assert/strict';
import { createPublicKey, randomBytes } from 'node:crypto';
import { networkInterfaces } from 'node:os';
import { after, before, describe, test } from 'node:test';
import { type Server, startServer } from '../harness.ts';
import { aesEncrypt, Client, encodeFrame, type Frame, rsaEncrypt, unique } from '../mini-client.ts';
import { connect, expectAck, expectCode, leave, login, newApp, newDevice, newUser, password } from '../parties.ts';

let server: Server;
before(async () => {
  server = await startServer();
});
after(() => server?.[Symbol.asyncDispose]());

/** Sends what `keyOf` makes of the server's key as cmd 2, and gives the answer. */
function sendKey(client: Client, data: Uint8Array): Promise<Frame> {
  return client.request(2, data, { encrypt: false });
}

function rsa(client: Client, plain: Uint8Array): Buffer {
  assert.ok(client.serverKey);
  return rsaEncrypt(client.serverKey, plain);
}

function keyText(frame: Frame): string {
  return frame.data.toString('hex');
}

/** An encrypted frame whose data no key decrypts: not a whole number of blocks. */
function undecryptable(cmd: number, msgId: string): Buffer {
  return encodeFrame({ cmd, msgId, isEncrypt: true, data: Buffer.from('17 bytes of data.') });
}

describe('cmd 1', () => {
  test('comes first on every connection, unasked and in the clear', async () => {
    for (let i = 0; i < 3; i += 1) {
      using client = await Client.connect(server);
      const key = await client.takeCmd(1);
      assert.equal(client.frames[0], key);
      assert.equal(key.isEncrypt, false);
      await client.fence();
      assert.equal(client.frames.filter((frame) => frame.cmd === 1).length, 1);
    }
  });

  test('comes first also when the client speaks at once', async () => {
    using client = await Client.connect(server);
    client.send(0, undefined, { msgId: 'early' });
    await client.reply('early');
    assert.equal(client.frames[0]?.cmd, 1);
  });

  test('carries an RSA public key of 2048 bits as X.509 SubjectPublicKeyInfo in DER', async () => {
    using client = await Client.connect(server);
    const { data } = await client.takeCmd(1);
    const key = createPublicKey({ key: data, format: 'der', type: 'spki' });
    assert.equal(key.asymmetricKeyType, 'rsa');
    assert.equal(key.asymmetricKeyDetails?.modulusLength, 2048);
    assert.deepEqual(key.export({ format: 'der', type: 'spki' }), data, 'the DER is exact, nothing follows it');
  });

  test('carries the same key to connections that follow one another closely', async () => {
    using first = await Client.connect(server);
    using second = await Client.connect(server);
    assert.equal(keyText(await first.takeCmd(1)), keyText(await second.takeCmd(1)));
  });

  test('carries a fresh key after a restart, and another one on another node', async () => {
    await using own = await startServer();
    const keys = new Set<string>();
    for (const at of [own, server]) {
      using client = await Client.connect(at);
      keys.add(keyText(await client.takeCmd(1)));
    }
    await own.restart();
    using client = await Client.connect(own);
    keys.add(keyText(await client.takeCmd(1)));
    assert.equal(keys.size, 3);
  });
});

describe('cmd 2', () => {
  for (const bytes of [16, 24, 32]) {
    test(`a key of ${bytes} bytes is answered 100 and then in use both ways`, async () => {
      using client = await connect(server);
      const answer = await client.negotiate(bytes);
      expectCode(answer, 2, 100);
      assert.equal(answer.isEncrypt, false);
      expectCode(await client.register(unique('user'), password), 102, 100);
      const refusal = await client.request(999, { any: 'thing' });
      expectCode(refusal, 999, 300);
      assert.equal(refusal.isEncrypt, true);
    });
  }

  for (const bytes of [0, 1, 8, 15, 17, 31, 33, 64, 128]) {
    test(`a key of ${bytes} bytes is answered 200`, async () => {
      using client = await connect(server);
      const answer = await sendKey(client, rsa(client, randomBytes(bytes)));
      expectCode(answer, 2, 200);
      assert.equal(answer.isEncrypt, false);
      await client.fence();
    });
  }

  for (const [what, data] of [
    ['nothing', Buffer.alloc(0)],
    ['ten bytes', Buffer.alloc(10, 7)],
    ['255 bytes', Buffer.alloc(255, 7)],
    ['257 bytes', Buffer.alloc(257, 7)],
    ['a number not below the modulus', Buffer.alloc(256, 0xff)],
    ['a key in the clear', Buffer.alloc(16, 7)],
    ['JSON', Buffer.from('{"key":"abc"}')],
  ] as const) {
    test(`${what} instead of a ciphertext is answered 200`, async () => {
      using client = await connect(server);
      expectCode(await sendKey(client, data), 2, 200);
      await client.fence();
    });
  }

  test('a ciphertext with bad padding is answered like one of a key of the wrong length, or as if it were a key', async () => {
    const answers = new Set<string>();
    for (let i = 0; i < 8; i += 1) {
      using client = await connect(server);
      const data = randomBytes(256);
      data[0] = 0;
      const answer = await sendKey(client, data);
      assert.equal(answer.cmd, 2);
      // Implicit rejection: one in eighty or so gives random bytes of a key's length.
      if (answer.code !== 100) answers.add(answer.text);
      await client.fence();
    }
    using client = await connect(server);
    answers.add((await sendKey(client, rsa(client, randomBytes(15)))).text);
    assert.equal(answers.size, 1, [...answers].join(' '));
  });

  test('a second one is answered 200 and changes nothing', async () => {
    using client = await connect(server, { encrypt: true });
    const answer = await sendKey(client, rsa(client, randomBytes(16)));
    expectCode(answer, 2, 200);
    const name = unique('user');
    expectCode(await client.register(name, password), 102, 100);
    expectCode(await client.login(name, password), 100, 100);
    expectCode(await sendKey(client, rsa(client, randomBytes(16))), 2, 200);
    const ack = await client.say(name, 'me');
    expectAck(ack);
    const { frame, msg } = await client.message(ack.msgId);
    assert.deepEqual([frame.isEncrypt, msg], [true, 'me']);
  });

  test('a second one is answered 200 also when the first failed', async () => {
    using client = await connect(server);
    expectCode(await sendKey(client, rsa(client, randomBytes(15))), 2, 200);
    const key = randomBytes(16);
    expectCode(await sendKey(client, rsa(client, key)), 2, 200);
    client.aesKey = key;
    const answer = await client.request(101, { id: unique('device') }, { encrypt: true });
    expectCode(answer, 3, 200);
  });

  test('its answer is in the clear even when the request was encrypted', async () => {
    using client = await connect(server, { encrypt: true });
    const answer = await client.request(2, rsa(client, randomBytes(16)), { encrypt: true });
    expectCode(answer, 2, 200);
    assert.equal(answer.isEncrypt, false);
  });

  test('after login it is still possible, once', async () => {
    using device = await newDevice(server);
    expectCode(await device.negotiate(), 2, 100);
    const answer = await device.request(999, {});
    expectCode(answer, 999, 200);
    assert.equal(answer.isEncrypt, true);
    expectCode(await sendKey(device, rsa(device, randomBytes(16))), 2, 200);
    using app = await newApp(server);
    expectCode(await app.bind(device.name), 203, 100);
    const msgId = await leave(app, device.name, 'on');
    assert.equal((await device.message(msgId)).frame.isEncrypt, true);
  });

  test('a ciphertext that was accepted once is refused on another connection', async () => {
    using first = await connect(server);
    const secret = rsa(first, randomBytes(16));
    expectCode(await sendKey(first, secret), 2, 100);
    for (let i = 0; i < 2; i += 1) {
      using second = await connect(server);
      expectCode(await sendKey(second, secret), 2, 200);
    }
  });

  test('a recorded session replayed byte for byte logs nobody in, before and after a restart', async () => {
    await using own = await startServer();
    const name = await newUser(own);
    const recorded: Buffer[] = [];
    using victim = await connect(own);
    assert.ok(victim.serverKey);
    const key = randomBytes(16);
    const record = (frame: Buffer): void => {
      recorded.push(frame);
      victim.sendRaw(frame);
    };
    record(victim.frame(2, rsaEncrypt(victim.serverKey, key), { msgId: 'key' }));
    victim.aesKey = key;
    record(victim.frame(100, { username: name, password }, { msgId: 'login', encrypt: true }));
    record(victim.frame(200, { to: name, msg: 'pay' }, { msgId: 'pay', encrypt: true }));
    expectCode(await victim.reply('login', 15_000), 100, 100);
    for (const again of [false, true]) {
      if (again) await own.restart();
      using replayed = await connect(own);
      replayed.sendRaw(Buffer.concat(recorded));
      expectCode(await replayed.reply('login', 15_000), 3, 200);
      expectCode(await replayed.reply('pay'), 3, 200);
      expectCode(await replayed.request(200, { to: name, msg: 1 }), 200, 300);
      if (!again) await victim.fence();
    }
  });
});

describe('encrypted frames', () => {
  test('data of every length around the block size goes through in both directions', async () => {
    using app = await newApp(server, { encrypt: true });
    for (let length = 0; length <= 34; length += 1) {
      const msg = 'p'.repeat(length);
      const ack = await app.say(app.name, msg);
      expectAck(ack);
      const pushed = await app.message(ack.msgId);
      assert.deepEqual([pushed.frame.isEncrypt, pushed.msg], [true, msg]);
      app.ack([ack.msgId]);
    }
  });

  test('empty data stays empty: an encrypted heartbeat needs no key', async () => {
    using client = await connect(server);
    const before = await client.request(0, undefined, { encrypt: true });
    assert.deepEqual([before.cmd, before.isEncrypt, before.data.length], [0, true, 0]);
    expectCode(await client.negotiate(), 2, 100);
    const behind = await client.request(0, undefined, { encrypt: true });
    assert.deepEqual([behind.cmd, behind.isEncrypt, behind.data.length], [0, true, 0]);
  });

  test('before negotiation an answer with data to an empty encrypted frame goes in the clear', async () => {
    using client = await connect(server);
    const answer = await client.request(203, undefined, { encrypt: true });
    expectCode(answer, 203, 300);
    assert.equal(answer.isEncrypt, false);
  });

  test('after negotiation an answer with data to an empty encrypted frame is encrypted', async () => {
    using client = await connect(server, { encrypt: true });
    const answer = await client.request(203, undefined, { encrypt: true });
    expectCode(answer, 203, 300);
    assert.equal(answer.isEncrypt, true);
  });

  test('a whole padding block around nothing is empty data', async () => {
    using client = await connect(server, { encrypt: true });
    assert.ok(client.aesKey);
    const data = aesEncrypt(client.aesKey, Buffer.alloc(0));
    assert.equal(data.length, 16);
    client.sendRaw(encodeFrame({ msgId: 'padding', isEncrypt: true, data }));
    assert.equal((await client.reply('padding')).cmd, 0);
  });

  test('the ack of a message stays empty when it is encrypted', async () => {
    using app = await newApp(server, { encrypt: true, autoAck: true });
    const ack = await app.say(app.name, 1);
    expectAck(ack);
    assert.equal(ack.isEncrypt, true);
  });

  test('cmd 103 is in the clear for a session with a key', async () => {
    using app = await newApp(server, { encrypt: true });
    using newer = await login(server, app.name);
    const conflict = await app.takeCmd(103);
    assert.deepEqual([conflict.isEncrypt, conflict.data.length], [false, 0]);
    await newer.fence();
  });

  test('cmd 3 is in the clear for a session with a key', async () => {
    using app = await newApp(server, { encrypt: true });
    const answer = await app.request(201, 'not an array', { encrypt: true });
    expectCode(answer, 3, 200);
    assert.equal(answer.isEncrypt, false);
  });
});

test('the refusals of cmds 1, 2, 3 and 103 are in the clear even when the request was encrypted', async () => {
  using app = await newApp(server, { encrypt: true });
  for (const cmd of [1, 2, 3, 103]) {
    const answer = await app.request(cmd, { some: 'data' }, { encrypt: true });
    expectCode(answer, cmd, 200);
    assert.equal(answer.isEncrypt, false, `${answer}`);
  }
});

describe('negotiation is optional', () => {
  test('a device that skips it does everything in the clear', async () => {
    using app = await newApp(server, { encrypt: true, autoAck: true });
    using device = await newDevice(server);
    expectCode(await app.bind(device.name), 203, 100);
    device.fetch();
    const sent = await app.say(device.name, { on: true });
    expectAck(sent);
    const pushed = await device.message(sent.msgId);
    assert.deepEqual([pushed.frame.isEncrypt, pushed.msg], [false, { on: true }]);
    device.ack([sent.msgId]);
    expectAck(await device.say(app.name, 'done'));
    const [done] = await app.received(1);
    assert.deepEqual([done?.frame.isEncrypt, done?.msg], [true, 'done']);
    assert.ok(device.frames.every((frame) => !frame.isEncrypt));
    assert.equal((await device.logout()).how, 'fin');
  });

  test('a client that negotiated may send 201 and 202 in the clear, and pushes stay encrypted', async () => {
    const name = await newUser(server);
    using sender = await newApp(server);
    const first = await leave(sender, name, 'first');
    const second = await leave(sender, name, 'second');
    {
      using receiver = await login(server, name, { encrypt: true });
      receiver.fetch({ encrypt: false });
      const pushed = await receiver.received(2);
      assert.ok(pushed.every((message) => message.frame.isEncrypt));
      receiver.ack([first], { encrypt: false });
      await receiver.fence();
    }
    using receiver = await login(server, name, { encrypt: true });
    receiver.fetch({ encrypt: false });
    await receiver.message(second);
    assert.deepEqual(await receiver.quiet(), []);
    assert.equal(receiver.count(first), 0, 'the ack in the clear counted');
  });

  test('a client that negotiated may send any single frame in the clear, also its login from loopback', async () => {
    const name = await newUser(server);
    using client = await connect(server, { encrypt: true });
    expectCode(await client.login(name, password, {}, { encrypt: false }), 100, 100);
    const ack = await client.say(name, 'me', { encrypt: false });
    expectAck(ack);
    assert.equal(ack.isEncrypt, false);
    assert.equal((await client.message(ack.msgId)).frame.isEncrypt, true);
  });
});

describe('frames that do not decrypt', () => {
  test('an encrypted frame before negotiation gets cmd 3 with its msgId, whatever its cmd, and the connection stays', async () => {
    using client = await connect(server);
    for (const cmd of [0, 100, 200, 201, 999]) {
      const data = randomBytes(32);
      client.sendRaw(encodeFrame({ cmd, msgId: `early-${cmd}`, isEncrypt: true, data }));
      const answer = await client.reply(`early-${cmd}`);
      expectCode(answer, 3, 200);
      assert.equal(answer.isEncrypt, false);
    }
    await client.fence();
    expectCode(await client.negotiate(), 2, 100);
    expectCode(await client.request(999, {}), 999, 300);
  });

  test('a frame that is no whole number of blocks gets cmd 3 with its msgId', async () => {
    using client = await connect(server, { encrypt: true });
    client.sendRaw(undecryptable(100, 'odd'));
    const answer = await client.reply('odd');
    expectCode(answer, 3, 200);
    assert.equal(answer.isEncrypt, false);
    await client.fence();
  });

  test('a frame with bad padding gets cmd 3 with its msgId', async () => {
    using client = await connect(server, { encrypt: true });
    assert.ok(client.aesKey);
    // One block whose last byte, 0, is no PKCS#7 padding: cut from before the padding block.
    for (const last of [0, 17, 255]) {
      const plain = Buffer.concat([Buffer.alloc(15, 0x20), Buffer.from([last])]);
      const data = aesEncrypt(client.aesKey, plain).subarray(0, 16);
      client.sendRaw(encodeFrame({ cmd: 200, msgId: `pad-${last}`, isEncrypt: true, data }));
      expectCode(await client.reply(`pad-${last}`), 3, 200);
    }
    const uneven = Buffer.from([...Buffer.alloc(12, 0x20), 4, 4, 3, 4]);
    const data = aesEncrypt(client.aesKey, uneven).subarray(0, 16);
    client.sendRaw(encodeFrame({ cmd: 200, msgId: 'uneven', isEncrypt: true, data }));
    expectCode(await client.reply('uneven'), 3, 200);
    await client.fence();
  });

  test('a frame under another key never takes effect', async () => {
    using app = await newApp(server, { encrypt: true });
    const foreign = randomBytes(16);
    const data = aesEncrypt(foreign, Buffer.from(JSON.stringify({ to: app.name, msg: 'forged' })));
    app.sendRaw(encodeFrame({ cmd: 200, msgId: 'forged', isEncrypt: true, data }));
    const answer = await app.reply('forged');
    // One in 256 or so has valid padding by chance: then it is not JSON.
    assert.ok(answer.cmd === 3 || answer.cmd === 200);
    assert.equal(answer.code, 200);
    assert.deepEqual(await app.quiet(50), []);
  });

  test('a frame with a cleared flag is not taken for what it was', async () => {
    using app = await newApp(server, { encrypt: true });
    assert.ok(app.aesKey);
    const data = aesEncrypt(app.aesKey, Buffer.from(JSON.stringify({ to: app.name, msg: 'cleared' })));
    app.sendRaw(encodeFrame({ cmd: 200, msgId: 'cleared', isEncrypt: false, data }));
    expectCode(await app.reply('cleared'), 200, 200);
  });

  test('the tenth of them gets its cmd 3 and closes the connection', async () => {
    using client = await connect(server);
    for (let i = 1; i <= 9; i += 1) {
      client.sendRaw(undecryptable(0, `bad-${i}`));
      expectCode(await client.reply(`bad-${i}`), 3, 200);
    }
    await client.fence();
    client.sendRaw(undecryptable(0, 'bad-10'));
    expectCode(await client.reply('bad-10'), 3, 200);
    assert.equal((await client.waitClosed()).how, 'fin');
  });

  test('good frames in between do not set the count to zero', async () => {
    using client = await connect(server, { encrypt: true });
    for (let i = 1; i <= 10; i += 1) {
      await client.fence();
      expectCode(await client.request(999, {}), 999, 300);
      expectCode(await client.request(4, {}), 4, 200);
      client.sendRaw(undecryptable(0, `bad-${i}`));
      expectCode(await client.reply(`bad-${i}`), 3, 200);
    }
    assert.equal((await client.waitClosed()).how, 'fin');
  });

  test('those before negotiation and those after it count together', async () => {
    using client = await connect(server);
    for (let i = 1; i <= 10; i += 1) {
      if (i === 6) expectCode(await client.negotiate(), 2, 100);
      client.sendRaw(undecryptable(0, `bad-${i}`));
      expectCode(await client.reply(`bad-${i}`), 3, 200);
    }
    assert.equal((await client.waitClosed()).how, 'fin');
  });

  test('ten of them in one write get ten answers before the close', async () => {
    using client = await connect(server);
    const ids = Array.from({ length: 12 }, (_, i) => `bad-${i}`);
    client.sendRaw(Buffer.concat(ids.map((msgId) => undecryptable(0, msgId))));
    assert.equal((await client.waitClosed()).how, 'fin');
    const answers = client.frames.filter((frame) => frame.cmd === 3).map((frame) => frame.msgId);
    assert.deepEqual(answers, ids.slice(0, 10));
  });
});

describe('credentials in the clear', () => {
  const outside = Object.values(networkInterfaces())
    .flat()
    .find((address) => address !== undefined && !address.internal && address.family === 'IPv4')?.address;
  const skip = outside === undefined ? 'this machine has no address but loopback' : false;
  const args = ['--host', '0.0.0.0', '--advertise', '127.0.0.1'];

  test('a login from loopback may go in the clear', async () => {
    using app = await newApp(server);
    await app.fence();
  });

  test('login and registration in the clear from elsewhere are answered 200, encrypted ones work', {
    skip,
  }, async () => {
    await using open = await startServer({ args });
    const at = { host: outside ?? '', port: open.port };
    const name = unique('user');
    using client = await connect(at);
    expectCode(await client.register(name, password), 102, 200);
    expectCode(await client.negotiate(), 2, 100);
    expectCode(await client.register(name, password, { encrypt: false }), 102, 200);
    expectCode(await client.register(name, password), 102, 100);
    expectCode(await client.login(name, password, {}, { encrypt: false }), 100, 200);
    expectCode(await client.request(200, { to: name, msg: 1 }), 200, 300);
    expectCode(await client.login(name, password), 100, 100);
    expectAck(await client.say(name, 1));
  });

  test('a device may authenticate in the clear from elsewhere', { skip }, async () => {
    await using open = await startServer({ args });
    using device = await newDevice({ host: outside ?? '', port: open.port });
    await device.fence();
  });

  test('--allow-plain-login allows them from everywhere', { skip }, async () => {
    await using open = await startServer({ args: [...args, '--allow-plain-login'] });
    using app = await newApp({ host: outside ?? '', port: open.port });
    await app.fence();
  });
});
