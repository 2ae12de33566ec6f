import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import fc from 'fast-check';
import { Locks } from './locks.ts';

// fast-check prints the seed of a failure; another seed is tried with HAWSER_SEED=<number>.
fc.configureGlobal({ seed: Number(process.env.HAWSER_SEED ?? 1) });

test('work on one name goes one at a time in the order asked for, and no work waits for ever', async () => {
  const names = fc.array(fc.constantFrom('a', 'b', 'c', 'd'), { minLength: 1, maxLength: 3 });
  const works = fc.array(fc.record({ names, turns: fc.nat(3) }), { maxLength: 15 });
  await fc.assert(
    fc.asyncProperty(works, async (asked) => {
      const locks = new Locks();
      const held = new Set<string>();
      const order = new Map<string, number[]>();
      const all = asked.map((one, i) =>
        locks.hold(one.names, async () => {
          const mine = new Set(one.names);
          for (const name of mine) {
            assert.ok(!held.has(name), `${name} is held twice`);
            held.add(name);
            order.set(name, [...(order.get(name) ?? []), i]);
          }
          for (let turn = 0; turn < one.turns; turn++) await setImmediate();
          for (const name of mine) held.delete(name);
          return i;
        }),
      );
      assert.deepEqual(await Promise.all(all), [...asked.keys()]);
      for (const done of order.values())
        assert.deepEqual(
          done,
          done.toSorted((one, other) => one - other),
        );
    }),
    { numRuns: 150 },
  );
});

test('work on other names does not wait', async () => {
  const locks = new Locks();
  const { promise, resolve } = Promise.withResolvers<void>();
  const held = locks.hold(['a'], () => promise);
  assert.equal(await locks.hold(['b'], async () => 'done'), 'done');
  resolve();
  await held;
});

test('work that fails lets go', async () => {
  const locks = new Locks();
  const failing = locks.hold(['a', 'b'], () => Promise.reject(new Error('failed')));
  const next = locks.hold(['b'], async () => 'done');
  await assert.rejects(failing, /failed/);
  assert.equal(await next, 'done');
});

test('one name given twice is one name', async () => {
  const locks = new Locks();
  assert.equal(await locks.hold(['a', 'a'], async () => 'done'), 'done');
  assert.equal(await locks.hold(['a'], async () => 'done'), 'done');
});
