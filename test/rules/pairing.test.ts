// PROTOCOL.md, "Extensions": `code` in 101 and 203, which an app must show to add a device.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { succeed } from '../cli.ts';
import { type Server, startServer } from '../harness.ts';
import { type Client, type Frame, unique } from '../mini-client.ts';
import { addDevice, connect, expectAck, expectCode, newApp, newDevice } from '../parties.ts';

let open: Server;
let strict: Server;
before(async () => {
  open = await startServer();
  strict = await startServer({ args: ['--pairing', 'code'] });
});
after(async () => {
  await open?.[Symbol.asyncDispose]();
  await strict?.[Symbol.asyncDispose]();
});

function add(app: Client, deviceId: string, code?: unknown): Promise<Frame> {
  return app.request(203, code === undefined ? { deviceId } : { deviceId, code });
}

async function deviceWithCode(server: Server, code: string): Promise<Client> {
  return newDevice(server, { extra: { code, secret: unique('secret') } });
}

describe('a device that has a code', () => {
  for (const mode of ['open', 'code'] as const) {
    test(`is added by it alone, and one answer is for a wrong one and none (--pairing ${mode})`, async () => {
      const server = mode === 'open' ? open : strict;
      using app = await newApp(server);
      using device = await deviceWithCode(server, '471 108');
      const texts = new Set<string>();
      for (const code of [undefined, null, '', '471108', '471 108 ', 'x'.repeat(5_000)]) {
        const answer = await add(app, device.name, code);
        expectCode(answer, 203, 200);
        texts.add(answer.msg);
      }
      assert.equal(texts.size, 1);
      // Nothing came of it.
      expectCode(await app.say(device.name, 'open'), 200, 200);
      expectCode(await device.say(app.name, 'hello'), 200, 200);
      expectCode(await app.unbind(device.name), 204, 2002);
      expectCode(await add(app, device.name, '471 108'), 203, 100);
      const msgId = app.post(device.name, 'open');
      await device.message(msgId);
      device.ack([msgId]);
      expectAck(await app.reply(msgId));
    });
  }

  test('was added before: whoever has it is told so, with any code and none, and keeps it', async () => {
    using app = await newApp(open);
    using device = await newDevice(open);
    await addDevice(app, device.name);
    await succeed(['device', 'code', device.name, 'new code', '--data', open.data]);
    for (const code of [undefined, 'wrong', 'new code']) expectCode(await add(app, device.name, code), 203, 2001);
    const msgId = app.post(device.name, 'still yours');
    await device.message(msgId);
    using other = await newApp(open);
    expectCode(await add(other, device.name), 203, 200);
    expectCode(await add(other, device.name, 'new code'), 203, 100);
    expectCode(await app.unbind(device.name), 204, 100);
    expectCode(await add(app, device.name), 203, 200);
  });

  test('may give itself another, and what it does not say stays, also over a restart', async () => {
    await using server = await startServer();
    using app = await newApp(server);
    const secret = unique('secret');
    const device = await newDevice(server, { extra: { code: 'first', secret } });
    const id = device.name;
    {
      using again = await newDevice(server, { name: id, extra: { secret } });
      await again.fence();
    }
    expectCode(await add(app, id), 203, 200);
    {
      using again = await newDevice(server, { name: id, extra: { secret, code: 'second' } });
      await again.fence();
    }
    await server.kill9();
    await server.start();
    using second = await newApp(server);
    expectCode(await add(second, id, 'first'), 203, 200);
    expectCode(await add(second, id, 'second'), 203, 100);
  });

  test('has none any more when the operator takes it away', async () => {
    using app = await newApp(open);
    const id = unique('device');
    await succeed(['device', 'add', id, '--code', 'a code', '--data', open.data]);
    expectCode(await add(app, id), 203, 200);
    assert.match(await succeed(['device', 'code', id, '--data', open.data]), /has no pairing code/);
    expectCode(await add(app, id), 203, 100);
  });

  test('with a code of the wrong type or size is a wrong body', async () => {
    using client = await connect(open);
    using app = await newApp(open);
    for (const code of [1, true, [], {}]) {
      const answer = await add(app, unique('device'), code);
      expectCode(answer, 203, 200);
      assert.match(answer.msg, /"code"/);
    }
    for (const code of [1, true, [], {}, '', '123', 'x'.repeat(65)]) {
      const answer = await client.auth(unique('device'), { code });
      expectCode(answer, 101, 200);
      assert.match(answer.msg, /"code"/);
    }
  });
});

