// A store of the first version, opened by this one: everything is there as it was, wherever the migration broke off.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type TestContext, test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { ClassicLevel } from 'classic-level';
import type { Log } from '../core/ports.ts';
import { backUp, restore } from './backup.ts';
import { LevelStore } from './level.ts';
import { flip } from './level-harness.ts';
import { migrate, migrations } from './migrations.ts';
import { asideKey, inboxKey, metaKey, SCHEMA } from './record.ts';
import { StoreUnusable } from './unusable.ts';
import { type MessageOfVersion1, type StoreOfVersion1, writeVersion1 } from './version1.ts';
import type { LevelDb } from './writer.ts';

const HASH = '$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$dGFndGFndGFndGFndGFndGFndGFndGFndGFndGFndGE';

function messages(from: number, count: number, sender: string): MessageOfVersion1[] {
  return Array.from({ length: count }, (_, i) => ({
    position: from + i,
    from: sender,
    msgId: `${sender}-${from + i}`,
    msg: JSON.stringify({ n: from + i, text: '🦊 é'.repeat(i % 5) }),
    wall: 1_700_000_000_000.5 + i,
    ran: 42.25 + i,
    ttl: i % 3 === 0 ? 60 : 0,
  }));
}

const sample: StoreOfVersion1 = {
  users: {
    ann: { passwordHash: HASH, createdAt: 1_700_000_000_000 },
    bob: { passwordHash: HASH.replace('dGFn', 'AAAA'), createdAt: 5 },
    王小明: { passwordHash: HASH, createdAt: 6.5 },
    '{"kind"': { passwordHash: HASH, createdAt: 7 },
  },
  devices: {
    lamp: { version: '"1.0"', abilities: '["on","off"]', createdAt: 10, lastSeenAt: 1_700_000_000_001 },
    'lock 2': { createdAt: 11, lastSeenAt: 0 },
    door: { version: '2', createdAt: 12, lastSeenAt: 3 },
  },
  bindings: [
    ['ann', 'lamp'],
    ['ann', 'door'],
    ['bob', 'lamp'],
    ['王小明', 'lock 2'],
  ],
  inboxes: {
    ann: [messages(1, 3, 'lamp'), messages(1_000_004, 5, 'bob')],
    lamp: [messages(10, 1, 'ann')],
    'lock 2': [messages(5_000_000_000, 256, '王小明')],
  },
  removed: { ann: [2, 1_000_004, 1_000_008], 'lock 2': [5_000_000_000] },
  positionLease: 5_001_000_000,
  ran: 123_456,
};

const quiet: Log = { debug() {}, info() {}, warn() {}, error() {} };

/** A log that keeps what it is told. */
function keeping(): Log & { readonly lines: string[] } {
  const lines: string[] = [];
  const keep = (level: string) => (fields: object, text: string) =>
    void lines.push(`${level} ${text} ${JSON.stringify(fields)}`);
  return { lines, debug: keep('debug'), info: keep('info'), warn: keep('warn'), error: keep('error') };
}

async function newFolder(t: TestContext): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'hawser-migration-'));
  t.after(() => rm(root, { recursive: true, force: true }));
  return join(root, 'store');
}

function openRaw(folder: string): LevelDb {
  return new ClassicLevel(folder, { keyEncoding: 'view', valueEncoding: 'view' });
}

function open(folder: string, log: Log = quiet): Promise<LevelStore> {
  return LevelStore.open({ folder, log, onError: (error) => assert.ifError(error) });
}

/** Everything that the port gives, in the form of `sample`. */
async function contentsOf(store: LevelStore): Promise<object> {
  const [users, devices] = [await store.list('user', '', 10_000), await store.list('device', '', 10_000)];
  const bindings: [string, string][] = [];
  for (const [user] of users) for (const device of await store.peers(user, 'user')) bindings.push([user, device]);
  const reverse: [string, string][] = [];
  for (const [device] of devices) for (const user of await store.peers(device, 'device')) reverse.push([user, device]);
  const inboxes: Record<string, object[]> = {};
  for (const head of await store.oldest('', 10_000)) {
    const page = await store.page(head.to, 0, 1_000_000, 1e9);
    inboxes[head.to] = page.messages.map(({ to, msg, ...rest }) => ({ ...rest, msg: Buffer.from(msg).toString() }));
  }
  const plain = (rows: readonly (readonly [string, object])[]) =>
    Object.fromEntries(
      rows.map(([name, record]) => [name, JSON.parse(JSON.stringify({ ...record, kind: undefined }))]),
    );
  return { users: plain(users), devices: plain(devices), bindings: bindings.sort(), reverse: reverse.sort(), inboxes };
}

