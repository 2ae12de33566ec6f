import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FairQueue } from './queue.ts';

function take<Job>(queue: FairQueue<Job>, count: number): Job[] {
  const taken: Job[] = [];
  for (let job = queue.take(); job !== undefined; job = queue.take()) if (taken.push(job) === count) break;
  return taken;
}

test('those of somebody who need it no longer make room, and nobody else is touched', () => {
  const queue = new FairQueue<number>(8);
  for (let i = 0; i < 4; i++) assert.equal(queue.push('many', i), true);
  queue.push('other', 5);
  assert.equal(queue.push('many', 6), false);
  assert.deepEqual(
    queue.takeIf('many', (job) => job % 2 === 1),
    [1, 3],
  );
  assert.deepEqual(
    queue.takeIf('nobody', () => true),
    [],
  );
  assert.equal(queue.push('many', 6), true);
  assert.equal(queue.size, 4);
  assert.deepEqual(take(queue, 4), [0, 5, 2, 6]);
});

test('all take turns: who has many waits behind itself, not in front of others', () => {
  const queue = new FairQueue<string>(100);
  for (let i = 0; i < 40; i++) queue.push('many', `many-${i}`);
  queue.push('one', 'one');
  queue.push('two', 'two-0');
  queue.push('two', 'two-1');
  assert.deepEqual(take(queue, 3), ['many-0', 'one', 'two-0']);
  assert.deepEqual(take(queue, 4), ['many-1', 'two-1', 'many-2', 'many-3']);
  queue.push('late', 'late');
  assert.deepEqual(take(queue, 2), ['many-4', 'late']);
  assert.equal(queue.size, 35);
  assert.equal(queue.takeAll().length, 35);
  assert.equal(queue.take(), undefined);
  assert.equal(queue.size, 0);
});

test('one alone may have half of it, and whoever comes then finds room', () => {
  const queue = new FairQueue<number>(100);
  const filled = (of: string): number => {
    let count = 0;
    while (queue.push(of, count)) count++;
    return count;
  };
  assert.equal(filled('a'), 50);
  assert.equal(filled('b'), 25);
  assert.equal(filled('c'), 13);
  assert.equal(queue.push('d', 0), true);
  assert.ok(queue.size <= 100);
});

test("what is nobody's may fill it, to the last place", () => {
  const queue = new FairQueue<number>(10);
  for (let i = 0; i < 10; i++) assert.equal(queue.push('', i), true);
  assert.equal(queue.push('', 10), false);
  assert.equal(queue.push('a', 10), false);
});

test('it holds no more than its bound from any number of addresses, and gives back each job once', () => {
  const queue = new FairQueue<string>(64);
  const jobs: string[] = [];
  for (let i = 0; i < 1000; i++) if (queue.push(`address-${i}`, `${i}`)) jobs.push(`${i}`);
  assert.equal(jobs.length, 64);
  assert.deepEqual(take(queue, 1000), jobs);
});
