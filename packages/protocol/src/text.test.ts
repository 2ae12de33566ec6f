import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import * as withBuffer from './text.ts';

// fast-check prints the seed of a failure; another seed is tried with HAWSER_SEED=<number>.
fc.configureGlobal({ seed: Number(process.env.HAWSER_SEED ?? 1) });

/** Any character of Unicode, often from ASCII. (To prepare fast-check's own `unit: 'binary'` takes a second.) */
const anyCharacter = fc
  .oneof(fc.nat({ max: 0x7f }), fc.nat({ max: 0xd7ff }), fc.integer({ min: 0xe000, max: 0x10ffff }))
  .map((point) => String.fromCodePoint(point));

/** The module as a browser sees it: loaded once more while there is no Buffer. */
async function loadWithoutBuffer(): Promise<typeof withBuffer> {
  const buffer = globalThis.Buffer;
  Reflect.deleteProperty(globalThis, 'Buffer');
  try {
    return (await import(new URL('./text.ts?without-buffer', import.meta.url).href)) as typeof withBuffer;
  } finally {
    globalThis.Buffer = buffer;
  }
}

const withoutBuffer = await loadWithoutBuffer();

const wellFormed = fc.oneof(
  fc.string(),
  fc.string({ unit: anyCharacter }),
  fc.nat({ max: 3000 }).map((length) => 'x'.repeat(length)),
);
/** Strings of any UTF-16 units: halves of surrogate pairs too. */
const anyUnits = fc
  .array(fc.oneof(fc.constantFrom(0x61, 0xe9, 0x6d88, 0xd83d, 0xde00, 0xd800, 0xdfff), fc.nat({ max: 0xffff })))
  .map((units) => String.fromCharCode(...units));
const damagedText = fc
  .tuple(fc.string({ unit: anyCharacter, minLength: 1 }), fc.nat(), fc.nat({ max: 2 }), fc.uint8Array({ maxLength: 2 }))
  .map(([text, at, remove, insert]) => {
    const bytes = [...Buffer.from(text)];
    bytes.splice(at % (bytes.length + 1), remove, ...insert);
    return Uint8Array.from(bytes);
  });
const anyBytes = fc.oneof(
  damagedText,
  fc.uint8Array({ maxLength: 6 }),
  wellFormed.map((text) => Uint8Array.from(Buffer.from(text))),
);

function strictText(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

test('the module without Buffer is another one than that with it', () => {
  assert.notEqual(withoutBuffer.decodeText, withBuffer.decodeText);
  assert.equal(typeof Buffer, 'function');
});

for (const [where, text] of [
  ['with Buffer', withBuffer],
  ['without Buffer', withoutBuffer],
] as const) {
  test(`decodeText gives what a strict TextDecoder gives, ${where}`, () => {
    fc.assert(
      fc.property(anyBytes, (bytes) => assert.equal(text.decodeText(bytes), strictText(bytes))),
      { numRuns: 4000 },
    );
  });

  test(`decodeText reads from one offset to another and nothing else, ${where}`, () => {
    fc.assert(
      fc.property(anyBytes, anyBytes, anyBytes, (before, bytes, behind) => {
        const all = Uint8Array.from([...before, ...bytes, ...behind]);
        const to = before.length + bytes.length;
        assert.equal(text.decodeText(all, before.length, to), strictText(bytes));
        assert.equal(text.decodeText(all.subarray(before.length), 0, bytes.length), strictText(bytes));
        assert.equal(text.decodeText(all, to), strictText(behind));
      }),
      { numRuns: 1000 },
    );
  });

  test(`decodeText keeps a byte order mark, ${where}`, () => {
    assert.equal(text.decodeText(Uint8Array.of(0xef, 0xbb, 0xbf, 0x61)), '\ufeffa');
    assert.equal(text.decodeText(new Uint8Array(0)), '');
  });

  test(`decodeText carries nothing over from bytes that ended amid a character, ${where}`, () => {
    assert.equal(text.decodeText(Uint8Array.of(0xf0, 0x9f)), undefined);
    assert.equal(text.decodeText(Uint8Array.of(0x98, 0x80)), undefined);
    assert.equal(text.decodeText(Uint8Array.of(0x61)), 'a');
    assert.equal(text.decodeText(Uint8Array.of(0xc3, 0xa9)), 'é');
  });

  test(`encodeText and decodeText are each other's reverse, ${where}`, () => {
    fc.assert(
      fc.property(wellFormed, (string) => {
        assert.equal(text.decodeText(text.encodeText(string)), string);
        assert.equal(Buffer.compare(text.encodeText(string), Buffer.from(string)), 0);
      }),
      { numRuns: 1000 },
    );
  });

  test(`writeText writes the text as UTF-8 at its offset and touches nothing before or behind, ${where}`, () => {
    fc.assert(
      fc.property(fc.oneof(wellFormed, anyUnits), fc.nat({ max: 9 }), (string, at) => {
        const into = new Uint8Array(at + string.length * 3 + 5).fill(0xaa);
        const end = text.writeText(into, at, string);
        assert.equal(Buffer.compare(into.subarray(at, end), Buffer.from(string)), 0);
        assert.ok(into.subarray(0, at).every((byte) => byte === 0xaa));
        assert.ok(into.subarray(at + string.length * 3).every((byte) => byte === 0xaa));
      }),
      { numRuns: 3000 },
    );
  });

  test(`writeText needs no more room than three bytes for each UTF-16 unit, ${where}`, () => {
    for (const string of ['', 'a', 'é', '消', '😀', '\ud800', 'aé消😀', '消'.repeat(500)]) {
      const into = new Uint8Array(2 + string.length * 3);
      assert.equal(text.writeText(into, 2, string), 2 + Buffer.byteLength(string));
    }
  });

  test(`writeText writes into a view at the view's own offsets, ${where}`, () => {
    const all = new Uint8Array(20);
    assert.equal(text.writeText(all.subarray(10), 2, 'é'), 4);
    assert.deepEqual([...all.subarray(11, 15)], [0, 0xc3, 0xa9, 0]);
  });

  test(`utf8Length is the length of the text as UTF-8, ${where}`, () => {
    fc.assert(
      fc.property(fc.oneof(wellFormed, anyUnits), (string) => {
        assert.equal(text.utf8Length(string), Buffer.byteLength(string));
      }),
      { numRuns: 4000 },
    );
  });
}

test('utf8Length counts the edges of each length of character', () => {
  const lengths = [
    ['', 0],
    ['\u007f', 1],
    ['\u0080', 2],
    ['\u07ff', 2],
    ['\u0800', 3],
    ['\ud7ff', 3],
    ['\ue000', 3],
    ['\uffff', 3],
    ['\u{10000}', 4],
    ['\u{10ffff}', 4],
    ['\ud800', 3],
    ['\udc00', 3],
    ['\udc00\ud800', 6],
    ['\ud800\ud800\udc00', 7],
  ] as const;
  for (const [string, bytes] of lengths) assert.equal(withBuffer.utf8Length(string), bytes, JSON.stringify(string));
});
