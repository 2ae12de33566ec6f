import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Shares } from './shares.ts';

/** How many of so many tries in a row are let through. */
function taken(shares: Shares, key: string, now: number, tries: number): number {
  let count = 0;
  for (let i = 0; i < tries; i++) if (shares.take(key, now)) count++;
  return count;
}

/** So many keys take all that they are given for ten seconds; how many tokens were had by each, and by the key before them. */
function flood(shares: Shares, keys: number, perMs: number, modest = ''): { each: number[]; modest: number } {
  const each = new Array<number>(keys).fill(0);
  let had = 0;
  for (let now = 0; now < 10_000; now++) {
    for (let i = 0; i < keys; i++) each[i]! += taken(shares, `greedy-${i}`, now, perMs);
    if (modest !== '' && now % 250 === 249 && shares.take(modest, now)) had++;
  }
  return { each, modest: had };
}

test('all together have what the bucket holds, then one for each time it is refilled', () => {
  const shares = new Shares(100, 10, 1_000);
  let count = 0;
  for (let i = 0; i < 500; i++) if (shares.take(`key-${i}`, 0)) count++;
  assert.equal(count, 100);
  for (let now = 1; now <= 1_000; now++) {
    for (let i = 0; i < 5; i++) if (shares.take(`later-${now}-${i}`, now)) count++;
  }
  assert.equal(count, 200);
});

test('one alone has half of it at once, and nearly all that comes back', () => {
  const shares = new Shares(1_000, 1, 100);
  assert.equal(taken(shares, 'a', 0, 10_000), 500);
  let later = 0;
  for (let now = 1; now <= 10_000; now++) later += taken(shares, 'a', now, 10);
  assert.ok(later > 9_000, `${later}`);
});

for (const keys of [2, 3, 10, 100]) {
  test(`${keys} that take what they can have the same, and one that takes less is never refused`, () => {
    const { each, modest } = flood(new Shares(2_000, 1, 1_000), keys, 20, 'modest');
    assert.equal(modest, 40, 'four a second');
    const share = 12_000 / (keys + 1);
    for (const had of each) assert.ok(had > share * 0.6 && had < share * 1.5, `${had} of ${share}`);
  });
}

test('what a key used is forgotten in time', () => {
  const shares = new Shares(100, 10, 100);
  assert.equal(taken(shares, 'a', 0, 1_000), 50);
  assert.equal(taken(shares, 'a', 500, 1_000), 35, 'thirty of them count by then, and half of what is back');
  const whole = taken(shares, 'a', 20_000, 1_000);
  assert.ok(whole === 50 || whole === 51, `${whole}`);
});

test('with ever new keys it holds no more than it may', () => {
  const shares = new Shares(100_000, 1, 100);
  for (let i = 0; i < 10_000; i++) {
    assert.ok(shares.take(`key-${i}`, 0));
    assert.ok(shares.size <= 100);
  }
});
