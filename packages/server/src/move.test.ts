// All that a store on LevelDB holds is moved into PostgreSQL, on a real server, however often that is broken off.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import { ClassicLevel } from 'classic-level';
import { Client } from 'pg';
import { Postgres, postgresFolder } from '../../../scripts/postgres.ts';
import { LOCKED, type NameRecord, type Store, type StoredMessage } from './core/ports.ts';
import { ALL, newMessage, newMessages, remove } from './store/contract-harness.ts';
import { flip, harnessFor, keysOf, type LevelHarness } from './store/level-harness.ts';
import { type Moved, type MoveOptions, moveStore } from './store/move.ts';
import { PostgresStore } from './store/postgres/store.ts';
import { nameKey } from './store/record.ts';

const skip = postgresFolder() === undefined ? 'there is no PostgreSQL here' : false;
const RAN_MS = 86_400_000.25;
/** So few that there are many lots. */
const AT_ONCE = 7;

let server: Postgres;
let schemas = 0;
before(async () => {
  if (skip === false) server = await Postgres.start(['shared_buffers=32MB']);
});
after(() => server?.[Symbol.asyncDispose]());

const newSchema = (): string => `move_${schemas++}`;
const serve = (schema: string): Promise<PostgresStore> =>
  PostgresStore.open({
    url: server.url(),
    schema,
    log: { debug() {}, info() {}, warn() {}, error() {} },
    onError: (error) => assert.ifError(error),
  });

/** A closed store with some of everything; names whose order differs by UTF-16 and by bytes. */
async function filled(t: TestContext): Promise<LevelHarness> {
  const harness = await harnessFor(t);
  const { store } = harness;
  for (const user of ['ann', 'an', 'ann-2', '\uff5e', '😀']) await store.createUser(user, `$argon2id$${user}`, 1_700.5);
  for (let i = 0; i < 20; i++) {
    const says = {
      version: i % 2 === 0 ? undefined : `"1.${i}\\u0000"`,
      abilities: i % 3 === 0 ? '{"ß":[1e400]}' : undefined,
    };
    await store.deviceSeen(`lamp-${i}`, says, 1_700_000_000_000 + i / 8);
    await store.bind(i % 2 === 0 ? 'ann' : '😀', `lamp-${i}`, 3);
  }
  await store.bind('an', 'never-came', 4.5);
  await store.provision('lamp-1', { secret: 'digest', code: 'other digest' }, 5.5, 'known');
  await store.provision('given', { secret: LOCKED, code: undefined }, 6.5, 'new');
  await store.deviceSeen('given', { version: '1', abilities: undefined }, 7.5, { secret: LOCKED, ran: 8.125 });
  for (let round = 0; round < 4; round++) {
    await store.append(['ann', 'lamp-1', '😀', '\uff5e'].flatMap((to) => newMessages(6, to, 'lamp-2', `${round}.\0`)));
    await store.append([
      newMessage('ann', 'lamp-3', `${round}`, '😀'.repeat(1_000)),
      newMessage('an', 'ann', `${round}`),
    ]);
  }
  for (const [name, which] of [
    ['ann', 3],
    ['lamp-1', 2],
    ['an', 1],
  ] as const) {
    const { messages } = await store.page(name, 0, ALL, ALL);
    remove(
      harness,
      messages.filter((_, i) => i % which === 0),
    );
  }
  store.noteRan(RAN_MS);
  return harness;
}

/** Everything in a store, as the port gives it, but for positions. */
async function everything(store: Store): Promise<unknown> {
  const names: (readonly [string, NameRecord])[] = [];
  for (const kind of ['user', 'device'] as const) names.push(...(await store.list(kind, '', ALL)));
  const all: unknown[] = [];
  for (const [name, record] of names) {
    const peers = [...(await store.peers(name, record.kind))].sort();
    const { messages } = await store.page(name, 0, ALL, ALL);
    const stored = messages.map(({ position: _, msg, ...rest }: StoredMessage) => ({ ...rest, msg: Buffer.from(msg) }));
    // A field that is undefined is none.
    all.push({ name, record: JSON.parse(JSON.stringify(record)), peers, stored });
  }
  return all;
}

/** A digest of every key and value that a store has, while nobody has it open. */
async function recordsIn(folder: string): Promise<string> {
  const db = new ClassicLevel<Uint8Array, Uint8Array>(folder, { keyEncoding: 'view', valueEncoding: 'view' });
  const digest = createHash('sha256');
  for await (const [key, value] of db.iterator()) digest.update(`${Buffer.from(key).toString('hex')} `).update(value);
  await db.close();
  return digest.digest('hex');
}

/** The store is closed meanwhile, and open again afterwards. */
async function move(
  harness: LevelHarness,
  schema: string,
  onProgress: MoveOptions['onProgress'] = () => {},
): Promise<Moved> {
  const { folder } = harness;
  const moving = Promise.withResolvers<Moved>();
  moving.promise.catch(() => {});
  await harness.between(async (db) => {
    await db.close();
    const before = await recordsIn(folder);
    const options = { folder, url: server.url(), schema, recordsAtOnce: AT_ONCE, onProgress };
    await moveStore(options).then(moving.resolve, moving.reject);
    assert.equal(await recordsIn(folder), before, 'the store keeps what it holds');
  });
  return moving.promise;
}

