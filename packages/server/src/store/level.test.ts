import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type TestContext, test } from 'node:test';
import { ClassicLevel } from 'classic-level';
import { APPEND, type Log, type StoredMessage } from '../core/ports.ts';
import { storeContract } from './contract.ts';
import { ALL, ids, inboxOf, newMessage, newMessages, remove, store } from './contract-harness.ts';
import type { InboxLimits } from './inbox.ts';
import { LevelStore } from './level.ts';
import { flip, harnessFor, keysOf, openFolder, rawDb } from './level-harness.ts';
import { inboxKey, metaKey, space } from './record.ts';
import { StoreUnusable } from './unusable.ts';
import { type LevelDb, Writer } from './writer.ts';

storeContract('LevelStore', { open: (limits?: InboxLimits) => openFolder(limits && { limits }) });

// ---- damage

test('a damaged record is set aside and reported, and the others are still served', async (t) => {
  const harness = await harnessFor(t);
  const first = await store(harness, [...newMessages(2, 'ann'), ...newMessages(2, 'bob')]);
  const second = await store(harness, newMessages(2, 'ann', 'sender', 'n'));
  const key = inboxKey('m', 'ann', first[0]!.position);
  let damaged: Uint8Array | undefined;
  await harness.between(async (db) => {
    await flip(db, key, 40);
    damaged = await db.get(key);
  });
  assert.deepEqual(ids(await inboxOf(harness, 'ann')), ['n0', 'n1']);
  assert.deepEqual(ids(await inboxOf(harness, 'bob')), ['m0', 'm1']);
  assert.deepEqual(await harness.store.read('ann', [first[0]!.position]), []);
  assert.deepEqual(ids(await harness.store.oldest('', 10)), ['n0', 'm0']);
  assert.equal(harness.store.stats.damaged, 1);
  const [report] = harness.errors as { receiver?: string; position?: number }[];
  assert.equal(harness.errors.length, 1);
  assert.deepEqual([report?.receiver, report?.position], ['ann', first[0]!.position]);
  // What it held may be sent again.
  await store(harness, newMessages(2, 'ann'));
  await harness.between(async (db) => {
    const [aside, ...others] = await keysOf(db, space.damaged);
    assert.equal(others.length, 0);
    assert.deepEqual(Buffer.from(aside!.subarray(1)), Buffer.from(key));
    assert.deepEqual(Buffer.from((await db.get(aside!))!), Buffer.from(damaged!));
    assert.equal(await db.has(key), false);
  });
  assert.deepEqual(ids(await inboxOf(harness, 'ann')), ['n0', 'n1', 'm0', 'm1']);
  remove(harness, second);
  assert.equal(harness.errors.length, 1);
});

test('whichever byte of a record is damaged, it is not served', async (t) => {
  const harness = await harnessFor(t);
  let bytes = 1;
  for (let at = 0; at < bytes; at += 3) {
    const [message] = await store(harness, [newMessage('ann', 's', `m${at}`)]);
    await harness.between(async (db) => {
      const key = inboxKey('m', 'ann', message!.position);
      bytes = (await db.get(key))!.length;
      await flip(db, key, at);
    });
    const heads = await harness.store.oldest('', 1);
    assert.deepEqual([heads, await inboxOf(harness, 'ann')], [[], []], `byte ${at}`);
    assert.equal(await harness.store.hasBacklog('ann'), false);
  }
});

test('a damaged record of removals loses no message: what was removed comes back', async (t) => {
  const harness = await harnessFor(t);
  const stored = await store(harness, newMessages(4, 'ann'));
  remove(harness, stored.slice(0, 2));
  await harness.between(async (db) => {
    const [key] = await keysOf(db, space.removed);
    await flip(db, key!, ((await db.get(key!))?.length ?? 0) - 1);
  });
  const found = ids(await inboxOf(harness, 'ann'));
  assert.deepEqual(found, ['m0', 'm1', 'm2', 'm3']);
  assert.equal(harness.store.stats.damaged, 1);
  assert.equal(harness.errors.length, 1);
});

