import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { serverLimits } from '@hawser/protocol';
import { Keyring } from './keyring.ts';
import type { Log, Rsa, RsaKey, Time } from './ports.ts';

let now = 0;
let made = 0;
const timers: { at: number; call: () => void }[] = [];

const time: Time = {
  now: () => now,
  wall: () => now,
  ran: () => now,
  after(ms, call) {
    timers.push({ at: now + ms, call });
    return { cancel() {} };
  },
  endOfTurn: (call) => call(),
  isBusy: () => false,
};

const rsa: Rsa = {
  generate(): Promise<RsaKey> {
    made++;
    return Promise.resolve({ publicDer: Uint8Array.of(made), decrypt: (ciphertext) => Promise.resolve(ciphertext) });
  },
};

const silent = (): void => {};
const log: Log = { debug: silent, info: silent, warn: silent, error: silent };

/** Lets what was promised happen. */
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

beforeEach(() => {
  now = 0;
  made = 0;
  timers.length = 0;
});

test('a key pair is replaced after 24 hours, and not before', async () => {
  const keyring = await Keyring.open(rsa, time, log);
  const first = keyring.current;
  now = serverLimits.rsaKeyAgeMsMax - 1;
  assert.equal(keyring.current, first);
  await settle();
  assert.equal(keyring.current, first);
  now++;
  assert.equal(keyring.current, first, 'until the next is made');
  await settle();
  assert.notEqual(keyring.current, first);
  assert.deepEqual(keyring.current.publicDer, Uint8Array.of(2));
});

test('a key pair is replaced after a million uses', async () => {
  const keyring = await Keyring.open(rsa, time, log);
  const first = keyring.current;
  first.uses = serverLimits.rsaKeyUsesMax;
  void keyring.current;
  await settle();
  assert.notEqual(keyring.current, first);
  assert.equal(made, 2);
});

test('a replaced key serves those who were sent it for 120 s', async () => {
  const keyring = await Keyring.open(rsa, time, log);
  const first = keyring.current;
  now = serverLimits.rsaKeyAgeMsMax;
  void keyring.current;
  await settle();
  assert.equal(keyring.serves(first), true);
  now += serverLimits.rsaKeyGraceMs;
  assert.equal(keyring.serves(first), true);
  now++;
  assert.equal(keyring.serves(first), false);
  assert.equal(keyring.serves(keyring.current), true);
});

test('a ciphertext is accepted once per key, and forgotten when the key serves nobody', async () => {
  const keyring = await Keyring.open(rsa, time, log);
  const first = keyring.current;
  const ciphertext = Uint8Array.from({ length: 256 }, (_, i) => i);
  assert.equal(first.acceptOnce(ciphertext), true);
  assert.equal(first.acceptOnce(ciphertext), false);
  assert.equal(first.acceptOnce(ciphertext.with(255, 0)), true);
  now = serverLimits.rsaKeyAgeMsMax;
  void keyring.current;
  await settle();
  assert.equal(keyring.current.acceptOnce(ciphertext), true, 'another key');
  for (const { call } of timers) call();
  assert.equal(first.acceptOnce(ciphertext), true, 'the memory is given back');
});
