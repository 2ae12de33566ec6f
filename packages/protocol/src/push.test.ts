import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { PushWriter, pushHead } from './bodies.ts';
import { wireLimits } from './limits.ts';
import { readPush } from './push.ts';
import { decodeText, encodeText } from './text.ts';

function read(json: string): unknown[] | undefined {
  return readPush(encodeText(json))?.map(({ msg, ...rest }) => ({ ...rest, msg: decodeText(msg) }));
}

test('what PushWriter writes is read back, the text of msg byte for byte', () => {
  const message = fc.record(
    {
      from: fc.string({ unit: 'grapheme' }),
      to: fc.string({ unit: 'grapheme' }),
      msg: fc.json(),
      msgId: fc.string({ unit: 'grapheme' }),
      ts: fc.nat(),
    },
    { noNullPrototype: true },
  );
  fc.assert(
    fc.property(fc.array(message), (messages) => {
      const writer = new PushWriter();
      writer.begin();
      for (const { from, to, msg, msgId, ts } of messages) writer.add(pushHead(from, to), encodeText(msg), msgId, ts);
      writer.end();
      const found = readPush(writer.bytes.slice(0, writer.length));
      assert.deepEqual(
        found?.map(({ msg, ...rest }) => ({ ...rest, msg: decodeText(msg) })),
        messages,
      );
    }),
  );
});

test('numbers keep their digits, spaces are skipped, unknown fields ignored, ts may be missing', () => {
  const one = '{ "x": {"msgid":7}, "msg" : 12345678901234567890.10 , "to":"b","from":"\\u0061", "msgid":"m" }';
  const expected = { from: 'a', to: 'b', msgId: 'm', ts: 0, msg: '12345678901234567890.10' };
  assert.deepEqual(read(` [ ${one} , ${one}] `), [expected, expected]);
  assert.deepEqual(read('[]'), []);
  assert.deepEqual(read(' [ ] '), []);
});

test('msg may be null, and nest as deep as in the message that was sent', () => {
  const levels = wireLimits.jsonDepthMax - 1;
  for (const msg of ['null', '['.repeat(levels) + ']'.repeat(levels)]) {
    assert.deepEqual(read(`[{"from":"a","to":"b","msg":${msg},"msgid":"m","ts":5}]`), [
      { from: 'a', to: 'b', msgId: 'm', ts: 5, msg },
    ]);
  }
});

test('what is not an array of such messages is refused as a whole', () => {
  const good = '{"from":"a","to":"b","msg":1,"msgid":"m"}';
  for (const json of [
    '',
    '{}',
    '[',
    '[]x',
    `[${good}`,
    `[${good},]`,
    `[${good}] 1`,
    `[${good} ${good}]`,
    '[1]',
    '[{"to":"b","msg":1,"msgid":"m"}]',
    '[{"from":"a","msg":1,"msgid":"m"}]',
    '[{"from":"a","to":"b","msgid":"m"}]',
    '[{"from":"a","to":"b","msg":1}]',
    '[{"from":1,"to":"b","msg":1,"msgid":"m"}]',
    '[{"from":"a","to":"b","msg":1,"msgid":null}]',
    '[{"from":"a","to":"b","msg":1,"msgid":"m","msg":2}]',
  ]) {
    assert.equal(read(json), undefined, json);
  }
});
