/** What devices prove themselves by, and which of them are forgotten: the part of the Store contract. */

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { type DeviceRecord, LOCKED, type Store } from '../core/ports.ts';
import { type Check, type Harness, newMessage, remove, store as storeMessages } from './contract-harness.ts';

const SAYS = { version: '"1.0"', abilities: '["on"]' };
const NOTHING = { version: undefined, abilities: undefined };

async function device(harness: Harness, name: string): Promise<DeviceRecord | undefined> {
  const record = await harness.store.name(name);
  return record?.kind === 'device' ? record : undefined;
}

async function isKnown(store: Store, name: string): Promise<boolean> {
  return (await store.name(name)) !== undefined;
}

/** Waits for what is written in the end. */
async function dropsInTheEnd(harness: Harness, name: string, wallBefore: number): Promise<boolean> {
  for (let i = 0; i < 200; i++) {
    if (await harness.store.dropUnused(name, wallBefore, 1)) return true;
    await sleep(10);
  }
  return false;
}

export function devicesContract(check: Check): void {
  check(
    'a secret that comes with the first authentication stays, and what the device says changes',
    async (harness) => {
      const entry = { newSecret: 'digest', newCode: 'code', ran: 7 };
      assert.equal(await harness.store.deviceSeen('lamp', SAYS, 1000, entry), 'new');
      await harness.crash();
      const first = { kind: 'device', ...SAYS, createdAt: 1000, lastSeenAt: 1000, lastSeenRan: 7 };
      assert.deepEqual(await harness.store.name('lamp'), { ...first, secret: 'digest', code: 'code' });
      assert.equal(
        await harness.store.deviceSeen('lamp', { ...SAYS, version: '2' }, 2000, { secret: 'digest', ran: 8 }),
        'known',
      );
      await harness.crash();
      const second = { ...first, version: '2', lastSeenAt: 2000, lastSeenRan: 8, secret: 'digest', code: 'code' };
      assert.deepEqual(await harness.store.name('lamp'), second);
    },
  );

  check('whoever names another secret than the device has changes nothing', async (harness) => {
    await harness.store.deviceSeen('lamp', SAYS, 1000, { newSecret: 'digest' });
    const before = await harness.store.name('lamp');
    for (const entry of [undefined, {}, { secret: 'other' }, { newSecret: 'other' }, { newCode: 'code' }]) {
      assert.equal(await harness.store.deviceSeen('lamp', NOTHING, 2000, entry), 'changed');
      assert.deepEqual(await harness.store.name('lamp'), before);
    }
    assert.equal(await harness.store.deviceSeen('new', SAYS, 1, { secret: 'digest' }), 'changed');
    assert.equal(await isKnown(harness.store, 'new'), false);
  });

  check('a device that came before without a secret is given none', async (harness) => {
    await harness.store.deviceSeen('lamp', NOTHING, 1000);
    assert.equal(await harness.store.deviceSeen('lamp', NOTHING, 2000, { newSecret: 'digest' }), 'changed');
    assert.equal((await device(harness, 'lamp'))?.secret, undefined);
    assert.equal(await harness.store.deviceSeen('lamp', NOTHING, 2000, { newCode: 'code' }), 'known');
    assert.equal((await device(harness, 'lamp'))?.code, 'code');
  });

  check(
    'a device that was added and never came may be given a secret, until it came, also after a crash',
    async (harness) => {
      await harness.store.bind('ann', 'lamp', 1);
      await harness.store.bind('ann', 'door', 1);
      assert.equal(await harness.store.deviceSeen('lamp', NOTHING, 1000, { newSecret: 'digest' }), 'known');
      // It says nothing: that it came is durable all the same.
      assert.equal(await harness.store.deviceSeen('door', NOTHING, 1000), 'known');
      await harness.crash();
      assert.equal((await device(harness, 'lamp'))?.secret, 'digest');
      assert.equal(await harness.store.deviceSeen('door', NOTHING, 2000, { newSecret: 'digest' }), 'changed');
      assert.equal((await device(harness, 'door'))?.secret, undefined);
    },
  );

  check('of many who come first with a secret of their own exactly one gives it to the device', async (harness) => {
    const results = await Promise.all(
      Array.from({ length: 25 }, (_, i) =>
        harness.store.deviceSeen('lamp', SAYS, 1000, i % 5 === 4 ? {} : { newSecret: `digest ${i}` }),
      ),
    );
    assert.equal(results.filter((result) => result === 'new').length, 1);
    assert.equal(results[0], 'new');
    assert.equal(results.filter((result) => result === 'changed').length, 24);
    assert.equal((await device(harness, 'lamp'))?.secret, 'digest 0');
  });

  check('the operator provisions what is not known, or was added and never came, and nothing else', async (harness) => {
    const { store } = harness;
    await store.createUser('ann', 'hash', 1);
    await store.bind('ann', 'added', 1);
    await store.deviceSeen('seen', SAYS, 1);
    await store.deviceSeen('bound', SAYS, 1, { newSecret: 'own' });
    const provision = { secret: 'digest', code: 'code' };
    const results = await Promise.all(
      ['ann', 'fresh', 'added', 'seen', 'bound', 'fresh'].map((name) => store.provision(name, provision, 5, 'new')),
    );
    assert.deepEqual(results, ['is a user', 'done', 'done', 'known', 'known', 'known']);
    await harness.crash();
    const fresh = { kind: 'device', ...NOTHING, createdAt: 5, lastSeenAt: 0, ...provision, provisioned: true };
    assert.deepEqual({ ...NOTHING, ...(await harness.store.name('fresh')) }, fresh);
    assert.deepEqual({ ...NOTHING, ...(await harness.store.name('added')) }, { ...fresh, createdAt: 1 });
    assert.deepEqual(await harness.store.peers('added', 'device'), ['ann']);
    assert.equal((await device(harness, 'bound'))?.secret, 'own');
    assert.equal((await device(harness, 'seen'))?.provisioned, undefined);
  });

  check('the operator changes what a known device has, and what is not named stays', async (harness) => {
    const { store } = harness;
    assert.equal(await store.provision('lamp', { secret: 'x' }, 5, 'known'), 'unknown');
    assert.equal(await isKnown(store, 'lamp'), false);
    await store.createUser('ann', 'hash', 1);
    assert.equal(await store.provision('ann', { secret: 'x' }, 5, 'known'), 'is a user');
    await store.deviceSeen('lamp', SAYS, 1);
    const steps = [
      [{ code: 'code' }, { code: 'code' }],
      [{ secret: 'one' }, { secret: 'one', code: 'code' }],
      [{ secret: LOCKED }, { secret: LOCKED, code: 'code' }],
      [
        { secret: 'two', code: 'other' },
        { secret: 'two', code: 'other' },
      ],
      [{ code: null }, { secret: 'two' }],
      [{}, { secret: 'two' }],
    ] as const;
    for (const [provision, expected] of steps) {
      assert.equal(await harness.store.provision('lamp', provision, 9, 'known'), 'done');
      await harness.crash();
      const record = { kind: 'device', ...SAYS, createdAt: 1, lastSeenAt: 1, ...expected, provisioned: true };
      assert.deepEqual(await harness.store.name('lamp'), record);
    }
  });

  check('a device is added by the code that it has, and by no other', async (harness) => {
    const { store } = harness;
    await store.deviceSeen('lamp', SAYS, 1, { newCode: 'code' });
    for (const code of [undefined, 'other']) {
      assert.equal(await store.bind('ann', 'lamp', 1, code), 'changed');
      assert.deepEqual(await store.peers('ann', 'user'), []);
    }
    assert.equal(await store.bind('ann', 'lamp', 1, 'code'), 'bound');
    for (const code of [undefined, 'other', 'code']) assert.equal(await store.bind('ann', 'lamp', 1, code), 'already');
    assert.equal(await store.bind('ann', 'unknown', 1, 'code'), 'changed');
    assert.equal(await isKnown(store, 'unknown'), false);
    await store.deviceSeen('door', SAYS, 1);
    assert.equal(await store.bind('ann', 'door', 1, 'code'), 'changed');
    assert.equal(await store.bind('ann', 'door', 1), 'bound');
    await store.provision('door', { code: 'code' }, 1, 'known');
    assert.deepEqual(await store.peers('door', 'device'), ['ann']);
  });

  check('a device of no use to anybody is forgotten, and no other', async (harness) => {
    const { store } = harness;
    await store.createUser('ann', 'hash', 1);
    const kinds = {
      idle: () => store.deviceSeen('idle', SAYS, 100, { ran: 5 }),
      'with a code of its own': () => store.deviceSeen('with a code of its own', SAYS, 100, { newCode: 'code' }),
      'added and removed': async () => {
        await store.bind('ann', 'added and removed', 100);
        await store.unbind('ann', 'added and removed');
      },
      'seen later': () => store.deviceSeen('seen later', SAYS, 200),
      'seen later in service': () => store.deviceSeen('seen later in service', SAYS, 100, { ran: 10 }),
      'with a secret': () => store.deviceSeen('with a secret', SAYS, 100, { newSecret: 'digest' }),
      provisioned: () => store.provision('provisioned', {}, 100, 'new'),
      added: () => store.bind('ann', 'added', 100),
      'with a message': async () => {
        await store.deviceSeen('with a message', SAYS, 100);
        await storeMessages(harness, [newMessage('with a message', 'ann', 'm')]);
      },
      ann: () => Promise.resolve(),
      nobody: () => Promise.resolve(),
    };
    const names = Object.keys(kinds);
    for (const make of Object.values(kinds)) await make();
    await harness.crash();
    const dropped: string[] = [];
    for (const name of names) if (await harness.store.dropUnused(name, 200, 10)) dropped.push(name);
    assert.deepEqual(dropped, ['idle', 'with a code of its own', 'added and removed']);
    await harness.crash();
    for (const name of names) {
      const isLeft = name !== 'nobody' && !dropped.includes(name);
      assert.equal(await isKnown(harness.store, name), isLeft, name);
    }
    // As any id that never was.
    assert.equal(await harness.store.deviceSeen('idle', SAYS, 300, { newSecret: 'digest' }), 'new');
    assert.equal(await harness.store.createUser('added and removed', 'hash', 300), 'created');
  });

  check('a device whose last message was removed is forgotten in the end', async (harness) => {
    await harness.store.deviceSeen('lamp', SAYS, 100);
    const messages = await storeMessages(harness, [newMessage('lamp', 'ann', 'm')]);
    assert.equal(await harness.store.dropUnused('lamp', 200, 1), false);
    remove(harness, messages);
    assert.equal(await dropsInTheEnd(harness, 'lamp', 200), true);
    assert.equal(await harness.store.deviceSeen('lamp', SAYS, 300), 'new');
  });

  check('whoever comes while it would be forgotten is known, or new', async (harness) => {
    for (let i = 0; i < 25; i++) {
      const name = `lamp ${i}`;
      await harness.store.deviceSeen(name, SAYS, 100);
      const calls = [
        harness.store.deviceSeen(name, SAYS, 300),
        harness.store.dropUnused(name, 200, 1),
        harness.store.bind('ann', name, 300),
      ] as const;
      assert.deepEqual(await Promise.all(calls), ['known', false, 'bound']);
      assert.equal(await isKnown(harness.store, name), true);
    }
  });
}
