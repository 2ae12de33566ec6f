import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newMessages, store } from './contract-harness.ts';
import { harnessFor, rawDb } from './level-harness.ts';
import { Owners } from './owners.ts';
import { checked, inboxKey, pairKey } from './record.ts';
import { type Operation, Writer } from './writer.ts';

const NOTHING = new Uint8Array(0);
const log = { warn: (): void => assert.fail('it could be made') };
/** As long as ids often are. */
const MANY = 'many-6f1d2c9a-0be4-4c11-8a5e-1b7c9d2e3f40';

function put(key: Uint8Array): Operation {
  return { type: 'put', key, value: checked(key, NOTHING) };
}

/** Asks until the filter is made; by then somebody who has nothing is known to. */
async function whole(owners: Owners): Promise<void> {
  while (owners.mayOwn('nobody')) await new Promise((resolve) => setImmediate(resolve));
}

test('all who have a binding or a message may own something, whenever it was written; hardly anybody else may', async (t) => {
  const db = await rawDb(t);
  const writer = new Writer(db, assert.ifError);
  await writer.write([
    ...Array.from({ length: 700 }, (_, i) => put(pairKey('b', `user-${i}`, 'lamp'))),
    ...Array.from({ length: 700 }, (_, i) => put(pairKey('r', `device-${i}`, 'ann'))),
    // One with more than is read at once, between others; positions have NULs and any other bytes.
    ...Array.from({ length: 1200 }, (_, i) => put(inboxKey('m', MANY, i * 251))),
    ...Array.from({ length: 700 }, (_, i) => put(inboxKey('m', `m-${i}-Ł`, 2 ** 40 + i))),
    ...Array.from({ length: 3 }, (_, i) => put(inboxKey('m', `zoe-${i}`, i))),
  ]);
  const owners = new Owners(db, writer, log, 0);
  const early = Array.from({ length: 300 }, (_, i) => writer.write([put(pairKey('b', `early-${i}`, 'lamp'))]));
  assert.equal(owners.mayOwn('x'), true, 'nothing is known yet');
  const meanwhile = Array.from({ length: 300 }, (_, i) => writer.write([put(inboxKey('m', `meanwhile-${i}`, i))]));
  await whole(owners);
  const later = Array.from({ length: 300 }, (_, i) => writer.write([put(pairKey('r', `later-${i}`, 'ann'))]));
  for (let i = 0; i < 700; i++) {
    for (const name of [`user-${i}`, `device-${i}`, `m-${i}-Ł`]) assert.equal(owners.mayOwn(name), true, name);
  }
  for (let i = 0; i < 300; i++) {
    for (const name of [`early-${i}`, `meanwhile-${i}`, `later-${i}`]) assert.equal(owners.mayOwn(name), true, name);
  }
  for (const name of [MANY, 'zoe-0', 'zoe-2']) assert.equal(owners.mayOwn(name), true);
  let passed = 0;
  for (let i = 0; i < 10_000; i++) if (owners.mayOwn(`stranger-${i}`)) passed++;
  assert.ok(passed < 10, `${passed} strangers pass for owners`);
  await Promise.all([...early, ...meanwhile, ...later]);
});

test('a filter that is too small for its owners still leaves none of them out', async (t) => {
  const db = await rawDb(t);
  const writer = new Writer(db, assert.ifError);
  await writer.write(Array.from({ length: 1000 }, (_, i) => put(pairKey('b', `user-${i}`, 'lamp'))));
  const owners = new Owners(db, writer, log, 0, 256);
  for (let i = 0; owners.mayOwn(`nobody-${i}`) && i < 10_000; i++)
    await new Promise((resolve) => setImmediate(resolve));
  for (let i = 0; i < 1000; i++) assert.equal(owners.mayOwn(`user-${i}`), true);
});

test('keys that a damaged one hides are not taken for names that own nothing', async (t) => {
  const db = await rawDb(t);
  const writer = new Writer(db, assert.ifError);
  await writer.write(Array.from({ length: 200 }, (_, i) => put(inboxKey('m', `u${100 + i}`, i))));
  // What reading upwards does when a key seems to lie behind the range.
  const broken = Object.create(db) as typeof db;
  broken.keys = ((options: Parameters<typeof db.keys>[0]) => {
    const isUpwards = !(options as { reverse?: boolean }).reverse;
    return db.keys({ ...options, ...(isUpwards ? { lt: inboxKey('m', 'u201', 0) } : {}) } as typeof options);
  }) as typeof db.keys;
  const warnings: unknown[] = [];
  const owners = new Owners(broken, writer, { warn: (fields) => warnings.push(fields) }, 0);
  while (warnings.length === 0) {
    for (const name of ['u150', 'u250', 'nobody']) assert.equal(owners.mayOwn(name), true);
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.equal(owners.mayOwn('nobody'), true, 'whoever comes is looked for');
});

test('a store that is closed while owners are read closes', async (t) => {
  const harness = await harnessFor(t, { ownersLookupsMax: 0 });
  await store(harness, newMessages(5, 'ann'));
  for (const name of ['a', 'b', 'c']) {
    await harness.store.deviceSeen(name, { version: undefined, abilities: undefined }, 1);
    await harness.reopen();
  }
  assert.equal((await harness.store.list('device', '', 10)).length, 3);
});
