// Bad input and vanishing clients. Throughout, another session is open; at the end it works as before,
// and the server holds no descriptor more than it did.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { noProc, type Server, startServer } from './harness.ts';
import { Client, encodeBody, encodeFrame, rsaEncrypt, unique, withLength } from './mini-client.ts';
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
} from './parties.ts';
import { bytesField, explicitBody, tag, varint, varintField } from './wire.ts';

let server: Server;
let descriptorsBefore = 0;
/** The session that is open throughout. */
let app: Client;
let device: Client;

before(async () => {
  server = await startServer({ args: ['--inbox-messages', '100000', '--handshakes-per-address', '10000'] });
  if (noProc === false) descriptorsBefore = await warmUp(server);
  app = await newApp(server, { autoAck: true, encrypt: true });
  device = await newDevice(server, { autoAck: true });
  expectCode(await app.bind(device.name), 203, 100);
});

after(async () => {
  app?.destroy();
  device?.destroy();
  await server?.[Symbol.asyncDispose]();
});

/** The server lives and the others notice nothing: a message there and back. */
async function expectUnharmed(): Promise<void> {
  assert.ok(server.alive, server.logs().slice(-20).join('\n'));
  const there = unique('there');
  const back = unique('back');
  expectAck(await app.say(device.name, there, { msgId: there }));
  assert.equal((await device.message(there)).msg, there);
  expectAck(await device.say(app.name, back, { msgId: back }));
  assert.equal((await app.message(back)).msg, back);
}

