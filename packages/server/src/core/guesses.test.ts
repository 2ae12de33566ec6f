// Guessing passwords, registering and binding without end, in simulated time: at what rate it is, and whom it hurts.

import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import { cmd, refusals, serverLimits } from '@hawser/protocol';
import { Bench } from './testing/bench.ts';
import type { BenchClient } from './testing/client.ts';

const RIGHT = '5f4dcc3b5aa765d61d8327deb882cf99';
const OWNER = '198.51.100.7';
const HOUR_MS = 3_600_000;

let bench: Bench;
beforeEach(async () => {
  bench = await Bench.open();
  await bench.away('owner');
});

function guess(client: BenchClient, username: string, password: string): void {
  client.request(cmd.login, { username, password }, 'guess');
}

/** The answers to logins on a connection. */
function codes(client: BenchClient): unknown[] {
  return client.answers.map(({ body }) => (body as { code: number }).code);
}

/** Answered in this turn, with no time passed. */
async function logsInAtOnce(address: string, name = 'owner'): Promise<boolean> {
  const client = bench.connect(address);
  guess(client, name, RIGHT);
  await bench.settle();
  const isIn = codes(client).at(-1) === 100;
  client.vanish();
  return isIn;
}

/** So many guesses in an hour, from all these addresses in turn; returns how many were looked at. */
async function attack(
  guesses: number,
  addresses: readonly string[],
  name: (i: number) => string,
  eachMinute: () => Promise<void>,
): Promise<number> {
  const before = bench.passwords.verified;
  const perMinute = Math.ceil(guesses / 60);
  let sent = 0;
  for (let minute = 0; minute < 60; minute++) {
    const clients: BenchClient[] = [];
    for (let i = 0; i < perMinute; i++) {
      const client = bench.connect(addresses[sent % addresses.length]);
      guess(client, name(sent), `wrong-${sent++}`);
      clients.push(client);
    }
    await eachMinute();
    await bench.pass(60_000);
    for (const client of clients) {
      assert.ok(client.answers.length > 0 && codes(client).every((code) => code === 1002 || code === 200));
      client.vanish();
    }
  }
  assert.ok(sent >= guesses);
  return bench.passwords.verified - before;
}

describe('guesses in an hour', () => {
  test('100,000 from one address come to two hundred, and the owner logs in at once all the while', async () => {
    let logins = 0;
    const verified = await attack(
      100_000,
      ['203.0.113.9'],
      () => 'owner',
      async () => {
        assert.ok(await logsInAtOnce(OWNER));
        logins++;
      },
    );
    const { loginPairFailuresMax, loginPairRefillMs } = serverLimits;
    assert.ok(verified - logins <= loginPairFailuresMax + HOUR_MS / loginPairRefillMs + 1, `${verified} looked at`);
    assert.ok(bench.core.counters.limited.loginsRefused > 50_000);
  });

  test('100,000 from a hundred addresses come to less than two thousand, and the owner logs in at once', async () => {
    let logins = 0;
    const addresses = Array.from({ length: 100 }, (_, i) => `203.0.113.${i}`);
    const verified = await attack(
      100_000,
      addresses,
      () => 'owner',
      async () => {
        assert.ok(await logsInAtOnce(OWNER));
        logins++;
      },
    );
    const { loginForgivenMax, loginForgivenRefillMs, loginAccountFailuresMax, loginAccountRefillMs } = serverLimits;
    const forgiven = addresses.length * (loginForgivenMax + HOUR_MS / loginForgivenRefillMs);
    const most = forgiven + loginAccountFailuresMax + HOUR_MS / loginAccountRefillMs;
    assert.ok(verified - logins <= most, `${verified} looked at`);
  });

  test('20,000 from one address over ever new names come to 1,220, names that there are not included', async () => {
    const verified = await attack(
      20_000,
      ['203.0.113.9'],
      (i) => `name-${i}`,
      async () => {},
    );
    const { loginAddressFailuresMax, loginFailuresPerAddressPerHourMax } = serverLimits;
    assert.ok(verified <= loginAddressFailuresMax + loginFailuresPerAddressPerHourMax + 1, `${verified} looked at`);
  });

  test('20,000 do not hold up an owner who logged in from the same address before', async () => {
    assert.ok(await logsInAtOnce('203.0.113.9'));
    const verified = await attack(
      20_000,
      ['203.0.113.9'],
      (i) => `name-${i}`,
      async () => assert.ok(await logsInAtOnce('203.0.113.9')),
    );
    assert.ok(verified < 1_400);
  });
});

