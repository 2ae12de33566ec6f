import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  answerBody,
  Fault,
  OK_BODY,
  PushWriter,
  pushHead,
  readAcks,
  readAddDevice,
  readAuthenticate,
  readDevice,
  readDevices,
  readLogin,
  readMessage,
  readRegister,
  retryBody,
} from './bodies.ts';
import { BLOCK_BYTES } from './cipher.ts';
import { code } from './code.ts';
import { refusals } from './codes.ts';
import { wireLimits } from './limits.ts';

// fast-check prints the seed of a failure; another seed is tried with HAWSER_SEED=<number>.
fc.configureGlobal({ seed: Number(process.env.HAWSER_SEED ?? 1) });

/** Any character of Unicode, often from ASCII. (To prepare fast-check's own `unit: 'binary'` takes a second.) */
const anyCharacter = fc
  .oneof(fc.nat({ max: 0x7f }), fc.nat({ max: 0xd7ff }), fc.integer({ min: 0xe000, max: 0x10ffff }))
  .map((point) => String.fromCodePoint(point));

function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function textOf(bytes: Uint8Array): string {
  return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
}

test('a fault has the name and the refusal of its kind, with a text of its own where it has one', () => {
  const missing = readDevice(utf8('{}')) as Fault;
  assert.equal(missing.name, 'badBody');
  assert.deepEqual(missing.refusal, { ...refusals.badBody, msg: '"deviceId" is missing' });
  const faults = [readDevice(utf8('')), readAcks(utf8('')), readMessage(messageOf(`"${'x'.repeat(2 ** 20)}"`))];
  for (const [i, name] of (['notJson', 'badAck', 'msgTooLarge'] as const).entries()) {
    const fault = faults[i] as Fault;
    assert.equal(fault.name, name);
    assert.deepEqual(fault.refusal, refusals[name]);
  }
});

/** The result of a reader with bytes shown as text, or the text of its refusal. */
function outcome(result: object): unknown {
  if (result instanceof Fault) {
    assert.equal(result.refusal.code, code.exception);
    assert.equal(result.refusal.retry, false);
    return result.refusal.msg;
  }
  const shown = Object.entries(result).map(([key, value]) => [
    key,
    value instanceof Uint8Array ? textOf(value) : value,
  ]);
  return Object.fromEntries(shown);
}

/** What each reader is asked to read: the members of a valid body as JSON text, and what it makes of them. */
const READERS = [
  {
    read: readLogin,
    required: { username: '"alice"', password: '"secret"' },
    optional: { nack: 'true', version: '"1.0"' },
    result: { username: 'alice', password: 'secret', nack: false },
    full: { username: 'alice', password: 'secret', nack: true },
  },
  {
    read: readRegister,
    required: { username: '"alice"', password: '"secret"' },
    optional: {},
    result: { username: 'alice', password: 'secret' },
    full: { username: 'alice', password: 'secret' },
  },
  {
    read: readAuthenticate,
    required: { id: '"lock-1"' },
    optional: { version: '7', abilities: '[ "open" ]', nack: 'true', secret: '"s3cret"', code: '"1234"' },
    result: {
      id: 'lock-1',
      version: undefined,
      abilities: undefined,
      nack: false,
      secret: undefined,
      code: undefined,
    },
    full: { id: 'lock-1', version: '7', abilities: '[ "open" ]', nack: true, secret: 's3cret', code: '1234' },
  },
  {
    read: readAddDevice,
    required: { deviceId: '"lock-1"' },
    optional: { code: '"1234"' },
    result: { deviceId: 'lock-1', code: undefined },
    full: { deviceId: 'lock-1', code: '1234' },
  },
  {
    read: readDevice,
    required: { deviceId: '"lock-1"' },
    optional: {},
    result: { deviceId: 'lock-1' },
    full: { deviceId: 'lock-1' },
  },
  {
    read: readMessage,
    required: { to: '"lock-1"', msg: '["open", 1]' },
    optional: { ttl: '60' },
    result: { to: 'lock-1', msg: '["open", 1]', ttl: 0 },
    full: { to: 'lock-1', msg: '["open", 1]', ttl: 60 },
  },
] as const;

