import assert from 'node:assert/strict';
import { test } from 'node:test';
import { allOf, firstOf } from './scan.ts';

/** Has so many entries; notes what it was asked for, and that it was closed. */
class Numbers {
  readonly asked: number[] = [];
  closed = 0;
  #next = 0;
  readonly #count: number;

  constructor(count: number) {
    this.#count = count;
  }

  async nextv(size: number): Promise<number[]> {
    assert.equal(this.closed, 0);
    this.asked.push(size);
    const length = Math.min(size, this.#count - this.#next);
    return Array.from({ length }, () => this.#next++);
  }

  async close(): Promise<void> {
    this.closed++;
  }
}

test('all entries are read in their order, a few at first and more each time, and the iterator is closed', async () => {
  for (const count of [0, 1, 4, 5, 36, 37, 2_500]) {
    const numbers = new Numbers(count);
    assert.deepEqual(
      await allOf(numbers),
      Array.from({ length: count }, (_, i) => i),
    );
    assert.deepEqual(numbers.asked.slice(0, 6), [4, 32, 256, 1_000, 1_000, 1_000].slice(0, numbers.asked.length));
    assert.equal(numbers.closed, 1);
  }
});

test('for the first entry no more than one is asked for', async () => {
  for (const count of [0, 1, 5]) {
    const numbers = new Numbers(count);
    assert.equal(await firstOf(numbers), count === 0 ? undefined : 0);
    assert.deepEqual(numbers.asked, [1]);
    assert.equal(numbers.closed, 1);
  }
});

test('an iterator that fails is closed', async () => {
  const numbers = new Numbers(9);
  numbers.nextv = () => Promise.reject(new Error('no disk'));
  await assert.rejects(allOf(numbers), /no disk/);
  assert.equal(numbers.closed, 1);
});