function expected(of: StoreOfVersion1): object {
  const bindings = of.bindings.map(([user, device]) => [user, device]).sort();
  const inboxes = Object.fromEntries(
    Object.entries(of.inboxes).map(([receiver, segments]) => [
      receiver,
      segments.flat().filter(({ position }) => !of.removed[receiver]?.includes(position)),
    ]),
  );
  return { users: of.users, devices: of.devices, bindings, reverse: bindings, inboxes };
}

/** Opens the store, checks that it is the sample, and that it works. */
async function check(folder: string, log?: Log): Promise<void> {
  const store = await open(folder, log);
  try {
    assert.deepEqual(await contentsOf(store), expected(sample));
    assert.equal(store.ranBefore, sample.ran);
    assert.equal(store.stats.damaged, 0);
    const message = { from: 'ann', to: 'bob', msgId: 'new', msg: Buffer.from('1'), wall: 1, ran: 1, ttl: 0 };
    const [position] = await store.append([message]);
    assert.ok(position! > sample.positionLease);
    store.remove({ ...message, position: position!, size: 1 });
  } finally {
    await store.close();
  }
  const db = openRaw(folder);
  assert.equal(Buffer.from((await db.get(metaKey.schema))!).toString(), String(SCHEMA));
  assert.equal(await db.get(metaKey.migrated), undefined);
  await db.close();
}

test('the migrations lead without a gap to the present version', () => {
  assert.deepEqual(
    migrations.map(({ from }) => from),
    [1, ...migrations.slice(0, -1).map(({ to }) => to)],
  );
  assert.equal(migrations.at(-1)?.to, SCHEMA);
});

test('a store of the first version is whole after its migration, which says what it does, and happens once', async (t) => {
  const folder = await newFolder(t);
  await writeVersion1(folder, sample);
  const log = keeping();
  await check(folder, log);
  assert.equal(log.lines.length, 4, log.lines.join('\n'));
  assert.match(log.lines[0]!, /^warn the store is migrated: .* a backup made before.*"from":1,"to":2/);
  assert.match(log.lines[1]!, /^info the store is migrated .*"records":22/);
  assert.match(log.lines[2]!, /^warn the store is migrated: .*"from":2,"to":4/);
  assert.match(log.lines[3]!, /^info the store is migrated .*"records":0/);
  const again = keeping();
  await check(folder, again);
  assert.deepEqual(again.lines, []);
});

/** A database whose batches fail from the nth on: before they are written, or after. */
function breakingAt(db: LevelDb, batch: number, isWritten: boolean): LevelDb {
  let batches = 0;
  return new Proxy(db, {
    get(target, property) {
      if (property !== 'batch') {
        const value = Reflect.get(target, property) as unknown;
        return typeof value === 'function' ? value.bind(target) : value;
      }
      return async (operations: never, options: never) => {
        if (++batches < batch) return target.batch(operations, options);
        if (batches === batch && isWritten) await target.batch(operations, options);
        throw new Error('broken off');
      };
    },
  });
}

test('a migration that is broken off at any step goes on where it was, also when that happens again and again', async (t) => {
  for (const recordsAtOnce of [1, 4]) {
    for (const isWritten of [false, true]) {
      let steps = 1;
      for (let isBroken = true; isBroken; steps++) {
        isBroken = false;
        const folder = await newFolder(t);
        await writeVersion1(folder, sample);
        // At first it gets as far as this step, then one batch further each time, so that every later one is cut, too.
        for (let last = steps; ; last = isWritten ? 1 : 2) {
          const db = openRaw(folder);
          await db.open();
          const schema = Buffer.from((await db.get(metaKey.schema))!).toString();
          const options = { db: breakingAt(db, last, isWritten), folder, log: quiet, recordsAtOnce };
          const result = await migrate(schema, options).then(
            () => 'done',
            (error: Error) => error.message,
          );
          await db.close();
          if (result === 'done') break;
          assert.equal(result, 'broken off');
          isBroken = true;
        }
        await check(folder);
      }
      // The begin, the records, the end; the begin and the end of the next.
      assert.equal(steps - 2, (recordsAtOnce === 1 ? 1 + 22 + 1 : 1 + 1 + 1 + 2 + 1 + 1 + 1) + 2);
    }
  }
});

