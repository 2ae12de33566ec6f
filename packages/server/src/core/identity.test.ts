// What is a matter of time about devices: secrets that are changed while somebody comes, wars, and who is forgotten.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cmd, serverLimits } from '@hawser/protocol';
import { LOCKED } from './ports.ts';
import { Bench, digests } from './testing/bench.ts';
import type { BenchClient } from './testing/client.ts';

const MINUTE_MS = 60_000;
const OK = { code: 100, msg: 'ok' };

/** Comes as a device, without waiting for the answer. */
function come(bench: Bench, id: string, more: object = {}, address?: string): BenchClient {
  const client = bench.connect(address);
  client.request(cmd.authenticate, { id, ...more }, 'come');
  return client;
}

function answerOf(client: BenchClient): { readonly code: number; readonly msg: string } | undefined {
  return client.answers.at(-1)?.body as { code: number; msg: string } | undefined;
}

async function device(bench: Bench, id: string, more: object = {}): Promise<BenchClient> {
  const client = come(bench, id, more);
  await bench.settle();
  assert.deepEqual(answerOf(client), OK);
  return client;
}

for (const when of ['before', 'behind'] as const) {
  test(`whoever is about to come by a secret that is changed just ${when} it is let in does not`, async () => {
    const bench = await Bench.open();
    (await device(bench, 'lamp', { secret: 'old' })).vanish();
    await bench.settle();
    const deviceSeen = bench.store.deviceSeen.bind(bench.store);
    let done: Promise<unknown> | undefined;
    const change = (): void => {
      done ??= bench.core.provision('lamp', { secret: digests.digest('new') }, 'known');
    };
    // Both are answered in one turn.
    bench.store.deviceSeen = (...call) => {
      if (when === 'before') change();
      const seen = deviceSeen(...call);
      change();
      return seen;
    };
    const client = come(bench, 'lamp', { secret: 'old' });
    await bench.settle();
    assert.equal(await done, 'done');
    assert.equal(bench.core.directory.get('lamp'), undefined);
    assert.equal(answerOf(client)?.code, 200);
    await device(bench, 'lamp', { secret: 'new' });
  });
}

test('a session whose secret is changed ends at once, one whose code is changed goes on', async () => {
  const bench = await Bench.open();
  const client = await device(bench, 'lamp', { secret: 'old' });
  const changing = bench.core.provision('lamp', { code: 'digest of code' }, 'known');
  await bench.settle();
  await changing;
  assert.equal(client.isEnded, false);
  const revoking = bench.core.provision('lamp', { secret: LOCKED }, 'known');
  await bench.settle();
  await revoking;
  assert.equal(client.isEnded, true);
  assert.equal(bench.core.counters.closed.revoked, 1);
});

test('the owner who knows the code does not wait for those who guess it, and few guesses are looked at', async () => {
  const bench = await Bench.open();
  await device(bench, 'lamp', { secret: 's', code: '4711' });
  const guessers = await Promise.all(Array.from({ length: 10 }, (_, i) => bench.app(`guesser ${i}`)));
  const guess = (client: BenchClient, code: string) => client.request(cmd.addDevice, { deviceId: 'lamp', code });
  const minutes = 60;
  for (let minute = 0; minute < minutes; minute++) {
    for (const guesser of guessers) for (let i = 0; i < 20; i++) guess(guesser, `${minute}-${i}`);
    await bench.settle();
    // Right behind them, when they have taken whatever they can.
    if (minute % 15 === 14) {
      const owner = await bench.app(`owner ${minute}`, { nack: true });
      guess(owner, '4711');
      await bench.settle();
      assert.deepEqual(answerOf(owner), OK, `in minute ${minute}`);
    }
    await bench.pass(serverLimits.codeGuessEveryMs);
  }
  const judged = bench.core.counters.refused.wrongCode;
  assert.ok(judged <= serverLimits.codeGuessesAtOnceMax + minutes, `${judged} guesses in ${minutes} minutes`);
  assert.ok(bench.core.counters.refused.tooManyCodes > 5_000);
});

test('an owner who was wrong too often waits, and is told to try again', async () => {
  const bench = await Bench.open();
  await device(bench, 'lamp', { secret: 's', code: '4711' });
  const owner = await bench.app('owner', { nack: true });
  const guess = (code: string) => owner.request(cmd.addDevice, { deviceId: 'lamp', code });
  for (let i = 0; i < 10; i++) guess(`wrong ${i}`);
  guess('4711');
  await bench.settle();
  assert.equal((answerOf(owner) as { retry?: true }).retry, true);
  await bench.pass(5 * serverLimits.codeGuessEveryMs);
  guess('4711');
  await bench.settle();
  assert.deepEqual(answerOf(owner), OK);
});

test('two fight for a device for ten minutes, strangers join in, and nothing is lost', async () => {
  const bench = await Bench.open();
  const sender = await bench.app('ann');
  sender.request(cmd.addDevice, { deviceId: 'lamp' });
  await bench.settle();
  const got = new Set<string>();
  let rivals: BenchClient[] = [await device(bench, 'lamp', { secret: 'shared' })];
  let sent = 0;
  let takeovers = 1;
  let state = 7;
  const random = (): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return state / 2 ** 32;
  };
  const begun = bench.time.now();
  while (bench.time.now() - begun < 600_000) {
    sender.post('lamp', `m-${sent++}`);
    // Each from elsewhere: those who go on guessing from one address wait.
    const stranger = come(bench, 'lamp', random() < 0.5 ? {} : { secret: 'guessed' }, `192.0.2.${sent % 256}`);
    await bench.pass(random() * 400);
    assert.notEqual(answerOf(stranger)?.code, 100);
    assert.deepEqual(stranger.pushes, []);
    stranger.vanish();
    rivals = rivals.filter((client) => !client.isEnded);
    if (rivals.length < 2 && random() < 0.7) {
      rivals.push(await device(bench, 'lamp', { secret: 'shared' }));
      takeovers++;
    }
    for (const client of rivals) {
      const ids = client.pushedIds.filter((id) => !got.has(id));
      for (const id of ids) got.add(id);
      if (ids.length > 0) client.ack(...ids);
    }
    await bench.settle();
  }
  const last = await device(bench, 'lamp', { secret: 'shared' });
  last.fetch();
  for (let handled = -1; handled < last.pushedIds.length; await bench.pass(2_000)) {
    handled = last.pushedIds.length;
    for (const id of last.pushedIds) got.add(id);
    last.ack(...last.pushedIds);
  }
  assert.ok(takeovers > 300, `${takeovers} takeovers`);
  assert.equal(sender.acks.length, sent);
  assert.deepEqual([...got].sort(), Array.from({ length: sent }, (_, i) => `m-${i}`).sort());
});