test('guesses of names that cannot be are held up as one name is: none of them is remembered', async () => {
  const waiting: BenchClient[] = [];
  for (let i = 0; i < 12; i++) {
    const client = bench.connect('192.0.2.9');
    guess(client, `${i}`.padEnd(8_000, 'x'), 'wrong');
    await bench.settle();
    if (client.answers.length === 0) waiting.push(client);
    else assert.equal(codes(client).at(-1), i < 10 ? 1002 : 200);
  }
  assert.equal(waiting.length, 1);
  await bench.pass(serverLimits.loginPairRefillMs);
  assert.deepEqual(codes(waiting[0]!), [1002]);
});

test('who mistypes ten times is answered at once, then after 20 s, and then is let in', async () => {
  const client = bench.connect(OWNER);
  for (let i = 0; i < serverLimits.loginPairFailuresMax; i++) {
    guess(client, 'owner', 'wrong');
    await bench.settle();
    assert.equal(client.answers.length, i + 1);
  }
  guess(client, 'owner', RIGHT);
  await bench.pass(serverLimits.loginPairRefillMs - 1);
  assert.equal(client.answers.length, 10);
  await bench.pass(1);
  assert.equal(codes(client).at(-1), 100);
});

for (const [what, body] of [
  ['that make no sense', {}],
  ['under a name that cannot be', { id: '' }],
  ['with a secret that comes too late', { id: 'lamp', secret: 'late' }],
] as const) {
  test(`logins ${what}, which cost nothing, keep a connection for ten times the deadline and no longer`, async () => {
    const lamp = bench.connect(OWNER);
    lamp.request(cmd.authenticate, { id: 'lamp' });
    await bench.settle();
    lamp.vanish();
    const client = bench.connect(OWNER);
    const { loginTimeoutMs, loginTimeoutsMax } = serverLimits;
    let minutes = 0;
    while (!client.isEnded && minutes < 60) {
      client.request(cmd.authenticate, body, `${minutes++}`);
      await bench.pass(loginTimeoutMs - 1_000);
    }
    assert.ok(minutes <= loginTimeoutsMax + 1, `it is there after ${minutes} minutes`);
    assert.ok(minutes >= loginTimeoutsMax, `it was closed after ${minutes} minutes`);
    assert.equal(bench.core.counters.closed.loginTimeout, 1);
    assert.ok(codes(client).every((code) => code === 200));
  });
}

test('a login that waits is not ended by the deadline for logins, and what is behind it waits, too', async () => {
  bench = await Bench.open({ loginTimeoutMs: 5_000 });
  await bench.away('owner');
  const client = bench.connect(OWNER);
  for (let i = 0; i < 10; i++) guess(client, 'owner', 'wrong');
  await bench.settle();
  guess(client, 'owner', RIGHT);
  client.post('owner', 'm');
  await bench.pass(19_000);
  assert.equal(client.isEnded, false);
  assert.equal(client.refusals.size, 0);
  await bench.pass(1_000);
  assert.equal(codes(client).at(-1), 100);
});

test('logins with the right password are never held up, however many come at once and later', async () => {
  for (let round = 0; round < 50; round++) {
    for (let i = 0; i < 20; i++) assert.ok(await logsInAtOnce(OWNER));
    await bench.pass(1_000);
  }
  assert.equal(bench.core.counters.limited.loginsDelayed, 0);
  assert.equal(bench.core.counters.limited.loginsRefused, 0);
});

test('a login that is not looked at, for the threads are busy or the client has gone, costs nothing', async () => {
  bench.passwords.isBusy = true;
  for (let i = 0; i < 1_000; i++) {
    const client = bench.connect(OWNER);
    guess(client, 'owner', 'wrong');
    await bench.settle();
    client.vanish();
  }
  bench.passwords.isBusy = false;
  assert.ok(await logsInAtOnce(OWNER));
});