type Members = Readonly<Record<string, string>>;

function objectOf(members: Members): string {
  return `{${Object.entries(members)
    .map(([key, value]) => `"${key}":${value}`)
    .join(',')}}`;
}

function without(members: Members, name: string): Members {
  return Object.fromEntries(Object.entries(members).filter(([key]) => key !== name));
}

function escaped(name: string, at: number): string {
  return `${name.slice(0, at)}\\u${name.charCodeAt(at).toString(16).padStart(4, '0')}${name.slice(at + 1)}`;
}

const NOT_JSON = refusals.notJson.msg;

for (const { read, required, optional, result, full } of READERS) {
  const of = (text: string) => outcome(read(utf8(text)));
  const whole: Members = { ...required, ...optional };

  test(`${read.name} reads a body with its required fields, and with all`, () => {
    assert.deepEqual(of(objectOf(required)), result);
    assert.deepEqual(of(objectOf(whole)), full);
    assert.deepEqual(of(objectOf(Object.fromEntries(Object.entries(whole).reverse()))), full);
    assert.deepEqual(of(` \n${objectOf(whole).replaceAll(/("\w+"):/g, '\r$1\t:  ')} `), full);
  });

  test(`${read.name} says which required field is missing`, () => {
    for (const name of Object.keys(required)) {
      assert.equal(of(objectOf(without(whole, name))), `"${name}" is missing`);
      assert.equal(of(objectOf({ ...without(whole, name), [name.toUpperCase()]: '"x"' })), `"${name}" is missing`);
      assert.equal(of(objectOf({ ...without(whole, name), nested: `{"${name}":"x"}` })), `"${name}" is missing`);
    }
  });

  test(`${read.name} says which field has the wrong type`, () => {
    for (const name of Object.keys(required).filter((each) => each !== 'msg')) {
      for (const value of ['null', '1', 'true', 'false', '[]', '["a"]', '{}', '-0.5']) {
        assert.equal(of(objectOf({ ...whole, [name]: value })), `"${name}" must be a string`);
      }
    }
    const wrong = {
      nack: ['must be true or false', '"true"', '1', '0', '""', '[]', '{}'],
      version: ['must be a string or a number', 'true', 'false', '[]', '{}', '["1"]'],
      abilities: ['must be an array', '"[]"', '{}', '1', 'true', '""'],
      secret: ['must be a string', '1', 'true', '[]', '{}', '["a"]'],
      code: ['must be a string', '1234', 'false', '[]', '{}'],
      ttl: [`must be a whole number from 1 to ${wireLimits.ttlSecondsMax}`, '"60"', 'true', '[60]', '{}', '""'],
    };
    for (const [name, [says, ...values]] of Object.entries(wrong)) {
      if (!(name in optional)) continue;
      for (const value of values) assert.equal(of(objectOf({ ...whole, [name]: value })), `"${name}" ${says}`, value);
    }
  });

  test(`${read.name} takes an optional field that is null for one that is absent`, () => {
    const nulls = Object.fromEntries(Object.keys(optional).map((name) => [name, 'null']));
    assert.deepEqual(of(objectOf({ ...required, ...nulls })), result);
  });

  test(`${read.name} refuses a field that is there twice, also an unknown one, also with escapes`, () => {
    for (const [name, value] of [...Object.entries(whole), ['unknown', '1']] as const) {
      const body = objectOf({ ...whole, [name]: value });
      assert.equal(of(body.replace('{', `{"${name}":${value},`)), NOT_JSON);
      assert.equal(of(body.replace('{', `{"${name}":null,`)), NOT_JSON);
      assert.equal(of(body.replace('{', `{"${escaped(name, 0)}":${value},`)), NOT_JSON);
      assert.equal(of(body.replace(/\}$/, `,"${escaped(name, 1)}":${value}}`)), NOT_JSON);
    }
  });

  test(`${read.name} ignores unknown fields, but not what is wrong in them`, () => {
    const unknown = ['1', 'null', '{"to":1,"username":2}', '[[{}]]', '"\\u0000"', '1e999'];
    for (const value of unknown) {
      assert.deepEqual(of(objectOf({ unknown: value, ...whole, '': value })), full, value);
    }
    for (const value of ['', '01', '{"a":1,"a":2}', '"\\x"', '[1,]', `${'['.repeat(512)}${']'.repeat(512)}`]) {
      assert.equal(of(objectOf({ ...whole, unknown: value })), NOT_JSON, value);
    }
    const deep = `${'['.repeat(511)}${']'.repeat(511)}`;
    assert.deepEqual(of(objectOf({ ...whole, unknown: deep })), full);
  });

  test(`${read.name} knows its fields under any spelling of their names`, () => {
    for (const name of Object.keys(whole)) {
      for (let at = 0; at < name.length; at++) {
        const body = objectOf(whole).replace(`"${name}":`, `"${escaped(name, at)}":`);
        assert.notEqual(body, objectOf(whole));
        assert.deepEqual(of(body), full);
      }
    }
  });

  test(`${read.name} reads strings with their escapes resolved`, () => {
    for (const name of Object.keys(required).filter((each) => each !== 'msg')) {
      const body = objectOf({ ...whole, [name]: '"a\\u0062\\n\\\\é\\ud83d\\ude00"' });
      assert.deepEqual(of(body), { ...full, [name]: 'ab\n\\é😀' });
      assert.deepEqual(of(objectOf({ ...whole, [name]: '""' })), { ...full, [name]: '' });
    }
  });

  test(`${read.name} sees nothing special in __proto__, constructor and the like`, () => {
    for (const name of ['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty']) {
      assert.deepEqual(of(objectOf({ ...whole, [`${name} `]: '1' }).replace(`${name} `, name)), full);
      assert.match(String(of(`{"${name}":${objectOf(whole)}}`)), /is missing$/);
    }
    assert.equal(of(`{"__proto__":1,"__proto__":2,${objectOf(whole).slice(1)}`), NOT_JSON);
  });

  test(`${read.name} refuses what is not one JSON object`, () => {
    const body = objectOf(whole);
    const wrong = [
      '',
      ' ',
      'null',
      '1',
      '"a"',
      '[]',
      `[${body}]`,
      `${body},`,
      `${body}{}`,
      `${body}}`,
      `\ufeff${body}`,
    ];
    for (const text of wrong) assert.equal(of(text), NOT_JSON, text);
    assert.equal(of(`${body}\u0000`), NOT_JSON);
    for (let length = 0; length < body.length; length++) assert.equal(of(body.slice(0, length)), NOT_JSON);
  });

  test(`${read.name} refuses invalid UTF-8 anywhere`, () => {
    for (const invalid of [[0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xc3]]) {
      for (const name of [...Object.keys(whole), 'unknown']) {
        const [before, behind] = objectOf({ ...whole, [name]: '"#"' }).split('#');
        const bytes = Uint8Array.from([...utf8(before!), ...invalid, ...utf8(behind!)]);
        assert.equal(outcome(read(bytes)), NOT_JSON, name);
      }
    }
  });

  test(`${read.name} keeps nothing of the body that it read before`, () => {
    const first = read(utf8(objectOf(whole)));
    assert.match(String(of('{}')), /is missing$/);
    assert.deepEqual(of(objectOf(required)), result);
    assert.deepEqual(outcome(first), full);
  });
}