/** Runs a sweep to its end. */
async function sweep(bench: Bench): Promise<void> {
  const swept = bench.core.deviceSweep.run();
  await bench.pass(60_000);
  await swept;
}

async function known(bench: Bench, names: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const name of names) {
    const record = bench.store.name(name);
    await bench.settle();
    if ((await record) !== undefined) found.push(name);
  }
  return found;
}

test('devices of no use to anybody are forgotten in time, counted, and never before', async () => {
  const bench = await Bench.open({ deviceAgeMsMax: 60 * MINUTE_MS });
  const ann = await bench.app('ann');
  const names = ['idle', 'secret', 'added', 'message', 'online'];
  for (const name of names) {
    const client = await device(bench, name, name === 'secret' ? { secret: 's' } : {});
    if (name !== 'online') client.vanish();
  }
  for (const deviceId of ['added', 'message', 'only added', 'added and removed'])
    ann.request(cmd.addDevice, { deviceId });
  await bench.settle();
  ann.post('message', 'waiting');
  await bench.settle();
  for (const deviceId of ['message', 'added and removed']) ann.request(cmd.removeDevice, { deviceId });
  const all = [...names, 'only added', 'added and removed', 'ann'];
  await bench.pass(55 * MINUTE_MS);
  await sweep(bench);
  assert.deepEqual(await known(bench, all), all);
  await bench.pass(5 * MINUTE_MS);
  await sweep(bench);
  assert.deepEqual(await known(bench, all), ['secret', 'added', 'message', 'online', 'only added', 'ann']);
  assert.equal(bench.core.counters.devicesExpired, 2);
  // Its id is free again.
  await device(bench, 'idle', { secret: 'mine' });
});

test('a clock that jumps ahead a year has nobody forgotten', async () => {
  const bench = await Bench.open({ deviceAgeMsMax: 60 * MINUTE_MS });
  (await device(bench, 'lamp')).vanish();
  await bench.pass(5 * MINUTE_MS);
  bench.time.wallAheadMs += 365 * 24 * 60 * MINUTE_MS;
  await sweep(bench);
  assert.deepEqual(await known(bench, ['lamp']), ['lamp']);
  bench.time.wallAheadMs -= 800 * 24 * 60 * MINUTE_MS;
  await sweep(bench);
  assert.deepEqual(await known(bench, ['lamp']), ['lamp']);
});

test('a sweep looks at a bounded number of devices at a time, and at all in the end', async () => {
  const bench = await Bench.open({ deviceAgeMsMax: 5 * MINUTE_MS });
  const names = Array.from({ length: 3 * serverLimits.deviceSweepRecords }, (_, i) => `junk ${i}`);
  for (const name of names) (await device(bench, name)).vanish();
  await bench.pass(10 * MINUTE_MS);
  const swept = bench.core.deviceSweep.run();
  await bench.settle();
  assert.equal(bench.core.counters.devicesExpired, serverLimits.deviceSweepRecords);
  await bench.pass(4 * serverLimits.deviceSweepRestMs);
  await swept;
  assert.equal(bench.core.counters.devicesExpired, names.length);
});

test('a user has so many devices and a device so many users: each one more is refused, and has a place when another goes', async () => {
  const { devicesPerUserMax, usersPerDeviceMax } = serverLimits;
  const bench = await Bench.open();
  const ask = async (app: BenchClient, number: number, deviceId: string) => {
    // Bindings are so many a second.
    await bench.pass(1000);
    app.request(number, { deviceId });
    await bench.settle();
    return answerOf(app);
  };
  const ann = await bench.app('ann');
  for (let i = 0; i < devicesPerUserMax; i++) assert.deepEqual(await ask(ann, cmd.addDevice, `lamp ${i}`), OK, `${i}`);
  for (const id of ['one more', 'another'])
    assert.match((await ask(ann, cmd.addDevice, id))?.msg ?? '', /too many devices/);
  assert.deepEqual(await known(bench, ['one more', 'another']), []);
  assert.deepEqual(await ask(ann, cmd.removeDevice, 'lamp 7'), OK);
  assert.deepEqual(await ask(ann, cmd.addDevice, 'one more'), OK);

  const users = await Promise.all(Array.from({ length: usersPerDeviceMax }, (_, i) => bench.app(`user ${i}`)));
  for (const [i, user] of users.entries()) assert.deepEqual(await ask(user, cmd.addDevice, 'door'), OK, `${i}`);
  const late = await bench.app('late');
  assert.match((await ask(late, cmd.addDevice, 'door'))?.msg ?? '', /too many users/);
  assert.deepEqual(await ask(users[3]!, cmd.removeDevice, 'door'), OK);
  assert.deepEqual(await ask(late, cmd.addDevice, 'door'), OK);
});
