// Damaged records: found, set aside, reported, and never served. Messages: see also level.test.ts.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LOCKED, type StoredMessage } from '../core/ports.ts';
import { ids, inboxOf, newMessages, remove, store } from './contract-harness.ts';
import type { LevelStore } from './level.ts';
import { flip, harnessFor, keysOf, type LevelHarness } from './level-harness.ts';
import { asideKey, inboxKey, isInboxKey, metaKey, nameKey, pairKey, positionOf, receiverOf, space } from './record.ts';
import { StoreUnusable } from './unusable.ts';

const NOTHING = { version: undefined, abilities: undefined };
const HASH = '$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$dGFndGFndGFndGFndGFndGFndGFndGFndGFndGFndGE';

/** Turns one bit of a record's value while the store is closed; returns the value that this makes. */
async function damage(harness: LevelHarness, key: Uint8Array, at: number): Promise<Uint8Array> {
  let value = new Uint8Array();
  await harness.between(async (db) => {
    await flip(db, key, at);
    value = Uint8Array.from((await db.get(key))!);
  });
  return value;
}

async function bytesOf(harness: LevelHarness, key: Uint8Array): Promise<number> {
  let bytes = 0;
  await harness.between(async (db) => {
    bytes = (await db.get(key))!.length;
  });
  return bytes;
}

/** Moves a record under another key, as a turned bit in its key would. */
function moved(harness: LevelHarness, from: Uint8Array, to: Uint8Array): Promise<void> {
  return harness.between(async (db) => {
    const value = (await db.get(from))!;
    await db.batch([
      { type: 'del', key: from },
      { type: 'put', key: to, value },
    ]);
  });
}

// ---- names

test('a user whose record is damaged is locked: nobody logs in, registers or comes as it, and nothing of it is lost', async (t) => {
  const harness = await harnessFor(t);
  await harness.store.createUser('ann', HASH, 7);
  await harness.store.bind('ann', 'lamp', 1);
  await store(harness, newMessages(3, 'ann'));
  const bytes = await bytesOf(harness, nameKey('ann'));
  const steps = Math.ceil(bytes / 7);
  for (let step = 0; step < steps; step++) {
    await damage(harness, nameKey('ann'), step * 7);
    const where = `byte ${step * 7}`;
    assert.equal(await harness.store.createUser('ann', 'a stranger', 8), 'exists', where);
    assert.equal(await harness.store.deviceSeen('ann', NOTHING, 8), 'is a user', where);
    assert.equal(await harness.store.bind('bob', 'ann', 8), 'is a user', where);
    const found = await harness.store.name('ann');
    assert.ok(found?.kind === 'user' && found.locked, where);
    assert.notEqual(found.passwordHash, HASH);
    assert.deepEqual(await harness.store.peers('ann', 'user'), ['lamp']);
    assert.deepEqual(ids(await inboxOf(harness, 'ann')), ['m0', 'm1', 'm2']);
    // The owner gets a new password of the operator, and has all as before.
    assert.equal(await harness.store.setPassword('ann', HASH), true);
    assert.deepEqual(await harness.store.name('ann'), { kind: 'user', passwordHash: HASH, createdAt: 0 });
  }
  assert.equal(harness.errors.length, steps);
  assert.deepEqual(harness.errors[0], { record: 'name', name: 'ann', bytes });
});

test('a damaged name is set aside once, as it was found, however many ask for it at the same time', async (t) => {
  const harness = await harnessFor(t);
  await harness.store.createUser('ann', HASH, 7);
  const damaged = await damage(harness, nameKey('ann'), 30);
  const asked = Array.from({ length: 20 }, () => harness.store.name('ann'));
  const changed = harness.store.setPassword('ann', 'new');
  asked.push(...Array.from({ length: 20 }, () => harness.store.name('ann')));
  for (const found of await Promise.all(asked)) assert.equal(found?.kind, 'user');
  assert.equal(await changed, true);
  // Those who found the damage late did not undo the change.
  assert.deepEqual(await harness.store.name('ann'), { kind: 'user', passwordHash: 'new', createdAt: 0 });
  assert.equal(harness.errors.length, 1);
  assert.equal(harness.store.stats.damaged, 1);
  await harness.between(async (db) => {
    assert.deepEqual(await keysOf(db, space.damaged), [asideKey(nameKey('ann'))].map(Buffer.from));
    assert.deepEqual(Buffer.from((await db.get(asideKey(nameKey('ann'))))!), Buffer.from(damaged));
  });
  // It is still counted after a restart, until the operator has seen to it.
  assert.equal(harness.store.stats.damaged, 1);
  const [record] = await harness.store.damaged(undefined, 10);
  assert.deepEqual([record?.record, record?.name, record?.bytes], ['name', 'ann', damaged.length]);
  assert.equal(await harness.store.forgetDamaged(), 1);
  assert.equal(harness.store.stats.damaged, 0);
  await harness.reopen();
  assert.equal(harness.store.stats.damaged, 0);
});

