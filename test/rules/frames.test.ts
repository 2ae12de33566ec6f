// PROTOCOL.md, "Frames".

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { noProc, type Server, startServer } from '../harness.ts';
import {
  Client,
  decodeBody,
  encodeBody,
  encodeFrame,
  type Frame,
  rsaEncrypt,
  unique,
  withLength,
} from '../mini-client.ts';
import {
  connect,
  eventually,
  expectAck,
  expectCode,
  leave,
  login,
  newApp,
  newDevice,
  newUser,
  password,
  sleep,
  warmUp,
} from '../parties.ts';
import { bytesField, explicitBody, fieldsOf, tag, varint, varintField } from '../wire.ts';

const kib = 1024;
const mib = 1024 * kib;

let server: Server;
before(async () => {
  server = await startServer();
});
after(() => server?.[Symbol.asyncDispose]());

/** A heartbeat whose body has exactly `size` bytes, by an unknown field that is skipped. */
function heartbeatOf(size: number, msgId: string): Buffer {
  const id = bytesField(2, msgId);
  const overhead = Buffer.concat([tag(15, 2), varint(size, 3)]).length;
  const pad = size - id.length - overhead;
  const body = Buffer.concat([id, tag(15, 2), varint(pad, 3), Buffer.alloc(pad, 0x61)]);
  assert.equal(body.length, size);
  return withLength(body);
}

/** Asserts cmd 3 with code 200, then the server's FIN. */
async function expectNotProtobuf(client: Client): Promise<Frame> {
  const answer = await client.takeCmd(3);
  expectCode(answer, 3, 200);
  assert.equal(answer.isEncrypt, false);
  assert.equal((await client.waitClosed()).how, 'fin');
  return answer;
}

