import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isJson } from './json.ts';
import { encodeText } from './text.ts';

/** A key with some of its characters spelled as escapes. */
function spelled(key: string, escapes: readonly boolean[]): string {
  let text = '';
  for (let i = 0; i < key.length; i++) {
    const isEscaped = escapes[i % Math.max(1, escapes.length)] === true || /[\p{Cc}"\\\p{Cs}]/u.test(key[i] ?? '');
    text += isEscaped ? `\\u${key.charCodeAt(i).toString(16).padStart(4, '0')}` : (key[i] ?? '');
  }
  return text;
}

const keys = fc.uniqueArray(fc.string({ unit: 'grapheme', maxLength: 6 }), { minLength: 1, maxLength: 60 });
const escapes = fc.array(fc.boolean(), { maxLength: 5 });

test('an object with any different keys is JSON, however they are spelled', () => {
  fc.assert(
    fc.property(keys, escapes, (names, how) => {
      assert.equal(isJson(encodeText(`{${names.map((name) => `"${spelled(name, how)}":1`).join(',')}}`)), true);
    }),
    { seed: 1 },
  );
});

test('an object that has one of its keys twice is refused, however either is spelled', () => {
  fc.assert(
    fc.property(keys, escapes, escapes, fc.nat(), (names, how, again, which) => {
      const twice = names[which % names.length] ?? '';
      const members = [...names.map((name) => `"${spelled(name, how)}":1`), `"${spelled(twice, again)}":2`];
      assert.equal(isJson(encodeText(`{${members.join(',')}}`)), false);
    }),
    { seed: 1 },
  );
});

test('the short escapes are the characters they stand for', () => {
  const spellings: readonly (readonly [string, string])[] = [
    ['\\b', '\\u0008'],
    ['\\f', '\\u000c'],
    ['\\n', '\\u000A'],
    ['\\r', '\\u000d'],
    ['\\t', '\\u0009'],
    ['\\/', '/'],
    ['\\"', '\\u0022'],
    ['\\\\', '\\u005C'],
  ];
  for (const [short, long] of spellings) {
    assert.equal(isJson(encodeText(`{"${short}":1,"${long}":1}`)), false, short);
  }
});