// ---- opening

function refusal(pattern: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof StoreUnusable);
    assert.match(error.message, pattern);
    return true;
  };
}

/** Runs code in a process of its own, with `LevelStore` and `options` at hand; its lines are read as they come. */
function inChild(
  t: TestContext,
  folder: string,
  code: string,
): { lines: AsyncIterator<string>; kill(): Promise<void> } {
  const source = `
    import { LevelStore } from ${JSON.stringify(import.meta.resolve('./level.ts'))};
    const log = { debug() {}, info() {}, warn() {}, error() {} };
    const options = { folder: ${JSON.stringify(folder)}, log, onError(error) { throw error; } };
    ${code}`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', source], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  const kill = async (): Promise<void> => {
    child.kill('SIGKILL');
    await exited;
  };
  t.after(kill);
  return { lines: createInterface({ input: child.stdout })[Symbol.asyncIterator](), kill };
}

test('a folder in use by another process is not opened, and is once that process is gone', async (t) => {
  const harness = await harnessFor(t);
  await store(harness, newMessages(1, 'ann'));
  await harness.store.close();
  const child = inChild(
    t,
    harness.folder,
    "await LevelStore.open(options); console.log('open'); setInterval(() => {}, 9);",
  );
  assert.equal((await child.lines.next()).value, 'open');
  await assert.rejects(harness.reopen(), refusal(/ is in use by another process$/));
  await child.kill();
  await harness.reopen();
  assert.deepEqual(ids(await inboxOf(harness, 'ann')), ['m0']);
});