test('no more than 2,000 logins wait; who comes then is told to come again, and nobody is told another thing', async () => {
  const busy = { code: 200, msg: refusals.busy.msg };
  const wrong = { code: 1002, msg: refusals.wrongCredentials.msg };
  const clients: BenchClient[] = [];
  for (let i = 0; i < 2_200; i++) {
    const address = `10.0.${i >> 8}.${i & 255}`;
    for (let n = 0; n <= serverLimits.loginPairFailuresMax; n++) {
      const client = bench.connect(address);
      guess(client, `name-${i}`, 'wrong');
      clients.push(client);
    }
    if (i % 100 === 0) await bench.settle();
  }
  await bench.settle();
  assert.equal(bench.core.guard.delayed, serverLimits.loginsDelayedMax);
  const unanswered = clients.filter(({ answers }) => answers.length === 0);
  assert.equal(unanswered.length, serverLimits.loginsDelayedMax);
  await bench.pass(serverLimits.loginDelayMsMax);
  assert.equal(bench.core.guard.delayed, 0);
  const bodies = clients.map(({ answers }) => JSON.stringify(answers[0]?.body));
  assert.deepEqual(new Set(bodies), new Set([JSON.stringify(busy), JSON.stringify(wrong)]));
});

test('whether a name exists changes nothing in when and how its guesses are answered', async () => {
  const clients = ['owner', 'nobody'].map((name, i) => {
    const client = bench.connect(`203.0.113.${i}`);
    for (let n = 0; n < 13; n++) guess(client, name, 'wrong');
    return client;
  });
  for (let second = 0; second < 120; second++) {
    await bench.pass(1_000);
    assert.deepEqual(clients[0]?.answers, clients[1]?.answers);
  }
  assert.equal(clients[0]?.answers.length, 13);
});

describe('registrations', () => {
  /** How many of so many are answered 100. */
  async function registered(address: string, count: number, prefix: string): Promise<number> {
    const client = bench.connect(address);
    for (let i = 0; i < count; i++) {
      client.request(cmd.register, { username: `${prefix}-${i}`, password: RIGHT }, 'r');
      if (i % 100 === 99) await bench.settle();
    }
    await bench.settle();
    client.vanish();
    return codes(client).filter((code) => code === 100).length;
  }

  test('of one address are so many an hour; others are told to come again, and other addresses register', async () => {
    bench = await Bench.open({ limits: { registrationsPerAddressPerHourMax: 10 } });
    assert.equal(await registered('203.0.113.9', 30, 'a'), 10);
    assert.equal(bench.core.counters.limited.registrations, 20);
    assert.equal(bench.core.counters.refused.busy, 20);
    assert.equal(await registered(OWNER, 5, 'b'), 5);
    await bench.pass(HOUR_MS / 2);
    assert.equal(await registered('203.0.113.9', 30, 'c'), 5);
  });

  test('are so many an hour in all', async () => {
    bench = await Bench.open({ limits: { registrationsPerHourMax: 20 } });
    let all = 0;
    for (let i = 0; i < 10; i++) all += await registered(`203.0.113.${i}`, 5, `n${i}`);
    assert.equal(all, 20);
  });

  test('of addresses that register as many as they can leave some for others', async () => {
    bench = await Bench.open({ limits: { registrationsPerAddressPerHourMax: 10, registrationsPerHourMax: 20 } });
    for (let i = 0; i < 2; i++) await registered(`203.0.113.${i}`, 10, `n${i}`);
    assert.ok((await registered(OWNER, 3, 'own')) > 0);
  });

  test('are refused where registration is closed, and those who are there log in', async () => {
    bench = await Bench.open({ isRegistrationClosed: true });
    const added = bench.core.addUser('owner', RIGHT);
    await bench.settle();
    await added;
    const client = bench.connect();
    client.request(cmd.register, { username: 'new', password: RIGHT }, 'r');
    await bench.settle();
    assert.deepEqual(client.answers[0]?.body, { code: 200, msg: refusals.registrationClosed.msg });
    assert.ok(await logsInAtOnce(OWNER));
  });
});