describe('a device that has no code', () => {
  test('is added by anybody where pairing is open, known or not, and a code is as good as none', async () => {
    using app = await newApp(open);
    using device = await newDevice(open);
    expectCode(await add(app, device.name, 'any code'), 203, 100);
    expectCode(await add(app, unique('unknown'), 'any code'), 203, 100);
  });

  test('is added by nobody where pairing needs a code, known or not, and nobody learns which it is', async () => {
    using app = await newApp(strict);
    using device = await newDevice(strict);
    using coded = await deviceWithCode(strict, 'its code');
    const unknown = unique('unknown');
    const texts = new Set<string>();
    for (const id of [device.name, unknown, coded.name, app.name]) {
      for (const code of [undefined, 'some code']) texts.add((await add(app, id, code)).toString().replace(/^.*</, ''));
    }
    assert.equal(texts.size, 1, [...texts].join('\n'));
    // The id is still free.
    expectCode(await app.register(unknown, 'abc'), 102, 200);
    using person = await connect(strict);
    expectCode(await person.register(unknown, 'abc'), 102, 100);
  });
});

describe('wrong codes', () => {
  test('are bounded for a user: then even the right one must wait, and is told so', async () => {
    await using server = await startServer();
    using app = await newApp(server, { extra: { nack: true } });
    using other = await newApp(server);
    const devices = await Promise.all(Array.from({ length: 10 }, (_, i) => deviceWithCode(server, `code ${i}`)));
    for (const device of devices) {
      const answer = await add(app, device.name, 'wrong');
      assert.deepEqual(Object.keys(answer.json as object).sort(), ['code', 'msg']);
    }
    const late = await add(app, devices[0]!.name, 'code 0');
    expectCode(late, 203, 200);
    assert.equal((late.json as { retry?: true }).retry, true);
    // None is no guess, and the devices are there for others.
    assert.equal(((await add(app, devices[0]!.name)).json as { retry?: true }).retry, undefined);
    expectCode(await add(other, devices[0]!.name, 'code 0'), 203, 100);
    for (const device of devices) device.destroy();
  });

  test('are bounded for a device, whoever guesses', async () => {
    await using server = await startServer();
    using device = await deviceWithCode(server, 'its code');
    let judged = 0;
    for (let i = 0; i < 6; i++) {
      using guesser = await newApp(server, { extra: { nack: true } });
      for (let guess = 0; guess < 3; guess++) {
        const answer = await add(guesser, device.name, `guess ${i} ${guess}`);
        expectCode(answer, 203, 200);
        if ((answer.json as { retry?: true }).retry === undefined) judged++;
      }
    }
    // The first of each user are for as long as there are any, all others leave some for those who were not wrong yet.
    assert.ok(judged >= 6 && judged <= 10, `${judged}`);
    using owner = await newApp(server, { extra: { nack: true } });
    expectCode(await add(owner, device.name, 'its code'), 203, 100);
  });

  test('do not count the right ones', async () => {
    await using server = await startServer();
    using device = await deviceWithCode(server, 'its code');
    using app = await newApp(server);
    for (let i = 0; i < 30; i++) {
      expectCode(await add(app, device.name, 'its code'), 203, 100);
      expectCode(await app.unbind(device.name), 204, 100);
    }
  });
});
