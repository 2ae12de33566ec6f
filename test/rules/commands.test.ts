// PROTOCOL.md, "Commands": every command in every state, and every body.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type Server, startServer } from '../harness.ts';
import { type Body, type Client, type Frame, unique } from '../mini-client.ts';
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
} from '../parties.ts';

let server: Server;
before(async () => {
  server = await startServer();
});
after(() => server?.[Symbol.asyncDispose]());

type State = 'before login' | 'app' | 'device';
const states: readonly State[] = ['before login', 'app', 'device'];

function enter(state: State): Promise<Client> {
  if (state === 'app') return newApp(server);
  if (state === 'device') return newDevice(server);
  return connect(server);
}

/** What a cell of the table expects: a code on the same cmd, or one of the words. */
type Expected = number | 'heartbeat' | 'ack' | 'close' | 'nothing' | 'cmd 3';

interface Row {
  readonly cmd: number;
  readonly what: string;
  /** A body made for the client in its state. */
  readonly body: (client: Client) => Body | undefined | Promise<Body | undefined>;
  readonly expected: Readonly<Record<State, Expected>>;
}

function everywhere(expected: Expected): Record<State, Expected> {
  return { 'before login': expected, app: expected, device: expected };
}

function byState(beforeLogin: Expected, app: Expected, device: Expected): Record<State, Expected> {
  return { 'before login': beforeLogin, app, device };
}

const notJson = () => '{"to":';
const nothing = () => undefined;

const rows: readonly Row[] = [
  { cmd: 0, what: 'valid', body: nothing, expected: everywhere('heartbeat') },
  { cmd: 0, what: 'with data that it does not need', body: notJson, expected: everywhere('heartbeat') },
  { cmd: 1, what: 'empty', body: nothing, expected: everywhere(200) },
  { cmd: 1, what: 'with data', body: () => Buffer.alloc(294, 7), expected: everywhere(200) },
  { cmd: 2, what: 'malformed', body: notJson, expected: everywhere(200) },
  { cmd: 3, what: 'empty', body: nothing, expected: everywhere(200) },
  { cmd: 3, what: 'with data', body: () => ({ code: 200, msg: 'x' }), expected: everywhere(200) },
  {
    cmd: 100,
    what: 'valid, of a registered user',
    body: async () => ({ version: '1', username: await newUser(server), password }),
    expected: byState(100, 200, 200),
  },
  {
    cmd: 100,
    what: 'valid, of an unknown user',
    body: () => ({ version: '1', username: unique('nobody'), password }),
    expected: byState(1002, 200, 200),
  },
  { cmd: 100, what: 'malformed', body: notJson, expected: everywhere(200) },
  {
    cmd: 101,
    what: 'valid',
    body: () => ({ version: '1', id: unique('device'), abilities: [] }),
    expected: byState(100, 200, 200),
  },
  { cmd: 101, what: 'malformed', body: notJson, expected: everywhere(200) },
  {
    cmd: 102,
    what: 'valid',
    body: () => ({ username: unique('user'), password }),
    expected: byState(100, 200, 200),
  },
  {
    cmd: 102,
    what: 'of a user that exists',
    body: async () => ({ username: await newUser(server), password }),
    expected: byState(1001, 200, 200),
  },
  { cmd: 102, what: 'malformed', body: notJson, expected: everywhere(200) },
  { cmd: 103, what: 'empty', body: nothing, expected: everywhere(200) },
  { cmd: 103, what: 'with data', body: notJson, expected: everywhere(200) },
  { cmd: 104, what: 'valid', body: nothing, expected: everywhere('close') },
  { cmd: 104, what: 'with data that it does not need', body: notJson, expected: everywhere('close') },
  {
    cmd: 200,
    what: 'valid, to somebody allowed',
    body: async (client) => {
      // An app may write to any user, a device to a user that has added it.
      using friend = await newApp(server);
      if (client.name !== '')
        expectCode(await friend.bind(client.name), 203, client.name.startsWith('user') ? 200 : 100);
      return { to: friend.name, msg: 1 };
    },
    expected: byState(300, 'ack', 'ack'),
  },
  {
    cmd: 200,
    what: 'valid, to nobody known',
    body: () => ({ to: unique('nobody'), msg: 1 }),
    expected: byState(300, 200, 200),
  },
  { cmd: 200, what: 'malformed', body: notJson, expected: byState(300, 200, 200) },
  {
    cmd: 201,
    what: 'valid, though nothing was pushed',
    body: () => [{ msgid: 'x' }],
    expected: byState(300, 'nothing', 'nothing'),
  },
  { cmd: 201, what: 'malformed', body: notJson, expected: byState(300, 'cmd 3', 'cmd 3') },
  { cmd: 202, what: 'valid', body: nothing, expected: byState(300, 'nothing', 'nothing') },
  { cmd: 203, what: 'valid', body: () => ({ deviceId: unique('device') }), expected: byState(300, 100, 200) },
  { cmd: 203, what: 'malformed', body: notJson, expected: byState(300, 200, 200) },
  {
    cmd: 204,
    what: 'valid',
    body: async (client) => {
      const deviceId = unique('device');
      if (client.name.startsWith('user')) await addDevice(client, deviceId);
      return { deviceId };
    },
    expected: byState(300, 100, 200),
  },
  {
    cmd: 204,
    what: 'valid, of a device not added',
    body: () => ({ deviceId: unique('device') }),
    expected: byState(300, 2002, 200),
  },
  { cmd: 204, what: 'malformed', body: notJson, expected: byState(300, 200, 200) },
  { cmd: 205, what: 'valid', body: () => ({}), expected: byState(300, 100, 200) },
  { cmd: 205, what: 'without data', body: nothing, expected: byState(300, 100, 200) },
  { cmd: 205, what: 'behind a device', body: () => ({ after: unique('device') }), expected: byState(300, 100, 200) },
  { cmd: 205, what: 'malformed', body: notJson, expected: byState(300, 200, 200) },
  ...[4, 5, 99, 105, 199, -1, -200, -(2 ** 31)].flatMap((cmd): Row[] => [
    { cmd, what: 'unknown, with a JSON body', body: () => ({}), expected: everywhere(200) },
    { cmd, what: 'unknown, malformed', body: notJson, expected: everywhere(200) },
  ]),
  ...[250, 999, 2 ** 31 - 1].flatMap((cmd): Row[] => [
    { cmd, what: 'unknown, with a JSON body', body: () => ({}), expected: byState(300, 200, 200) },
    { cmd, what: 'unknown, malformed', body: notJson, expected: byState(300, 200, 200) },
  ]),
];

