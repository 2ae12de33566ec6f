import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { serverLimits } from '@hawser/protocol';
import type { NameRecord, Store } from '../core/ports.ts';
import {
  type Check,
  type Harness,
  ids,
  inboxOf,
  lag,
  messageOf,
  newMessage,
  newMessages,
  remove,
  store,
} from './contract-harness.ts';

const SAYS = { version: '"1.0"', abilities: '{"a":[1]}' };
const NOTHING = { version: undefined, abilities: undefined };

/** Enough at once that calls overlap in any store. */
const MANY = 25;

function many<Result>(call: (i: number) => Promise<Result>): Promise<Result[]> {
  return Promise.all(Array.from({ length: MANY }, (_, i) => call(i)));
}

function count<Value>(values: readonly Value[], value: Value): number {
  return values.filter((other) => other === value).length;
}

/** The devices of a user. */
async function devicesOf(harness: Harness, user: string): Promise<string[]> {
  return [...(await harness.store.peers(user, 'user'))].sort();
}

/** The users of a device. */
async function usersOf(harness: Harness, device: string): Promise<string[]> {
  return [...(await harness.store.peers(device, 'device'))].sort();
}

async function namesOf(store: Store, kind: 'user' | 'device', pageSize: number): Promise<string[]> {
  const names: string[] = [];
  for (;;) {
    const page = await store.list(kind, names.at(-1) ?? '', pageSize);
    names.push(...page.map(([name]) => name));
    if (page.length < pageSize) return names;
    assert.equal(page.length, pageSize);
  }
}

async function lastSeenAt(harness: Harness, name: string): Promise<number | undefined> {
  const record = await harness.store.name(name);
  return record?.kind === 'device' ? record.lastSeenAt : undefined;
}

