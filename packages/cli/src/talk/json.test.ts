import assert from 'node:assert/strict';
import { test } from 'node:test';
import { jsonLine, parseExactly, valueIn } from './json.ts';

test('numbers are written as they were read, also those that a double cannot hold', () => {
  for (const text of ['12345678901234567890', '[1.10,1e2,-0,0.1]', '{"a":1E400,"b":"1.10","c":[3]}', 'null']) {
    assert.equal(JSON.stringify(parseExactly(text)), text);
  }
  assert.throws(() => parseExactly('{'), SyntaxError);
});

test('an argument is JSON where it is JSON, and text otherwise', () => {
  assert.deepEqual(['{"t":21}', '21x', 'true', '"a"'].map(valueIn), [{ t: 21 }, '21x', true, 'a']);
});

test('JSON becomes one line without control characters, and stays the same value', () => {
  const text = '{\r\n\t"a": "\u009b\u202e\u{e0001}x\u2028",\n "b": [1]}';
  const line = jsonLine(text);
  assert.match(line, /^[ -~]*$/);
  assert.deepEqual(JSON.parse(line), JSON.parse(text));
});
