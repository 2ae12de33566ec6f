import assert from 'node:assert/strict';
import { test } from 'node:test';
import { serverLimits } from '@hawser/protocol';
import { Busy } from '../core/ports.ts';
import { verifyPassword } from './argon2.ts';
import { Pool } from './pool.ts';
import type { KeyPair } from './protocol.ts';

const hash = { kind: 'hash', password: 'a' } as const;
/** An argon2id of next to no cost, whose answer tells jobs apart: `true` for the password `a`. */
const cheap = '$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4';

function verify(password: string): { kind: 'verify'; password: string; hash: string } {
  return { kind: 'verify', password, hash: cheap };
}

/** A pool that is closed when the test ends. */
function pooled(threads: number, queueMax: number, jobsPerMessage = 1, now?: () => number): Pool & AsyncDisposable {
  const pool = new Pool(threads, queueMax, jobsPerMessage, now);
  return Object.assign(pool, { [Symbol.asyncDispose]: () => pool.close() });
}

test('a job is done on a thread, and its result comes back', async () => {
  await using pool = pooled(1, 10);
  assert.ok(verifyPassword('a', (await pool.run(hash)) as string));
});

test('each caller gets the result of its own job', async () => {
  await using pool = pooled(3, 1000, 8);
  const wanted = Array.from({ length: 200 }, (_, i) => i % 3 === 0);
  const results = await Promise.all(wanted.map((good) => pool.run(verify(good ? 'password' : 'other'))));
  assert.deepEqual(results, wanted);
});

test('one thread does its jobs in the order in which they came', async () => {
  for (const jobsPerMessage of [1, 4]) {
    await using pool = pooled(1, 1000, jobsPerMessage);
    const done: number[] = [];
    await Promise.all(
      Array.from({ length: 40 }, async (_, i) => {
        await pool.run(verify('a'));
        done.push(i);
      }),
    );
    assert.deepEqual(
      done,
      Array.from({ length: 40 }, (_, i) => i),
    );
  }
});

test('jobs beyond the bound of the queue are refused with Busy, at once; those within are done', async () => {
  await using pool = pooled(1, 5);
  const settled = await Promise.allSettled(Array.from({ length: 9 }, () => pool.run(verify('password'))));
  const statuses = settled.map(({ status }) => status);
  assert.deepEqual(statuses, [...Array(5).fill('fulfilled'), ...Array(4).fill('rejected')]);
  for (const each of settled) if (each.status === 'rejected') assert.ok(each.reason instanceof Busy);
});

test('what a thread has been given does not count as waiting', async () => {
  await using pool = pooled(2, 3);
  const first = [pool.run(hash), pool.run(hash)];
  await Promise.resolve();
  const next = Array.from({ length: 4 }, () => pool.run(hash));
  const settled = await Promise.allSettled([...first, ...next]);
  assert.deepEqual(
    settled.map(({ status }) => status),
    [...Array(5).fill('fulfilled'), 'rejected'],
  );
});

test('a pool that was full takes jobs again', async () => {
  await using pool = pooled(1, 1);
  for (let round = 0; round < 20; round++) {
    const [first, second] = await Promise.allSettled([pool.run(verify('password')), pool.run(verify('a'))]);
    assert.deepEqual([first?.status, second?.status], ['fulfilled', 'rejected']);
  }
});

test('a long queue is worked off whole', async () => {
  await using pool = pooled(2, 5000, 8);
  const results = await Promise.all(
    Array.from({ length: 3000 }, () => pool.run({ ...verify('x'), hash: 'bad' })).map((job) =>
      job.then(
        () => 'done',
        (error: Error) => error.message,
      ),
    ),
  );
  assert.deepEqual(new Set(results), new Set(['not a password hash']));
  assert.equal(results.length, 3000);
});

test('an error of a job is its own: the others of the same message are done', async () => {
  await using pool = pooled(1, 10, 8);
  const [good, bad, also] = await Promise.allSettled([
    pool.run(verify('password')),
    pool.run({ ...verify('a'), hash: 'no hash' }),
    pool.run(verify('other')),
  ]);
  assert.deepEqual(good, { status: 'fulfilled', value: true });
  assert.equal(bad?.status, 'rejected');
  assert.match(String((bad as PromiseRejectedResult).reason), /not a password hash/);
  assert.ok(!((bad as PromiseRejectedResult).reason instanceof Busy));
  assert.deepEqual(also, { status: 'fulfilled', value: false });
});