test('a body without a field that it lacks names the first of those that it lacks', () => {
  assert.equal(outcome(readLogin(utf8('{}'))), '"username" is missing');
  assert.equal(outcome(readMessage(utf8('{}'))), '"to" is missing');
});

test('a request for devices may have no data; where it has some, "after" is a string', () => {
  assert.deepEqual(readDevices(utf8('')), { after: undefined });
  assert.deepEqual(readDevices(utf8('{"after":null}')), { after: undefined });
  assert.deepEqual(readDevices(utf8('{"\\u0061fter":"\\u6d88"}')), { after: '消' });
  for (const wrong of ['1', 'true', '["a"]', '{}']) {
    assert.equal(outcome(readDevices(utf8(`{"after":${wrong}}`))), '"after" must be a string');
  }
  for (const text of [' ', 'null', '[]', '"a"', '{"after":"a"', '{"after":"a"}x', '{"after":"a","after":"a"}']) {
    assert.equal(outcome(readDevices(utf8(text))), refusals.notJson.msg, text);
  }
});

test('a version is kept as its JSON text, string or number', () => {
  for (const version of ['"1.0"', '""', '1', '-1.50', '1e400', '"\\u0031"', '9007199254740993']) {
    const result = readAuthenticate(utf8(`{"id":"a","version": ${version} }`));
    assert.equal((outcome(result) as { version: unknown }).version, version);
    assert.ok(!(readLogin(utf8(`{"username":"a","password":"b","version":${version}}`)) instanceof Fault));
  }
});