describe('devices that nobody knows yet', () => {
  const limits = { connectionsPerAddressMax: 10, newNamesPerAddressPerMinuteMax: 4 };
  const STRANGER = '203.0.113.9';
  const busy = { code: 200, msg: refusals.busy.msg };

  /** What each of these ids is answered, one after the other. */
  async function come(address: string, ids: readonly string[], more: object = {}): Promise<unknown[]> {
    const bodies: unknown[] = [];
    for (const id of ids) {
      const client = bench.connect(address);
      client.request(cmd.authenticate, { id, ...more }, 'auth');
      await bench.settle();
      bodies.push(client.answers[0]?.body);
      client.vanish();
    }
    return bodies;
  }

  function named(prefix: string, count: number): string[] {
    return Array.from({ length: count }, (_, i) => `${prefix}-${i}`);
  }

  function accepted(bodies: readonly unknown[]): number {
    for (const body of bodies) if ((body as { code: number }).code !== 100) assert.deepEqual(body, busy);
    return bodies.filter((body) => (body as { code: number }).code === 100).length;
  }

  for (const [what, more] of [
    ['without a secret', {}],
    ['that bind a secret', { secret: 'vJ3nWc0T1nGkq9s5k0yJwq2rTgM' }],
  ] as const) {
    test(`come by way of one address so many at once, then so many a minute, ${what}; others of others come`, async () => {
      bench = await Bench.open({ limits });
      assert.equal(accepted(await come(STRANGER, named('a', 30), more)), 10);
      assert.equal(bench.core.counters.limited.newDevices, 20);
      assert.equal(accepted(await come(OWNER, named('b', 5), more)), 5);
      await bench.pass(60_000);
      assert.equal(accepted(await come(STRANGER, named('c', 30), more)), 4);
      const kept = bench.store.name('a-29');
      await bench.settle();
      assert.equal(await kept, undefined, 'nothing is noted of those that are told to come again');
    });
  }

  test('are no limit for those that are known, also after a restart', async () => {
    bench = await Bench.open({ limits });
    assert.equal(accepted(await come(STRANGER, named('a', 10))), 10);
    assert.equal(accepted(await come(OWNER, named('b', 10))), 10);
    await bench.restart('stop');
    assert.equal(accepted(await come(STRANGER, [...named('a', 10), ...named('b', 10)])), 20);
    assert.equal(accepted(await come(STRANGER, named('c', 10))), 10, 'the known ones cost nothing');
    assert.equal(accepted(await come(STRANGER, [...named('a', 10), ...named('d', 1), ...named('b', 10)])), 20);
  });

  test('cost nothing when they are refused', async () => {
    bench = await Bench.open({ limits });
    assert.ok(
      (await come(STRANGER, named('', 50), { code: '1' })).every((body) => (body as { code: number }).code === 200),
    );
    await bench.away('owner');
    assert.ok(
      (await come(STRANGER, Array<string>(50).fill('owner'))).every((body) => (body as { code: number }).code === 200),
    );
    assert.equal(accepted(await come(STRANGER, named('a', 10))), 10);
  });

  test('are added as often as they come, and those that are known are added all the same', async () => {
    bench = await Bench.open({ limits });
    await come(OWNER, named('known', 5));
    const app = await bench.app('ann', {}, STRANGER);
    const add = async (ids: readonly string[]): Promise<unknown[]> => {
      const from = app.answers.length;
      for (const deviceId of ids) app.request(cmd.addDevice, { deviceId }, 'add');
      await bench.settle();
      return app.answers.slice(from).map(({ body }) => body);
    };
    assert.equal(accepted(await add([...named('new', 30), ...named('known', 5)])), 15);
    app.vanish();
    await bench.restart('stop');
    // Whether they are known has to be read.
    const again = bench.connect(STRANGER);
    again.request(cmd.login, { username: 'ann', password: RIGHT }, 'login');
    for (const id of named('old', 10)) await come(STRANGER, [id]);
    for (const deviceId of named('known', 5)) again.request(cmd.removeDevice, { deviceId }, 'remove');
    for (const deviceId of [...named('known', 5), 'other']) again.request(cmd.addDevice, { deviceId }, 'add');
    await bench.settle();
    assert.deepEqual(codes(again), [...Array<number>(11).fill(100), 200]);
  });
});