for (const state of states) {
  describe(`in the state "${state}"`, { concurrency: 4 }, () => {
    for (const { cmd, what, body, expected } of rows) {
      test(`cmd ${cmd}, ${what}: ${expected[state]}`, async () => {
        using client = await enter(state);
        const from = client.frames.length;
        const data = await body(client);
        const msgId = unique('cell');
        client.send(cmd, data, { msgId });
        await expectCell(client, expected[state], cmd, msgId, from);
      });
    }
  });
}

async function expectCell(client: Client, expected: Expected, cmd: number, msgId: string, from: number) {
  if (expected === 'close') {
    assert.equal((await client.waitClosed()).how, 'fin');
    assert.deepEqual(client.frames.slice(from).map(String), [], 'no answer');
    return;
  }
  if (expected === 'nothing') {
    assert.deepEqual(await client.quiet(100), []);
    return;
  }
  const answer = await client.reply(msgId, 15_000);
  if (expected === 'heartbeat') assert.deepEqual([answer.cmd, answer.data.length], [0, 0]);
  else if (expected === 'ack') expectAck(answer);
  else if (expected === 'cmd 3') expectCode(answer, 3, 200);
  else expectCode(answer, cmd, expected);
  await client.fence();
  const answers = client.frames.slice(from).filter((frame) => frame.msgId === msgId);
  assert.equal(answers.length, 1, 'one answer');
}

test('any cmd from 200 upward before login gets 300 before its body is looked at', async () => {
  using client = await connect(server);
  const bodies = [undefined, '{', '[]', 'null', Buffer.from([0xff]), { to: 'x', msg: 1 }, [{ msgid: 'x' }]];
  for (const cmd of [200, 201, 202, 203, 204, 205, 206, 300, 1_000_000]) {
    for (const body of bodies) expectCode(await client.request(cmd, body), cmd, 300);
  }
});

