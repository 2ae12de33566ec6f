import assert from 'node:assert/strict';
import { createCipheriv, createDecipheriv } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { BLOCK_BYTES, isKeyLength, pad, unpaddedLength } from './cipher.ts';
import { NodeCipher } from './cipher-node.ts';

// fast-check prints the seed of a failure; another seed is tried with HAWSER_SEED=<number>.
fc.configureGlobal({ seed: Number(process.env.HAWSER_SEED ?? 1) });

/** One object per message, with the padding that node:crypto adds: the reference. */
function freshEncrypt(key: Uint8Array, plain: Uint8Array): Buffer {
  const cipher = createCipheriv(`aes-${key.length * 8}-ecb`, key, null);
  return Buffer.concat([cipher.update(plain), cipher.final()]);
}

function freshDecrypt(key: Uint8Array, data: Uint8Array): Buffer | undefined {
  const decipher = createDecipheriv(`aes-${key.length * 8}-ecb`, key, null);
  try {
    return Buffer.concat([decipher.update(data), decipher.final()]);
  } catch {
    return undefined;
  }
}

/** Blocks under the key whose plain bytes are these, padding and all. */
function encryptBlocks(key: Uint8Array, blocks: Uint8Array): Buffer {
  return createCipheriv(`aes-${key.length * 8}-ecb`, key, null)
    .setAutoPadding(false)
    .update(blocks);
}

function encrypt(cipher: NodeCipher, plain: Uint8Array): Uint8Array {
  const room = new Uint8Array(plain.length + BLOCK_BYTES);
  room.set(plain);
  return cipher.encrypt(room, 0, plain.length);
}

function same(actual: Uint8Array | undefined, expected: Uint8Array | undefined): void {
  assert.equal(actual && Buffer.from(actual).toString('hex'), expected && Buffer.from(expected).toString('hex'));
}

const anyKey = fc.constantFrom(16, 24, 32).chain((length) => fc.uint8Array({ minLength: length, maxLength: length }));
const anyPlain = fc.oneof(
  fc.uint8Array({ maxLength: 50 }),
  fc.constantFrom(0, 1, 15, 16, 17, 31, 32, 1000, 70_000).map((length) => new Uint8Array(length).fill(length)),
);
const KEY = Uint8Array.from({ length: 16 }, (_, i) => i);

test('every message of a session is encrypted as a fresh cipher would, with keys of 16, 24 and 32 bytes', () => {
  fc.assert(
    fc.property(anyKey, fc.array(anyPlain, { maxLength: 6 }), (key, plains) => {
      const cipher = new NodeCipher(key);
      for (const plain of plains) same(encrypt(cipher, plain), freshEncrypt(key, plain));
    }),
    { numRuns: 300 },
  );
});

test('every message of a session is decrypted that a fresh cipher encrypted', () => {
  fc.assert(
    fc.property(anyKey, fc.array(anyPlain, { maxLength: 6 }), (key, plains) => {
      const cipher = new NodeCipher(key);
      for (const plain of plains) same(cipher.decrypt(freshEncrypt(key, plain)), plain);
    }),
    { numRuns: 300 },
  );
});

test('the two directions of a session do not disturb each other', () => {
  const [one, other] = [new NodeCipher(KEY), new NodeCipher(KEY)];
  for (let i = 0; i < 50; i++) {
    const plain = new Uint8Array(i).fill(i);
    same(other.decrypt(encrypt(one, plain)), plain);
    same(one.decrypt(encrypt(other, plain)), plain);
  }
});

test('encrypt takes the bytes from one offset to another, and writes padding only into the 16 behind', () => {
  fc.assert(
    fc.property(anyPlain, fc.nat({ max: 40 }), (plain, from) => {
      const to = from + plain.length;
      const bytes = new Uint8Array(to + BLOCK_BYTES + 10).fill(0xaa);
      bytes.set(plain, from);
      same(new NodeCipher(KEY).encrypt(bytes, from, to), freshEncrypt(KEY, plain));
      same(bytes.subarray(from, to), plain);
      assert.ok(bytes.subarray(0, from).every((byte) => byte === 0xaa));
      assert.ok(bytes.subarray(to + BLOCK_BYTES).every((byte) => byte === 0xaa));
    }),
    { numRuns: 300 },
  );
});

test('encrypt also fits when exactly 16 bytes are free', () => {
  for (let length = 0; length <= 48; length++) {
    const plain = new Uint8Array(length).fill(7);
    same(encrypt(new NodeCipher(KEY), plain), freshEncrypt(KEY, plain));
  }
});

test('what encrypt gives is a buffer of its own', () => {
  const cipher = new NodeCipher(KEY);
  const bytes = new Uint8Array(64);
  const first = cipher.encrypt(bytes, 0, 40);
  const copy = first.slice();
  bytes.fill(1);
  cipher.encrypt(bytes, 0, 40);
  same(first, copy);
});

/** Plain blocks whose padding no PKCS#7 reader takes. */
const WRONG_PADDING = [
  [0],
  [17],
  [32],
  [255],
  [1, 2],
  [2, 3],
  [3, 2, 3],
  [1, 3, 3],
  [15, ...new Array<number>(15).fill(16)],
  [...new Array<number>(8).fill(16), 15, ...new Array<number>(7).fill(16)],
].map((end) => Uint8Array.from([...new Array<number>(16 - end.length).fill(0x61), ...end]));
// Consistent, but longer than a block.
for (const count of [17, 32]) WRONG_PADDING.push(new Uint8Array(48).fill(count));