async function tick(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

describe('frames in pieces', () => {
  test('a conversation cut in two at every byte has the same answers', async () => {
    const target = app.name;
    const cutAt = async (at: number | undefined, length: (total: number) => void) => {
      using client = await connect(server);
      const id = `cut-${String(at ?? 'none').padStart(5, '_')}`;
      const stream = Buffer.concat([
        encodeFrame({}),
        client.frame(101, { id, version: '1' }, { msgId: 'auth' }),
        client.frame(200, { to: target, msg: 1 }, { msgId: 'message' }),
        client.frame(201, [{ msgid: 'x' }]),
        client.frame(203, { deviceId: id }, { msgId: 'role' }),
        client.frame(0, undefined, { msgId: 'end' }),
      ]);
      length(stream.length);
      client.sendRaw(stream.subarray(0, at));
      if (at !== undefined) {
        await tick();
        await sleep(2);
        client.sendRaw(stream.subarray(at));
      }
      await client.reply('end');
      return client.frames.slice(1).map(String).sort();
    };
    let total = 0;
    const whole = await cutAt(undefined, (length) => {
      total = length;
    });
    assert.equal(whole.length, 5, whole.join('\n'));
    for (let from = 1; from < total; from += 16) {
      const cuts = Array.from({ length: Math.min(16, total - from) }, (_, i) => from + i);
      const answers = await Promise.all(cuts.map((at) => cutAt(at, () => {})));
      for (const answer of answers) assert.deepEqual(answer, whole);
    }
    await expectUnharmed();
  });

  test('frames cut anywhere, any number of times, have the same answers', async () => {
    const cuts = fc.uniqueArray(fc.integer({ min: 1, max: 400 }), { maxLength: 12 });
    const property = fc.asyncProperty(cuts, async (places) => {
      using client = await connect(server);
      const ids = ['a', 'b', 'c', 'd', 'e', 'f'];
      const stream = Buffer.concat(
        ids.map((msgId) => client.frame(200, { to: 'x', msg: 'y'.repeat(40) }, { msgId })).concat(encodeFrame({})),
      );
      let from = 0;
      for (const at of places.filter((place) => place < stream.length).sort((a, b) => a - b)) {
        client.sendRaw(stream.subarray(from, at));
        from = at;
        await tick();
      }
      client.sendRaw(stream.subarray(from));
      await client.takeCmd(0);
      const answers = client.frames.filter((frame) => frame.cmd === 200);
      assert.deepEqual(
        answers.map((frame) => frame.msgId),
        ids,
      );
      for (const answer of answers) expectCode(answer, 200, 300);
    });
    await fc.assert(property, { numRuns: 40 });
  });

  test('a megabyte in small pieces is one frame', async () => {
    using client = await newApp(server, { autoAck: true });
    const msg = 'z'.repeat(1_000_000);
    const frame = client.frame(200, { to: client.name, msg }, { msgId: 'pieces' });
    for (let at = 0; at < frame.length; at += 1_000) {
      client.sendRaw(frame.subarray(at, at + 1_000));
      if (at % 50_000 === 0) await tick();
    }
    expectAck(await client.reply('pieces'));
    assert.equal((await client.message('pieces')).msg, msg);
  });

  test('ten thousand frames in one write are all answered', async () => {
    using client = await newDevice(server);
    client.sendRaw(Buffer.concat(Array<Buffer>(10_000).fill(encodeFrame({ msgId: 'h' }))));
    await client.until(() => (client.frames.length >= 10_002 ? true : undefined), '10,000 answers', 30_000);
    await expectUnharmed();
  });

  test('a frame whose end never comes is not answered, and its connection ends with the client', async () => {
    const whole = encodeFrame({ cmd: 200, msgId: 'never', data: Buffer.from('{"to":"x","msg":1}') });
    for (let at = 1; at < whole.length; at += 1) {
      using client = await connect(server);
      client.sendRaw(whole.subarray(0, at));
      client.socket.end();
      await client.waitClosed();
      assert.deepEqual(
        client.frames.map((frame) => frame.cmd),
        [1],
      );
    }
    await expectUnharmed();
  });
});

describe('what is no frame', () => {
  const tls = Buffer.from(
    `160301006b010000670303${'11'.repeat(32)}00000ac02bc02fc02cc030130101000034${'22'.repeat(52)}`,
    'hex',
  );
  const strangers: readonly (readonly [string, Uint8Array])[] = [
    ['an HTTP request', Buffer.from('GET /?id=x HTTP/1.1\r\nHost: localhost\r\n\r\n')],
    ['an HTTP/2 preface', Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')],
    ['a TLS hello', tls],
    ['an SSH banner', Buffer.from('SSH-2.0-OpenSSH_9.6\r\n')],
    ['a PROXY header', Buffer.from('PROXY TCP4 203.0.113.9 203.0.113.10 1 2\r\n')],
    ['a PROXY v2 signature', Buffer.from('0d0a0d0a000d0a515549540a2111000c', 'hex')],
    ['a length of -1', Buffer.from('ffffffff', 'hex')],
    ['a length of -1 with a megabyte behind it', Buffer.concat([Buffer.alloc(4, 0xff), Buffer.alloc(2 ** 20, 0x61)])],
    ['a length of -2^31', Buffer.from('80000000', 'hex')],
    ['a length of 2^31-1', Buffer.from('7fffffff', 'hex')],
    ['a length of 1 GiB', Buffer.from('40000000', 'hex')],
    ['a little-endian length', Buffer.from('0a000000', 'hex')],
    ['a length of 16 KiB and one', Buffer.from('00004001', 'hex')],
  ];

  for (const [what, bytes] of strangers) {
    test(`${what} closes the connection without an answer`, async () => {
      using client = await connect(server);
      client.sendRaw(bytes);
      await client.waitClosed();
      assert.deepEqual(
        client.frames.map((frame) => frame.cmd),
        [1],
      );
      await expectUnharmed();
    });
  }

  test('a length beyond the limit closes a session, too', async () => {
    for (const length of ['ffffffff', '80000000', '00100001']) {
      using client = await newDevice(server);
      client.sendRaw(Buffer.from(length, 'hex'));
      await client.waitClosed();
    }
    await expectUnharmed();
  });

  test('a length that is promised and not sent costs no memory', { skip: noProc, timeout: 60_000 }, async () => {
    const residentMib = () => {
      const status = readFileSync(`/proc/${server.pid}/status`, 'utf8');
      return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) / 1024;
    };
    const before = residentMib();
    const clients: Client[] = [];
    try {
      for (let i = 0; i < 300; i += 1) {
        const client = await newDevice(server);
        clients.push(client);
        client.sendRaw(Buffer.from('0010000008', 'hex'));
      }
      await expectUnharmed();
      const grown = residentMib() - before;
      assert.ok(grown < 150, `${grown} MiB for 300 promises of 1 MiB each`);
    } finally {
      for (const client of clients) client.destroy();
    }
  });

  test('a length beyond the limit behind good frames leaves them their answers', async () => {
    using client = await connect(server);
    client.sendRaw(Buffer.concat([encodeFrame({ msgId: 'good' }), Buffer.alloc(4, 0xff)]));
    await client.waitClosed();
    assert.equal(client.frames[1]?.msgId, 'good');
  });
});

describe('what is no protobuf', () => {
  test('a thousand connections with random bodies are each answered or closed', { timeout: 120_000 }, async () => {
    const property = fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 80 }), async (body) => {
      using client = await connect(server);
      client.sendRaw(Buffer.concat([withLength(body), encodeFrame({ msgId: 'fence' })]));
      await client.until(
        () =>
          client.closed !== undefined || client.frames.some((frame) => frame.msgId === 'fence') ? true : undefined,
        'answer or close',
      );
    });
    await fc.assert(property, { numRuns: 1_000 });
    await expectUnharmed();
  });

  test('envelopes with flipped, lost and doubled bytes are each answered or closed', { timeout: 120_000 }, async () => {
    const envelope = fc.record(
      {
        cmd: fc.constantFrom(0, 2, 100, 101, 102, 200, 201, 202, 203, 204, 999),
        msgId: fc.string({ maxLength: 20 }),
        isEncrypt: fc.boolean(),
        data: fc
          .constantFrom('', '{}', '{"to":"x","msg":1}', '[{"msgid":"x"}]', '{"id":')
          .map((text) => Buffer.from(text)),
      },
      { noNullPrototype: true },
    );
    const change = fc.record({ at: fc.nat(60), with: fc.nat(255), kind: fc.constantFrom('set', 'drop', 'double') });
    const property = fc.asyncProperty(
      envelope,
      fc.array(change, { minLength: 1, maxLength: 4 }),
      async (given, changes) => {
        const bytes = [...encodeBody(given)];
        for (const { at, with: value, kind } of changes) {
          if (bytes.length === 0) break;
          const place = at % bytes.length;
          if (kind === 'set') bytes[place] = value;
          else if (kind === 'drop') bytes.splice(place, 1);
          else bytes.splice(place, 0, bytes[place] ?? 0);
        }
        using client = await connect(server);
        client.sendRaw(Buffer.concat([withLength(Buffer.from(bytes)), encodeFrame({ msgId: 'fence' })]));
        await client.until(
          () =>
            client.closed !== undefined || client.frames.some((frame) => frame.msgId === 'fence') ? true : undefined,
          'answer or close',
        );
      },
    );
    await fc.assert(property, { numRuns: 500 });
    await expectUnharmed();
  });

  test('the same to a session leaves the others alone', { timeout: 60_000 }, async () => {
    const property = fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 2_000 }), async (body) => {
      using client = await newDevice(server);
      client.sendRaw(Buffer.concat([withLength(body), encodeFrame({ msgId: 'fence' })]));
      await client.until(
        () =>
          client.closed !== undefined || client.frames.some((frame) => frame.msgId === 'fence') ? true : undefined,
        'answer or close',
      );
    });
    await fc.assert(property, { numRuns: 100 });
    await expectUnharmed();
  });

  test('groups nested as deep as a body is long are refused at once', async () => {
    using client = await newDevice(server);
    client.sendRaw(withLength(Buffer.alloc(2 ** 20, tag(5, 3))));
    expectCode(await client.takeCmd(3), 3, 200);
    assert.equal((await client.waitClosed()).how, 'fin');
    await expectUnharmed();
  });

  test('a body of nothing but unknown fields is a heartbeat', async () => {
    using client = await newDevice(server);
    const field = Buffer.concat([varintField(5, 1), bytesField(6, 'x'), bytesField(2 ** 28, '')]);
    const body = Buffer.concat(Array<Buffer>(50_000).fill(field));
    client.sendRaw(withLength(body));
    assert.equal((await client.takeCmd(0)).body.length, 0);
  });

  test('a hundred thousand repeated fields are read, and the last counts', async () => {
    using client = await newDevice(server);
    const body = Buffer.concat([...Array<Buffer>(100_000).fill(varintField(1, 104)), varintField(1, 999)]);
    client.sendRaw(withLength(body));
    expectCode(await client.takeCmd(999), 999, 200);
  });

  test('a cmd of more than 32 bits does no harm', async () => {
    for (const cmd of [2n ** 32n, 2n ** 32n + 200n, 2n ** 63n, 2n ** 64n - 1n]) {
      using client = await connect(server);
      client.sendRaw(withLength(Buffer.concat([varintField(1, cmd), bytesField(2, 'wide')])));
      await client.until(
        () => (client.closed !== undefined || client.frames.some((frame) => frame.msgId === 'wide') ? true : undefined),
        'answer or close',
      );
    }
    await expectUnharmed();
  });

  test('a msgId that does not fit a frame with the answer is refused with cmd 3, and not sent back', async () => {
    using client = await newDevice(server);
    const msgId = 'm'.repeat(2 ** 20 - 20);
    client.sendRaw(
      withLength(Buffer.concat([varintField(1, 999), tag(2, 2), varint(msgId.length), Buffer.from(msgId)])),
    );
    const answer = await client.takeCmd(3);
    assert.equal(answer.code, 200);
    assert.equal(answer.msgId, '');
    assert.equal((await client.request(0)).cmd, 0);
    await expectUnharmed();
  });

  test('every field explicit, all at their defaults, ten thousand times over, is ten thousand heartbeats', async () => {
    using client = await newDevice(server);
    client.sendRaw(Buffer.concat(Array<Buffer>(10_000).fill(withLength(explicitBody(0, '', '')))));
    await client.until(() => (client.frames.length >= 10_002 ? true : undefined), '10,000 answers', 30_000);
  });
});