test('a message without a msgId before login gets 300, too', async () => {
  using client = await connect(server);
  client.send(200, { to: 'x', msg: 1 });
  const answer = await client.takeCmd(200);
  expectCode(answer, 200, 300);
  assert.equal(answer.msgId, '');
});

test('a refused command changes nothing: the session goes on', async () => {
  using app = await newApp(server);
  for (const cmd of [1, 3, 103, 101, 102, 4, 999]) await app.request(cmd, notJson());
  expectAck(await app.say(app.name, 1));
  using device = await newDevice(server);
  for (const cmd of [1, 3, 103, 100, 102, 203, 204, 205]) await device.request(cmd, { deviceId: 'x' });
  await device.fence();
  assert.equal(device.closed, undefined);
});

describe('bodies', () => {
  interface Fields {
    readonly cmd: number;
    readonly state: State;
    /** A valid body; required fields first. */
    readonly fields: Readonly<Record<string, unknown>>;
    readonly required: readonly string[];
  }

  const commands: readonly Fields[] = [
    { cmd: 100, state: 'before login', fields: { username: 'u', password: 'p' }, required: ['username', 'password'] },
    { cmd: 101, state: 'before login', fields: { id: 'd' }, required: ['id'] },
    { cmd: 102, state: 'before login', fields: { username: 'u', password: 'p' }, required: ['username', 'password'] },
    { cmd: 200, state: 'app', fields: { to: 'u', msg: 1 }, required: ['to', 'msg'] },
    { cmd: 200, state: 'device', fields: { to: 'u', msg: 1 }, required: ['to', 'msg'] },
    { cmd: 203, state: 'app', fields: { deviceId: 'd' }, required: ['deviceId'] },
    { cmd: 204, state: 'app', fields: { deviceId: 'd' }, required: ['deviceId'] },
  ];

  for (const { cmd, state, fields, required } of commands) {
    const valid = JSON.stringify(fields);
    const rest = valid.slice(1);

    test(`cmd ${cmd} (${state}): what is not a JSON object is answered 200`, async () => {
      using client = await enter(state);
      for (const body of [
        undefined,
        '',
        ' ',
        'x',
        '{',
        '}',
        'null',
        'true',
        '1',
        '"text"',
        '[]',
        `[${valid}]`,
        `${valid}x`,
        `${valid}${valid}`,
        valid.slice(0, -1),
        valid.replaceAll('"', "'"),
        `${valid.slice(0, -1)},}`,
        `{,${rest}`,
        `\ufeff${valid}`,
        `/**/${valid}`,
        `${valid}\u0000`,
        `{"x":01,${rest}`,
        `{"x":+1,${rest}`,
        `{"x":.5,${rest}`,
        `{"x":1.,${rest}`,
        `{"x":1e,${rest}`,
        `{"x":NaN,${rest}`,
        `{"x":Infinity,${rest}`,
        `{"x":undefined,${rest}`,
        `{"x":tru,${rest}`,
        `{"x":"\\x41",${rest}`,
        `{"x":"\\u00g0",${rest}`,
        `{"x":"a\nb",${rest}`,
        `{"x":"open,${rest}`,
        `{x:1,${rest}`,
      ]) {
        const answer = await client.request(cmd, body);
        assert.equal(answer.code, 200, `${body}: ${answer}`);
        expectCode(answer, cmd, 200);
      }
      await client.fence();
    });

    test(`cmd ${cmd} (${state}): invalid UTF-8 is answered 200`, async () => {
      using client = await enter(state);
      for (const bad of ['ff', 'c080', 'c1bf', 'eda080', 'edb080', 'f4908080', 'e28a', '80', 'f0808080', 'fe']) {
        const text = Buffer.concat([Buffer.from('{"x":"'), Buffer.from(bad, 'hex'), Buffer.from(`",${rest}`)]);
        expectCode(await client.request(cmd, text), cmd, 200);
      }
      await client.fence();
    });

    test(`cmd ${cmd} (${state}): duplicate keys are answered 200, at every level`, async () => {
      using client = await enter(state);
      const first = required[0] ?? '';
      const value = JSON.stringify(fields[first]);
      for (const body of [
        `{"${first}":${value},${rest}`,
        `{"x":1,"x":1,${rest}`,
        `{"x":{"a":1,"a":1},${rest}`,
        `{"x":[{"b":{"a":1,"a":2}}],${rest}`,
        `{"\\u0078":1,"x":2,${rest}`,
        `{"__proto__":1,"__proto__":2,${rest}`,
        `{"":1,"":2,${rest}`,
      ]) {
        expectCode(await client.request(cmd, body), cmd, 200);
      }
      await client.fence();
    });

    for (const field of required) {
      test(`cmd ${cmd} (${state}): the lack of "${field}" is answered 200, saying which`, async () => {
        using client = await enter(state);
        const { [field]: _, ...others } = fields;
        const answer = await client.request(cmd, others);
        expectCode(answer, cmd, 200);
        assert.ok(answer.msg.includes(field), `${answer} names ${field}`);
      });
    }

    for (const field of required.filter((name) => name !== 'msg')) {
      test(`cmd ${cmd} (${state}): a wrong type of "${field}" is answered 200, saying which`, async () => {
        using client = await enter(state);
        for (const wrong of [null, true, 1, 0, 1.5, [], ['x'], {}, { toString: 'x' }]) {
          const answer = await client.request(cmd, { ...fields, [field]: wrong });
          expectCode(answer, cmd, 200);
          assert.ok(answer.msg.includes(field), `${answer} names ${field}`);
        }
      });
    }
  }

  test('unknown fields are ignored in every body', async () => {
    const more = { x: 1, __proto: null, constructor: { y: [1, { z: null }] }, toString: 1, '': 2 };
    using client = await connect(server);
    const name = unique('user');
    const deviceId = unique('device');
    expectCode(await client.request(102, { username: name, password, ...more }, { timeoutMs: 15_000 }), 102, 100);
    expectCode(await client.login(name, password, more), 100, 100);
    expectCode(await client.request(203, { deviceId, ...more }), 203, 100);
    expectAck(await client.say(deviceId, 1, { extra: more }));
    using device = await connect(server);
    expectCode(await device.auth(deviceId, more), 101, 100);
    device.fetch();
    const [pushed] = await device.received(1);
    assert.deepEqual(Object.keys(JSON.parse(pushed?.frame.text ?? '')[0]).sort(), ['from', 'msg', 'msgid', 'to']);
    expectCode(await client.request(204, { deviceId, ...more }), 204, 100);
  });

  test('a field named __proto__ is an unknown field like others', async () => {
    using client = await connect(server);
    expectCode(await client.request(101, '{"__proto__":{"id":"stolen"}}'), 101, 200);
    const id = unique('device');
    expectCode(await client.request(101, `{"__proto__":{"id":"stolen"},"id":"${id}"}`), 101, 100);
  });

  test('version and abilities may be left out, null or of any content', async () => {
    const name = await newUser(server);
    for (const body of [
      { username: name, password },
      { username: name, password, version: null },
      { username: name, password, version: '' },
    ]) {
      using client = await connect(server);
      expectCode(await client.request(100, body, { timeoutMs: 15_000 }), 100, 100);
    }
    for (const body of [
      { id: unique('device') },
      { id: unique('device'), version: null, abilities: null },
      { id: unique('device'), version: '2.0.1', abilities: [] },
      { id: unique('device'), abilities: ['on', 'off', 'éclair'] },
    ]) {
      using client = await connect(server);
      expectCode(await client.request(101, body), 101, 100);
    }
  });

  test('abilities of a type other than an array are answered 200', async () => {
    using client = await connect(server);
    for (const abilities of ['on', 1, true, {}]) {
      const answer = await client.request(101, { id: unique('device'), abilities });
      expectCode(answer, 101, 200);
      assert.ok(answer.msg.includes('abilities'), `${answer}`);
    }
  });

  test('white space and escapes in a body are as good as none', async () => {
    using client = await connect(server);
    const id = unique('device');
    const body = ` \t\r\n{ "v\\u0065rsion" : "1" , "\\u0069d"\n:\n"\\u${id.charCodeAt(0).toString(16).padStart(4, '0')}${id.slice(1)}" } \n`;
    expectCode(await client.request(101, body), 101, 100);
    using app = await newApp(server);
    expectCode(await app.bind(id), 203, 100);
    expectAck(await app.say(id, 'there'));
    const [pushed] = await client.received(1);
    assert.equal(pushed?.to, id);
  });
});