test('what is said to all threads is known to whichever does a later job', async () => {
  await using pool = pooled(3, 100);
  const pair = (await pool.run({ kind: 'generate' })) as KeyPair;
  await assert.rejects(pool.run({ kind: 'decrypt', key: 1, ciphertext: new Uint8Array(256) }), /no such key/);
  await pool.runOnAll({ kind: 'key', key: 1, privateDer: pair.privateDer });
  const jobs = Array.from({ length: 12 }, () =>
    pool.run({ kind: 'decrypt', key: 1, ciphertext: new Uint8Array(256).fill(1) }),
  );
  for (const plain of await Promise.all(jobs)) assert.ok(plain instanceof Uint8Array);
});

test('a pool closes with jobs under way, and threads end', async () => {
  const pool = new Pool(2, 100, 1);
  for (let i = 0; i < 20; i++) pool.run(hash).catch(() => {});
  await pool.close();
});

test('closing rejects the jobs that are not done', async () => {
  const pool = new Pool(1, 100, 1);
  const jobs = Array.from({ length: 5 }, () => pool.run(hash));
  const settled = Promise.allSettled(jobs);
  await pool.close();
  const statuses = (await settled).map(({ status }) => status);
  assert.ok(statuses.includes('rejected'));
  await assert.rejects(pool.run(hash));
});

test('what nobody waits for when its turn comes is not done, and is refused with Busy', async () => {
  await using pool = pooled(1, 100);
  const asker = { from: 'somebody', isWaiting: () => true };
  const first = pool.run(hash, asker);
  // As a hash it could not be read: that it is not told shows that nobody tried.
  const gone = pool.run({ ...verify('a'), hash: 'no hash' }, { ...asker, isWaiting: () => false });
  const other = pool.run(verify('password'), asker);
  const settled = await Promise.allSettled([first, gone, other]);
  assert.deepEqual(
    settled.map(({ status }) => status),
    ['fulfilled', 'rejected', 'fulfilled'],
  );
  assert.ok((settled[1] as PromiseRejectedResult).reason instanceof Busy);
});

test('where there is no room those of the same address who have given up make it', async () => {
  let now = 0;
  await using pool = pooled(1, 4, 1, () => now);
  let isThere = true;
  const asker = { from: 'somebody', isWaiting: () => isThere };
  const first = pool.run(hash);
  await Promise.resolve();
  const gone = Promise.allSettled([pool.run(verify('a'), asker), pool.run(verify('a'), asker)]);
  await assert.rejects(pool.run(verify('a'), asker), Busy);
  isThere = false;
  now = serverLimits.goneLookedForEveryMs;
  const back = pool.run(verify('password'), { from: 'somebody', isWaiting: () => true });
  assert.equal(await back, true);
  for (const { status } of await gone) assert.equal(status, 'rejected');
  await first;
});

test('however many are refused, those of an address are looked through only every so often, and each address by itself', async () => {
  let now = 0;
  await using pool = pooled(1, 16, 1, () => now);
  const looks = { many: 0, some: 0 };
  const ask = (from: 'many' | 'some'): Promise<unknown> => {
    const isWaiting = (): boolean => {
      looks[from]++;
      return true;
    };
    const job = pool.run(verify('a'), { from, isWaiting });
    job.catch(() => {});
    return job;
  };
  const refused = async (from: 'many' | 'some'): Promise<void> => assert.rejects(ask(from), Busy);
  // Until the end nothing is given to the thread.
  const under = pool.run(hash);
  await Promise.resolve();
  for (let i = 0; i < 8; i++) void ask('many');
  for (let i = 0; i < 4; i++) void ask('some');
  for (let i = 0; i < 100; i++) await refused('many');
  assert.deepEqual(looks, { many: 8, some: 0 });
  now += serverLimits.goneLookedForEveryMs / 2;
  for (let i = 0; i < 100; i++) await refused('some');
  for (let i = 0; i < 100; i++) await refused('many');
  assert.deepEqual(looks, { many: 8, some: 4 });
  now += serverLimits.goneLookedForEveryMs / 2;
  for (let i = 0; i < 100; i++) await refused('many');
  for (let i = 0; i < 100; i++) await refused('some');
  assert.deepEqual(looks, { many: 16, some: 4 });
  await under;
});