test('a device that somebody has added comes as before when its record is damaged', async (t) => {
  const harness = await harnessFor(t);
  await harness.store.deviceSeen('lamp', { version: '"1"', abilities: '[]' }, 3);
  await harness.store.bind('ann', 'lamp', 4);
  for (let at = 0; at < (await bytesOf(harness, nameKey('lamp'))); at += 11) {
    await damage(harness, nameKey('lamp'), at);
    assert.equal(await harness.store.createUser('lamp', 'a stranger', 8), 'exists', `byte ${at}`);
    assert.equal(await harness.store.deviceSeen('lamp', { version: '"2"', abilities: undefined }, 9), 'known');
    assert.deepEqual(await harness.store.peers('lamp', 'device'), ['ann']);
    const found = await harness.store.name('lamp');
    assert.ok(found?.kind === 'device' && found.version === '"2"' && found.lastSeenAt === 9);
  }
});

test('a name of which nothing tells what it was is locked, and free when the operator has removed it', async (t) => {
  const harness = await harnessFor(t);
  await harness.store.deviceSeen('lamp', NOTHING, 3);
  await damage(harness, nameKey('lamp'), 9);
  assert.equal(await harness.store.deviceSeen('lamp', NOTHING, 4), 'is a user');
  assert.equal(await harness.store.removeName('lamp'), true);
  assert.equal(await harness.store.deviceSeen('lamp', NOTHING, 5), 'new');
});

test('of several names that are read at once a damaged one is set aside, and the others come as they are', async (t) => {
  const harness = await harnessFor(t);
  for (const name of ['a', 'b', 'c']) await harness.store.createUser(name, HASH, 7);
  await damage(harness, nameKey('b'), 12);
  const [a, b, c] = await harness.store.names(['a', 'b', 'c']);
  const whole = { kind: 'user', passwordHash: HASH, createdAt: 7 };
  assert.deepEqual([a, c], [whole, whole]);
  assert.ok(b?.kind === 'user' && b.locked);
  assert.equal(harness.store.stats.damaged, 1);
});

test('damaged names do not end a list, nor come twice in it', async (t) => {
  const harness = await harnessFor(t);
  for (const name of ['a', 'b', 'c', 'd']) await harness.store.createUser(name, HASH, 1);
  await harness.store.bind('a', 'bulb', 1);
  for (const name of ['b', 'd', 'bulb']) await damage(harness, nameKey(name), 12);
  const users = await harness.store.list('user', '', 10);
  assert.deepEqual(
    users.map(([name, record]) => [name, record.locked === true]),
    [
      ['a', false],
      ['b', true],
      ['c', false],
      ['d', true],
    ],
  );
  assert.deepEqual(
    (await harness.store.list('device', '', 10)).map(([name]) => name),
    ['bulb'],
  );
  assert.equal(harness.errors.length, 3);
});