/** Breaks a move off when so many lots are copied. */
async function brokenOff(harness: LevelHarness, schema: string, lots: number): Promise<void> {
  let copied = 0;
  const broken = move(harness, schema, (step) => {
    if (step === 'copy' && ++copied === lots) throw new Error('broken off');
  });
  await assert.rejects(broken, /broken off/);
}

async function sql(schema: string, text: string): Promise<Record<string, unknown>[]> {
  const client = new Client({ connectionString: server.url() });
  await client.connect();
  try {
    await client.query(`SET search_path TO ${schema}`);
    return (await client.query(text)).rows;
  } finally {
    await client.end();
  }
}

async function expectMoved(harness: LevelHarness, schema: string): Promise<void> {
  const expected = await everything(harness.store);
  const [service] = await sql(schema, 'SELECT ran FROM service');
  assert.equal(service?.ran, Math.floor(RAN_MS));
  const store = await serve(schema);
  try {
    assert.deepEqual(await everything(store), expected);
    assert.ok(store.ran() >= Math.floor(RAN_MS) && store.ran() < RAN_MS + 5_000, `${store.ran()}`);
    // And none is there twice, or has a place in no inbox.
    const [counted] = await sql(schema, 'SELECT count(*)::int AS all FROM messages');
    const [kept] = await sql(schema, 'SELECT sum(messages)::int AS all FROM inboxes');
    const stored = (expected as { stored: unknown[] }[]).reduce((sum, each) => sum + each.stored.length, 0);
    assert.deepEqual([counted?.all, kept?.all], [stored, stored]);
  } finally {
    await store.close();
  }
}

