import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isMsgId, isName, normalPassword } from './names.ts';

// fast-check prints the seed of a failure; another seed is tried with HAWSER_SEED=<number>.
fc.configureGlobal({ seed: Number(process.env.HAWSER_SEED ?? 1) });

/** Any character of Unicode, often from ASCII. (To prepare fast-check's own `unit: 'binary'` takes a second.) */
const anyCharacter = fc
  .oneof(fc.nat({ max: 0x7f }), fc.nat({ max: 0xd7ff }), fc.integer({ min: 0xe000, max: 0x10ffff }))
  .map((point) => String.fromCodePoint(point));

const anyText = fc.oneof(
  fc.string({ unit: anyCharacter }),
  fc.string({ unit: anyCharacter, minLength: 20, maxLength: 140 }),
  fc.string({ minLength: 120, maxLength: 136 }),
  fc.tuple(fc.constantFrom('a', 'é', '消', '😀'), fc.nat({ max: 140 })).map(([c, count]) => c.repeat(count)),
);

test('a name has 1 to 128 bytes of UTF-8', () => {
  for (const [character, bytes] of [
    ['a', 1],
    ['é', 2],
    ['消', 3],
    ['😀', 4],
  ] as const) {
    const most = Math.floor(128 / bytes);
    assert.equal(isName(character), true);
    assert.equal(isName(character.repeat(most)), true, character);
    assert.equal(isName(character.repeat(most + 1)), false, character);
    assert.equal(isName(character.repeat(most) + 'a'.repeat(128 - most * bytes)), true, character);
    assert.equal(isName(character.repeat(most) + 'a'.repeat(129 - most * bytes)), false, character);
  }
  assert.equal(isName(''), false);
  assert.equal(isName('a'.repeat(1_000_000)), false);
});

test('a name has no control character, wherever it stands', () => {
  for (let point = 0; point <= 0x10ffff; point = point < 0x3000 ? point + 1 : point + 0xfff) {
    const character = String.fromCodePoint(point);
    const isControl = point < 0x20 || (point >= 0x7f && point <= 0x9f);
    const isSurrogate = point >= 0xd800 && point <= 0xdfff;
    for (const name of [character, `a${character}`, `${character}b`, `a${character}b`]) {
      assert.equal(isName(name), !isControl && !isSurrogate, point.toString(16));
    }
  }
});

test('a name has no half of a surrogate pair', () => {
  for (const half of ['\ud800', '\udbff', '\udc00', '\udfff', '\ude00\ud83d']) {
    assert.equal(isName(half), false);
    assert.equal(isName(`a${half}b`), false);
    assert.equal(isName(`${half}😀`), false);
  }
  assert.equal(isName('\ud83d\ude00'), true);
});

test('spaces, quotes, slashes, invisible and private characters may be in a name', () => {
  for (const name of [
    ' ',
    'a b',
    '"',
    '\\',
    '/',
    "'",
    '\u00a0',
    '\u200b',
    '\u2028',
    '\ufeff',
    '\ue000',
    '__proto__',
    '0',
  ]) {
    assert.equal(isName(name), true, JSON.stringify(name));
  }
});

test('any text is a name exactly when its length and its characters allow it', () => {
  fc.assert(
    fc.property(anyText, (name) => {
      const bytes = Buffer.byteLength(name);
      const hasControl = [...name].some((c) => c < ' ' || (c >= '\u007f' && c <= '\u009f'));
      assert.equal(isName(name), bytes >= 1 && bytes <= 128 && !hasControl);
    }),
    { numRuns: 3000 },
  );
});

test('any text is a msgId exactly when it has 1 to 128 bytes', () => {
  fc.assert(
    fc.property(anyText, (msgId) => {
      const bytes = Buffer.byteLength(msgId);
      assert.equal(isMsgId(msgId), bytes >= 1 && bytes <= 128);
    }),
    { numRuns: 3000 },
  );
});

test('a msgId has 1 to 128 bytes of any characters', () => {
  assert.equal(isMsgId(''), false);
  assert.equal(isMsgId('\u0000'), true);
  for (const [character, most] of [
    ['a', 128],
    ['é', 64],
    ['消', 42],
    ['😀', 32],
  ] as const) {
    assert.equal(isMsgId(character.repeat(most)), true, character);
    assert.equal(isMsgId(character.repeat(most + 1)), false, character);
  }
  assert.equal(isMsgId(`${'消'.repeat(42)}aa`), true);
  assert.equal(isMsgId(`${'消'.repeat(42)}aaa`), false);
});

const MD5 = '0cc175b9c0f1b6a831c399e269772661';

test('an MD5 in hex is brought to one form: lower case, without leading zeros', () => {
  const normal = 'cc175b9c0f1b6a831c399e269772661';
  for (const password of [MD5, MD5.toUpperCase(), normal, normal.toUpperCase(), '0Cc175b9C0f1b6a831c399e269772661']) {
    assert.equal(normalPassword(password), normal, password);
  }
  assert.equal(normalPassword('000a0'), 'a0');
  assert.equal(normalPassword('f'), 'f');
  assert.equal(normalPassword('00000000000000000000000000000abc'), 'abc');
});

test('a password that is not 1 to 32 hex digits stays as it is', () => {
  for (const password of ['', `0${MD5}`, 'G', '0x1F', ' 0A', '0A ', '0A\n', '-0A', '00G', 'Pässword', '０A']) {
    assert.equal(normalPassword(password), password, JSON.stringify(password));
  }
});

test('bringing a password to its form twice changes nothing more', () => {
  const hex = fc.string({ unit: fc.constantFrom(...'0123456789abcdefABCDEF'), maxLength: 34 });
  fc.assert(
    fc.property(fc.oneof(hex, anyText), (password) => {
      const once = normalPassword(password);
      assert.equal(normalPassword(once), once);
    }),
    { numRuns: 2000 },
  );
});

test('hex passwords are the same exactly when they are the same number', () => {
  const hex = fc.string({ unit: fc.constantFrom(...'00001aAfF'), minLength: 1, maxLength: 5 });
  fc.assert(
    fc.property(hex, hex, (one, other) => {
      assert.equal(
        normalPassword(one) === normalPassword(other),
        Number.parseInt(one, 16) === Number.parseInt(other, 16),
      );
    }),
    { numRuns: 2000 },
  );
});
