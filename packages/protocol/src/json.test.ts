import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FieldSet, isJson, NOT_FOUND, scanString, scanValue, skipSpace, stringValue } from './json.ts';
import { wireLimits } from './limits.ts';

// fast-check prints the seed of a failure; another seed is tried with HAWSER_SEED=<number>.
fc.configureGlobal({ seed: Number(process.env.HAWSER_SEED ?? 1) });

/** Any character of Unicode, often from ASCII. (To prepare fast-check's own `unit: 'binary'` takes a second.) */
const anyCharacter = fc
  .oneof(fc.nat({ max: 0x7f }), fc.nat({ max: 0xd7ff }), fc.integer({ min: 0xe000, max: 0x10ffff }))
  .map((point) => String.fromCodePoint(point));

const DEPTH = wireLimits.jsonDepthMax;

function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** Bytes of which each string is written as UTF-8 and each number as one byte. */
function mixed(...parts: readonly (string | number)[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => (typeof part === 'string' ? [...utf8(part)] : [part])));
}

function accepts(text: string): boolean {
  return isJson(utf8(text));
}

function parses(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

// Against JSON.parse

/**
 * What `isJson` must say, found another way: by strict decoding, `JSON.parse`, and, with strings cut out of the text,
 * counts of brackets for the depth and of colons for the members, of which a double key would have lost one.
 */
function isStrictJson(bytes: Uint8Array): boolean {
  let text: string;
  let value: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    value = JSON.parse(text);
  } catch {
    return false;
  }
  const bare = text.replaceAll(/"(?:[^"\\]|\\.)*"/g, '""');
  return depthOf(bare) <= DEPTH && bare.split(':').length - 1 === membersIn(value);
}

function depthOf(bare: string): number {
  let depth = 0;
  let deepest = 0;
  for (const c of bare) {
    if (c === '[' || c === '{') deepest = Math.max(deepest, ++depth);
    if (c === ']' || c === '}') depth--;
  }
  return deepest;
}

function membersIn(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0;
  const inner = Object.values(value).reduce((sum: number, each) => sum + membersIn(each), 0);
  return inner + (Array.isArray(value) ? 0 : Object.keys(value).length);
}

type Dice = () => number;

