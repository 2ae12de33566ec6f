// What a client waits for is not done when it has gone, so the server has to hear that it has.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cmd, serverLimits } from '@hawser/protocol';
import type { Asker, Passwords } from './ports.ts';
import { Bench } from './testing/bench.ts';
import type { BenchClient } from './testing/client.ts';

/** A client whose password is being looked at, and what the threads are told of it. */
async function waiting(): Promise<{ bench: Bench; client: BenchClient; asker: Asker; answer: () => void }> {
  const bench = await Bench.open();
  await bench.away('ann');
  const { promise, resolve } = Promise.withResolvers<boolean>();
  let asker: Asker | undefined;
  const passwords: Passwords = bench.passwords;
  passwords.verify = (_password, _hash, whom) => {
    asker = whom;
    return promise;
  };
  const client = bench.connect('192.0.2.7');
  client.request(cmd.login, { username: 'ann', password: '5f4dcc3b5aa765d61d8327deb882cf99' }, 'login');
  await bench.settle();
  assert.ok(asker);
  return { bench, client, asker, answer: () => resolve(true) };
}

test('a client waits until it has gone', async () => {
  const { client, asker } = await waiting();
  assert.equal(asker.from, '192.0.2.7');
  assert.equal(asker.isWaiting(), true);
  client.vanish();
  assert.equal(asker.isWaiting(), false);
});

test('one that has ended its side waits for some seconds, and longer if it has said more than heartbeats', async () => {
  const idle = await waiting();
  idle.client.request(cmd.heartbeat);
  idle.client.request(cmd.heartbeat);
  assert.equal(idle.asker.isWaiting(), true);
  idle.client.session.receivedEnd();
  await idle.bench.pass(serverLimits.endedSilenceMs - 1);
  assert.equal(idle.asker.isWaiting(), true);
  await idle.bench.pass(1);
  assert.equal(idle.asker.isWaiting(), false);

  for (const isFirst of [true, false]) {
    const { bench, client, asker } = await waiting();
    if (!isFirst) client.request(cmd.heartbeat);
    client.post('bob', 'a message');
    client.session.receivedEnd();
    await bench.pass(serverLimits.endedSilenceMs);
    assert.equal(asker.isWaiting(), true);
  }
});

test('whoever has more behind its command than it would be listened to for is not looked through, and waits', async () => {
  for (const more of [0, 4]) {
    const { bench, client, asker } = await waiting();
    client.session.receive(new Uint8Array(serverLimits.keptBytesFree + more));
    client.session.receivedEnd();
    await bench.pass(serverLimits.endedSilenceMs);
    assert.equal(asker.isWaiting(), more > 0);
  }
});

test('while it waits it is read from, for the heartbeats that it sends and for its end; not for more', async () => {
  const { bench, client, answer } = await waiting();
  let sent = 0;
  for (; !client.isPaused && sent < 10_000; sent++) client.request(cmd.heartbeat);
  const bytes = sent * 4;
  assert.ok(bytes > serverLimits.keptBytesFree && bytes <= serverLimits.keptBytesFree + 4, `${bytes} bytes`);
  answer();
  await bench.settle();
  assert.equal(client.isPaused, false);
  const heartbeats = client.answers.filter((each) => each.cmd === cmd.heartbeat);
  assert.equal(heartbeats.length, sent);
});

test('a registration is gone on with when its client has gone: that is told to log in, and see', async () => {
  const bench = await Bench.open();
  const { promise, resolve } = Promise.withResolvers<string>();
  const askers: (Asker | undefined)[] = [];
  const passwords: Passwords = bench.passwords;
  passwords.hash = (_password, asker) => {
    askers.push(asker);
    return promise;
  };
  const client = bench.connect('192.0.2.7');
  client.request(cmd.register, { username: 'ann', password: '5f4dcc3b5aa765d61d8327deb882cf99' }, 'register');
  await bench.settle();
  client.vanish();
  assert.deepEqual([askers.length, askers[0]?.isWaiting()], [1, true]);
  resolve('a hash');
  await bench.settle();
  const known = bench.store.name('ann');
  await bench.settle();
  assert.equal((await known)?.kind, 'user');
});