describe('the length and the envelope', () => {
  test('a bare heartbeat, four zero bytes, is answered by four zero bytes', async () => {
    using client = await connect(server);
    client.sendRaw(Buffer.alloc(4));
    const answer = await client.takeCmd(0);
    assert.equal(answer.body.length, 0);
  });

  test('the length is big-endian and counts the body only', async () => {
    using client = await connect(server);
    // A length of 0x0102 = 258: little-endian it would be far beyond the limit.
    client.sendRaw(heartbeatOf(258, 'h-258'));
    assert.equal((await client.reply('h-258')).cmd, 0);
    await client.fence();
  });

  test('fields that are sent although they have their default value are accepted', async () => {
    using client = await connect(server);
    client.sendRaw(withLength(explicitBody(0, '', '')));
    const answer = await client.takeCmd(0);
    assert.equal(answer.body.length, 0);
    client.sendRaw(withLength(explicitBody(0, 'explicit', '')));
    assert.equal((await client.reply('explicit')).cmd, 0);
  });

  test('fields may come in any order', async () => {
    using client = await connect(server);
    client.sendRaw(withLength(Buffer.concat([bytesField(4, '{}'), bytesField(2, 'swapped'), varintField(1, 200)])));
    expectCode(await client.reply('swapped'), 200, 300);
  });

  test('the last of repeated fields wins', async () => {
    using client = await connect(server);
    const twice = [varintField(1, 104), varintField(1, 200), bytesField(2, 'first'), bytesField(2, 'last')];
    client.sendRaw(withLength(Buffer.concat(twice)));
    expectCode(await client.reply('last'), 200, 300);
    await client.fence();
  });

  test('a varint longer than it need be is read', async () => {
    using client = await connect(server);
    const body = Buffer.concat([tag(1, 0), varint(200, 10), tag(2, 2), varint(4, 5), Buffer.from('long')]);
    client.sendRaw(withLength(body));
    expectCode(await client.reply('long'), 200, 300);
  });

  test('a bool other than 0 and 1 is true', async () => {
    using client = await connect(server);
    client.sendRaw(withLength(Buffer.concat([bytesField(2, 'two'), varintField(3, 2)])));
    const answer = await client.reply('two');
    assert.equal(answer.cmd, 0);
    assert.equal(answer.isEncrypt, true);
  });

  for (const [what, unknown] of [
    ['a varint', varintField(5, 1n << 63n)],
    ['a fixed64', Buffer.concat([tag(6, 1), Buffer.alloc(8, 0xff)])],
    ['bytes', bytesField(7, Buffer.alloc(300, 0xff))],
    ['empty bytes', bytesField(8, '')],
    ['a fixed32', Buffer.concat([tag(9, 5), Buffer.alloc(4, 0xff)])],
    ['a field with the highest number', varintField(2 ** 29 - 1, 7)],
    ['a number below it with a wide tag', varintField(19_000, 7)],
  ] as const) {
    test(`an unknown field is skipped: ${what}`, async () => {
      using client = await connect(server);
      const id = bytesField(2, 'known');
      for (const body of [Buffer.concat([unknown, id]), Buffer.concat([id, unknown, unknown])]) {
        client.sendRaw(withLength(body));
        const answer = await client.reply('known');
        assert.deepEqual(answer.body, id, 'the answer carries nothing of it');
      }
    });
  }

  for (const [what, field] of [
    ['cmd as bytes', bytesField(1, 'x')],
    ['cmd as a fixed32', Buffer.concat([tag(1, 5), Buffer.alloc(4, 1)])],
    ['msgId as a varint', varintField(2, 5)],
    ['isEncrypt as bytes', bytesField(3, 'yes')],
    ['data as a fixed64', Buffer.concat([tag(4, 1), Buffer.alloc(8, 1)])],
  ] as const) {
    test(`a known field of another wire type is skipped as unknown: ${what}`, async () => {
      using client = await connect(server);
      const id = bytesField(2, 'typed');
      client.sendRaw(withLength(Buffer.concat([id, field])));
      assert.deepEqual((await client.reply('typed')).body, id);
    });
  }

  const group = Buffer.concat([tag(5, 3), varintField(1, 1), tag(5, 4)]);
  for (const [what, body] of [
    ['a group', group],
    ['an empty group', Buffer.concat([tag(5, 3), tag(5, 4)])],
    ['a group after good fields', Buffer.concat([bytesField(2, 'good'), group])],
    ['groups nested ten thousand deep', Buffer.concat(Array<Buffer>(10_000).fill(tag(5, 3)))],
    ['the end of a group that never began', tag(5, 4)],
    ['cmd as a group', Buffer.concat([tag(1, 3), tag(1, 4)])],
    ['wire type 6', Buffer.concat([tag(5, 6), Buffer.from([1])])],
    ['wire type 7', Buffer.concat([tag(5, 7), Buffer.from([1])])],
    ['field number 0', varintField(0, 1)],
    ['a tag without a value', tag(1, 0)],
    ['a truncated varint', Buffer.concat([tag(1, 0), Buffer.from([0xff])])],
    ['a varint of eleven bytes', Buffer.concat([tag(1, 0), Buffer.alloc(10, 0x80), Buffer.from([1])])],
    ['an unknown varint of eleven bytes', Buffer.concat([tag(5, 0), Buffer.alloc(10, 0xff), Buffer.from([1])])],
    ['a tag of eleven bytes', Buffer.concat([Buffer.alloc(10, 0x88), Buffer.from([0, 1])])],
    ['bytes longer than the body', Buffer.concat([tag(4, 2), varint(10), Buffer.from('short')])],
    ['bytes of length 2^32-1', Buffer.concat([tag(4, 2), varint(2n ** 32n - 1n), Buffer.from('short')])],
    ['bytes of length 2^64-1', Buffer.concat([tag(4, 2), varint(2n ** 64n - 1n), Buffer.from('short')])],
    ['an unknown field longer than the body', Buffer.concat([tag(9, 2), varint(10), Buffer.from('short')])],
    ['a truncated fixed32', Buffer.concat([tag(9, 5), Buffer.alloc(3)])],
    ['a truncated fixed64', Buffer.concat([tag(9, 1), Buffer.alloc(7)])],
    ['a msgId of invalid UTF-8', bytesField(2, Buffer.from([0x61, 0xff]))],
    ['a msgId with an encoded surrogate', bytesField(2, Buffer.from([0xed, 0xa0, 0x80]))],
    ['a msgId with an overlong encoding', bytesField(2, Buffer.from([0xc0, 0x80]))],
    ['JSON instead of protobuf', Buffer.from('{"cmd":0}')],
  ] as const) {
    test(`what is not protobuf gets cmd 3 with code 200 and the close: ${what}`, async () => {
      using client = await connect(server);
      client.sendRaw(withLength(body));
      await expectNotProtobuf(client);
    });
  }

  test('what is not protobuf gets cmd 3 and the close after login too', async () => {
    using device = await newDevice(server);
    device.sendRaw(withLength(group));
    await expectNotProtobuf(device);
  });

  test('what was asked before a body that is not protobuf is still answered, what comes after is not', async () => {
    using client = await connect(server);
    const heartbeat = (msgId: string) => encodeFrame({ msgId });
    client.sendRaw(Buffer.concat([heartbeat('before'), withLength(group), heartbeat('after')]));
    assert.equal((await client.reply('before')).cmd, 0);
    await expectNotProtobuf(client);
    assert.ok(!client.frames.some((frame) => frame.msgId === 'after'));
  });
});