test('a folder of another format is not opened, and stays as it is', async (t) => {
  const harness = await harnessFor(t);
  await store(harness, newMessages(1, 'ann'));
  const opening = harness.between((db) => db.put(metaKey.schema, Buffer.from('99')));
  await assert.rejects(
    opening,
    refusal(/ was written by another version of Hawser \(its format is 99, this version's is /),
  );
  // It has been let go of.
  const db: LevelDb = new ClassicLevel(harness.folder, { keyEncoding: 'view', valueEncoding: 'view' });
  assert.equal(Buffer.from((await db.get(metaKey.schema))!).toString(), '99');
  assert.equal((await keysOf(db, space.segment)).length, 1);
  await db.put(metaKey.schema, Buffer.from('4'));
  await db.close();
  await harness.reopen();
});

test('what cannot be opened says why', async (t) => {
  const harness = await harnessFor(t);
  const file = join(harness.folder, 'a-file');
  await writeFile(file, '');
  const log: Log = { debug() {}, info() {}, warn() {}, error() {} };
  const options = { log, onError: (error: unknown) => assert.ifError(error) };
  await assert.rejects(LevelStore.open({ ...options, folder: file }), refusal(/a-file cannot be used \(./));
  await harness.store.close();
  const current = join(harness.folder, 'CURRENT');
  await cp(current, `${current}.kept`);
  await writeFile(current, 'nonsense');
  await assert.rejects(harness.reopen(), refusal(/ is damaged \(./));
  await cp(`${current}.kept`, current);
  await harness.reopen();
});

// ---- positions

test('positions go on behind all that may have been used, over leases, restarts and crashes', async (t) => {
  const harness = await harnessFor(t, { positionsLeased: 10 });
  let last = 0;
  for (let round = 0; round < 12; round++) {
    for (const [i, count] of [1, 9, 10, 11, 35, round].entries()) {
      const positions = await harness.store.append(newMessages(count, 'ann', 's', `${round}.${i}.`));
      for (const position of positions) {
        assert.ok(position > last, `${position} after ${last}`);
        last = position;
      }
    }
    if (round % 3 === 0) await harness.reopen();
    if (round % 3 === 1) await harness.crash();
  }
  const messages = await inboxOf(harness, 'ann');
  assert.equal(messages.at(-1)?.position, last);
});

test('what was acked before a kill -9 is there after it, in order, and no position comes again', async (t) => {
  const harness = await harnessFor(t);
  let before: StoredMessage[] = [];
  for (let round = 0; round < 3; round++) {
    await harness.store.close();
    const child = inChild(
      t,
      harness.folder,
      `const store = await LevelStore.open(options);
       for (let n = 0; ; n++) {
         const messages = [0, 1, 2, 3].map((i) => ({
           from: 's', to: i % 2 ? 'ann' : 'bob', msgId: '${round}.' + n + '.' + i, msg: Buffer.alloc(500, n),
           wall: 1, ran: 1, ttl: 0,
         }));
         const positions = await store.append(messages);
         console.log(positions.join(' '));
       }`,
    );
    const acked: number[] = [];
    for (let n = 0; n < 40 + round * 7; n++)
      acked.push(
        ...String((await child.lines.next()).value)
          .split(' ')
          .map(Number),
      );
    await child.kill();
    for (let line = await child.lines.next(); !line.done; line = await child.lines.next()) {
      const positions = line.value.split(' ').map(Number);
      if (positions.length === 4) acked.push(...positions);
    }
    await harness.reopen();
    const all = [...(await inboxOf(harness, 'ann')), ...(await inboxOf(harness, 'bob'))];
    all.sort((one, other) => one.position - other.position);
    const found = all.slice(before.length);
    assert.deepEqual(ids(all.slice(0, before.length)), ids(before));
    // The acked ones are the first of them; each call is there whole.
    assert.deepEqual(
      found.slice(0, acked.length).map((message) => message.position),
      acked,
    );
    assert.equal(found.length % 4, 0);
    assert.deepEqual(
      ids(found),
      found.map((_, i) => `${round}.${Math.floor(i / 4)}.${i % 4}`),
    );
    const [position] = await harness.store.append([newMessage('cal', 's', `${round}`)]);
    assert.ok(position! > all.at(-1)!.position);
    before = all;
  }
});

// ---- what is kept in memory

test('inboxes leave memory beyond its bounds, and are known as before when they come back', async (t) => {
  const limits = { messagesMax: 4, bytesMax: ALL, senderShare: 2 };
  const harness = await harnessFor(t, { limits, inboxesKnownBytesMax: 3_000 });
  const names = Array.from({ length: 20 }, (_, i) => `r${i}`);
  const stored = new Map<string, StoredMessage[]>();
  for (const name of names) {
    stored.set(name, await store(harness, [...newMessages(2, name, 'one'), ...newMessages(1, name, 'two')]));
    const { inboxesCached, messagesCached, inboxesKnownBytes } = harness.store.stats;
    assert.ok(
      inboxesCached > 0 && inboxesKnownBytes <= 3_000,
      `${inboxesKnownBytes} bytes of ${inboxesCached} inboxes`,
    );
    assert.equal(messagesCached, 3 * inboxesCached);
  }
  for (const name of names) {
    assert.equal(await harness.store.hasBacklog(name), true);
    const [first, , third] = stored.get(name)!;
    const again = [first!, newMessage(name, 'one', 'n'), newMessage(name, 'two', 'n'), newMessage(name, 'two', 'o')];
    const results = await harness.store.append(again);
    assert.deepEqual(results.with(2, 0), [APPEND.duplicate, APPEND.full, 0, APPEND.full]);
    assert.ok(results[2]! > 0);
    remove(harness, [first!, third!]);
  }
  for (const name of names) assert.deepEqual(ids(await inboxOf(harness, name)), ['m1', 'n']);
  for (const name of names) remove(harness, await inboxOf(harness, name));
  await harness.reopen();
  for (const name of names) assert.equal(await harness.store.hasBacklog(name), false);
});

test('while memory is short most of what is known of inboxes is forgotten, and nothing is lost by it', async (t) => {
  const harness = await harnessFor(t, { inboxesKnownBytesMax: 160_000 });
  const messages = Array.from({ length: 150 }, (_, i) => newMessage(`r${i}`, 's', 'm'));
  await store(harness, messages);
  assert.equal(harness.store.stats.inboxesCached, 150);
  harness.store.isMemoryShort = true;
  const { inboxesCached, inboxesKnownBytes } = harness.store.stats;
  assert.ok(inboxesCached > 0 && inboxesKnownBytes <= 10_000, `${inboxesKnownBytes} bytes of ${inboxesCached} inboxes`);
  harness.store.isMemoryShort = false;
  assert.deepEqual(await harness.store.append(messages), Array(150).fill(APPEND.duplicate));
  assert.equal(harness.store.stats.inboxesCached, 150);
});

test('one call for more inboxes than memory is to hold goes well', async (t) => {
  const harness = await harnessFor(t, { inboxesKnownBytesMax: 3_000 });
  const messages = Array.from({ length: 90 }, (_, i) => newMessage(`r${i % 30}`, 's', `m${i}`));
  await store(harness, messages);
  assert.deepEqual(await harness.store.append(messages), Array(90).fill(APPEND.duplicate));
  for (let i = 0; i < 30; i++) assert.equal((await inboxOf(harness, `r${i}`)).length, 3);
  const { inboxesCached } = harness.store.stats;
  assert.ok(inboxesCached <= 4, `${inboxesCached} inboxes`);
});

test('what was removed leaves nothing on the disk', async (t) => {
  const harness = await harnessFor(t);
  for (let i = 0; i < 5; i++)
    await store(harness, [...newMessages(20, 'ann', 's', `${i}.`), newMessage('bob', 's', `${i}`)]);
  const ann = await inboxOf(harness, 'ann');
  for (let i = 0; i < ann.length; i += 7) {
    remove(harness, ann.slice(i, i + 7));
    await new Promise((done) => setTimeout(done, 5));
  }
  await harness.between(async (db) => {
    assert.equal((await keysOf(db, space.segment)).length, 5);
    assert.deepEqual(await keysOf(db, space.removed), []);
  });
  await harness.store.createUser('bob', 'hash', 1);
  remove(harness, (await inboxOf(harness, 'bob')).slice(0, 1));
  await store(harness, newMessages(9, 'bob', 's', 'x'));
  remove(harness, (await inboxOf(harness, 'bob')).slice(-2));
  await harness.store.removeName('bob');
  await harness.between(async (db) => {
    assert.deepEqual(await keysOf(db, space.segment), []);
    assert.deepEqual(await keysOf(db, space.removed), []);
  });
});

test('a device that only comes again costs no synced write', async (t) => {
  const harness = await harnessFor(t);
  await harness.store.deviceSeen('lamp', { version: '1', abilities: undefined }, 1);
  const before = harness.store.stats.batches;
  const results = Array.from({ length: 5 }, (_, i) =>
    harness.store.deviceSeen('lamp', { version: '1', abilities: undefined }, 2 + i),
  );
  await Promise.all(results);
  assert.equal(harness.store.stats.batches, before);
});

test('how long the store has been in service is kept over restarts', async (t) => {
  const harness = await harnessFor(t);
  assert.equal(harness.store.ranBefore, 0);
  harness.store.noteRan(1234.9);
  assert.equal(harness.store.ranBefore, 0);
  await harness.reopen();
  assert.equal(harness.store.ranBefore, 1234);
  harness.store.noteRan(5000);
  harness.store.noteRan(6000);
  await harness.reopen();
  assert.equal(harness.store.ranBefore, 6000);
});

// ---- group writes

const put = (key: string, value: string) =>
  [{ type: 'put', key: Buffer.from(key), value: Buffer.from(value) }] as const;

test('writes are grouped, done in the order of the calls, and the last one counts', async (t) => {
  const db = await rawDb(t);
  const writer = new Writer(db, (error) => assert.ifError(error));
  const done: number[] = [];
  const writes = Array.from({ length: 100 }, (_, i) => {
    if (i % 3 > 0) return writer.write(put('key', String(i))).then(() => done.push(i));
    return new Promise<void>((resolve) => {
      writer.writeLazily(put('key', String(i)), () => {
        done.push(i);
        resolve();
      });
    });
  });
  await Promise.all(writes);
  assert.equal(done.length, 100);
  const synced = done.filter((i) => i % 3 > 0);
  assert.deepEqual(
    synced,
    synced.toSorted((one, other) => one - other),
  );
  assert.equal(Buffer.from((await db.get(Buffer.from('key')))!).toString(), '99');
  assert.ok(writer.batches <= 3, `${writer.batches} batches`);
  assert.equal(writer.operations, 100);
});

test('lazy writes are done soon by themselves, and at once by a flush', async (t) => {
  const db = await rawDb(t);
  const writer = new Writer(db, (error) => assert.ifError(error));
  await new Promise<void>((resolve) => writer.writeLazily(put('a', '1'), resolve));
  assert.equal(await db.has(Buffer.from('a')), true);
  const done: string[] = [];
  writer.writeLazily(put('b', '1'), () => done.push('b'));
  await writer.flush();
  assert.deepEqual(done, ['b']);
  await writer.flush();
  await Promise.all([writer.flush(), writer.write(put('c', '1')), writer.flush()]);
  assert.equal(await db.has(Buffer.from('c')), true);
});

test('a failed write is told to whoever waits for it and once to onError, and nothing is written from then on', async () => {
  const errors: unknown[] = [];
  const failure = new Error('the disk is full');
  let batches = 0;
  const db = { batch: (): Promise<void> => (++batches === 2 ? Promise.reject(failure) : Promise.resolve()) };
  const writer = new Writer(db as unknown as LevelDb, (error) => errors.push(error));
  await writer.write(put('a', ''));
  const failing = writer.write(put('b', ''));
  writer.writeLazily(put('c', ''), () => assert.fail('it was not written'));
  const behind = writer.write(put('d', ''));
  await assert.rejects(failing, failure);
  await assert.rejects(behind);
  await assert.rejects(writer.write(put('e', '')));
  await writer.flush();
  assert.deepEqual(errors, [failure]);
  assert.equal(batches, 2);
});

test('what one turn has written goes in one batch', async () => {
  const batches: number[] = [];
  const db = { batch: (operations: readonly unknown[]) => Promise.resolve(void batches.push(operations.length)) };
  const writer = new Writer(db as unknown as LevelDb, (error) => assert.ifError(error));
  // As many deep in promises as they like, as long as it is equally deep.
  const write = async (key: string): Promise<void> => {
    await Promise.resolve();
    await writer.write(put(key, ''));
  };
  await Promise.all(['a', 'b', 'c', 'd'].map(write));
  assert.deepEqual(batches, [4]);
});

test('a group is synced when one of its writes is to be, and only then', async () => {
  const batches: { keys: string[]; sync: boolean }[] = [];
  const { promise: blocked, resolve: unblock } = Promise.withResolvers<void>();
  const db = {
    batch(operations: readonly { key: Uint8Array }[], { sync }: { sync: boolean }): Promise<void> {
      batches.push({ keys: operations.map(({ key }) => Buffer.from(key).toString()), sync });
      return blocked;
    },
  };
  const writer = new Writer(db as unknown as LevelDb, (error) => assert.ifError(error));
  const writes = [writer.write(put('a', ''))];
  await Promise.resolve();
  writer.writeLazily(put('b', ''));
  writes.push(writer.write(put('c', '')));
  writer.writeLazily(put('d', ''));
  unblock();
  await Promise.all(writes);
  writer.writeLazily(put('e', ''));
  await writer.flush();
  assert.deepEqual(batches, [
    { keys: ['a'], sync: true },
    { keys: ['b', 'c', 'd'], sync: true },
    { keys: ['e'], sync: false },
  ]);
});
