import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Guesses } from './code-guesses.ts';

const AT_ONCE = 10;
const EVERY_MS = 60_000;
const COUNTERS = 64;

function guesses(): Guesses {
  // Names here are numbers.
  return new Guesses((name) => Number(name), COUNTERS, AT_ONCE, EVERY_MS);
}

function takeAll(from: Guesses, name: string, now: number): number {
  let taken = 0;
  while (taken < 100 && from.take(name, now)) taken++;
  return taken;
}

test('so many may be wrong at once, then one in each interval, for ever', () => {
  const bounded = guesses();
  assert.equal(takeAll(bounded, '1', 0), AT_ONCE);
  for (let i = 1; i <= 100; i++) {
    const now = i * EVERY_MS;
    assert.equal(bounded.take('1', now - 1), false);
    assert.equal(takeAll(bounded, '1', now), 1);
  }
});

test('what was not wrong does not count, and nobody saves up more than there is at once', () => {
  const bounded = guesses();
  for (let i = 0; i < 1000; i++) {
    assert.ok(bounded.take('1', 5));
    bounded.giveBack('1');
  }
  assert.equal(takeAll(bounded, '1', 1e9), AT_ONCE);
  assert.equal(takeAll(bounded, '1', 1e12), AT_ONCE);
});

test('a guess that is given back late is not worth more than it was', () => {
  const bounded = guesses();
  assert.ok(bounded.take('1', 0));
  bounded.giveBack('1');
  bounded.giveBack('1');
  assert.equal(takeAll(bounded, '1', 0), AT_ONCE);
});

test('names have counters of their own, and who shares one shares the delay', () => {
  const bounded = guesses();
  takeAll(bounded, '1', 0);
  assert.equal(bounded.take(String(1 + COUNTERS), 0), false);
  assert.equal(takeAll(bounded, '2', 0), AT_ONCE);
});

test('some are kept for those who were not wrong, which a name is again when all of its guesses are back', () => {
  const bounded = guesses();
  let taken = 0;
  while (taken < 100 && bounded.take('1', 0, 4)) taken++;
  assert.equal(taken, AT_ONCE - 4);
  assert.equal(takeAll(bounded, '1', 0), 4);
  assert.equal(bounded.isUnused('1', 0), false);
  assert.equal(bounded.take('1', 4 * EVERY_MS, 4), false);
  assert.equal(bounded.take('1', 5 * EVERY_MS, 4), true);
  assert.equal(bounded.isUnused('1', 11 * EVERY_MS - 1), false);
  assert.equal(bounded.isUnused('1', 11 * EVERY_MS), true);
  assert.equal(bounded.isUnused('2', 0), true);
});