const NEVER = Number.POSITIVE_INFINITY;
for (const [left, ownersLookupsMax] of [
  ['a binding', NEVER],
  ['a message', NEVER],
  ['users that added it', NEVER],
  ['a binding', 0],
  ['a message', 0],
  ['users that added it', 0],
] as const) {
  const by = ownersLookupsMax === 0 ? 'by the filter of owners' : 'one by one';
  test(`a name whose record is lost, but not ${left}, is not given to a stranger: looked for ${by}`, async (t) => {
    const harness = await harnessFor(t, { ownersLookupsMax });
    await harness.store.createUser('ann', HASH, 1);
    if (left === 'a binding') await harness.store.bind('ann', 'lamp', 1);
    if (left === 'a message') await store(harness, newMessages(1, 'ann'));
    if (left === 'users that added it') {
      await harness.store.removeName('ann');
      await harness.store.bind('bob', 'ann', 1);
    }
    // One bit in the key: the record now claims to be another name's.
    await moved(harness, nameKey('ann'), nameKey('anm'));
    // The first of them has the filter made, where one is; it is made long before the last.
    for (let i = 0; i < 20; i++) assert.equal(await harness.store.deviceSeen(`new-${i}`, NOTHING, 2), 'new');
    assert.equal(await harness.store.createUser('ann', 'a stranger', 2), 'exists');
    const isDevice = left === 'users that added it';
    assert.equal(await harness.store.deviceSeen('ann', NOTHING, 2), isDevice ? 'known' : 'is a user');
    // And it is not served under the other name.
    assert.deepEqual(await harness.store.name('anm').then((found) => found?.locked), true);
    assert.equal(harness.errors.length, 2);
  });
}

test('a record under a key that no name has is set aside', async (t) => {
  const harness = await harnessFor(t);
  await harness.store.createUser('ann', HASH, 1);
  await harness.store.createUser('bob', HASH, 1);
  await moved(harness, nameKey('ann'), Buffer.from('na\xffn', 'latin1'));
  assert.deepEqual(
    (await harness.store.list('user', '', 10)).map(([name]) => name),
    ['bob'],
  );
  assert.equal(harness.store.stats.damaged, 1);
});

// ---- bindings

for (const half of ['b', 'r'] as const) {
  test(`a binding of which half ${half} is damaged is taken from the other, and reported`, async (t) => {
    const harness = await harnessFor(t);
    const key = half === 'b' ? pairKey('b', 'ann', 'lamp') : pairKey('r', 'lamp', 'ann');
    for (const device of ['door', 'lamp']) await harness.store.bind('ann', device, 1);
    for (let at = 0; at < 4; at++) {
      await damage(harness, key, at);
      assert.deepEqual(await harness.store.peers('ann', 'user'), ['door', 'lamp']);
      assert.deepEqual(await harness.store.peers('lamp', 'device'), ['ann']);
      assert.equal(await harness.store.bind('ann', 'lamp', 2), 'already');
      assert.equal(harness.errors.length, at + 1);
    }
    await damage(harness, key, 2);
    assert.equal(await harness.store.unbind('ann', 'lamp'), true);
    assert.deepEqual(await harness.store.peers('lamp', 'device'), []);
  });
}

test('a binding of which both halves are damaged is lost, reported, and may be made again', async (t) => {
  const harness = await harnessFor(t);
  for (const device of ['door', 'lamp']) await harness.store.bind('ann', device, 1);
  await damage(harness, pairKey('b', 'ann', 'lamp'), 0);
  await damage(harness, pairKey('r', 'lamp', 'ann'), 3);
  assert.deepEqual(await harness.store.peers('ann', 'user'), ['door']);
  assert.deepEqual(await harness.store.peers('lamp', 'device'), []);
  assert.equal(harness.errors.length, 2);
  assert.equal(await harness.store.unbind('ann', 'lamp'), false);
  assert.equal(await harness.store.bind('ann', 'lamp', 2), 'bound');
  assert.deepEqual(await harness.store.peers('lamp', 'device'), ['ann']);
});

test('a binding under the key of another user gives that one nothing', async (t) => {
  const harness = await harnessFor(t);
  for (const user of ['ann', 'anm']) await harness.store.createUser(user, HASH, 1);
  await harness.store.bind('ann', 'lock', 1);
  await moved(harness, pairKey('b', 'ann', 'lock'), pairKey('b', 'anm', 'lock'));
  assert.deepEqual(await harness.store.peers('anm', 'user'), []);
  assert.equal(harness.store.stats.damaged, 1);
  assert.equal(await harness.store.bind('ann', 'lock', 1), 'bound');
});

// ---- messages and removals