test('secrets and pairing codes keep within their bounds, in bytes', () => {
  const of = (name: string, value: string) =>
    outcome(readAuthenticate(utf8(JSON.stringify({ id: 'a', [name]: value }))));
  for (const [name, least, most] of [
    ['secret', 1, wireLimits.secretBytesMax],
    ['code', wireLimits.codeBytesMin, wireLimits.codeBytesMax],
  ] as const) {
    for (const value of ['x'.repeat(least), 'x'.repeat(most), '名'.repeat(Math.floor(most / 3)), ' \n"\u0000']) {
      assert.equal((of(name, value) as Readonly<Record<string, unknown>>)[name], value);
    }
    const says = `"${name}" must have ${least} to ${most} bytes`;
    for (const value of ['', 'x'.repeat(least - 1), 'x'.repeat(most + 1), '名'.repeat(most / 2), 'abcd\ud800']) {
      assert.equal(of(name, value), says, JSON.stringify(value));
    }
  }
  // Shown by a person: what is no code is a wrong one.
  for (const code of ['', '1', 'x'.repeat(10_000)]) {
    const body = outcome(readAddDevice(utf8(JSON.stringify({ deviceId: 'a', code }))));
    assert.deepEqual(body, { deviceId: 'a', code });
  }
});

test('abilities are kept as their JSON text, white space inside and all', () => {
  for (const abilities of ['[]', '[ ]', '[1,\n{"a":"é"}]', '[["\\u0061"]]']) {
    const result = readAuthenticate(utf8(`{"id":"a","abilities": ${abilities} }`));
    assert.equal((outcome(result) as { abilities: unknown }).abilities, abilities);
  }
});

test('the text "null" is not null', () => {
  assert.equal(outcome(readAuthenticate(utf8('{"id":"a","abilities":"null"}'))), '"abilities" must be an array');
  assert.deepEqual(outcome(readAuthenticate(utf8('{"id":"null","version":"null"}'))), {
    id: 'null',
    version: '"null"',
    abilities: undefined,
    nack: false,
    secret: undefined,
    code: undefined,
  });
});

// Messages

function messageOf(msg: string, more = ''): Uint8Array {
  return utf8(`{"to":"b","msg":${msg}${more}}`);
}

