import assert from 'node:assert/strict';
import { test } from 'node:test';
import { rawDb } from './level-harness.ts';
import { Reader } from './reader.ts';

const key = (i: number): Uint8Array => Uint8Array.of(i);

test('records that are asked for at once are read together, each as it is then', async (t) => {
  const db = await rawDb(t);
  await db.batch(Array.from({ length: 100 }, (_, i) => ({ type: 'put', key: key(i), value: key(i) })));
  let reads = 0;
  const counting = Object.create(db) as typeof db;
  counting.getMany = ((keys: Uint8Array[]) => {
    reads++;
    return db.getMany(keys);
  }) as typeof db.getMany;
  const reader = new Reader(counting);
  const values = await Promise.all(Array.from({ length: 200 }, (_, i) => reader.get(key(i))));
  assert.deepEqual(
    values.map((value) => value?.[0]),
    Array.from({ length: 200 }, (_, i) => (i < 100 ? i : undefined)),
  );
  assert.equal(reads, 1);
  await db.put(key(7), key(8));
  assert.equal((await reader.get(key(7)))?.[0], 8);
});

test('a record that cannot be read fails by itself', async (t) => {
  const db = await rawDb(t);
  await db.batch(Array.from({ length: 30 }, (_, i) => ({ type: 'put', key: key(i), value: key(i) })));
  const broken = Object.create(db) as typeof db;
  const unreadable = new Error('a block is damaged');
  broken.getMany = ((keys: Uint8Array[]) =>
    keys.some(([i]) => i === 13) ? Promise.reject(unreadable) : db.getMany(keys)) as typeof db.getMany;
  broken.get = ((one: Uint8Array) => (one[0] === 13 ? Promise.reject(unreadable) : db.get(one))) as typeof db.get;
  const reader = new Reader(broken);
  const results = await Promise.allSettled(Array.from({ length: 30 }, (_, i) => reader.get(key(i))));
  for (const [i, result] of results.entries()) {
    if (i === 13) assert.deepEqual(result, { status: 'rejected', reason: unreadable });
    else assert.equal(result.status === 'fulfilled' ? result.value?.[0] : undefined, i);
  }
  await assert.rejects(reader.get(key(13)), unreadable);
});