async function gets(harness: LevelHarness, receiver: string): Promise<string[]> {
  return ids((await harness.store.page(receiver, 0, 100, 1e9)).messages);
}

const asksFor: Readonly<Record<string, (store: LevelStore, receiver: string, position: number) => Promise<boolean>>> = {
  'asks whether it has any': (store, receiver) => store.hasBacklog(receiver),
  'fetches them': async (store, receiver) => (await store.page(receiver, 0, 100, 1e9)).messages.length > 0,
  'names one': async (store, receiver, position) => (await store.read(receiver, [position])).length > 0,
  'is listed': async (store, receiver) => (await store.oldest('', 10)).some(({ to }) => to === receiver),
  'is sent the same': async (store, receiver) => {
    const results = await store.append(newMessages(3, receiver));
    return results.some((result) => result < 0) || (await store.page(receiver, 0, 100, 1e9)).messages.length > 3;
  },
};

for (const [how, ask] of Object.entries(asksFor)) {
  test(`messages under the key of another receiver are set aside when that ${how}, and not served`, async (t) => {
    const harness = await harnessFor(t);
    const [first] = await store(harness, newMessages(3, 'ann'));
    const foreign = inboxKey('m', 'bob', first!.position);
    let value = Buffer.alloc(0);
    await harness.between(async (db) => {
      value = Buffer.from((await db.get(inboxKey('m', 'ann', first!.position)))!);
      await db.put(foreign, value);
    });
    assert.equal(await ask(harness.store, 'bob', first!.position), false);
    assert.deepEqual(harness.errors, [{ receiver: 'bob', position: first!.position, bytes: value.length }]);
    assert.equal(harness.store.stats.damaged, 1);
    await harness.between(async (db) => {
      assert.equal(await db.has(foreign), false);
      assert.deepEqual(Buffer.from((await db.get(asideKey(foreign)))!), value);
    });
    assert.equal(harness.store.stats.damaged, 1);
    assert.deepEqual(await gets(harness, 'ann'), ['m0', 'm1', 'm2']);
  });
}

/** Turns another bit in the key of each record of a kind but the first byte, which is the kind; returns the new keys. */
async function turnKeys(harness: LevelHarness, kind: string, name: RegExp): Promise<Uint8Array[]> {
  const turned: Uint8Array[] = [];
  await harness.between(async (db) => {
    const keys = (await keysOf(db, kind)).filter((key) => name.test(receiverOf(key)));
    for (const [bit, from] of keys.entries()) {
      const to = Uint8Array.from(from);
      to[1 + (bit >> 3)]! ^= 1 << (bit & 7);
      const value = (await db.get(from))!;
      await db.batch([
        { type: 'del', key: from },
        { type: 'put', key: to, value },
      ]);
      turned.push(to);
    }
  });
  return turned;
}

/** In each of these names and the 9 bytes behind it a bit can be turned; the "@" may become a NUL. */
const NAMES = Array.from({ length: (6 + 9) * 8 }, (_, i) => `a@b${i + 100}`);

test('whichever bit of the key of messages is turned, they are set aside, and nobody is served them', async (t) => {
  const harness = await harnessFor(t);
  await store(harness, [
    ...NAMES.flatMap((name) => newMessages(2, name)),
    ...newMessages(1, 'a'),
    ...newMessages(1, 'z'),
  ]);
  const turned = await turnKeys(harness, space.segment, /@/);
  assert.equal(turned.length, NAMES.length);
  const served: string[] = [];
  for (let after = ''; ; after = served.at(-1)!) {
    const heads = await harness.store.oldest(after, 1);
    if (heads.length === 0) break;
    served.push(heads[0]!.to);
  }
  assert.deepEqual(served, ['a', 'z']);
  for (const name of NAMES) assert.deepEqual(await gets(harness, name), []);
  for (const key of turned) assert.ok((await gets(harness, receiverOf(key))).length === 0, Buffer.from(key).toString());
  assert.deepEqual(await gets(harness, 'a'), ['m0']);
  assert.equal(harness.store.stats.damaged, NAMES.length);
  assert.equal(harness.errors.length, NAMES.length);
  await harness.between(async (db) => {
    const expected = turned.map((key) => Buffer.from(asideKey(key))).sort(Buffer.compare);
    assert.deepEqual((await keysOf(db, space.damaged)).map(Buffer.from), expected);
    assert.equal((await keysOf(db, space.segment)).length, 2);
  });
  assert.equal(harness.store.stats.damaged, NAMES.length);
});