test('a migration survives kill -9 in its midst, again and again', async (t) => {
  const folder = await newFolder(t);
  const users = Object.fromEntries(
    Array.from({ length: 400 }, (_, i) => [`user-${i}`, { passwordHash: HASH, createdAt: i }]),
  );
  const names = Object.keys(users);
  const inboxes = Object.fromEntries(names.map((name, i) => [name, [messages(100_000 + 10 * i, 3, 'lamp')]]));
  const removed = Object.fromEntries(names.map((name, i) => [name, [100_001 + 10 * i]]));
  const large = {
    ...sample,
    users: { ...sample.users, ...users },
    inboxes: { ...sample.inboxes, ...inboxes },
    removed: { ...sample.removed, ...removed },
  };
  await writeVersion1(folder, large);
  let kills = 0;
  for (let round = 1; kills < 5; round++) {
    assert.ok(round < 50, `${kills} kills`);
    const source = `
      import { ClassicLevel } from 'classic-level';
      import { migrate } from ${JSON.stringify(import.meta.resolve('./migrations.ts'))};
      const log = { debug() {}, info() {}, warn() {}, error() {} };
      const folder = ${JSON.stringify(folder)};
      const db = new ClassicLevel(folder, { keyEncoding: 'view', valueEncoding: 'view' });
      await db.open();
      const batch = db.batch.bind(db);
      let batches = 0;
      db.batch = async (...args) => { await batch(...args); console.log(++batches); };
      const schema = Buffer.from(await db.get(Buffer.from('!schema'))).toString();
      await migrate(schema, { db, folder, log, recordsAtOnce: 10 });
      console.log('done');
      setInterval(() => {}, 1_000);`;
    const args = ['--input-type=module', '-e', source];
    const child = spawn(process.execPath, args, { cwd: import.meta.dirname, stdio: ['ignore', 'pipe', 'inherit'] });
    const exited = once(child, 'exit');
    let last = '';
    for await (const line of createInterface({ input: child.stdout })) {
      last = line;
      if (line === 'done' || Number(line) >= round * 9) child.kill('SIGKILL');
    }
    await exited;
    if (last === 'done') break;
    kills++;
  }
  assert.ok(kills >= 3, `${kills} kills`);
  const store = await open(folder);
  assert.ok(isDeepStrictEqual(await contentsOf(store), expected(large)), 'all is there as it was');
  await store.close();
});

test('what is damaged in a store of the first version is set aside, and its name stays taken', async (t) => {
  const folder = await newFolder(t);
  await writeVersion1(folder, sample);
  const db = openRaw(folder);
  await db.put(Buffer.from('nann'), Buffer.from('{"kind":"usex","passwordHash":""}'));
  await db.put(Buffer.from('nlamp'), Buffer.from('{"kind"'));
  await db.put(Buffer.from('ndoor'), Buffer.from([0xff, 0]));
  await db.del(Buffer.from('bann\0door'));
  await db.close();
  const log = keeping();
  const store = await open(folder, log);
  assert.equal((await store.name('ann'))?.locked, true);
  assert.equal(await store.createUser('ann', 'a stranger', 1), 'exists');
  assert.equal((await store.name('lamp'))?.kind, 'device');
  // Nobody has added it any more, as far as can be told.
  assert.equal((await store.name('door'))?.locked, true);
  assert.deepEqual(await store.peers('ann', 'user'), ['lamp']);
  assert.deepEqual(await store.peers('door', 'device'), []);
  assert.equal(store.stats.damaged, 4);
  assert.equal(log.lines.filter((line) => line.startsWith('error a damaged record was set aside')).length, 4);
  await store.close();
});

