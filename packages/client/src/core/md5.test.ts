import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { md5Hex } from './md5.ts';

function reference(text: string): string {
  return createHash('md5').update(text, 'utf8').digest('hex');
}

test('the digests are those of RFC 1321, A.5', () => {
  assert.equal(md5Hex(''), 'd41d8cd98f00b204e9800998ecf8427e');
  assert.equal(md5Hex('a'), '0cc175b9c0f1b6a831c399e269772661');
  assert.equal(md5Hex('message digest'), 'f96b697d7cb7938d525a2f31aaf161d0');
});

test('texts of every length around the ends of blocks have the digest that node:crypto gives', () => {
  for (let length = 0; length <= 200; length++) assert.equal(md5Hex('é'.repeat(length)), reference('é'.repeat(length)));
  for (let length = 0; length <= 200; length++) assert.equal(md5Hex('z'.repeat(length)), reference('z'.repeat(length)));
});

test('any text has the digest that node:crypto gives', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 300 }), (text) => {
      fc.pre(text.isWellFormed());
      assert.equal(md5Hex(text), reference(text));
    }),
  );
});