describe('accounts', () => {
  test('registration of a name that exists is answered 1001, whatever the password', async () => {
    const name = await newUser(server);
    using client = await connect(server);
    expectCode(await client.register(name, password), 102, 1001);
    expectCode(await client.register(name, md5('other')), 102, 1001);
    expectCode(await client.login(name, password), 100, 100);
  });

  test('registration does not log in', async () => {
    using client = await connect(server);
    const name = unique('user');
    expectCode(await client.register(name, password), 102, 100);
    expectCode(await client.say(name, 1), 200, 300);
  });

  test('several users may be registered on one connection', async () => {
    using client = await connect(server);
    for (let i = 0; i < 3; i += 1) expectCode(await client.register(unique('user'), password), 102, 100);
  });

  test('two registrations of one name at once: one 100, one 1001', async () => {
    const name = unique('user');
    using first = await connect(server);
    using second = await connect(server);
    const answers = await Promise.all([first.register(name, md5('1')), second.register(name, md5('2'))]);
    assert.deepEqual(answers.map((answer) => answer.code).sort(), [100, 1001]);
    const winner = answers[0]?.code === 100 ? '1' : '2';
    expectCode(await first.login(name, md5(winner)), 100, 100);
  });

  test('a wrong password and an unknown user get the same 1002, and the connection stays', async () => {
    const name = await newUser(server);
    using client = await connect(server);
    const wrong = await client.login(name, md5('wrong'));
    expectCode(wrong, 100, 1002);
    const unknown = await client.login(unique('nobody'), password);
    expectCode(unknown, 100, 1002);
    assert.equal(wrong.text, unknown.text);
    expectCode(await client.say(name, 1), 200, 300);
    expectCode(await client.login(name, password), 100, 100);
  });

  test('a device id is no user that could log in', async () => {
    using device = await newDevice(server);
    using client = await connect(server);
    expectCode(await client.login(device.name, password), 100, 1002);
    await device.fence();
    assert.equal(device.closed, undefined);
  });

  for (const [what, registered, typed, same] of [
    ['leading zeros may be dropped', '000a1b2c3d4e5f60718293a4b5c6d7e8', 'a1b2c3d4e5f60718293a4b5c6d7e8', true],
    ['leading zeros may be there again', 'a1b2c3d4e5f60718293a4b5c6d7e8', '000a1b2c3d4e5f60718293a4b5c6d7e8', true],
    ['some of the leading zeros may be dropped', '000abc', '0abc', true],
    ['upper case may be lower case', 'A1B2C3D4E5F60718293A4B5C6D7E8F90', 'a1b2c3d4e5f60718293a4b5c6d7e8f90', true],
    ['nothing but zeros is one zero', '0'.repeat(32), '0', true],
    ['zeros inside and at the end count', 'abc0', 'abc', false],
    ['33 hex digits are opaque: case counts', `${'a'.repeat(32)}b`, `${'a'.repeat(32)}B`, false],
    ['33 hex digits are opaque: leading zeros count', `0${'a'.repeat(32)}`, 'a'.repeat(32), false],
    ['what is no hex is opaque: case counts', 'Zebra', 'zebra', false],
    ['what is no hex is opaque: leading zeros count', '00zebra', 'zebra', false],
    ['what is no hex is opaque: it works', '密码 with spaces\u0001', '密码 with spaces\u0001', true],
    ['white space is no hex digit', ' abc', 'abc', false],
  ] as const) {
    test(`passwords: ${what}`, async () => {
      using client = await connect(server);
      const name = unique('user');
      expectCode(await client.register(name, registered), 102, 100);
      expectCode(await client.login(name, typed), 100, same ? 100 : 1002);
    });
  }
});