test('messages and removals that are damaged in a store of the first version are set aside, and no others', async (t) => {
  const folder = await newFolder(t);
  await writeVersion1(folder, sample);
  const db = openRaw(folder);
  const [segment, note] = [inboxKey('m', 'ann', 1), inboxKey('d', 'ann', 1_000_004)];
  const damaged: [Uint8Array, Uint8Array][] = [];
  for (const key of [segment, note]) {
    await flip(db, key, 6);
    damaged.push([key, Uint8Array.from((await db.get(key))!)]);
  }
  // Cut short, of another format, under keys that no inbox has.
  const whole = (await db.get(inboxKey('m', 'lamp', 10)))!;
  const nowhere = inboxKey('m', 'lamp', 11);
  nowhere[5]! ^= 1;
  for (const [key, value] of [
    [inboxKey('m', 'bob', 20), whole.subarray(0, 4)],
    [inboxKey('m', 'bob', 21), whole.with(0, 2)],
    [inboxKey('d', 'lamp', 10), new Uint8Array(3)],
    [nowhere, whole],
  ] as const) {
    await db.put(key, value);
    damaged.push([key, value]);
  }
  await db.close();
  const log = keeping();
  const store = await open(folder, log);
  const found = (await store.page('ann', 0, 100, 1e9)).messages.map(({ position }) => position);
  assert.deepEqual(found, [1_000_004, 1_000_005, 1_000_006, 1_000_007, 1_000_008]);
  assert.deepEqual((await store.page('bob', 0, 100, 1e9)).messages, []);
  assert.equal((await store.page('lamp', 0, 100, 1e9)).messages.length, 1);
  assert.equal(store.stats.damaged, damaged.length);
  const reports = log.lines.filter((line) => line.startsWith('error a damaged record was set aside'));
  assert.equal(reports.length, damaged.length);
  assert.ok(reports.some((line) => /the messages are lost .*"record":"messages","name":"ann"/.test(line)));
  assert.ok(reports.some((line) => /what was removed comes back .*"record":"note of removed.*"name":"ann"/.test(line)));
  await store.close();
  await db.open();
  for (const [key, value] of damaged) {
    assert.deepEqual(Buffer.from((await db.get(asideKey(key)))!), Buffer.from(value));
    assert.equal(await db.has(key), false);
  }
  await db.close();
});

test('a backup of the first version is restored, and migrated when it is opened', async (t) => {
  const folder = await newFolder(t);
  await writeVersion1(folder, sample);
  const db = openRaw(folder);
  await db.open();
  const backup = join(folder, '..', 'backup');
  await backUp(db, backup, 1, () => {});
  await db.close();
  // That version's seal said nothing of a version.
  const copy = openRaw(backup);
  const key = Buffer.from('!backup');
  const seal = JSON.parse(Buffer.from((await copy.get(key))!).toString()) as object;
  await copy.put(key, Buffer.from(JSON.stringify({ ...seal, schema: undefined })));
  await copy.close();
  const restored = join(folder, '..', 'restored');
  await restore(backup, restored, () => {});
  await check(restored);
});

test('stores and backups of a newer version are refused in a line, and stay as they are', async (t) => {
  const folder = await newFolder(t);
  await writeVersion1(folder, sample);
  await check(folder);
  const refusal = (error: unknown): boolean => {
    assert.ok(error instanceof StoreUnusable, String(error));
    assert.match(
      error.message,
      /^[^\n]*another version of Hawser \(its format is [-0-9x]+, this version's is 4\)[^\n]*$/,
    );
    return true;
  };
  for (const schema of ['5', '4-5', '3', '10', 'x', '0']) {
    const newer = join(folder, '..', schema);
    await cp(folder, newer, { recursive: true });
    const db = openRaw(newer);
    await db.put(metaKey.schema, Buffer.from(schema));
    await db.close();
    await assert.rejects(open(newer), refusal);
    await db.open();
    assert.equal(Buffer.from((await db.get(metaKey.schema))!).toString(), schema);
    await db.close();
  }
  const db = openRaw(folder);
  await db.open();
  const backup = join(folder, '..', 'backup');
  const seal = await backUp(db, backup, 1, () => {});
  await db.close();
  const copy = openRaw(backup);
  await copy.put(Buffer.from('!backup'), Buffer.from(JSON.stringify({ ...seal, schema: SCHEMA + 1 })));
  await copy.close();
  await assert.rejects(
    restore(backup, join(folder, '..', 'restored'), () => {}),
    /was made by a newer version of Hawser/,
  );
});