test('who adds and removes devices without end waits, ten a second, is refused nothing, and holds up nobody', async () => {
  const app = await bench.app('ann');
  const rounds = serverLimits.bindingsAtOnceMax / 2 + 100;
  for (let i = 0; i < rounds; i++) {
    app.request(cmd.addDevice, { deviceId: 'lamp' }, 'add');
    app.request(cmd.removeDevice, { deviceId: 'lamp' }, 'remove');
    if (i % 50 === 0) await bench.settle();
  }
  await bench.settle();
  const answered = (): number => codes(app).length - 2;
  assert.equal(answered(), serverLimits.bindingsAtOnceMax);
  const other = await bench.app('bea', {}, OWNER);
  other.request(cmd.addDevice, { deviceId: 'lamp' }, 'add');
  await bench.settle();
  assert.equal(codes(other).at(-1), 100);
  await bench.pass(10_000);
  assert.equal(answered(), serverLimits.bindingsAtOnceMax + 100);
  await bench.pass(10_000);
  assert.equal(answered(), 2 * rounds);
  assert.ok(codes(app).every((code) => code === 100));
});

test('what a user who is removed waits to add is not added: whoever has the name then has no devices', async () => {
  const app = await bench.app('ann');
  for (let i = 0; i <= serverLimits.bindingsAtOnceMax / 2; i++) {
    app.request(cmd.addDevice, { deviceId: 'lamp' }, 'add');
    app.request(cmd.removeDevice, { deviceId: 'lamp' }, 'remove');
    if (i % 50 === 0) await bench.settle();
  }
  app.request(cmd.addDevice, { deviceId: 'lamp' }, 'add');
  await bench.settle();
  let isRemoved = false;
  void bench.core.removeName('ann', 'user').then((removed) => {
    isRemoved = removed;
  });
  await bench.pass(1);
  assert.ok(isRemoved);
  await bench.pass(10_000);
  const left = bench.store.peers('ann', 'user');
  await bench.settle();
  assert.deepEqual(await left, []);
});

describe('frames of one connection', () => {
  const heartbeat = new Uint8Array(4);

  test('beyond so many in a second wait for the next, in order, and none is refused', async () => {
    bench = await Bench.open({ limits: { sessionFramesPerSecondMax: 100 } });
    const app = await bench.app('ann');
    await bench.pass(1_000);
    const before = app.answers.length;
    for (let i = 0; i < 350; i++) app.request(cmd.heartbeat, undefined, `${i}`);
    await bench.settle();
    assert.ok(app.isPaused);
    const seen: number[] = [];
    for (let second = 0; second < 5; second++) {
      seen.push(app.answers.length - before);
      await bench.pass(1_000);
    }
    // The frame that is one too many is handled before reading pauses.
    assert.deepEqual(seen, [101, 201, 301, 350, 350]);
    assert.deepEqual(
      app.answers.slice(before).map(({ msgId }) => msgId),
      Array.from({ length: 350 }, (_, i) => `${i}`),
    );
    assert.equal(app.isPaused, false);
    assert.equal(bench.core.counters.limited.sessionRate, 3);
  });

  test('in one large piece count for the seconds to come', async () => {
    bench = await Bench.open({ limits: { sessionFramesPerSecondMax: 100 } });
    const app = await bench.app('ann');
    await bench.pass(1_000);
    app.sendBytes(Buffer.concat(Array<Uint8Array>(1_000).fill(heartbeat)));
    await bench.pass(9_000 - 1);
    assert.ok(app.isPaused);
    await bench.pass(1_001);
    assert.equal(app.isPaused, false);
  });

  test('are bounded in bytes, too, and others are read meanwhile', async () => {
    bench = await Bench.open({ limits: { sessionBytesPerSecondMax: 10_000 } });
    const app = await bench.app('ann');
    const other = await bench.app('bea');
    await bench.pass(1_000);
    app.post('bea', 'large', 'x'.repeat(25_000));
    app.post('bea', 'small');
    await bench.settle();
    assert.ok(app.isPaused);
    assert.deepEqual(other.pushedIds, ['large']);
    other.post('bea', 'own');
    await bench.settle();
    assert.deepEqual(other.pushedIds, ['large', 'own']);
    await bench.pass(2_100);
    assert.deepEqual(other.pushedIds, ['large', 'own', 'small']);
  });

  test('at the limit, second after second, never wait', async () => {
    bench = await Bench.open({ limits: { sessionFramesPerSecondMax: 100 } });
    const app = await bench.app('ann');
    await bench.pass(1_000);
    for (let second = 0; second < 10; second++) {
      for (let i = 0; i < 100; i++) app.request(cmd.heartbeat);
      await bench.settle();
      assert.equal(app.isPaused, false);
      await bench.pass(1_000);
    }
  });
});