describe('devices of an app', () => {
  test('adding twice is answered 2001, removing twice 2002', async () => {
    using app = await newApp(server);
    const id = unique('device');
    expectCode(await app.bind(id), 203, 100);
    expectCode(await app.bind(id), 203, 2001);
    expectCode(await app.unbind(id), 204, 100);
    expectCode(await app.unbind(id), 204, 2002);
    expectCode(await app.bind(id), 203, 100);
  });

  test('what one app has added another has not', async () => {
    using app = await newApp(server);
    using other = await newApp(server);
    const id = await addDevice(app);
    expectCode(await other.unbind(id), 204, 2002);
    expectCode(await other.bind(id), 203, 100);
    expectCode(await app.unbind(id), 204, 100);
    expectCode(await other.bind(id), 203, 2001);
  });

  test('what was added is there after a new login', async () => {
    const name = await newUser(server);
    const id = unique('device');
    {
      using app = await login(server, name);
      await addDevice(app, id);
    }
    using app = await login(server, name);
    expectCode(await app.bind(id), 203, 2001);
  });

  test('what was added and who was registered is there after a restart', async () => {
    await using own = await startServer();
    const name = await newUser(own);
    const id = unique('device');
    {
      using app = await login(own, name);
      await addDevice(app, id);
    }
    await own.restart();
    using app = await login(own, name);
    expectCode(await app.bind(id), 203, 2001);
    expectCode(await app.request(102, { username: name, password }), 102, 200);
  });

  test('removing a name that nobody has heard of is answered 2002', async () => {
    using app = await newApp(server);
    expectCode(await app.unbind(unique('nothing')), 204, 2002);
    expectCode(await app.unbind('__proto__'), 204, 2002);
  });
});