test('a note of removals under the key of other messages removes none of them, and is set aside', async (t) => {
  const harness = await harnessFor(t);
  await store(harness, newMessages(3, 'ann'));
  const bobs = await store(harness, newMessages(3, 'bob'));
  const later = await store(harness, newMessages(3, 'ann', 'sender', 'n'));
  remove(harness, (await inboxOf(harness, 'ann')).slice(1, 2));
  await harness.between(async (db) => {
    const [note] = await keysOf(db, space.removed);
    const value = (await db.get(note!))!;
    for (const segment of await keysOf(db, space.segment)) {
      const key = inboxKey('d', receiverOf(segment), positionOf(segment));
      if (Buffer.compare(key, note!) !== 0) await db.put(key, value);
    }
    assert.equal((await keysOf(db, space.removed)).length, 3);
  });
  assert.deepEqual(await gets(harness, 'bob'), ['m0', 'm1', 'm2']);
  assert.deepEqual(await gets(harness, 'ann'), ['m0', 'm2', 'n0', 'n1', 'n2']);
  assert.equal(harness.store.stats.damaged, 2);
  const foreign = [inboxKey('d', 'ann', later[0]!.position), inboxKey('d', 'bob', bobs[0]!.position)];
  await harness.between(async (db) => {
    assert.equal((await keysOf(db, space.removed)).length, 1);
    const aside = await keysOf(db, space.damaged);
    assert.deepEqual(
      aside.map((key) => Buffer.from(key)),
      foreign.map((key) => Buffer.from(asideKey(key))),
    );
  });
  assert.equal(harness.errors.length, 2);
});

test('whichever bit of the key of a note of removals is turned, it removes nothing', async (t) => {
  const harness = await harnessFor(t);
  const stored = await store(
    harness,
    NAMES.flatMap((name) => newMessages(2, name)),
  );
  remove(
    harness,
    stored.filter((_, i) => i % 2 === 1),
  );
  const turned = await turnKeys(harness, space.removed, /@/);
  assert.equal(turned.length, NAMES.length);
  for (const name of NAMES) assert.deepEqual(await gets(harness, name), ['m0', 'm1'], name);
  // What an inbox that is there has for its own is read with it.
  const read = turned.filter((key) => NAMES.includes(receiverOf(key)) && isInboxKey(key));
  assert.ok(read.length >= 64);
  assert.equal(harness.store.stats.damaged, read.length);
  assert.equal(harness.errors.length, read.length);
});

// ---- what the store notes of itself

test('when the note of positions is damaged, none comes twice all the same', async (t) => {
  const harness = await harnessFor(t, { positionsLeased: 5_000 });
  let last: StoredMessage | undefined;
  for (let at = 0; at < 6; at++) {
    const stored = await store(harness, newMessages(300, 'ann', 's', `${at}.`));
    assert.ok(last === undefined || stored[0]!.position > last.position);
    last = stored.at(-1);
    await damage(harness, metaKey.positionLease, at);
    assert.equal(harness.errors.length, at + 1);
  }
  const messages = await inboxOf(harness, 'ann');
  assert.deepEqual(
    ids(messages),
    [0, 1, 2, 3, 4, 5].flatMap((at) => Array.from({ length: 300 }, (_, i) => `${at}.${i}`)),
  );
});

test('when the note of positions is not found, its key being damaged, none comes twice all the same', async (t) => {
  const harness = await harnessFor(t, { positionsLeased: 5_000 });
  const [first] = await store(harness, newMessages(1, 'ann', 's', 'a'));
  await harness.between((db) => db.del(metaKey.positionLease));
  const [second] = await store(harness, newMessages(1, 'ann', 's', 'b'));
  assert.ok(second!.position > first!.position);
  assert.deepEqual(ids(await inboxOf(harness, 'ann')), ['a0', 'b0']);
});

