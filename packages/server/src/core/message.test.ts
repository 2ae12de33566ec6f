import assert from 'node:assert/strict';
import { test } from 'node:test';
import { contentHash } from './message.ts';

test('contents of any length are told apart by any one byte, and by their receiver', () => {
  for (const length of [1, 2, 7, 100, 127, 128, 129, 130, 131, 1000]) {
    const content = Uint8Array.from({ length }, (_, i) => 32 + (i % 90));
    const hash = contentHash('ann', content);
    assert.ok(Number.isInteger(hash) && hash >= 0 && hash < 2 ** 31);
    assert.notEqual(contentHash('anm', content), hash);
    assert.notEqual(contentHash('ann', content.subarray(0, -1)), hash);
    assert.notEqual(contentHash('ann', Uint8Array.of(...content, 0)), hash);
    for (let at = 0; at < length; at++) {
      content[at]! ^= 1;
      assert.notEqual(contentHash('ann', content), hash, `byte ${at} of ${length}`);
      content[at]! ^= 1;
    }
  }
});

test('wherever it lies in a buffer, a content has one hash', () => {
  const content = Uint8Array.from({ length: 300 }, (_, i) => (i * 7) % 256);
  const hash = contentHash('ann', content);
  for (const at of [1, 2, 3, 5, 64]) {
    const buffer = new Uint8Array(400);
    buffer.set(content, at);
    assert.equal(contentHash('ann', buffer.subarray(at, at + content.length)), hash);
  }
});