describe('answers', () => {
  test('an answer carries the cmd and the msgId of its request', async () => {
    using app = await newApp(server);
    for (const msgId of ['x', '', '消息-é', 'a'.repeat(128), 'with "quotes"\n']) {
      for (const cmd of [0, 4, 102, 203, 999]) {
        app.send(cmd, undefined, { msgId });
        const answer = await app.take((frame) => frame.cmd === cmd && frame.msgId === msgId, `answer to ${cmd}`);
        if (cmd !== 0) expectCode(answer, cmd, 200);
      }
    }
  });

  test('an answer mirrors isEncrypt, frame by frame', async () => {
    using app = await newApp(server, { encrypt: true });
    for (const encrypt of [true, false, true]) {
      for (const [cmd, body, code] of [
        [203, { deviceId: 'x'.repeat(200) }, 200],
        [204, { deviceId: unique('device') }, 2002],
        [200, { to: unique('nobody'), msg: 1 }, 200],
        [999, {}, 200],
        [100, { username: app.name, password }, 100],
      ] as const) {
        const answer = await app.request(cmd, body, { encrypt, timeoutMs: 15_000 });
        expectCode(answer, cmd, code);
        assert.equal(answer.isEncrypt, encrypt, `${answer}`);
      }
      const ack = await app.say(app.name, 'me', { encrypt });
      expectAck(ack);
      assert.equal(ack.isEncrypt, encrypt);
      const heartbeat = await app.request(0, undefined, { encrypt });
      assert.equal(heartbeat.isEncrypt, encrypt);
    }
  });

  test('the server leaves defaults out and uses no envelope field beyond the fourth', async () => {
    const all: Frame[] = [];
    using app = await newApp(server, { encrypt: true, onFrame: (frame) => all.push(frame), autoAck: true });
    using device = await newDevice(server, { onFrame: (frame) => all.push(frame), autoAck: true });
    expectCode(await app.bind(device.name), 203, 100);
    expectAck(await app.say(device.name, 'on'));
    expectAck(await device.say(app.name, 'done'));
    await app.received(1);
    app.sendRaw(Buffer.alloc(4));
    app.send(201, 'not an array');
    await app.takeCmd(3);
    using other = await login(server, app.name, { encrypt: true, onFrame: (frame) => all.push(frame) });
    await app.waitClosed();
    await other.fence();
    assert.ok(all.length > 15);
    for (const frame of all) {
      for (const { field, value } of fieldsOf(frame.body)) {
        assert.ok(field >= 1 && field <= 4, `field ${field} in ${frame}`);
        assert.ok(
          typeof value === 'bigint' ? value !== 0n : value.length > 0,
          `field ${field} is a default in ${frame}`,
        );
      }
      assert.deepEqual(encodeBody(decodeBody(frame.body)), frame.body);
    }
  });

  test('the ack of a message is the cmd and the msgId and nothing else', async () => {
    using app = await newApp(server, { autoAck: true });
    const ack = await app.say(app.name, 'me', { msgId: 'm-1' });
    assert.deepEqual(ack.body, Buffer.concat([varintField(1, 200), bytesField(2, 'm-1')]));
  });

  test('the common answer has a number "code" and a text "msg" and nothing else', async () => {
    using client = await connect(server);
    for (const cmd of [200, 999, 4, 100, 2]) {
      const { json } = await client.request(cmd);
      assert.deepEqual(Object.keys(json as object).sort(), ['code', 'msg']);
      assert.deepEqual(typeof (json as { code: unknown }).code, 'number');
      assert.deepEqual(typeof (json as { msg: unknown }).msg, 'string');
    }
  });
});