describe('pushes', () => {
  /** The text of the one push of `raw` as a message to oneself. */
  async function pushOf(app: Client, raw: string): Promise<Frame> {
    const msgId = unique('raw');
    expectAck(await app.request(200, `{"to":"${app.name}","msg":${raw}}`, { msgId }));
    const { frame } = await app.message(msgId);
    app.ack([msgId]);
    return frame;
  }

  test('a push has cmd 201, an empty msgId and an array of objects with from, to, msg and msgid', async () => {
    using app = await newApp(server);
    using device = await newDevice(server);
    expectCode(await app.bind(device.name), 203, 100);
    const msgId = await leave(app, device.name, { on: [true] });
    const frame = await device.takeCmd(201);
    assert.equal(frame.msgId, '');
    assert.deepEqual(frame.json, [{ from: app.name, to: device.name, msg: { on: [true] }, msgid: msgId }]);
  });

  test('msg is the JSON value that was sent, unchanged', async () => {
    using app = await newApp(server);
    for (const raw of [
      'null',
      'true',
      'false',
      '0',
      '-0',
      '1.0',
      '1E5',
      '1e400',
      '9007199254740993',
      '-123456789012345678901234567890.123456789',
      '""',
      '"text"',
      '"\\u0041\\/\\b\\f\\n\\r\\t\\"\\\\"',
      '"\\u0000"',
      '"\\ud83d\\ude00"',
      '"\\ud800"',
      '"中文 😀 \u2028\u2029\u007f"',
      '{}',
      '[]',
      '[[],[{}],[null]]',
      '{"b":1,"a":2,"10":3,"9":4}',
      '{"__proto__":{"polluted":true},"constructor":1,"toString":2}',
      '{"from":"forged","to":"forged","msgid":"forged","msg":"inner"}',
      '"\\"},{\\"from\\":\\"forged"',
      '[9007199254740993,{"deep":9007199254740995}]',
    ]) {
      const { text, json } = await pushOf(app, raw);
      assert.ok(text.includes(`"msg":${raw}`), `${raw} in ${text}`);
      const messages = json as { readonly from: string; readonly msg: unknown }[];
      assert.equal(messages.length, 1);
      assert.equal(messages[0]?.from, app.name);
      assert.deepEqual(messages[0]?.msg, JSON.parse(raw));
    }
  });

  test('white space around and inside msg does not change its value', async () => {
    using app = await newApp(server);
    const raw = ' \n{ "a" : [ 1 , 2 ] }\t';
    const { json } = await pushOf(app, raw);
    assert.deepEqual((json as { readonly msg: unknown }[])[0]?.msg, { a: [1, 2] });
  });

  test('msg is unchanged after a stay in the inbox and a restart', async () => {
    await using own = await startServer();
    const raw = '{"n":9007199254740993,"z":-0,"s":"\\ud800","e":1E5}';
    const name = await newUser(own);
    {
      using sender = await newApp(own);
      expectAck(await sender.request(200, `{"to":"${name}","msg":${raw}}`, { msgId: 'kept' }));
    }
    await own.restart();
    using receiver = await login(own, name);
    receiver.fetch();
    const { frame } = await receiver.message('kept');
    assert.ok(frame.text.includes(`"msg":${raw}`), frame.text);
  });

  test('msg may be nested to the limit of 512 levels with its envelope, and no deeper', async () => {
    using app = await newApp(server);
    const nested = (depth: number) => '['.repeat(depth) + ']'.repeat(depth);
    assert.ok((await pushOf(app, nested(511))).text.includes(nested(511)));
    expectCode(await app.request(200, `{"to":"${app.name}","msg":${nested(514)}}`), 200, 200);
  });

  test('the ack of a push may carry a msgId or none, and gets no answer', async () => {
    using app = await newApp(server);
    const first = await leave(app, app.name, 1);
    const second = await leave(app, app.name, 2);
    await app.message(first);
    await app.message(second);
    app.ack([first], { msgId: 'ack-1' });
    app.ack([second]);
    assert.deepEqual(await app.quiet(100), []);
    app.destroy();
    using again = await login(server, app.name);
    again.fetch();
    assert.deepEqual(await again.quiet(), []);
  });

  test('a fetch gets no answer of its own, also when it carries a msgId and there is nothing to fetch', async () => {
    using app = await newApp(server);
    app.fetch({ msgId: 'fetch' });
    assert.deepEqual(await app.quiet(100), []);
  });

  for (const [what, body] of [
    ['nothing', undefined],
    ['not JSON', 'x'],
    ['an object', { msgid: 'x' }],
    ['null', 'null'],
    ['a string', '"x"'],
    ['an array of strings', ['x']],
    ['an array of null', [null]],
    ['an array of arrays', [[]]],
    ['an object without msgid', [{}]],
    ['an object with msgId instead', [{ msgId: 'x' }]],
    ['a msgid that is a number', [{ msgid: 1 }]],
    ['a msgid that is null', [{ msgid: null }]],
    ['one good and one bad object', [{ msgid: 'x' }, { msgid: 1 }]],
    ['duplicate keys', '[{"msgid":"x","msgid":"x"}]'],
    ['invalid UTF-8', Buffer.from('5b7b226d73676964223a22ff227d5d', 'hex')],
  ] as const) {
    test(`an ack that is not an array of such objects gets cmd 3, and the connection stays: ${what}`, async () => {
      using app = await newApp(server);
      const answer = await app.request(201, body as Body | undefined);
      expectCode(answer, 3, 200);
      await app.fence();
      assert.equal(app.closed, undefined);
    });
  }

  test('an empty array and further fields are fine in an ack', async () => {
    using app = await newApp(server);
    const msgId = await leave(app, app.name, 1);
    await app.message(msgId);
    app.send(201, []);
    app.send(201, [{ msgid: msgId, from: app.name, x: { y: 1 } }]);
    assert.deepEqual(await app.quiet(50), []);
    app.destroy();
    using again = await login(server, app.name);
    again.fetch();
    assert.deepEqual(await again.quiet(), []);
  });
});

describe('logout', () => {
  test('a user that has logged out receives nothing until the next login', async () => {
    using sender = await newApp(server);
    const name = await newUser(server);
    using receiver = await login(server, name);
    assert.equal((await receiver.logout()).how, 'fin');
    const msgId = await leave(sender, name, 'later');
    using again = await login(server, name);
    again.fetch();
    await again.message(msgId);
  });

  test('an encrypted logout works as well', async () => {
    using app = await newApp(server, { encrypt: true });
    app.send(104, {}, { encrypt: true });
    assert.equal((await app.waitClosed()).how, 'fin');
  });

  test('what stands behind a logout has no effect', async () => {
    const name = await newUser(server);
    using app = await login(server, name);
    const behind = app.frame(200, { to: name, msg: 'late' }, { msgId: 'late' });
    app.sendRaw(Buffer.concat([app.frame(104), behind]));
    await app.waitClosed();
    using again = await login(server, name);
    again.fetch();
    assert.deepEqual(await again.quiet(), []);
    assert.ok(!app.frames.some((frame) => frame.msgId === 'late'));
  });
});