export function namesContract(check: Check): void {
  check('nothing is known of a name that was never used', async ({ store }) => {
    assert.equal(await store.name('nobody'), undefined);
    assert.deepEqual(await store.peers('nobody', 'user'), []);
    assert.equal(await store.setPassword('nobody', 'hash'), false);
    assert.equal(await store.unbind('nobody', 'nothing'), false);
    assert.equal(await store.removeName('nobody'), false);
    assert.deepEqual(await store.list('user', '', 10), []);
    assert.deepEqual(await store.list('device', '', 10), []);
    assert.equal(await store.name('nobody'), undefined);
  });

  check('a user is created once, and only its password changes afterwards', async ({ store }) => {
    assert.equal(await store.createUser('ann', 'hash 1', 1000.5), 'created');
    assert.equal(await store.createUser('ann', 'hash 2', 2000), 'exists');
    assert.deepEqual(await store.name('ann'), { kind: 'user', passwordHash: 'hash 1', createdAt: 1000.5 });
    assert.equal(await store.setPassword('ann', 'hash 3'), true);
    assert.deepEqual(await store.name('ann'), { kind: 'user', passwordHash: 'hash 3', createdAt: 1000.5 });
  });

  check('users and devices share one name space', async ({ store }) => {
    await store.createUser('ann', 'hash', 1);
    await store.deviceSeen('lamp', SAYS, 1);
    assert.equal(await store.bind('ann', 'added', 1), 'bound');
    for (const device of ['lamp', 'added']) {
      assert.equal(await store.createUser(device, 'hash', 2), 'exists');
      assert.equal(await store.setPassword(device, 'hash'), false);
      assert.equal((await store.name(device))?.kind, 'device');
    }
    assert.equal(await store.deviceSeen('ann', SAYS, 2), 'is a user');
    await store.createUser('bob', 'hash', 1);
    assert.equal(await store.bind('bob', 'ann', 2), 'is a user');
    assert.deepEqual(await store.peers('bob', 'user'), []);
    assert.deepEqual(await store.name('ann'), { kind: 'user', passwordHash: 'hash', createdAt: 1 });
  });

  check('names are told apart byte by byte', async ({ store }) => {
    const names = ['ann', 'Ann', 'an', 'ann ', ' ann', 'á', 'a\u0301', '名', '😀', 'n', 'm', 'b', '!schema'];
    for (const name of names) assert.equal(await store.createUser(name, `hash of ${name}`, 1), 'created');
    for (const name of names) {
      const record = await store.name(name);
      assert.equal(record?.kind === 'user' && record.passwordHash, `hash of ${name}`);
    }
  });

  check('several names are read at once, in the order asked for, and as one by one', async (harness) => {
    const { store } = harness;
    await store.createUser('ann', 'hash', 1);
    await store.deviceSeen('lamp', SAYS, 2);
    await store.bind('ann', 'door', 3);
    const asked = ['lamp', 'nobody', 'ann', 'door', 'lamp', '', '名'];
    const records = await store.names(asked);
    assert.deepEqual(records, await Promise.all(asked.map((name) => store.name(name))));
    assert.deepEqual(
      records.map((record) => record?.kind),
      ['device', undefined, 'user', 'device', 'device', undefined, undefined],
    );
    assert.deepEqual(await store.names([]), []);
    await store.removeName('lamp');
    await harness.crash();
    assert.deepEqual(
      (await harness.store.names(['lamp', 'ann'])).map((record) => record?.kind),
      [undefined, 'user'],
    );
  });

  check('what was changed before is seen in a read of several names', async ({ store }) => {
    const names = Array.from({ length: MANY }, (_, i) => `lamp ${i}`);
    await Promise.all(names.map((name, i) => store.deviceSeen(name, { ...SAYS, version: String(i) }, i)));
    const records = await store.names(names);
    assert.deepEqual(
      records.map((record) => record?.kind === 'device' && record.version),
      names.map((_, i) => String(i)),
    );
  });

  check('of many who register one name at the same time exactly one gets it', async ({ store }) => {
    const results = await many((i) => store.createUser('ann', `hash ${i}`, i));
    assert.equal(count(results, 'created'), 1);
    const winner = results.indexOf('created');
    assert.deepEqual(await store.name('ann'), { kind: 'user', passwordHash: `hash ${winner}`, createdAt: winner });
  });

  check('of a user and a device that take one name at the same time exactly one gets it', async ({ store }) => {
    await many(async (i) => {
      const name = `name ${i}`;
      const calls = [
        () => store.createUser(name, 'hash', 1),
        () => store.deviceSeen(name, SAYS, 1),
        () => store.bind('ann', name, 1),
      ];
      const order = i % 2 === 0 ? calls : calls.reverse();
      const results = await Promise.all(order.map((call) => call()));
      const isUser = results.includes('created');
      assert.equal(count<string>(results, 'is a user'), isUser ? 2 : 0);
      assert.equal((await store.name(name))?.kind, isUser ? 'user' : 'device');
    });
  });

  check('a device is created when it is first seen, and what it says of itself is noted', async (harness) => {
    const { store } = harness;
    assert.equal(await store.deviceSeen('lamp', NOTHING, 1000), 'new');
    const first: NameRecord = { kind: 'device', ...NOTHING, createdAt: 1000, lastSeenAt: 1000 };
    assert.deepEqual({ ...NOTHING, ...(await store.name('lamp')) }, first);
    assert.equal(await store.deviceSeen('lamp', SAYS, 2000), 'known');
    assert.deepEqual(await store.name('lamp'), { kind: 'device', ...SAYS, createdAt: 1000, lastSeenAt: 2000 });
    assert.equal(await store.deviceSeen('lamp', { ...SAYS, version: '2' }, 3000), 'known');
    const third: NameRecord = { kind: 'device', ...SAYS, version: '2', createdAt: 1000, lastSeenAt: 3000 };
    assert.deepEqual(await store.name('lamp'), third);
    assert.equal(await store.deviceSeen('lamp', NOTHING, 4000), 'known');
    await harness.crash();
    assert.deepEqual({ ...NOTHING, ...(await harness.store.name('lamp')) }, { ...first, lastSeenAt: 4000 });
  });

  check('when a device that says nothing new was last seen is noted in the end', async (harness) => {
    await harness.store.deviceSeen('lamp', SAYS, 1000);
    await harness.store.deviceSeen('lamp', SAYS, 2000);
    for (let i = 0; i < 100 && (await lastSeenAt(harness, 'lamp')) !== 2000; i++) await sleep(10);
    assert.equal(await lastSeenAt(harness, 'lamp'), 2000);
    await harness.store.deviceSeen('lamp', SAYS, 3000);
    await harness.reopen();
    const record = await harness.store.name('lamp');
    assert.deepEqual(record, { kind: 'device', ...SAYS, createdAt: 1000, lastSeenAt: 3000 });
  });

  check('a device seen many times at once is created once, and the last word stays', async ({ store }) => {
    const results = await many((i) => store.deviceSeen('lamp', { ...SAYS, version: String(i) }, 1000 + i));
    assert.deepEqual(results, ['new', ...Array(MANY - 1).fill('known')]);
    const record = { kind: 'device', ...SAYS, version: String(MANY - 1), createdAt: 1000, lastSeenAt: 999 + MANY };
    assert.deepEqual(await store.name('lamp'), record);
  });

  check('changes of one name take effect in the order made', async ({ store }) => {
    const calls = [store.createUser('ann', 'first', 1), ...Array.from({ length: MANY }, (_, i) => i)];
    const results = await Promise.all(
      calls.map((call) => (typeof call === 'number' ? store.setPassword('ann', `hash ${call}`) : call)),
    );
    assert.equal(results[0], 'created');
    assert.equal(count<unknown>(results, true), MANY);
    const last = { kind: 'user', passwordHash: `hash ${MANY - 1}`, createdAt: 1 };
    assert.deepEqual(await store.name('ann'), last);
    const again = [store.removeName('ann'), store.deviceSeen('ann', SAYS, 5), store.createUser('ann', 'new', 6)];
    assert.deepEqual(await Promise.all(again), [true, 'new', 'exists']);
  });

  check('changes of two names at once take effect in the order made, on either side', async ({ store }) => {
    // Names in either alphabetical order, so that no order of locking them helps by chance.
    for (const [user, device] of [
      ['a user', 'the device'],
      ['the user', 'a device'],
    ] as const) {
      const bindings = [
        store.bind(user, device, 1),
        store.removeName(device),
        store.bind(user, device, 2),
        store.unbind(user, device),
        store.deviceSeen(device, SAYS, 3),
        store.bind(user, device, 4),
        store.removeName(device),
        store.createUser(device, 'hash', 5),
        store.bind(user, device, 6),
      ];
      const results = ['bound', true, 'bound', true, 'known', 'bound', true, 'created', 'is a user'];
      assert.deepEqual(await Promise.all(bindings), results);
      assert.deepEqual(await store.peers(user, 'user'), []);
    }
  });

  check('a binding is seen from both sides, made once and undone once', async (harness) => {
    const { store } = harness;
    await store.createUser('ann', 'hash', 1);
    assert.equal(await store.bind('ann', 'lamp', 7), 'bound');
    assert.equal(await store.bind('ann', 'lamp', 8), 'already');
    assert.equal(await store.bind('ann', 'door', 8), 'bound');
    assert.equal(await store.bind('bob', 'lamp', 8), 'bound');
    assert.deepEqual(await devicesOf(harness, 'ann'), ['door', 'lamp']);
    assert.deepEqual(await usersOf(harness, 'lamp'), ['ann', 'bob']);
    assert.deepEqual(await store.peers('ann', 'device'), []);
    assert.deepEqual(await store.peers('lamp', 'user'), []);
    assert.equal(await store.unbind('ann', 'door'), true);
    assert.equal(await store.unbind('ann', 'door'), false);
    assert.equal(await store.unbind('lamp', 'ann'), false);
    assert.deepEqual(await devicesOf(harness, 'ann'), ['lamp']);
    assert.deepEqual(await usersOf(harness, 'door'), []);
    assert.notEqual(await store.name('door'), undefined);
    await harness.crash();
    assert.deepEqual(await devicesOf(harness, 'ann'), ['lamp']);
    assert.deepEqual(await usersOf(harness, 'lamp'), ['ann', 'bob']);
    assert.deepEqual(await usersOf(harness, 'door'), []);
  });

  check(
    'a device that is bound before it ever came is created then, and a known one stays as it is',
    async (harness) => {
      await harness.store.deviceSeen('lamp', SAYS, 1000);
      await harness.store.bind('ann', 'lamp', 2000);
      await harness.store.bind('ann', 'door', 2000);
      await harness.crash();
      const lamp = { kind: 'device', ...SAYS, createdAt: 1000, lastSeenAt: 1000 };
      assert.deepEqual(await harness.store.name('lamp'), lamp);
      const door = { kind: 'device', ...NOTHING, createdAt: 2000, lastSeenAt: 0 };
      assert.deepEqual({ ...NOTHING, ...(await harness.store.name('door')) }, door);
      await harness.store.deviceSeen('door', SAYS, 3000);
      const seen = { kind: 'device', ...SAYS, createdAt: 2000, lastSeenAt: 3000 };
      assert.deepEqual(await harness.store.name('door'), seen);
      assert.deepEqual(await usersOf(harness, 'door'), ['ann']);
    },
  );

  check('bindings of names that begin alike are kept apart', async (harness) => {
    const names = ['a', 'ab', 'a b', 'abc', 'á', 'a😀'];
    for (const [i, user] of names.entries()) {
      for (const device of names.slice(i)) await harness.store.bind(user, `${device}-d`, 1);
    }
    for (const [i, name] of names.entries()) {
      const devices = names.slice(i).map((device) => `${device}-d`);
      assert.deepEqual(await devicesOf(harness, name), devices.sort());
      assert.deepEqual(await usersOf(harness, `${name}-d`), names.slice(0, i + 1).sort());
    }
  });

  check('of many who make one binding at the same time exactly one is told so', async (harness) => {
    const results = await many(() => harness.store.bind('ann', 'lamp', 1));
    assert.equal(count(results, 'bound'), 1);
    assert.equal(count(results, 'already'), MANY - 1);
    assert.deepEqual(await usersOf(harness, 'lamp'), ['ann']);
    const undone = await many(() => harness.store.unbind('ann', 'lamp'));
    assert.equal(count(undone, true), 1);
  });

  check('bindings that cross each other do not wait for one another for ever', async ({ store }) => {
    const names = Array.from({ length: 6 }, (_, i) => `name ${i}`);
    const pairs = names.flatMap((one) => names.filter((other) => other !== one).map((other) => [one, other] as const));
    for (const results of [
      await Promise.all(pairs.map(([one, other]) => store.bind(one, other, 1))),
      await Promise.all(pairs.map(([one, other]) => store.unbind(other, one))),
    ]) {
      assert.equal(results.length, pairs.length);
    }
    for (const name of names) assert.deepEqual(await store.peers(name, 'user'), []);
  });

  check(`a device has at most ${serverLimits.usersPerDeviceMax} users, also when all bind at once`, async (harness) => {
    const max = serverLimits.usersPerDeviceMax;
    const users = Array.from({ length: max + 3 }, (_, i) => `user ${i}`);
    const results = await Promise.all(users.map((user) => harness.store.bind(user, 'lamp', 1)));
    assert.equal(count(results, 'bound'), max);
    assert.equal(count(results, 'device full'), 3);
    const bound = users.filter((_, i) => results[i] === 'bound');
    assert.deepEqual(await usersOf(harness, 'lamp'), bound.sort());
    assert.deepEqual(await harness.store.peers(users[results.indexOf('device full')]!, 'user'), []);
    // What is bound stays "already"; one who leaves makes room for one.
    assert.equal(await harness.store.bind(bound[0]!, 'lamp', 1), 'already');
    await harness.store.unbind(bound[0]!, 'lamp');
    assert.equal(await harness.store.bind('new', 'lamp', 1), 'bound');
    assert.equal(await harness.store.bind(bound[0]!, 'lamp', 1), 'device full');
  });

  check(`a user has at most ${serverLimits.devicesPerUserMax} devices, also when all bind at once`, async (harness) => {
    const max = serverLimits.devicesPerUserMax;
    const devices = Array.from({ length: max + 2 }, (_, i) => `device ${i}`);
    const results = await Promise.all(devices.map((device) => harness.store.bind('ann', device, 1)));
    assert.equal(count(results, 'bound'), max);
    assert.equal(count(results, 'user full'), 2);
    assert.equal((await harness.store.peers('ann', 'user')).length, max);
    // Whom a full user could not bind is not created for it.
    const refused = devices[results.indexOf('user full')]!;
    assert.equal(await harness.store.name(refused), undefined);
    const bound = devices[results.indexOf('bound')]!;
    assert.equal(await harness.store.bind('ann', bound, 1), 'already');
    await harness.store.removeName(bound);
    assert.equal(await harness.store.bind('ann', refused, 1), 'bound');
    assert.equal(await harness.store.bind('ann', bound, 1), 'user full');
  });

  check('names are listed by kind, in byte order, page by page', async (harness) => {
    // In UTF-16 '\uff5e' would come behind '😀', in bytes it comes before.
    const names = ['a', 'a b', 'ab', 'aba', 'b', 'z', 'á', '名', '\uff5e', '😀', 'A', '~', '!', 'a-longer-one'];
    const inOrder = names.toSorted((one, other) => Buffer.compare(Buffer.from(one), Buffer.from(other)));
    await Promise.all(names.map((name, i) => harness.store.createUser(name, 'hash', i)));
    const devices = names.map((name) => `${name}.d`);
    await Promise.all(devices.map((name, i) => harness.store.deviceSeen(name, SAYS, i)));
    for (const pageSize of [1, 3, names.length, 100]) {
      assert.deepEqual(await namesOf(harness.store, 'user', pageSize), inOrder);
      assert.deepEqual(await namesOf(harness.store, 'device', pageSize), devices.toSorted(byBytes));
    }
    const [[first, record] = []] = await harness.store.list('user', 'aba', 1);
    assert.equal(first, 'b');
    assert.deepEqual(record, { kind: 'user', passwordHash: 'hash', createdAt: names.indexOf('b') });
    // `after` need not be a name that is there.
    assert.deepEqual(
      (await harness.store.list('user', 'ac', 2)).map(([name]) => name),
      ['b', 'z'],
    );
    assert.deepEqual(await harness.store.list('user', '😀', 2), []);
  });

  check('a removed name leaves no binding on either side', async (harness) => {
    await harness.store.createUser('ann', 'hash', 1);
    for (const user of ['ann', 'bob', 'an', 'ann b']) {
      for (const device of ['lamp', 'lam', 'lamp 2']) await harness.store.bind(user, device, 1);
    }
    assert.equal(await harness.store.removeName('lamp'), true);
    assert.equal(await harness.store.removeName('lamp'), false);
    assert.equal(await harness.store.removeName('ann'), true);
    for (const step of ['at once', 'after a crash']) {
      assert.equal(await harness.store.name('lamp'), undefined, step);
      assert.equal(await harness.store.name('ann'), undefined, step);
      assert.deepEqual(await devicesOf(harness, 'ann'), []);
      assert.deepEqual(await usersOf(harness, 'lamp'), []);
      for (const user of ['bob', 'an', 'ann b']) assert.deepEqual(await devicesOf(harness, user), ['lam', 'lamp 2']);
      for (const device of ['lam', 'lamp 2']) assert.deepEqual(await usersOf(harness, device), ['an', 'ann b', 'bob']);
      await harness.crash();
    }
    assert.equal(await harness.store.bind('bob', 'lamp', 9), 'bound');
    assert.deepEqual(await usersOf(harness, 'lamp'), ['bob']);
    assert.equal(await harness.store.createUser('ann', 'new', 9), 'created');
    assert.deepEqual(await devicesOf(harness, 'ann'), []);
  });

  check('whoever registers a removed name again gets none of its old messages', async (harness) => {
    await harness.store.createUser('ann', 'hash', 1);
    const old = await store(harness, [...newMessages(150, 'ann'), newMessage('ann b', 's', 'other')]);
    remove(harness, old.slice(0, 3));
    await harness.store.removeName('ann');
    for (const step of ['at once', 'after a crash']) {
      await harness.store.createUser('ann', 'new', 2);
      assert.equal(await harness.store.hasBacklog('ann'), false, step);
      assert.deepEqual(await inboxOf(harness, 'ann'), [], step);
      assert.deepEqual(await harness.store.read('ann', [old[5]!.position]), []);
      assert.deepEqual(ids(await harness.store.oldest('', 10)), ['other']);
      await harness.crash();
    }
    // The ids of its old messages are free, and its inbox is empty for the limits as well.
    const [again] = await store(harness, [newMessage('ann', 'sender', 'm5')]);
    assert.ok(again!.position > old.at(-1)!.position);
    // An ack that comes late for an old message.
    remove(harness, [old[5]!, old[6]!]);
    assert.deepEqual(ids(await inboxOf(harness, 'ann')), ['m5']);
    assert.deepEqual(ids(await inboxOf(harness, 'ann b')), ['other']);
  });

  check('a removed name stays forgotten, whoever reads of it meanwhile', async (harness) => {
    for (let round = 0; round < 4; round++) {
      await harness.store.createUser('ann', 'hash', 1);
      const old = await store(harness, newMessages(3, 'ann', 'sender', `${round}.`));
      let isDone = false;
      // Much to write, so that there is time to read before the removal is on the disk.
      const writing = store(
        harness,
        ['a', 'b', 'c', 'd'].map((msgId) => messageOf(2 ** 20, 'busy', 's', `${round}.${msgId}`)),
      );
      const removing = harness.store.removeName('ann').finally(() => {
        isDone = true;
      });
      const { store: opened } = harness;
      while (!isDone) {
        // A store may answer from memory: the loop must let others have their turn.
        await lag(4);
        await (round % 2 === 0 ? opened.hasBacklog('ann') : opened.page('ann', 0, 10, 1000));
        if (round > 1) await Promise.all([opened.oldest('', 10), opened.read('ann', [old[0]!.position])]);
      }
      assert.equal(await removing, true);
      remove(harness, await writing);
      assert.equal(await harness.store.hasBacklog('ann'), false, `round ${round}`);
      assert.deepEqual(await inboxOf(harness, 'ann'), []);
      const stored = await store(harness, newMessages(3, 'ann', 'sender', `${round}.`));
      remove(harness, stored);
      assert.equal(await harness.store.hasBacklog('ann'), false, `round ${round}`);
    }
  });

  check('what resolved is there after a crash', async (harness) => {
    await Promise.all([
      harness.store.createUser('ann', 'hash 1', 1),
      harness.store.deviceSeen('lamp', SAYS, 1),
      harness.store.bind('ann', 'door', 1),
    ]);
    await harness.crash();
    assert.equal((await harness.store.name('ann'))?.kind, 'user');
    assert.equal((await harness.store.name('lamp'))?.kind, 'device');
    assert.deepEqual(await usersOf(harness, 'door'), ['ann']);
    await Promise.all([
      harness.store.setPassword('ann', 'hash 2'),
      harness.store.unbind('ann', 'door'),
      harness.store.removeName('lamp'),
    ]);
    await harness.crash();
    assert.deepEqual(await harness.store.name('ann'), { kind: 'user', passwordHash: 'hash 2', createdAt: 1 });
    assert.deepEqual(await devicesOf(harness, 'ann'), []);
    assert.equal(await harness.store.name('lamp'), undefined);
  });
}

function byBytes(one: string, other: string): number {
  return Buffer.compare(Buffer.from(one), Buffer.from(other));
}