describe('frames in flight', () => {
  test('a thousand heartbeats in one write are all answered, in order', async () => {
    using client = await connect(server);
    const ids = Array.from({ length: 1_000 }, (_, i) => `h${i}`);
    client.sendRaw(Buffer.concat(ids.map((msgId) => encodeFrame({ msgId }))));
    await client.reply('h999');
    assert.deepEqual(
      client.frames.filter((frame) => frame.cmd === 0).map((frame) => frame.msgId),
      ids,
    );
  });

  test('a frame that arrives byte by byte is one frame', async () => {
    using client = await connect(server);
    for (const byte of encodeFrame({ cmd: 200, msgId: 'drip', data: Buffer.from('{}') })) {
      client.sendRaw(Buffer.from([byte]));
      await new Promise((resolve) => setImmediate(resolve));
    }
    expectCode(await client.reply('drip'), 200, 300);
  });

  test('login, add, message and heartbeat sent in one write take effect in order', async () => {
    using device = await newDevice(server);
    using client = await connect(server);
    const name = unique('user');
    const frames = [
      client.frame(102, { username: name, password }, { msgId: 'register' }),
      client.frame(100, { username: name, password }, { msgId: 'login' }),
      client.frame(203, { deviceId: device.name }, { msgId: 'add' }),
      client.frame(203, { deviceId: device.name }, { msgId: 'again' }),
      client.frame(200, { to: device.name, msg: 'on' }, { msgId: 'message' }),
      client.frame(204, { deviceId: device.name }, { msgId: 'remove' }),
      client.frame(200, { to: device.name, msg: 'late' }, { msgId: 'refused' }),
      client.frame(0, undefined, { msgId: 'heartbeat' }),
    ];
    client.sendRaw(Buffer.concat(frames));
    expectCode(await client.reply('register', 15_000), 102, 100);
    expectCode(await client.reply('login', 15_000), 100, 100);
    expectCode(await client.reply('add'), 203, 100);
    expectCode(await client.reply('again'), 203, 2001);
    expectAck(await client.reply('message'));
    expectCode(await client.reply('remove'), 204, 100);
    expectCode(await client.reply('refused'), 200, 200);
    assert.equal((await client.reply('heartbeat')).cmd, 0);
    assert.equal((await device.message('message')).msg, 'on');
    const waiting = ['register', 'login', 'add', 'again', 'remove', 'heartbeat'];
    const order = client.frames.map((frame) => frame.msgId).filter((msgId) => waiting.includes(msgId));
    assert.deepEqual(order, waiting);
  });

  test('what was sent before a login gets its 300 although the login stands right behind it', async () => {
    const name = await newUser(server);
    using client = await connect(server);
    const body = { to: name, msg: 1 };
    client.sendRaw(
      Buffer.concat([
        client.frame(200, body, { msgId: 'before' }),
        client.frame(100, { username: name, password }, { msgId: 'login' }),
        client.frame(200, body, { msgId: 'after' }),
      ]),
    );
    expectCode(await client.reply('before'), 200, 300);
    expectCode(await client.reply('login', 15_000), 100, 100);
    expectAck(await client.reply('after'));
  });

  test('a login encrypted under a key stands right behind the cmd 2 that brings the key', async () => {
    const name = await newUser(server);
    using donor = await connect(server, { encrypt: true });
    using client = await connect(server);
    assert.ok(client.serverKey && donor.aesKey);
    // The donor's key is as good as any: what matters is that cmd 2 and the login leave in one write.
    client.aesKey = donor.aesKey;
    client.sendRaw(
      Buffer.concat([
        client.frame(2, rsaEncrypt(client.serverKey, donor.aesKey), { msgId: 'key' }),
        client.frame(100, { username: name, password }, { msgId: 'login', encrypt: true }),
        client.frame(0, undefined, { msgId: 'heartbeat', encrypt: true }),
      ]),
    );
    expectCode(await client.reply('key'), 2, 100);
    const answer = await client.reply('login', 15_000);
    expectCode(answer, 100, 100);
    assert.equal(answer.isEncrypt, true);
    await client.reply('heartbeat');
  });

  test('a logout behind messages does not cost them', async () => {
    using receiver = await newApp(server);
    using sender = await newApp(server);
    const ids = Array.from({ length: 50 }, (_, i) => `last-${i}`);
    const frames = ids.map((msgId) => sender.frame(200, { to: receiver.name, msg: msgId }, { msgId }));
    sender.sendRaw(Buffer.concat([...frames, sender.frame(104)]));
    const pushed = await receiver.received(50);
    assert.deepEqual(
      pushed.map((message) => message.msgid),
      ids,
    );
  });

  test('every one of many messages in flight is acked', async () => {
    using app = await newApp(server, { autoAck: true });
    const ids = Array.from({ length: 500 }, (_, i) => `flight-${i}`);
    app.sendRaw(Buffer.concat(ids.map((msgId) => app.frame(200, { to: app.name, msg: 0 }, { msgId }))));
    const acked = () => app.frames.filter((frame) => frame.cmd === 200);
    await app.until(() => (acked().length >= ids.length ? true : undefined), '500 acks', 15_000);
    for (const frame of acked()) expectAck(frame);
    assert.deepEqual(new Set(acked().map((frame) => frame.msgId)), new Set(ids));
  });

  test('a flood is slowed at most, never refused', async () => {
    using device = await newDevice(server);
    const count = 20_000;
    const frame = encodeFrame({ msgId: 'h' });
    device.sendRaw(Buffer.concat(Array<Buffer>(count).fill(frame)));
    const arrived = () => device.frames.length - 2;
    await device.until(() => (arrived() >= count ? true : undefined), `${count} heartbeats answered`, 60_000);
    assert.ok(device.frames.slice(2).every((answer) => answer.cmd === 0));
  });

  test('what was sent before the FIN of a client is still answered, then the server closes', async () => {
    const name = await newUser(server);
    {
      using before = await login(server, name, { autoAck: true });
      expectAck(await before.say(name, 0, { msgId: 'sent before' }));
    }
    using client = await connect(server);
    client.sendRaw(client.frame(100, { username: name, password }, { msgId: 'login' }));
    // Acked at once, as it is a resend: that is not the end of it.
    client.sendRaw(client.frame(200, { to: name, msg: 0 }, { msgId: 'sent before' }));
    client.sendRaw(client.frame(200, { to: name, msg: 1 }, { msgId: 'message' }));
    client.sendRaw(client.frame(0, undefined, { msgId: 'heartbeat' }));
    client.socket.end();
    expectCode(await client.reply('login', 15_000), 100, 100);
    expectAck(await client.reply('sent before'));
    assert.equal((await client.reply('heartbeat')).cmd, 0);
    expectAck(await client.reply('message'));
    assert.equal((await client.waitClosed()).how, 'fin');
    using again = await login(server, name);
    again.fetch();
    await again.message('message');
  });

  test('a login that is the last before the FIN is answered too, with nothing behind it', async () => {
    const name = await newUser(server);
    for (const [secret, code] of [[password, 100] as const, ['another', 1002] as const]) {
      using client = await connect(server);
      client.sendRaw(client.frame(100, { username: name, password: secret }, { msgId: 'login' }));
      client.socket.end();
      expectCode(await client.reply('login', 15_000), 100, code);
      assert.equal((await client.waitClosed()).how, 'fin');
    }
  });
});