test('a frame that does not decrypt gives nothing, and the next one still decrypts', () => {
  const plain = Uint8Array.from({ length: 40 }, (_, i) => i);
  const good = freshEncrypt(KEY, plain);
  const bad = [
    new Uint8Array(0),
    ...[1, 15, 17, 31, 33, 47].map((length) => good.subarray(0, length)),
    good.subarray(0, 16),
    good.subarray(0, 32),
    freshEncrypt(
      Uint8Array.from(KEY, (byte) => byte + 1),
      plain,
    ),
    ...WRONG_PADDING.map((block) => encryptBlocks(KEY, block)),
    ...WRONG_PADDING.map((block) => encryptBlocks(KEY, Buffer.concat([new Uint8Array(16).fill(16), block]))),
  ];
  const cipher = new NodeCipher(KEY);
  for (const data of bad) {
    assert.equal(cipher.decrypt(data), undefined, Buffer.from(data).toString('hex'));
    same(cipher.decrypt(good), plain);
  }
});

test('any data is decrypted, or not, as a fresh decipher would, all in one session', () => {
  const cipher = new NodeCipher(KEY);
  // The last block decides; one such as `a 3 3` in clear, under the key, is as likely to be right as to be wrong.
  const end = fc.tuple(fc.integer({ min: 0, max: 18 }), fc.nat({ max: 17 }), fc.nat({ max: 255 }));
  const block = end.map(([count, wrongAt, wrong]) => {
    const bytes = new Uint8Array(16).fill(0x61).fill(count, Math.max(0, 16 - count));
    bytes[15] = count;
    if (wrongAt < 16) bytes[wrongAt] = wrong;
    return encryptBlocks(KEY, bytes);
  });
  const data = fc
    .tuple(fc.uint8Array({ maxLength: 40 }), block)
    .map(([noise, last]) => [
      noise,
      Buffer.concat([noise.subarray(0, noise.length & ~15), last]),
      Buffer.concat([noise, last]),
    ]);
  let decrypted = 0;
  fc.assert(
    fc.property(data, (frames) => {
      for (const frame of frames) {
        const expected = frame.length === 0 ? undefined : freshDecrypt(KEY, frame);
        same(cipher.decrypt(frame), expected);
        if (expected !== undefined) decrypted++;
      }
    }),
    { numRuns: 3000 },
  );
  assert.ok(decrypted > 100, `${decrypted} decrypted`);
});

test('decrypt does not change the data that it is given', () => {
  const data = Uint8Array.from(freshEncrypt(KEY, new Uint8Array(20)));
  const copy = data.slice();
  new NodeCipher(KEY).decrypt(data);
  same(data, copy);
});

test('the encrypted login of docs/protocol.md decrypts to the one in the clear', () => {
  const page = readFileSync(new URL('../../../docs/protocol.md', import.meta.url), 'utf8');
  const block = page.slice(page.indexOf('22 60 ')).split('```')[0]!;
  const lines = block.split('\n').slice(1, 7);
  const plain = new NodeCipher(KEY).decrypt(Buffer.from(lines.join('').replaceAll(' ', ''), 'hex'));
  assert.deepEqual(JSON.parse(new TextDecoder().decode(plain)), {
    version: '1.0',
    username: 'alice',
    password: '5ebe2294ecd0e0f08eab7690d2a6ee69',
  });
});

test('a key has 16, 24 or 32 bytes', () => {
  const lengths = Array.from({ length: 300 }, (_, length) => length).filter(isKeyLength);
  assert.deepEqual(lengths, [16, 24, 32]);
});

test('padding is 1 to 16 bytes, each of which says how many they are', () => {
  for (let length = 0; length <= 40; length++) {
    const bytes = new Uint8Array(100);
    const end = pad(bytes, 3, 3 + length);
    const count = 16 - (length % 16);
    assert.equal(end, 3 + length + count);
    assert.deepEqual([...bytes.subarray(3 + length, end)], new Array<number>(count).fill(count));
    assert.equal(bytes[end], 0);
    assert.equal(unpaddedLength(bytes.subarray(3, end)), length);
  }
});

test('padding that is none gives -1', () => {
  assert.equal(unpaddedLength(new Uint8Array(0)), -1);
  assert.equal(unpaddedLength(Uint8Array.of(2)), -1, 'it says more than there is');
  for (const block of WRONG_PADDING) assert.equal(unpaddedLength(block), -1, block.toString());
});

test('works on after a rest', () => {
  const cipher = new NodeCipher(KEY);
  const text = new TextEncoder().encode('{"to":"lamp-1"}');
  for (let i = 0; i < 3; i++) {
    const bytes = new Uint8Array(text.length + BLOCK_BYTES);
    bytes.set(text);
    const encrypted = cipher.encrypt(bytes, 0, text.length);
    cipher.rest();
    assert.deepEqual(new Uint8Array(cipher.decrypt(encrypted) ?? []), text);
    cipher.rest();
  }
});