describe('moving a store into PostgreSQL', { skip }, () => {
  test('everything arrives with all its fields, in order, and the store keeps what it holds', async (t) => {
    const harness = await filled(t);
    const schema = newSchema();
    const seen = new Map<string, [number, number | undefined]>();
    let copied: string[] = [];
    const moved = await move(harness, schema, (step, done, total) => {
      seen.set(step, [done, total]);
      copied = [...copied, step];
    });
    await expectMoved(harness, schema);
    const { users, devices, bindings, messages, before: earlier, damaged } = moved;
    assert.deepEqual(
      { users, devices, bindings, earlier, damaged },
      { users: 5, devices: 22, bindings: 21, earlier: undefined, damaged: 0 },
    );
    const records = users + devices + bindings + messages;
    assert.deepEqual(
      [...seen],
      [
        ['read', [records, undefined]],
        ['copy', [records, records]],
        ['verify', [records, records]],
      ],
    );
    assert.ok(copied.filter((step) => step === 'copy').length > 10, 'in many lots');
  });

  test('killed at the end of every lot, and begun again each time, it brings the same', async (t) => {
    const harness = await filled(t);
    const schema = newSchema();
    let runs = 0;
    await harness.between(async (db) => {
      await db.close();
      // Each run dies by SIGKILL when its first lot is written: so one run ends behind each lot there is.
      const code = `
        import { moveStore } from ${JSON.stringify(join(import.meta.dirname, 'store', 'move.ts'))};
        const options = ${JSON.stringify({ folder: harness.folder, url: server.url(), schema, recordsAtOnce: AT_ONCE })};
        const onProgress = (step) => step === 'copy' && process.kill(process.pid, 'SIGKILL');
        await moveStore({ ...options, onProgress });`;
      for (;;) {
        const run = spawnSync(process.execPath, ['--input-type=module', '-e', code], { encoding: 'utf8' });
        if (run.signal !== 'SIGKILL') {
          assert.equal(run.status, 0, run.stderr);
          break;
        }
        runs++;
      }
    });
    assert.ok(runs > 10, `${runs} runs were killed`);
    await expectMoved(harness, schema);
  });

  test('a lot that was written, and not noted, is not there twice', async (t) => {
    const harness = await filled(t);
    const schema = newSchema();
    for (const lots of [2, 6, 9, 13]) {
      await brokenOff(harness, schema, lots);
      // As if it had been killed before any of it was noted.
      await sql(schema, 'UPDATE move SET after = NULL, records = 0');
    }
    await move(harness, schema);
    await expectMoved(harness, schema);
  });

  test('nobody serves what has not arrived whole; what has is served, and is not moved again', async (t) => {
    const harness = await filled(t);
    const schema = newSchema();
    await brokenOff(harness, schema, 3);
    await assert.rejects(serve(schema), /not all has been moved into it/);
    const first = await move(harness, schema);
    const store = await serve(schema);
    await assert.rejects(move(harness, schema), /another server uses it/);
    await store.createUser('newcomer', 'hash', 1);
    await store.close();
    const again = await move(harness, schema);
    assert.ok(again.before instanceof Date);
    assert.equal(again.digest, first.digest);
    const after = await serve(schema);
    assert.ok((await after.name('newcomer')) !== undefined, 'nothing was changed by it');
    await after.close();
    await harness.store.createUser('late', 'hash', 1);
    await assert.rejects(move(harness, schema), /another store, or this one as it was then, was moved into it on/);
  });

  test('a database with data, and one into which something else is being moved, are left alone', async (t) => {
    const harness = await filled(t);
    const taken = newSchema();
    const store = await serve(taken);
    await store.createUser('ann', 'of another', 1);
    await store.close();
    await assert.rejects(move(harness, taken), /the database has data already/);
    assert.deepEqual(await sql(taken, 'SELECT name, password_hash FROM names'), [
      { name: 'ann', password_hash: 'of another' },
    ]);

    const schema = newSchema();
    await brokenOff(harness, schema, 3);
    const held = await sql(schema, 'SELECT * FROM names ORDER BY name');
    // A server has run on the folder meanwhile.
    await harness.store.append([newMessage('ann', 'lamp-1', 'meanwhile')]);
    await assert.rejects(move(harness, schema), /before it changed, was broken off there/);
    assert.deepEqual(await sql(schema, 'SELECT * FROM names ORDER BY name'), held);
  });

  test('a store in use, one that is not there, and a database that is not there are refused', async (t) => {
    const harness = await filled(t);
    const options = { url: server.url(), schema: newSchema(), onProgress() {} };
    await assert.rejects(moveStore({ ...options, folder: harness.folder }), /is in use by another process/);
    await assert.rejects(moveStore({ ...options, folder: `${harness.folder}-no` }), /is not there/);
    assert.deepEqual(await sql('public', `SELECT 1 FROM pg_namespace WHERE nspname = '${options.schema}'`), []);
    await harness.between(async (db) => {
      await db.close();
      const url = server.url('nowhere');
      await assert.rejects(moveStore({ ...options, folder: harness.folder, url }), /"nowhere" does not exist/);
    });
  });

  const harms = {
    'a password': `UPDATE names SET password_hash = 'x' WHERE name = 'ann'`,
    'a secret': `UPDATE names SET secret = NULL WHERE name = 'lamp-1'`,
    'when a device was last seen': `UPDATE names SET last_seen_at = last_seen_at + 0.125 WHERE name = 'lamp-2'`,
    'a binding': `DELETE FROM bindings WHERE device = 'lamp-4'`,
    'the order of two messages': `WITH two AS (SELECT inbox, min(position) AS one, max(position) AS other FROM messages GROUP BY inbox LIMIT 1)
      UPDATE messages m SET position = other + 1 FROM two t WHERE m.inbox = t.inbox AND m.position = t.one`,
    'one byte of a message': `UPDATE messages SET msg = set_byte(msg, 1, 65) WHERE position = (SELECT max(position) FROM messages)`,
    'a ttl': `UPDATE messages SET ttl = 61 WHERE position = (SELECT min(position) FROM messages)`,
  };
  for (const [what, harm] of Object.entries(harms)) {
    test(`what differs in the database is found, and is not served: ${what}`, async (t) => {
      const harness = await filled(t);
      const schema = newSchema();
      const broken = move(harness, schema, (step) => {
        if (step === 'verify') throw new Error('broken off');
      });
      await assert.rejects(broken, /broken off/);
      await sql(schema, harm);
      await assert.rejects(move(harness, schema), /what is in the database is not what was moved/);
      await assert.rejects(serve(schema), /not all has been moved/);
    });
  }

  test('a damaged record breaks it off before anything is written, until it is set aside', async (t) => {
    const harness = await filled(t);
    const schema = newSchema();
    await harness.between(async (db) => {
      const [segment] = await keysOf(db, 'm');
      await flip(db, segment!, 60);
      await flip(db, nameKey('ann'), 10);
    });
    await assert.rejects(move(harness, schema), /has a damaged record \(name ann\)/);
    assert.deepEqual(await sql('public', `SELECT 1 FROM pg_namespace WHERE nspname = '${schema}'`), []);
    await everything(harness.store);
    const moved = await move(harness, schema);
    assert.deepEqual([moved.damaged, moved.locked], [2, 1]);
    const store = await serve(schema);
    assert.notEqual(((await store.name('ann')) as { passwordHash: string }).passwordHash, '$argon2id$ann');
    await store.close();
  });

  test('a name whose record is lost stays taken', async (t) => {
    const harness = await filled(t);
    const schema = newSchema();
    await harness.between(async (db) => {
      for (const name of ['an', 'lamp-1', '😀']) await db.del(nameKey(name));
    });
    const moved = await move(harness, schema);
    assert.equal(moved.locked, 2);
    const store = await serve(schema);
    assert.equal(await store.createUser('an', 'hash', 1), 'exists');
    assert.equal((await store.name('lamp-1'))?.kind, 'device');
    assert.equal((await store.name('😀'))?.kind, 'user');
    await store.close();
  });

  test('an empty store is moved, too', async (t) => {
    const harness = await harnessFor(t);
    const schema = newSchema();
    const { users, messages } = await move(harness, schema);
    assert.deepEqual([users, messages], [0, 0]);
    await (await serve(schema)).close();
  });
});