describe('limits', () => {
  test('a body of 16 KiB is accepted before login, one byte more closes without an answer', async () => {
    using client = await connect(server);
    client.sendRaw(heartbeatOf(16 * kib, 'full'));
    await client.reply('full');
    client.sendRaw(withLength(Buffer.alloc(16 * kib + 1)).subarray(0, 4));
    await client.waitClosed();
    assert.deepEqual(
      client.frames.map((frame) => frame.cmd),
      [1, 0],
    );
  });

  test('a body of 1 MiB is accepted after login, one byte more closes without an answer', async () => {
    using device = await newDevice(server);
    device.sendRaw(heartbeatOf(mib, 'full'));
    await device.reply('full');
    device.sendRaw(withLength(Buffer.alloc(mib + 1)).subarray(0, 4));
    await device.waitClosed();
    assert.deepEqual(
      device.frames.map((frame) => frame.cmd),
      [1, 101, 0],
    );
  });

  for (const [what, length] of [
    ['2^20+1', 2 ** 20 + 1],
    ['2^31-1', 2 ** 31 - 1],
    ['2^31', 2 ** 31],
    ['2^32-1', 2 ** 32 - 1],
  ] as const) {
    test(`the four bytes of a length of ${what} alone close the connection, before and after login`, async () => {
      const bytes = Buffer.alloc(4);
      bytes.writeUInt32BE(length);
      using client = await connect(server);
      client.sendRaw(bytes);
      await client.waitClosed();
      using device = await newDevice(server);
      device.sendRaw(bytes);
      await device.waitClosed();
      assert.deepEqual(
        [...client.frames, ...device.frames].map((frame) => frame.cmd),
        [1, 1, 101],
      );
    });
  }

  test('a frame of more than 16 KiB right behind a login is judged after it', async () => {
    using client = await connect(server);
    const login = client.frame(101, { id: unique('device') }, { msgId: 'auth' });
    client.sendRaw(Buffer.concat([login, heartbeatOf(100 * kib, 'big')]));
    expectCode(await client.reply('auth'), 101, 100);
    await client.reply('big');
  });

  test('a msg of 1 MiB - 4 KiB as JSON text is delivered, one of a byte more is refused', async () => {
    for (const encrypt of [false, true]) {
      using app = await newApp(server, { encrypt });
      const most = 'x'.repeat(mib - 4 * kib - 2);
      const msgId = await leave(app, app.name, most);
      const pushed = await app.message(msgId);
      assert.equal(pushed.msg, most);
      assert.ok(pushed.frame.body.length <= mib);
      app.ack([msgId]);
      expectCode(await app.say(app.name, `${most}x`), 200, 200);
    }
  });

  test('the size of a msg counts in bytes, not in characters', async () => {
    using app = await newApp(server);
    const characters = Math.floor((mib - 4 * kib - 2) / 3);
    const msgId = await leave(app, app.name, '中'.repeat(characters));
    await app.message(msgId);
    app.ack([msgId]);
    expectCode(await app.say(app.name, '中'.repeat(characters + 1)), 200, 200);
  });

  test('a push of large messages stops batching at 64 KiB', async () => {
    const name = await newUser(server);
    using sender = await newApp(server);
    const text = 'x'.repeat(3 * kib);
    const ids = Array.from({ length: 100 }, (_, i) => `batch-${i}`);
    await Promise.all(ids.map((msgId) => leave(sender, name, text, msgId)));
    using receiver = await login(server, name, { autoAck: true });
    receiver.fetch();
    await receiver.received(ids.length, 10_000);
    for (const frame of receiver.frames.filter((frame) => frame.cmd === 201)) {
      const batch = frame.json as object[];
      const last = JSON.stringify(batch.at(-1)).length + 1;
      assert.ok(frame.data.length - last < 64 * kib, `${batch.length} messages in ${frame.data.length} bytes`);
    }
  });
});