test('the msg of a message is given byte for byte', () => {
  const values = [
    'null',
    'true',
    'false',
    '9007199254740993',
    '1e400',
    '-0',
    '-0.0',
    '1.10',
    '1E+05',
    '0.1e-999',
    '123456789012345678901234567890.123456789012345678901234567890',
    '""',
    '"plain"',
    '"\\u0061\\/\\n\\"\\\\"',
    '"\\ud800"',
    '"é消😀\u2028\ufeff"',
    '"},{\\"from\\":\\"eve"',
    '[]',
    '[ 1 ,\t2,\r\n 3 ]',
    '{}',
    '{ "b" : 1 , "a" : [ { } ] , "__proto__" : { "to" : "c" } }',
    '{"to":"c","msg":{"msg":1},"ttl":5}',
  ];
  for (const msg of values) {
    for (const space of ['', ' ', '\n\t \r']) {
      const result = readMessage(messageOf(`${space}${msg}${space}`));
      assert.deepEqual(outcome(result), { to: 'b', msg, ttl: 0 });
    }
  }
});

test('the msg is a view into the data', () => {
  const data = messageOf('[1,2]');
  const result = readMessage(data);
  assert.ok(!(result instanceof Fault));
  assert.equal(result.msg.buffer, data.buffer);
  assert.deepEqual(outcome(readMessage(data.subarray(0))), outcome(result));
});

test('any msg is given byte for byte', () => {
  fc.assert(
    fc.property(fc.json({ stringUnit: anyCharacter }), fc.string({ unit: anyCharacter }), (msg, to) => {
      const result = readMessage(utf8(`{"msg":${msg},"to":${JSON.stringify(to)}}`));
      assert.deepEqual(outcome(result), { to, msg, ttl: 0 });
    }),
    { numRuns: 1000 },
  );
});

test('a msg of exactly the limit is accepted, one byte more is too large', () => {
  const most = wireLimits.msgBytesMax;
  for (const [open, close] of [
    ['"', '"'],
    ['[', '1]'],
  ] as const) {
    const fill = open === '"' ? 'x' : ' ';
    const msg = (bytes: number) => open + fill.repeat(bytes - open.length - close.length) + close;
    const accepted = readMessage(messageOf(`   ${msg(most)}   `));
    assert.ok(!(accepted instanceof Fault));
    assert.equal(accepted.msg.length, most);
    assert.equal(outcome(readMessage(messageOf(msg(most + 1)))), refusals.msgTooLarge.msg);
  }
});

test('the size of a msg is counted in bytes, not in characters', () => {
  const msg = `"${'é'.repeat(wireLimits.msgBytesMax / 2)}"`;
  assert.equal(outcome(readMessage(messageOf(msg))), refusals.msgTooLarge.msg);
  assert.ok(!(readMessage(messageOf(msg.replace('é', ''))) instanceof Fault));
});

test('what is not part of msg does not count for its size', () => {
  const much = `"${'x'.repeat(wireLimits.msgBytesMax)}"`;
  assert.deepEqual(outcome(readMessage(messageOf('1', `,"other":${much}`))), { to: 'b', msg: '1', ttl: 0 });
});

test('a ttl is a whole number of seconds from 1 to 30 days', () => {
  const accepted = [
    ['1', 1],
    ['2', 2],
    ['2592000', 2_592_000],
    ['2591999', 2_591_999],
    ['1.0', 1],
    ['1e3', 1000],
    ['2.592E+6', 2_592_000],
    ['10e-1', 1],
  ] as const;
  for (const [text, ttl] of accepted) {
    assert.deepEqual(outcome(readMessage(messageOf('1', `,"ttl":${text}`))), { to: 'b', msg: '1', ttl }, text);
  }
  const says = '"ttl" must be a whole number from 1 to 2592000';
  for (const text of [
    '0',
    '-0',
    '-1',
    '2592001',
    '1.5',
    '0.9',
    '1e400',
    '-1e400',
    '1e-400',
    '1e7',
    '"1"',
    '" 1"',
    '[]',
    '[1]',
    'true',
    '{}',
  ]) {
    assert.equal(outcome(readMessage(messageOf('1', `,"ttl":${text}`))), says, text);
  }
});

// Acks