/** The same numbers from 0 to 1 for the same seed. */
function diceOf(seed: number): Dice {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

function spelledString(text: string, dice: Dice): string {
  let spelled = '"';
  for (const character of text) {
    if (dice() < 0.8) spelled += JSON.stringify(character).slice(1, -1);
    else {
      for (let i = 0; i < character.length; i++) {
        const digits = character.charCodeAt(i).toString(16).padStart(4, '0');
        spelled += `\\u${dice() < 0.5 ? digits : digits.toUpperCase()}`;
      }
    }
  }
  return `${spelled}"`;
}

/** JSON text of a value, with white space and spellings as the dice fall. */
function spelled(value: unknown, dice: Dice): string {
  const space = () => (dice() < 0.8 ? '' : [' ', '\n', '\r\n', '\t', '   '][Math.floor(dice() * 5)]!);
  if (typeof value === 'string') return spelledString(value, dice);
  if (typeof value === 'number') return dice() < 0.7 ? JSON.stringify(value) : value.toExponential();
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  if (Array.isArray(value)) {
    return `[${space()}${value.map((each) => spelled(each, dice) + space()).join(`,${space()}`)}]`;
  }
  const members = Object.entries(value).map(
    ([key, each]) => `${spelledString(key, dice)}${space()}:${space()}${spelled(each, dice)}${space()}`,
  );
  return `{${space()}${members.join(`,${space()}`)}}`;
}

const anyText = fc.string({ unit: anyCharacter });
const anyValue = fc.jsonValue({ stringUnit: anyCharacter, maxDepth: 4 });
const anySeed = fc.nat({ max: 2 ** 32 - 1 });

test('any JSON value is accepted, however it is spelled', () => {
  fc.assert(
    fc.property(anyValue, anySeed, (value, seed) => {
      const text = spelled(value, diceOf(seed));
      assert.deepEqual(JSON.parse(text), JSON.parse(JSON.stringify(value)), 'the test spells it wrong');
      assert.equal(accepts(text), true, text);
      assert.equal(accepts(`\t\r\n ${text} `), true, text);
    }),
    { numRuns: 2000 },
  );
});

test('a value ends where its text ends, whatever follows', () => {
  fc.assert(
    fc.property(anyValue, anySeed, fc.constantFrom('', ' ', ',', ']', '}', ':', '\n"', ' 1'), (value, seed, behind) => {
      const text = utf8(spelled(value, diceOf(seed)));
      assert.equal(scanValue(mixed('x', ...text, behind), 1), 1 + text.length);
    }),
    { numRuns: 500 },
  );
});

test('the spans found are those of the values that JSON.parse sees', () => {
  const names = ['to', 'msg', 'ttl', '__proto__'];
  const fields = new FieldSet(names);
  const key = fc.oneof(
    { weight: 3, arbitrary: fc.constantFrom(...names) },
    fc.constantFrom('t', 'tos', 'TO', ''),
    anyText,
  );
  const member = fc.tuple(key, anyValue);
  const members = fc.uniqueArray(member, { selector: ([name]) => name, maxLength: 24 });
  fc.assert(
    fc.property(members, anySeed, fc.nat({ max: 5 }), (entries, seed, before) => {
      const dice = diceOf(seed);
      const text = `{${entries.map(([name, value]) => `${spelledString(name, dice)} : ${spelled(value, dice)}`).join(' , ')}}`;
      const bytes = utf8(`${'}'.repeat(before)}${text}}`);
      assert.equal(fields.find(bytes, before), bytes.length - 1);
      const object = JSON.parse(text) as Record<string, unknown>;
      names.forEach((name, f) => {
        const [from, to] = [fields.spans[2 * f]!, fields.spans[2 * f + 1]!];
        assert.equal(from !== NOT_FOUND, Object.hasOwn(object, name), name);
        if (from === NOT_FOUND) assert.equal(to, NOT_FOUND);
        else {
          const span = new TextDecoder().decode(bytes.subarray(from, to));
          assert.deepEqual(JSON.parse(span), object[name]);
          assert.equal(span, span.trim());
          const string = stringValue(bytes, from, to);
          assert.equal(string, typeof object[name] === 'string' ? object[name] : undefined);
        }
      });
    }),
    { numRuns: 800 },
  );
});

/** Runs a property of bytes and demands that it saw both valid and invalid ones, or it would prove nothing. */
function compareOn(bytes: fc.Arbitrary<Uint8Array>, numRuns: number): void {
  let valid = 0;
  let invalid = 0;
  fc.assert(
    fc.property(bytes, (input) => {
      const expected = isStrictJson(input);
      assert.equal(isJson(input), expected, new TextDecoder().decode(input));
      if (expected) valid++;
      else invalid++;
    }),
    { numRuns },
  );
  assert.ok(valid > numRuns / 50 && invalid > numRuns / 50, `${valid} valid, ${invalid} invalid`);
}

test('JSON that was damaged is accepted exactly when JSON.parse accepts it and it is strict', () => {
  const piece = fc.oneof(
    fc.constantFrom(...'{}[]:,"\\0123456789.eE+-truefalsn u/bd\n\u0000\u001f\u007f\'').map((c) => [...utf8(c)]),
    fc
      .constantFrom('"a":', '1,', '"\\u00', '[[', '{}', 'null', ',"a":1', '\\ud800', ' ', '1e', '.5')
      .map((c) => [...utf8(c)]),
    fc.uint8Array({ minLength: 1, maxLength: 3 }).map((bytes) => [...bytes]),
  );
  const damage = fc.record({ at: fc.nat(), remove: fc.nat({ max: 3 }), insert: fc.oneof(fc.constant([]), piece) });
  const damaged = fc
    .tuple(anyValue, anySeed, fc.array(damage, { minLength: 1, maxLength: 3 }))
    .map(([value, seed, damages]) => {
      const bytes = [...utf8(spelled(value, diceOf(seed)))];
      for (const { at, remove, insert } of damages) bytes.splice(at % (bytes.length + 1), remove, ...insert);
      return Uint8Array.from(bytes);
    });
  compareOn(damaged, 6000);
});

test('tokens in any order are accepted exactly when JSON.parse accepts them and they are strict', () => {
  const token = fc.constantFrom(
    '{',
    '}',
    '[',
    ']',
    ',',
    ':',
    '"a"',
    '"b"',
    '"\\u0061"',
    '1',
    '-0',
    ' ',
    'null',
    '"a":1',
  );
  compareOn(
    fc.array(token, { maxLength: 7 }).map((tokens) => utf8(tokens.join(''))),
    12_000,
  );
});

test('objects with few different keys are accepted exactly when no key is there twice', () => {
  const key = fc.oneof(
    fc.constantFrom('"a"', '"b"', '"\\u0061"', '"ab"', '""', '"é"', '"\\u00E9"'),
    fc.nat({ max: 40 }).map((n) => `"${n}"`),
  );
  const object = fc.letrec<{ value: string }>((tie) => ({
    value: fc.oneof(
      { maxDepth: 3, withCrossShrink: true },
      fc.constantFrom('1', '"a"', '[]'),
      fc
        .array(fc.tuple(key, tie('value')), { maxLength: 6 })
        .map((all) => `{${all.map(([k, v]) => `${k}:${v}`).join(',')}}`),
      fc.array(tie('value'), { maxLength: 3 }).map((all) => `[${all.join(',')}]`),
    ),
  })).value;
  compareOn(object.map(utf8), 5000);
});

test('strings of any characters are accepted exactly when JSON.parse accepts them', () => {
  const unit = fc.oneof(
    fc.constantFrom(
      '\\',
      '"',
      '\\"',
      '\\\\',
      '\\u',
      '\\u12',
      '\\uD83D',
      '\\ude00',
      'é',
      '😀',
      '\n',
      '\t',
      '\u007f',
      '\u2028',
    ),
    fc.constantFrom(...'abfnrtu/0123456789abcdefABCDEFgx'),
    fc.constantFrom(...'"\\/bfnrtuxU0\'').map((c) => `\\${c}`),
  );
  compareOn(
    fc.array(unit, { maxLength: 6 }).map((units) => utf8(`"${units.join('')}"`)),
    8000,
  );
});

test('numbers are accepted exactly when JSON.parse accepts them', () => {
  compareOn(
    fc.array(fc.constantFrom(...'0012345.eE+-'), { minLength: 1, maxLength: 7 }).map((parts) => utf8(parts.join(''))),
    10_000,
  );
});

// Cases by hand, after JSONTestSuite

const VALID = [
  'null',
  'true',
  'false',
  '0',
  '-0',
  '-1',
  '42',
  '1.5',
  '-0.1',
  '0e0',
  '0E+1',
  '1e-2',
  '123e65',
  '1.5e1000',
  '-1e400',
  '9007199254740993',
  `${'9'.repeat(1000)}`,
  `0.${'0'.repeat(1000)}1`,
  '""',
  '"a"',
  '" "',
  '"\u007f"',
  '"é消😀"',
  '"\u2028\u2029"',
  '"\ufeff"',
  '"\\"\\\\\\/\\b\\f\\n\\r\\t"',
  '"\\u0000"',
  '"\\u12aB"',
  '"\\ud83d\\ude00"',
  '"\\ud800"',
  '"\\udc00\\ud800"',
  '"\\\\u0061"',
  '"/* no comment */"',
  '[]',
  '[ ]',
  '[null]',
  '[1,2]',
  '[[],[[]]]',
  '[1 ,\t2\r\n]',
  '[{},{}]',
  '{}',
  '{ }',
  '{"":0}',
  '{"a":{}}',
  '{"a":[],"b":null}',
  '{ "a" : 1 , "b" : 2 }',
  '{"a":1,"A":2,"aa":3}',
  '{"a":{"a":{"a":1}}}',
  '[{"a":1},{"a":1}]',
  '{"\\u0000":1,"0":2}',
  ' \t\r\n[1]\n',
];

const INVALID = [
  '',
  ' ',
  '\u0000',
  '\ufeff1',
  '1\u0000',
  '\u00a01',
  '\f1',
  '\u000b1',
  'n',
  'nul',
  'nulll',
  'NULL',
  'True',
  'tru',
  'fals3',
  'NaN',
  'Infinity',
  '-Infinity',
  'undefined',
  '+1',
  '-',
  '--1',
  '-a',
  '01',
  '-01',
  '00',
  '1.',
  '.1',
  '-.1',
  '1.e1',
  '1e',
  '1e+',
  '1E-',
  '1e1.5',
  '1ee1',
  '0x1',
  '1_000',
  '1 2',
  '１',
  '"',
  '"a',
  '"\\"',
  '"\\',
  '"\\a"',
  '"\\x41"',
  '"\\U0041"',
  '"\\u"',
  '"\\u004"',
  '"\\u004g"',
  '"\\u00',
  '"\\\u0000"',
  '"\n"',
  '"\t"',
  '"\u0000"',
  '"\u001f"',
  "'a'",
  '"a"b',
  '"a""b"',
  '[',
  ']',
  '[1',
  '[1,',
  '[1,]',
  '[,1]',
  '[,]',
  '[1,,2]',
  '[1 2]',
  '[1:2]',
  '[1}',
  '[]]',
  '[][]',
  '["a',
  '{',
  '}',
  '{]',
  '{,}',
  '{"a"}',
  '{"a":}',
  '{"a":1',
  '{"a":1,',
  '{"a":1,}',
  '{"a",1}',
  '{"a"::1}',
  '{"a":1 "b":2}',
  '{"a":1;"b":2}',
  '{:1}',
  '{a:1}',
  "{'a':1}",
  '{1:1}',
  '{null:1}',
  '{[]:1}',
  '{"a":1]',
  '{"a":1}}',
  '{"a":1}{}',
  '{"a":1}#',
  '{"a":1}/**/',
  '// a\n1',
  '{{}}',
  '[{]}',
];

test('each valid case is accepted', () => {
  for (const text of VALID) {
    assert.ok(parses(text), `JSON.parse refuses ${text}`);
    assert.ok(accepts(text), text);
    assert.ok(accepts(`{"x":[${text}]}`), text);
  }
});

test('each invalid case is refused, alone and inside others', () => {
  for (const text of INVALID) {
    assert.ok(!parses(text), `JSON.parse accepts ${text}`);
    assert.ok(!accepts(text), text);
  }
  for (const text of INVALID.filter((each) => !parses(`[${each}]`))) assert.ok(!accepts(`[${text}]`), text);
  for (const text of INVALID.filter((each) => !parses(`{"x":${each}}`))) assert.ok(!accepts(`{"x":${text}}`), text);
});

test('every cut of a valid text is refused', () => {
  const bytes = utf8('{"a":[1,{"b":"é\\u0041😀"},null,true,false,-1.5e3],"c":{}}');
  for (let length = 0; length < bytes.length; length++) {
    assert.equal(isJson(bytes.subarray(0, length)), false, `cut to ${length}`);
  }
  assert.equal(isJson(bytes), true);
});

// Depth

test('nesting is accepted to a depth of 512 and no further, in arrays, objects and both', () => {
  const pairs = [
    ['[', ']'],
    ['{"a":', '}'],
    ['[{"a":', '}]'],
  ] as const;
  for (const [open, close] of pairs) {
    const levels = open.startsWith('[{') ? 2 : 1;
    const nested = (depth: number) => `${open.repeat(depth / levels)}1${close.repeat(depth / levels)}`;
    assert.equal(accepts(nested(DEPTH)), true, open);
    assert.equal(accepts(nested(DEPTH + levels)), false, open);
  }
  assert.equal(accepts(`${'['.repeat(DEPTH)}${']'.repeat(DEPTH)}`), true);
  assert.equal(accepts(`${'['.repeat(DEPTH + 1)}${']'.repeat(DEPTH + 1)}`), false);
  assert.equal(accepts(`${'['.repeat(DEPTH)}{}${']'.repeat(DEPTH)}`), false);
});

test('nesting that closes again does not count', () => {
  assert.equal(accepts(`[${new Array(2000).fill('[[1],{"a":[]}]').join(',')}]`), true);
});

test('a depth given is the one that counts', () => {
  assert.equal(scanValue(utf8('[[1]]'), 0, 2), 5);
  assert.equal(scanValue(utf8('[[1]]'), 0, 1), NOT_FOUND);
  assert.equal(scanValue(utf8('[]'), 0, 0), NOT_FOUND);
  assert.equal(scanValue(utf8('1'), 0, 0), 1);
});

test('in an object whose fields are looked for, its own level counts too', () => {
  const fields = new FieldSet(['a']);
  const nested = (depth: number) => utf8(`{"a":${'['.repeat(depth - 1)}${']'.repeat(depth - 1)}}`);
  assert.ok(fields.find(nested(DEPTH), 0) > 0);
  assert.equal(fields.find(nested(DEPTH + 1), 0), NOT_FOUND);
});

test('a million open brackets are refused without recursion', () => {
  const fields = new FieldSet(['a']);
  for (const open of ['[', '{"a":', '[{"a":']) {
    const bytes = utf8(open.repeat(1_000_000 / open.length));
    assert.equal(isJson(bytes), false);
    assert.equal(fields.find(bytes, 0), NOT_FOUND);
  }
  assert.equal(isJson(utf8(`${'['.repeat(1_000_000)}${']'.repeat(1_000_000)}`)), false);
});

// Double keys

test('a key that is there twice is refused at every level', () => {
  const twice = '{"a":1,"a":1}';
  const around = ['#', '[#]', '{"b":#}', '{"a":#}', '[{"a":[#]}]', '{"a":1,"b":{"c":#},"d":2}', '[1,{"a":#,"b":2}]'];
  for (const outer of around) {
    assert.equal(accepts(outer.replace('#', '{"a":1,"b":1}')), true, outer);
    assert.equal(accepts(outer.replace('#', twice)), false, outer);
    assert.equal(accepts(`${'['.repeat(400)}${outer.replace('#', twice)}${']'.repeat(400)}`), false, outer);
  }
});

test('a key is the same whatever values stand between', () => {
  const values = ['1', '{"a":1}', '{"a":{"a":[]},"b":1}', '[{"a":1},{"a":2}]', '"a"', '{"\\u0061":1}'];
  for (const value of values) {
    assert.equal(accepts(`{"a":${value},"b":${value},"c":${value}}`), true, value);
    assert.equal(accepts(`{"a":${value},"b":${value},"a":${value}}`), false, value);
    assert.equal(accepts(`{"b":${value},"a":${value},"a":${value}}`), false, value);
  }
});

test('a key spelled with escapes is the same key', () => {
  const pairs = [
    ['a', '\\u0061'],
    ['é', '\\u00e9'],
    ['é', '\\u00E9'],
    ['\\u00e9', '\\u00E9'],
    ['/', '\\/'],
    ['\\n', '\\u000a'],
    ['\\"', '\\u0022'],
    ['\\\\', '\\u005c'],
    ['😀', '\\ud83d\\ude00'],
    ['\\ud83d\\ude00', '\\uD83D\\uDE00'],
    ['\\ud800', '\\uD800'],
    ['', ''],
    ['to', 't\\u006f'],
    ['__proto__', '\\u005f_proto__'],
  ];
  for (const [one, other] of pairs) {
    for (const between of ['', '"x":{"a":1},', '"\\u0078":1,', `${numbered(0, 20)},`]) {
      assert.equal(accepts(`{"${one}":1,${between}"${other}":2}`), false, `${one} ${other} ${between}`);
      assert.equal(accepts(`{"${other}":1,${between}"${one}":2}`), false, `${other} ${one} ${between}`);
    }
  }
});

test('keys that only look alike are different', () => {
  const keys = [
    'a',
    '\\\\u0061',
    'A',
    'aa',
    '',
    ' ',
    'a ',
    'é',
    'e\\u0301',
    '\\ud800',
    '\\udc00',
    '\ufffd',
    '0',
    '00',
    '__proto__',
  ];
  assert.equal(accepts(`{${keys.map((key) => `"${key}":0`).join(',')}}`), true);
  assert.equal(accepts(`{${keys.map((key) => `"${key}":0`).join(',')},${numbered(1, 30)}}`), true);
});

/** Members with the keys `k<from>` to `k<to>`, without the last. */
function numbered(from: number, to: number): string {
  return Array.from({ length: to - from }, (_, i) => `"k${from + i}":${i}`).join(',');
}

test('a double key is found at every place among few keys and many', () => {
  for (let keys = 1; keys <= 40; keys++) {
    assert.equal(accepts(`{${numbered(0, keys)}}`), true, `${keys} keys`);
    for (let again = 0; again < keys; again++) {
      assert.equal(accepts(`{${numbered(0, keys)},"k${again}":0}`), false, `${keys} keys, k${again} again`);
      assert.equal(accepts(`{${numbered(0, keys)},"\\u006b${again}":0}`), false, `${keys} keys, k${again} escaped`);
    }
  }
});

test('an object with many keys inside one with many keys confuses neither', () => {
  const inner = `{${numbered(0, 30)}}`;
  assert.equal(accepts(`{${numbered(0, 10)},"in":${inner},${numbered(10, 30)}}`), true);
  assert.equal(accepts(`{${numbered(0, 20)},"in":${inner},${numbered(20, 30)}}`), true);
  assert.equal(accepts(`{${numbered(0, 10)},"in":${inner},${numbered(9, 30)}}`), false);
  assert.equal(accepts(`{${numbered(0, 20)},"in":${inner},${numbered(19, 30)}}`), false);
  assert.equal(accepts(`{${numbered(0, 10)},"in":{${numbered(0, 30)},"k29":1},${numbered(10, 30)}}`), false);
});

test('more open keys than the scanner has room for are still all compared', () => {
  // The room grows once for good, so each depth must need more than any before, and the key that is there twice must
  // be among those that move.
  for (const depth of [60, 120, 250, 500]) {
    const open = `{${numbered(0, 15)},"k15":`.repeat(depth);
    assert.equal(accepts(`${open}1${'}'.repeat(depth - 1)},"k0":1}`), false);
    assert.equal(accepts(`${open}1${'}'.repeat(depth - 1)},"k16":1}`), true);
    assert.equal(accepts(`${open}{"a":1,"a":1}${'}'.repeat(depth)}`), false);
    assert.equal(accepts(`${open}{"a":1,"b":1}${'}'.repeat(depth)}`), true);
  }
});

test('50,000 keys are accepted when all differ, refused when the last is there already', () => {
  const many = numbered(0, 50_000);
  assert.equal(accepts(`{${many}}`), true);
  for (const again of ['k0', 'k15', 'k16', 'k49999', '\\u006b25000']) {
    assert.equal(accepts(`{${many},"${again}":0}`), false, again);
  }
  const fields = new FieldSet(['k49999', 'k50000']);
  assert.ok(fields.find(utf8(`{${many}}`), 0) > 0);
  assert.ok(fields.spans[0]! > 0);
  assert.deepEqual([...fields.spans.subarray(2)], [NOT_FOUND, NOT_FOUND]);
});

test('a scan that fails leaves nothing behind', () => {
  const fields = new FieldSet(['a']);
  const failing = [
    `{${numbered(0, 12)},"k0":1}`,
    `{${numbered(0, 12)}`,
    `[{${numbered(0, 12)},"in":{${numbered(0, 12)},"in":[}]}`,
    `{${numbered(0, 12)},"in":{${numbered(0, 12)},?}`,
    `{${numbered(0, 12)},"\\u006b0":1}`,
  ].map(utf8);
  const before = process.memoryUsage().arrayBuffers;
  for (let i = 0; i < 6000; i++) {
    for (const bytes of failing) {
      assert.equal(isJson(bytes), false);
      assert.equal(fields.find(bytes, 0), NOT_FOUND);
    }
  }
  const grown = process.memoryUsage().arrayBuffers - before;
  assert.ok(grown < 256 * 1024, `${grown} bytes more`);
  assert.equal(accepts('{"k0":1,"k1":{"k0":1}}'), true);
  assert.equal(accepts('{"k0":1,"k1":1,"k0":1}'), false);
});

// UTF-8

const NOT_UTF8: readonly (readonly number[])[] = [
  [0x80],
  [0xbf],
  [0xc0, 0x80],
  [0xc0, 0xaf],
  [0xc1, 0xbf],
  [0xc2],
  [0xc2, 0x22],
  [0xc2, 0xc2],
  [0xdf, 0x7f],
  [0xe0, 0x80, 0x80],
  [0xe0, 0x9f, 0xbf],
  [0xe1, 0x80],
  [0xe1, 0x22, 0x80],
  [0xe1, 0x80, 0x22],
  [0xe1, 0x80, 0xc0],
  [0xed, 0xa0, 0x80],
  [0xed, 0xaf, 0xbf],
  [0xed, 0xb0, 0x80],
  [0xed, 0xbf, 0xbf],
  [0xed, 0xa0, 0xbd, 0xed, 0xb8, 0x80],
  [0xf0, 0x80, 0x80, 0x80],
  [0xf0, 0x8f, 0xbf, 0xbf],
  [0xf0, 0x9f, 0x98],
  [0xf0, 0x9f, 0x98, 0x22],
  [0xf4, 0x90, 0x80, 0x80],
  [0xf5, 0x80, 0x80, 0x80],
  [0xf8, 0x88, 0x80, 0x80, 0x80],
  [0xfc, 0x84, 0x80, 0x80, 0x80, 0x80],
  [0xfe],
  [0xff],
];

test('invalid UTF-8 is refused in strings, in keys and between tokens', () => {
  for (const bytes of NOT_UTF8) {
    const hex = Buffer.from(bytes).toString('hex');
    assert.equal(isJson(mixed('"', ...bytes, '"')), false, hex);
    assert.equal(isJson(mixed('"a', ...bytes, 'b"')), false, hex);
    assert.equal(isJson(mixed('{"', ...bytes, '":1}')), false, hex);
    assert.equal(isJson(mixed('{"a":1,"', ...bytes, '":1}')), false, hex);
    assert.equal(isJson(mixed('[1,', ...bytes, ']')), false, hex);
    assert.equal(isJson(mixed('"', ...bytes)), false, hex);
    assert.equal(isJson(mixed('"\\', ...bytes, '"')), false, hex);
  }
});

test('the first and the last character of each length in UTF-8 are accepted', () => {
  for (const point of [
    0x20, 0x7f, 0x80, 0x7ff, 0x800, 0xfff, 0x1000, 0xd7ff, 0xe000, 0xffff, 0x10000, 0x3ffff, 0x40000, 0x10ffff,
  ]) {
    assert.equal(accepts(`"${String.fromCodePoint(point)}"`), true, point.toString(16));
    assert.equal(accepts(`{"${String.fromCodePoint(point)}":1}`), true, point.toString(16));
  }
});

test('two bytes of any kind in a string are taken exactly as a strict decoder takes them', () => {
  for (let first = 0; first < 256; first++) {
    for (let second = 0; second < 256; second++) {
      const bytes = mixed('"', first, second, '"');
      assert.equal(isJson(bytes), isStrictJson(bytes), `${first} ${second}`);
    }
  }
});

test('three and four bytes that begin as a character are taken exactly as a strict decoder takes them', () => {
  const telling = [0x22, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xff];
  for (let first = 0xe0; first < 256; first++) {
    for (const second of telling) {
      for (const third of telling) {
        for (const rest of [[], ...telling.map((fourth) => [fourth])]) {
          const bytes = mixed('"', first, second, third, ...rest, '"');
          assert.equal(isJson(bytes), isStrictJson(bytes), Buffer.from(bytes).toString('hex'));
        }
      }
    }
  }
});

// The parts

test('skipSpace passes the four kinds of white space and nothing else', () => {
  for (let c = 0; c < 256; c++) {
    const isSpace = c === 0x20 || c === 0x09 || c === 0x0a || c === 0x0d;
    assert.equal(skipSpace(Uint8Array.of(c, 0x31), 0), isSpace ? 1 : 0, `${c}`);
  }
  assert.equal(skipSpace(utf8('a \t\r\n b'), 1), 6);
  assert.equal(skipSpace(utf8('   '), 1), 3);
  assert.equal(skipSpace(utf8(''), 0), 0);
});

test('scanString ends behind the closing quote', () => {
  assert.equal(scanString(utf8('x"a\\"b"c"'), 1), 7);
  assert.equal(scanString(utf8('""'), 0), 2);
  assert.equal(scanString(utf8('a'), 0), NOT_FOUND);
  assert.equal(scanString(utf8('"a'), 0), NOT_FOUND);
  assert.equal(scanString(utf8('"'), 1), NOT_FOUND);
});

test('stringValue resolves escapes and gives nothing for other values', () => {
  const value = (text: string) => stringValue(utf8(text), 0, utf8(text).length);
  assert.equal(value('"a\\u0062\\n\\/é😀"'), 'ab\n/é😀');
  assert.equal(value('""'), '');
  assert.equal(value('"\ufeffa"'), '\ufeffa');
  assert.equal(value('"\\ud800"'), '\ud800');
  for (const text of ['1', 'null', '[]', '{}', 'true']) assert.equal(value(text), undefined);
});

test('a field is found under every spelling of its name, and under no other name', () => {
  const fields = new FieldSet(['to']);
  for (const key of ['to', '\\u0074o', 't\\u006f', 't\\u006F', '\\u0074\\u006f']) {
    assert.ok(fields.find(utf8(`{"a":0,"${key}":1}`), 0) > 0);
    assert.ok(fields.spans[0]! > 0, key);
  }
  for (const key of ['t', 'too', 'To', ' to', 'to ', '', '\\\\u0074o', 'to\\u0000', 'ot', '\\"to', 'to\\"']) {
    assert.ok(fields.find(utf8(`{"a":0,"${key}":1}`), 0) > 0);
    assert.equal(fields.spans[0], NOT_FOUND, key);
  }
});

test('a field inside another value is not found', () => {
  const fields = new FieldSet(['to']);
  for (const text of ['{"a":{"to":1}}', '{"a":[{"to":1}]}', '{"a":"\\"to\\":1"}', '{"a":"to"}', '{}', '{ }']) {
    assert.equal(fields.find(utf8(text), 0), utf8(text).length);
    assert.deepEqual([...fields.spans], [NOT_FOUND, NOT_FOUND], text);
  }
});

test('the spans of one object do not outlive it', () => {
  const fields = new FieldSet(['to', 'msg']);
  fields.find(utf8('{"to":1,"msg":2}'), 0);
  assert.ok(fields.find(utf8('{"msg":2}'), 0) > 0);
  assert.deepEqual([...fields.spans], [NOT_FOUND, NOT_FOUND, 7, 8]);
  for (const text of ['', '[]', '{}', '1']) {
    fields.find(utf8(text), 0);
    assert.deepEqual([...fields.spans], [NOT_FOUND, NOT_FOUND, NOT_FOUND, NOT_FOUND], text);
  }
});

test('fields are looked for in objects only', () => {
  const fields = new FieldSet(['a']);
  for (const text of ['', ' {}', '[]', 'null', '1', '"{}"', '{', '{"a"', '{"a":', '{"a":1', '{"a":1,', '{"a":1,}']) {
    assert.equal(fields.find(utf8(text), 0), NOT_FOUND, text);
  }
});

test('long strings end, and are no strings, where JSON.parse says so, wherever the byte that matters is', () => {
  const special = [0x22, 0x5c, 0x00, 0x1f, 0x20, 0x7f, 0x80, 0xc3, 0xff, 0x0a];
  for (const lead of [0, 1, 2, 3]) {
    for (let at = 1; at < 150; at++) {
      for (const byte of special) {
        const bytes = Buffer.alloc(lead + 160, 'x');
        bytes[lead] = 0x22;
        bytes[lead + at] = byte;
        bytes[bytes.length - 1] = 0x22;
        const view = bytes.subarray(lead);
        const end = byte === 0x22 ? at + 1 : 160;
        const isString = byte === 0x22 || (byte >= 0x20 && byte < 0x80 && byte !== 0x5c);
        assert.equal(scanString(view, 0), isString ? end : -1, `${byte} at ${at}`);
        if (isString) assert.equal(typeof JSON.parse(view.toString('utf8', 0, end)), 'string');
      }
      // Characters of several bytes, and escapes, at every place.
      const text = JSON.stringify(`${'x'.repeat(at)}Łódź \\ " ${'y'.repeat(70)}`);
      const bytes = Buffer.from(`${text},`);
      assert.equal(scanString(bytes, 0), bytes.length - 1);
      assert.equal(scanString(bytes.subarray(0, -2), 0), -1);
    }
  }
});