describe('the close', { concurrency: true }, () => {
  test('what was sent before the close arrives, and the close is a FIN', async () => {
    using client = await connect(server);
    client.sendRaw(Buffer.concat([...Array<Buffer>(500).fill(Buffer.alloc(4)), withLength(Buffer.from([0xff]))]));
    await expectNotProtobuf(client);
    assert.equal(client.frames.filter((frame) => frame.cmd === 0).length, 500);
  });

  test('megabytes that were answered before the close arrive, although the client reads late', async () => {
    using device = await newDevice(server);
    device.socket.pause();
    const ids = Array.from({ length: 24 }, (_, i) => `${i}-${'m'.repeat(mib - 4 * kib)}`);
    for (const msgId of ids) device.sendRaw(encodeFrame({ cmd: 999, msgId }));
    device.sendRaw(withLength(Buffer.from([0xff])));
    await sleep(400);
    device.socket.resume();
    await expectNotProtobuf(device);
    const answered = device.frames.filter((frame) => frame.cmd === 999).map((frame) => frame.msgId);
    assert.deepEqual(
      answered.map((msgId) => msgId.slice(0, 10)),
      ids.map((msgId) => msgId.slice(0, 10)),
    );
  });

  test('a logout ends in a FIN', async () => {
    using device = await newDevice(server);
    assert.equal((await device.logout()).how, 'fin');
  });

  test('a takeover ends the older session in cmd 103 and a FIN', async () => {
    using device = await newDevice(server);
    using newer = await newDevice(server, { name: device.name });
    await device.takeCmd(103);
    assert.equal((await device.waitClosed()).how, 'fin');
    await newer.fence();
  });

  test('a close is forced on a client that keeps its half open', { skip: noProc }, async () => {
    await using own = await startServer();
    const before = await warmUp(own);
    using client = await Client.connect(own, { holdOpen: true });
    await client.awaitKey();
    client.sendRaw(withLength(Buffer.from([0xff])));
    await expectNotProtobuf(client);
    const descriptors = () => `${own.openDescriptors()} descriptors, ${before} before`;
    await eventually(() => own.openDescriptors() <= before, descriptors, 12_000);
  });

  test('a close is forced on a client that reads nothing', { skip: noProc }, async () => {
    await using own = await startServer();
    const before = await warmUp(own);
    using client = await Client.connect(own, { holdOpen: true, paused: true });
    client.sendRaw(Buffer.concat([...Array<Buffer>(500).fill(Buffer.alloc(4)), withLength(Buffer.from([0xff]))]));
    const descriptors = () => `${own.openDescriptors()} descriptors, ${before} before`;
    await eventually(() => own.openDescriptors() > before, descriptors);
    await eventually(() => own.openDescriptors() <= before, descriptors, 12_000);
  });
});