test('an ack is an array of objects with a msgid', () => {
  const cases = [
    ['[]', []],
    [' [ ] ', []],
    ['[{"msgid":"a"}]', ['a']],
    ['[{"msgid":"a"},{"msgid":"b"},{"msgid":"c"}]', ['a', 'b', 'c']],
    ['\n[ { "msgid" : "a" } ,\t{ "msgid" : "b" } ] \r', ['a', 'b']],
    ['[{"msgid":"a"},{"msgid":"a"}]', ['a', 'a']],
    ['[{"msgid":""}]', ['']],
    ['[{"msgid":"\\u0061\\n"}]', ['a\n']],
    ['[{"\\u006dsgid":"a"}]', ['a']],
    ['[{"from":"x","msgid":"a","other":[{"msgid":"b"}]},{"msgid":"c","n":1e400}]', ['a', 'c']],
    ['[{"__proto__":{"msgid":"b"},"msgid":"a"}]', ['a']],
    ['[{"msgid":"消😀"}]', ['消😀']],
  ] as const;
  for (const [text, ids] of cases) assert.deepEqual(readAcks(utf8(text)), ids, text);
});

test('anything else is no ack', () => {
  const wrong = [
    '',
    ' ',
    'null',
    '1',
    '"a"',
    '{}',
    '{"msgid":"a"}',
    '[',
    ']',
    '[]]',
    '[] []',
    '[],',
    '[null]',
    '[1]',
    '["a"]',
    '[[]]',
    '[[{"msgid":"a"}]]',
    '[{}]',
    '[{"id":"a"}]',
    '[{"msgId":"a"}]',
    '[{"__proto__":{"msgid":"a"}}]',
    '[{"a":{"msgid":"a"}}]',
    '[{"msgid":null}]',
    '[{"msgid":1}]',
    '[{"msgid":["a"]}]',
    '[{"msgid":"a","msgid":"a"}]',
    '[{"msgid":"a","\\u006dsgid":"b"}]',
    '[{"msgid":"a","x":{"y":1,"y":1}}]',
    '[{"msgid":"a"},]',
    '[,{"msgid":"a"}]',
    '[{"msgid":"a"},,{"msgid":"b"}]',
    '[{"msgid":"a"}{"msgid":"b"}]',
    '[{"msgid":"a"};{"msgid":"b"}]',
    '[{"msgid":"a"},{}]',
    '[{"msgid":"a"},1]',
    '[{"msgid":"a"}}',
    '[{"msgid":"a"}',
    '[{"msgid":"a"}]x',
    '[{"msgid":"a"}]]',
    '[{"msgid":"a",}]',
    '\ufeff[]',
  ];
  for (const text of wrong) {
    assert.equal(outcome(readAcks(utf8(text))), refusals.badAck.msg, text);
  }
  const invalid = Uint8Array.from([...utf8('[{"msgid":"'), 0xff, ...utf8('"}]')]);
  assert.equal(outcome(readAcks(invalid)), refusals.badAck.msg);
});

test('an ack cut off anywhere is none', () => {
  const text = '[{"msgid":"a","n":[1]}, {"msgid":"b"} ]';
  for (let length = 0; length < text.length; length++) {
    assert.ok(readAcks(utf8(text.slice(0, length))) instanceof Fault, text.slice(0, length));
  }
});

test('an ack nests as deep as any other body, its own two levels counted', () => {
  const nested = (depth: number) => utf8(`[{"msgid":"a","x":${'['.repeat(depth - 2)}${']'.repeat(depth - 2)}}]`);
  assert.deepEqual(readAcks(nested(wireLimits.jsonDepthMax)), ['a']);
  assert.ok(readAcks(nested(wireLimits.jsonDepthMax + 1)) instanceof Fault);
});

test('any ids come out of an ack as they went in', () => {
  fc.assert(
    fc.property(fc.array(fc.string({ unit: anyCharacter })), (ids) => {
      assert.deepEqual(readAcks(utf8(JSON.stringify(ids.map((msgid) => ({ msgid }))))), ids);
    }),
    { numRuns: 500 },
  );
});

// Answers