test('when the note of the time in service is damaged, it is as long as the messages tell: nothing ages early', async (t) => {
  const harness = await harnessFor(t);
  await store(harness, [{ ...newMessages(1, 'ann')[0]!, ran: 5_000 }]);
  await store(harness, [{ ...newMessages(1, 'bob')[0]!, ran: 9_000 }]);
  harness.store.noteRan(90_000);
  await damage(harness, metaKey.ran, 5);
  assert.equal(harness.store.ranBefore, 9_000);
  assert.deepEqual(harness.errors, [{ record: 'note of the store', name: 'ran', bytes: 9 }]);
  await harness.reopen();
  assert.equal(harness.store.ranBefore, 9_000);
});

test('a store whose format cannot be read is refused in a line, and stays as it is', async (t) => {
  const harness = await harnessFor(t);
  await harness.store.createUser('ann', HASH, 1);
  await harness.store.close();
  const change = (bit: number | undefined) =>
    harness.between(async (db) => {
      if (bit === undefined) await db.del(metaKey.schema);
      else await db.put(metaKey.schema, Buffer.from(String.fromCharCode('4'.charCodeAt(0) ^ (1 << bit)), 'latin1'));
    });
  for (const bit of [undefined, 0, 1, 2, 3, 4, 5, 6, 7]) {
    await assert.rejects(change(bit), (error) => {
      assert.ok(error instanceof StoreUnusable, String(error));
      assert.match(error.message, /^[^\n]*(does not say their format|written by another version)[^\n]*$/);
      return true;
    });
  }
  await harness.between((db) => db.put(metaKey.schema, Buffer.from('4')));
  assert.equal((await harness.store.name('ann'))?.kind, 'user');
});

for (const how of ['a secret', 'a code', 'a note that is damaged', 'no note'] as const) {
  test(`where there was ${how}, a damaged device is locked and not added, until the operator sets new ones`, async (t) => {
    const harness = await harnessFor(t);
    await harness.store.deviceSeen('lamp', NOTHING, 3);
    await harness.store.bind('ann', 'lamp', 4);
    if (how === 'a secret') await harness.store.deviceSeen('other', NOTHING, 5, { newSecret: 'digest' });
    if (how === 'a code') await harness.store.provision('other', { code: 'digest' }, 5, 'new');
    await damage(harness, nameKey('lamp'), 9);
    if (how === 'a note that is damaged') await damage(harness, metaKey.noSecrets, 1);
    if (how === 'no note') await harness.between((db) => db.del(metaKey.noSecrets));
    for (const entry of [{}, { newSecret: 'mine' }]) {
      assert.equal(await harness.store.deviceSeen('lamp', NOTHING, 9, entry), 'changed');
    }
    const found = await harness.store.name('lamp');
    assert.ok(found?.kind === 'device' && found.secret === LOCKED && found.code === LOCKED);
    assert.equal(await harness.store.bind('bob', 'lamp', 9), 'changed');
    assert.deepEqual(await harness.store.peers('lamp', 'device'), ['ann']);
    assert.equal(await harness.store.provision('lamp', { secret: 'new', code: null }, 9, 'known'), 'done');
    assert.equal(await harness.store.deviceSeen('lamp', NOTHING, 9, { secret: 'new' }), 'known');
    assert.equal(await harness.store.bind('bob', 'lamp', 9), 'bound');
  });
}

test('a locked name of which the operator says that it is a device is one, and keeps its messages', async (t) => {
  const harness = await harnessFor(t);
  await harness.store.deviceSeen('lamp', NOTHING, 3, { newSecret: 'digest' });
  await store(harness, newMessages(1, 'lamp'));
  await damage(harness, nameKey('lamp'), 9);
  assert.equal(await harness.store.deviceSeen('lamp', NOTHING, 4, { secret: 'digest' }), 'is a user');
  assert.equal(await harness.store.provision('lamp', { secret: 'new' }, 5, 'known'), 'done');
  assert.equal(await harness.store.deviceSeen('lamp', NOTHING, 6, { secret: 'new' }), 'known');
  assert.equal((await inboxOf(harness, 'lamp')).length, 1);
});