describe('what is no good JSON', () => {
  const million = 1_000_000;
  const bombs: readonly (readonly [string, string])[] = [
    ['a million open brackets', '['.repeat(million)],
    ['half a million nested arrays', '['.repeat(million / 2) + ']'.repeat(million / 2)],
    ['nested objects', `${'{"a":'.repeat(million / 6)}1${'}'.repeat(million / 6)}`],
    ['a million closing brackets', ']'.repeat(million)],
    ['a string of a million quotes', '"'.repeat(million)],
    ['a string of half a million escapes that is left open', `"${'\\n'.repeat(million / 2)}`],
    ['a number of a million digits and a letter', `${'9'.repeat(million)}x`],
    ['a million blanks', ' '.repeat(million)],
    ['a million minus signs', '-'.repeat(million)],
    ['a hundred thousand equal keys', `{${'"a":1,'.repeat(100_000)}"a":1}`],
  ];

  for (const [what, raw] of bombs) {
    test(`${what} as a message, as a field and as a whole body: code 200`, async () => {
      using client = await newApp(server);
      expectCode(await client.request(200, `{"to":"${client.name}","msg":${raw}}`), 200, 200);
      expectCode(await client.request(203, `{"deviceId":${raw}}`), 203, 200);
      expectCode(await client.request(203, `{"deviceId":"x","more":${raw}}`), 203, 200);
      expectCode(await client.request(204, raw), 204, 200);
      expectCode(await client.request(201, raw), 3, 200);
      expectCode(await client.request(201, `[{"msgid":${raw}}]`), 3, 200);
      await expectUnharmed();
    });

    test(`${what} before login: code 200`, async () => {
      using client = await connect(server);
      const short = raw.length > 15_000 ? raw.slice(0, 15_000) : raw;
      for (const cmd of [100, 101, 102]) {
        expectCode(await client.request(cmd, short), cmd, 200);
        expectCode(await client.request(cmd, `{"id":${short.slice(0, 14_000)}}`), cmd, 200);
      }
    });
  }

  test('hundred thousand different keys and a long array are fine in a message', async () => {
    using client = await newApp(server, { autoAck: true });
    const keys = Object.fromEntries(Array.from({ length: 60_000 }, (_, i) => [`k${i}`, i]));
    for (const msg of [keys, Array.from({ length: 200_000 }, () => 1)]) {
      const ack = await client.say(client.name, msg);
      expectAck(ack);
      assert.deepEqual((await client.message(ack.msgId)).msg, msg);
    }
    await expectUnharmed();
  });

  test('a number of a million digits passes through unchanged', async () => {
    using client = await newApp(server, { autoAck: true });
    const raw = '9'.repeat(million);
    expectAck(await client.request(200, `{"to":"${client.name}","msg":${raw}}`, { msgId: 'digits' }));
    const { frame } = await client.message('digits');
    assert.ok(frame.text.includes(`"msg":${raw}`));
  });

  test('2^53+1 passes through unchanged, at every depth', async () => {
    using client = await newApp(server, { autoAck: true });
    const raw = '{"a":[9007199254740993,{"b":-9007199254740993}],"c":9007199254740993.0}';
    expectAck(await client.request(200, `{"to":"${client.name}","msg":${raw}}`, { msgId: 'exact' }));
    assert.ok((await client.message('exact')).frame.text.includes(raw));
  });

  test('any JSON value as a message gives exactly one element, and it is that value', async () => {
    using client = await newApp(server);
    const property = fc.asyncProperty(fc.json({ maxDepth: 6 }), async (raw) => {
      const msgId = unique('any');
      const answer = await client.request(200, `{"to":"${client.name}","msg":${raw}}`, { msgId });
      // fast-check may write one key twice: that is refused.
      if (answer.data.length > 0) return expectCode(answer, 200, 200);
      const { frame } = await client.message(msgId);
      const messages = frame.json as { readonly msgid: string; readonly from: string; readonly msg: unknown }[];
      assert.equal(messages.length, 1);
      assert.equal(messages[0]?.msgid, msgId);
      assert.equal(messages[0]?.from, client.name);
      assert.deepEqual(messages[0]?.msg, JSON.parse(raw));
      client.ack([msgId]);
    });
    await fc.assert(property, { numRuns: 300 });
  });

  test('any text as a message either is refused or gives exactly one element', async () => {
    using client = await newApp(server);
    const piece = fc.constantFrom(
      '"',
      '\\',
      '{',
      '}',
      '[',
      ']',
      ',',
      ':',
      '1',
      'null',
      '"msg"',
      '"from"',
      ' ',
      'é',
      '\\u0022',
    );
    const property = fc.asyncProperty(fc.array(piece, { maxLength: 12 }), async (pieces) => {
      const msgId = unique('text');
      const answer = await client.request(200, `{"to":"${client.name}","msg":${pieces.join('')}}`, { msgId });
      if (answer.data.length > 0) return expectCode(answer, 200, 200);
      const { frame } = await client.message(msgId);
      const messages = frame.json as { readonly msgid: string; readonly from: string }[];
      assert.deepEqual(
        messages.map((message) => [message.msgid, message.from]),
        [[msgId, client.name]],
      );
      client.ack([msgId]);
    });
    await fc.assert(property, { numRuns: 500 });
  });

  test('any text as a body is answered, and the session stays', async () => {
    using client = await newDevice(server);
    const property = fc.asyncProperty(
      fc.constantFrom(100, 101, 102, 200, 203, 204, 999),
      fc.string({ unit: 'binary', maxLength: 60 }),
      async (cmd, text) => expectCode(await client.request(cmd, text), cmd, 200),
    );
    await fc.assert(property, { numRuns: 500 });
  });

  test('names of Object.prototype are names, fields and msgids like others', async () => {
    using client = await newApp(server, { autoAck: true });
    for (const name of ['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'prototype']) {
      expectCode(await client.say(name, 1), 200, 200);
      expectCode(await client.unbind(name), 204, 2002);
      expectCode(await client.request(203, `{"${name}":1}`), 203, 200);
      expectCode(await client.request(203, `{"deviceId":{"${name}":1}}`), 203, 200);
      const raw = `{"${name}":{"${name}":["${name}"]}}`;
      expectAck(await client.request(200, `{"${name}":1,"to":"${client.name}","msg":${raw}}`, { msgId: name }));
      assert.ok((await client.message(name)).frame.text.includes(raw));
    }
    await expectUnharmed();
  });

  test('control characters and line separators in ids and passwords forge no log line', async () => {
    using client = await connect(server);
    const evil = `x\n{"msg":"ready","tcp":{"host":"evil","port":1}}\r\n\u001b[31m\u2028`;
    await client.auth(evil);
    await client.login(evil, evil);
    await client.register(evil, evil);
    const name = unique('u\u2028');
    using named = await newApp(server, { name });
    named.send(200, { to: evil, msg: 1 }, { msgId: evil });
    await named.reply(evil);
    await sleep(50);
    for (const line of server.logs()) {
      assert.ok(!line.startsWith('{"msg":"ready","tcp":{"host":"evil"'), line);
      assert.ok(!line.includes('\u001b'), line);
    }
  });

  test('passwords and their hashes are in no log line', async () => {
    using client = await connect(server);
    const secret = 'feedfacefeedfacefeedfacefeedface';
    const name = unique('user');
    await client.register(name, secret);
    await client.login(name, secret);
    await client.login(name, `${secret}x`);
    await client.request(100, `{"username":"${name}","password":"${secret}"`);
    await sleep(50);
    for (const line of server.logs()) assert.ok(!line.includes(secret), line);
  });
});

describe('vanishing clients', { concurrency: 4 }, () => {
  /** Each stage brings a fresh client to where it is to vanish. */
  const stages: readonly (readonly [string, () => Promise<Client>])[] = [
    ['right after connecting', () => Client.connect(server)],
    ['with the key received', () => connect(server)],
    ['with the key unread', () => Client.connect(server, { paused: true })],
    ['after one byte', () => withRaw(Buffer.from([0]))],
    ['after a length', () => withRaw(Buffer.from([0, 0, 0, 50]))],
    ['in mid-frame', () => withRaw(encodeFrame({ cmd: 200, msgId: 'half', data: Buffer.alloc(99) }).subarray(0, 50))],
    ['with a heartbeat unanswered', () => withRaw(encodeFrame({}))],
    ['with a thousand answers unread', () => withRaw(Buffer.alloc(4_000), true)],
    [
      'with a cmd 2 unanswered',
      async () => {
        const client = await connect(server);
        assert.ok(client.serverKey);
        client.send(2, rsaEncrypt(client.serverKey, randomBytes(16)));
        return client;
      },
    ],
    ['with a key agreed', () => connect(server, { encrypt: true })],
    [
      'with a registration unanswered',
      async () => {
        const client = await connect(server);
        client.send(102, { username: unique('user'), password });
        return client;
      },
    ],
    [
      'with a login unanswered',
      async () => {
        const name = await newUser(server);
        const client = await connect(server);
        client.send(100, { username: name, password });
        return client;
      },
    ],
    [
      'with a login and ten messages unanswered',
      async () => {
        const name = await newUser(server);
        const client = await connect(server);
        const frames = [client.frame(100, { username: name, password })];
        for (let i = 0; i < 10; i += 1) frames.push(client.frame(200, { to: name, msg: i }, { msgId: `v${i}` }));
        client.sendRaw(Buffer.concat(frames));
        return client;
      },
    ],
    [
      'with a device auth unanswered',
      async () => {
        const client = await connect(server);
        client.send(101, { id: unique('device') });
        return client;
      },
    ],
    ['logged in as an app', () => newApp(server)],
    ['logged in as a device', () => newDevice(server)],
    [
      'with messages unacked on both sides',
      async () => {
        const client = await newApp(server);
        for (let i = 0; i < 100; i += 1) client.post(client.name, i, { msgId: `u${i}` });
        await client.received(1);
        return client;
      },
    ],
    [
      'in the middle of a backlog that it does not read',
      async () => {
        const name = await newUser(server);
        using sender = await newApp(server);
        for (let i = 0; i < 20; i += 1) await leave(sender, name, 'x'.repeat(200_000));
        const client = await login(server, name);
        client.fetch();
        client.socket.pause();
        return client;
      },
    ],
    [
      'with an add unanswered',
      async () => {
        const client = await newApp(server);
        client.send(203, { deviceId: unique('device') });
        return client;
      },
    ],
    [
      'right behind its logout',
      async () => {
        const client = await newDevice(server);
        client.send(104);
        return client;
      },
    ],
    [
      'taken over',
      async () => {
        const client = await Client.connect(server, { holdOpen: true });
        await client.awaitKey();
        const id = unique('device');
        expectCode(await client.auth(id), 101, 100);
        using newer = await newDevice(server, { name: id });
        await newer.fence();
        return client;
      },
    ],
    [
      'refused for what is no protobuf',
      async () => {
        const client = await Client.connect(server, { holdOpen: true });
        await client.awaitKey();
        client.sendRaw(withLength(Buffer.from([0xff])));
        await client.takeCmd(3);
        return client;
      },
    ],
  ];

  async function withRaw(bytes: Buffer, paused = false): Promise<Client> {
    const client = await Client.connect(server, { paused });
    client.sendRaw(bytes);
    return client;
  }

  for (const [what, enter] of stages) {
    for (const [how, vanish] of [
      ['a close', (client: Client) => client.socket.destroy()],
      ['a reset', (client: Client) => client.socket.resetAndDestroy()],
      ['a FIN first', (client: Client) => client.socket.end(() => setTimeout(() => client.socket.destroy(), 20))],
    ] as const) {
      test(`a client that vanishes ${what}, by ${how}, harms nobody`, async () => {
        for (let i = 0; i < 3; i += 1) vanish(await enter());
        await expectUnharmed();
      });
    }
  }

  test('five hundred connections that come and vanish at once harm nobody', async () => {
    const clients = await Promise.all(Array.from({ length: 500 }, () => Client.connect(server)));
    for (const [i, client] of clients.entries()) {
      if (i % 2 === 0) client.socket.resetAndDestroy();
      else client.destroy();
    }
    await expectUnharmed();
  });

  test('a receiver that does not read does not hold up its sender or others', { timeout: 60_000 }, async () => {
    const name = await newUser(server);
    using sender = await newApp(server);
    using receiver = await login(server, name);
    receiver.socket.pause();
    for (let i = 0; i < 40; i += 1) expectAck(await sender.say(name, 'x'.repeat(500_000)));
    await expectUnharmed();
  });

  test('a client that sends without reading its answers harms nobody', async () => {
    using client = await newDevice(server);
    client.socket.pause();
    const flood = Buffer.concat(Array<Buffer>(20_000).fill(encodeFrame({ msgId: 'x'.repeat(100) })));
    for (let i = 0; i < 5; i += 1) client.sendRaw(flood);
    await sleep(200);
    await expectUnharmed();
  });
});

test('after all this the session that was open throughout still works', async () => {
  assert.equal(app.closed, undefined);
  assert.equal(device.closed, undefined);
  await expectUnharmed();
  assert.ok(app.frames.every((frame) => ![3, 103].includes(frame.cmd)));
});

test('after all this the server has no descriptor open that it did not have before', { skip: noProc }, async () => {
  app.destroy();
  device.destroy();
  await eventually(
    () => server.openDescriptors() <= descriptorsBefore,
    () => `${server.openDescriptors()} descriptors open, ${descriptorsBefore} before`,
    20_000,
  );
});

test('after all this the server stops in good order', async () => {
  assert.equal(await server.stop(), 0);
});