test('the common answer is compact JSON with a code and a text', () => {
  assert.equal(textOf(OK_BODY), '{"code":100,"msg":"ok"}');
  assert.equal(textOf(answerBody(code.exception, 'a "quoted" é\n')), '{"code":200,"msg":"a \\"quoted\\" é\\n"}');
});

test('a refusal for now says that it may be tried again', () => {
  assert.deepEqual(JSON.parse(textOf(retryBody(refusals.inboxFull))), {
    code: 200,
    msg: refusals.inboxFull.msg,
    retry: true,
  });
});

// Pushes

interface Pushed {
  readonly from: string;
  readonly to: string;
  readonly msg: Uint8Array;
  readonly msgId: string;
  readonly ts: number;
}

function write(writer: PushWriter, messages: readonly Pushed[]): Uint8Array {
  writer.begin();
  for (const { from, to, msg, msgId, ts } of messages) writer.add(pushHead(from, to), msg, msgId, ts);
  writer.end();
  assert.ok(writer.bytes.length - writer.length >= BLOCK_BYTES, 'no room for padding');
  return writer.bytes.slice(0, writer.length);
}

function assertPushed(bytes: Uint8Array, messages: readonly Pushed[]): void {
  const expected = messages.map(({ from, to, msg, msgId, ts }) => ({
    from,
    to,
    msg: JSON.parse(textOf(msg)) as unknown,
    msgid: msgId,
    ...(ts === 0 ? {} : { ts }),
  }));
  const pushed = JSON.parse(textOf(bytes)) as object[];
  assert.deepEqual(pushed, expected);
  for (const element of pushed) {
    assert.deepEqual(Object.keys(element).slice(0, 4), ['from', 'to', 'msg', 'msgid']);
  }
}

test('a push is an array of compact objects, in the order of the protocol', () => {
  const messages = [
    { from: 'alice', to: 'lock-1', msg: utf8('"open"'), msgId: 'm-1', ts: 0 },
    { from: 'bob', to: 'lock-1', msg: utf8('{ "n" : 1e400 }'), msgId: 'm-2', ts: 1_764_000_000_000 },
  ];
  assert.equal(
    textOf(write(new PushWriter(), messages)),
    '[{"from":"alice","to":"lock-1","msg":"open","msgid":"m-1"},' +
      '{"from":"bob","to":"lock-1","msg":{ "n" : 1e400 },"msgid":"m-2","ts":1764000000000}]',
  );
});

test('a push of nothing is an empty array', () => {
  assert.equal(textOf(write(new PushWriter(), [])), '[]');
});

test('the ids of a push can be acked as they are', () => {
  const messages = ['a', '"', '\u0000', '消', '😀', '\ud800'].map((msgId) => ({
    from: 'a',
    to: 'b',
    msg: utf8('1'),
    msgId,
    ts: 0,
  }));
  assert.deepEqual(
    readAcks(write(new PushWriter(), messages)),
    messages.map(({ msgId }) => msgId),
  );
});

const anyName = fc.oneof(
  fc.string({ unit: anyCharacter }),
  fc.constantFrom('"', '\\', '","to":"eve', '\u0001'.repeat(128), '\u2028', '😀'.repeat(32), '__proto__'),
);
const anyMessage = fc.record(
  {
    from: anyName,
    to: anyName,
    msg: fc
      .oneof(
        fc.json({ stringUnit: anyCharacter }),
        fc.nat({ max: 20_000 }).map((n) => `"${'x'.repeat(n)}"`),
      )
      .map(utf8),
    msgId: anyName,
    ts: fc.oneof(fc.constant(0), fc.nat({ max: Number.MAX_SAFE_INTEGER })),
  },
  { noNullPrototype: true },
);

test('any messages come out of a push as they went in, from one writer again and again', () => {
  fc.assert(
    fc.property(fc.array(fc.array(anyMessage, { maxLength: 6 }), { maxLength: 3 }), (batches) => {
      const writer = new PushWriter();
      for (const batch of batches) assertPushed(write(writer, batch), batch);
    }),
    { numRuns: 200 },
  );
});

