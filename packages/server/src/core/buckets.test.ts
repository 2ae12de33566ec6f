import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Buckets } from './buckets.ts';

/** How many of so many tries in a row are let through. */
function taken(buckets: Buckets, key: string, now: number, tries: number): number {
  let count = 0;
  for (let i = 0; i < tries; i++) if (buckets.take(key, now)) count++;
  return count;
}

test('a full bucket gives what it holds, then one for each time it is refilled, and never more than it holds', () => {
  const buckets = new Buckets(5, 100, 10);
  assert.equal(taken(buckets, 'a', 0, 20), 5);
  assert.equal(buckets.waitMs('a', 0), 100);
  assert.equal(taken(buckets, 'a', 99, 20), 0);
  assert.equal(taken(buckets, 'a', 100, 20), 1);
  assert.equal(taken(buckets, 'a', 350, 20), 2);
  assert.equal(taken(buckets, 'a', 1_000_000, 20), 5);
});

test('thousands a second are counted exactly', () => {
  const buckets = new Buckets(4000, 0.5, 10);
  assert.equal(taken(buckets, 'a', 0, 10_000), 4000);
  let later = 0;
  for (let now = 1; now <= 10_000; now++) later += taken(buckets, 'a', now, 10);
  assert.equal(later, 20_000);
});

test('keys have buckets of their own', () => {
  const buckets = new Buckets(1, 100, 10);
  assert.equal(taken(buckets, 'a', 0, 9), 1);
  assert.equal(taken(buckets, 'b', 0, 9), 1);
});

test('what is charged without a token has to be waited for, and what is refunded does not', () => {
  const buckets = new Buckets(2, 100, 10);
  for (let i = 0; i < 5; i++) buckets.charge('a', 0);
  assert.equal(buckets.waitMs('a', 0), 400);
  for (let i = 0; i < 5; i++) buckets.refund('a', 0);
  assert.equal(buckets.waitMs('a', 0), 0);
  assert.equal(buckets.size, 0, 'a full bucket is not kept');
  buckets.refund('a', 0);
  assert.equal(taken(buckets, 'a', 0, 9), 2, 'nor more than full');
});

test('with ever new keys it holds no more than it may, and each new one begins with a full bucket', () => {
  const buckets = new Buckets(3, 1000, 100);
  for (let i = 0; i < 10_000; i++) {
    assert.equal(taken(buckets, `key-${i}`, 0, 5), 3);
    assert.ok(buckets.size <= 100);
  }
});

test('a key that used much stays known among any number of others that used little', () => {
  const buckets = new Buckets(10, 1000, 100);
  assert.equal(taken(buckets, 'much', 0, 100), 10);
  for (let i = 0; i < 10_000; i++) {
    buckets.charge(`key-${i}`, 0);
    assert.equal(buckets.waitMs('much', 0), 1000);
  }
});

test('buckets that are full again make room first', () => {
  const buckets = new Buckets(10, 1000, 8);
  for (let i = 0; i < 7; i++) buckets.charge(`old-${i}`, 0);
  assert.equal(taken(buckets, 'much', 500, 100), 10);
  for (let i = 0; i < 7; i++) buckets.charge(`new-${i}`, 2000);
  assert.equal(buckets.size, 8);
  assert.ok(buckets.waitMs('much', 500) > 0);
});