test('any msg that is accepted gives exactly one element, with from, to and msgid as they are', () => {
  const piece = fc.oneof(
    fc.constantFrom('{', '}', '[', ']', ',', ':', '"', '\\', '1', ' ', 'null', '{}', '[]', '"a"', '"msg":', '"to":"b"'),
    fc.constantFrom(
      '},{',
      '}]',
      ',"from":"eve"',
      ',"msgid":"x"',
      ',"\\u0066rom":"eve"',
      '1},{"from":"eve","msg":1',
      '\u0000',
      'é',
    ),
    fc.string({ unit: anyCharacter, maxLength: 3 }),
  );
  // Grown around a valid value, so that a fair share is accepted.
  const raw = fc
    .tuple(
      fc.array(piece, { maxLength: 2 }),
      fc.json({ maxDepth: 2 }),
      fc.array(piece, { maxLength: 3 }),
      fc.nat({ max: 3 }),
    )
    .map(([before, value, behind, kind]) => {
      if (kind === 0) return value + behind.join('');
      return kind === 1 ? `[${value}${behind.join('')}]` : before.join('') + value + behind.join('');
    });
  let accepted = 0;
  let refused = 0;
  fc.assert(
    fc.property(raw, anyName, anyName, (text, from, msgId) => {
      const result = readMessage(messageOf(text));
      if (result instanceof Fault) {
        refused++;
        return;
      }
      accepted++;
      const message = { from, to: result.to, msg: result.msg, msgId, ts: 0 };
      assertPushed(write(new PushWriter(), [message, message]), [message, message]);
    }),
    { numRuns: 8000 },
  );
  assert.ok(accepted > 1000 && refused > 1000, `${accepted} accepted, ${refused} refused`);
});

test('any bytes in place of a msg are refused or give exactly one element', () => {
  const anyByte = fc.oneof(fc.constantFrom(...utf8('{}[],:"\\1 ')), fc.nat({ max: 255 }));
  fc.assert(
    fc.property(fc.array(anyByte, { maxLength: 6 }), (bytes) => {
      const data = Uint8Array.from([...utf8('{"to":"b","msg":'), ...bytes, ...utf8('}')]);
      const result = readMessage(data);
      if (result instanceof Fault) return;
      const message = { from: 'a', to: 'b', msg: result.msg, msgId: 'm', ts: 0 };
      assertPushed(write(new PushWriter(), [message]), [message]);
    }),
    { numRuns: 8000 },
  );
});

test('wherever the buffer ends, a push is whole and 16 bytes are free behind it', () => {
  const longest = {
    from: '消'.repeat(42),
    to: '"'.repeat(128),
    msgId: '\u0001'.repeat(128),
    ts: Number.MAX_SAFE_INTEGER,
  };
  const short = { from: 'a', to: 'b', msgId: 'm', ts: 1_764_000_000_000 };
  const room = 16 * 1024;
  for (let length = room - 1800; length <= room + 20; length++) {
    const fill = { ...short, msg: new Uint8Array(length).fill(0x31) };
    for (const last of [longest, short]) {
      const bytes = write(new PushWriter(), [fill, { ...last, msg: utf8('1') }]);
      const tail = `,"msg":1,"msgid":${JSON.stringify(last.msgId)},"ts":${last.ts}}]`;
      assert.equal(textOf(bytes.subarray(-tail.length)), tail, `${length}`);
    }
    write(new PushWriter(), [fill]);
  }
});

test('a writer keeps the room that it has', () => {
  const writer = new PushWriter();
  const large = { from: 'a', to: 'b', msg: new Uint8Array(100_000).fill(0x31), msgId: 'm', ts: 0 };
  write(writer, [large]);
  const room = writer.bytes;
  const small = { ...large, msg: utf8('2') };
  assertPushed(write(writer, [small]), [small]);
  assert.equal(writer.bytes, room);
});
