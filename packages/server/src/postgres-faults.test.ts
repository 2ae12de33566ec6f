// The store on PostgreSQL when nodes are made void, connections are lost, and the server is killed, paused or replaced.

import assert from 'node:assert/strict';
import { connect, createServer, type Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';
import { Postgres, postgresFolder } from '../../../scripts/postgres.ts';
import { Fenced, StoreAway } from './core/ports.ts';
import { ids, newMessage, newMessages } from './store/contract-harness.ts';
import { byteas, float8s, int4s, int8s, texts, utf8s } from './store/postgres/arrays.ts';
import type { DatabaseTimes } from './store/postgres/connections.ts';
import { PostgresStore, type PostgresStoreOptions } from './store/postgres/store.ts';
import { StoreUnusable } from './store/unusable.ts';

const skip = postgresFolder() === undefined ? 'there is no PostgreSQL here' : false;
const log = { debug() {}, info() {}, warn() {}, error() {} };
/** What is bounded has ended by then, also on a busy machine. */
const LONG_MS = 15_000;
/** How far apart nodes may have the time in service here: far less than what is late by a second and a half. */
const AGREED_MS = 700;
/** A statement ends long before anybody's patience does. */
const QUICK: DatabaseTimes = { connectMs: 300, statementMs: 500, appendMs: 2_000 };

let server: Postgres;
let schemas = 0;

before(async () => {
  if (skip === false) server = await Postgres.start(['max_connections=60', 'shared_buffers=32MB']);
});
after(() => server?.[Symbol.asyncDispose]());

function newSchema(): string {
  return `faults_${schemas++}`;
}

type Options = Partial<PostgresStoreOptions> & { readonly schema: string };

/** A store that a test has, and ends. */
class Opened implements AsyncDisposable {
  readonly store: PostgresStore;

  constructor(store: PostgresStore) {
    this.store = store;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.store.drop();
  }
}

async function open(options: Options): Promise<Opened> {
  const onError = (error: unknown): void => console.error(error);
  return new Opened(await PostgresStore.open({ url: server.url(), log, onError, ...options }));
}

/** A connection of the test's own. */
async function raw(schema: string, url: string = server.url()): Promise<Client & AsyncDisposable> {
  const client = new Client({ connectionString: url, options: `-c search_path=${schema}` });
  client.on('error', () => {});
  await client.connect();
  return Object.assign(client, { [Symbol.asyncDispose]: () => client.end() });
}

/** Holds up everything that wants to change this inbox, until the function that it returns is called. */
async function lockInbox(client: Client, receiver: string): Promise<() => Promise<unknown>> {
  await client.query('BEGIN');
  await client.query('SELECT FROM inboxes WHERE receiver = $1 FOR UPDATE', [receiver]);
  return () => client.query('COMMIT');
}

async function eventually(check: () => Promise<boolean> | boolean, what: string): Promise<void> {
  for (const until = performance.now() + 20_000; !(await check()); await sleep(10)) {
    if (performance.now() > until) assert.fail(`never: ${what}`);
  }
}

/** Whether so many appends wait for a lock. */
async function areWaiting(client: Client, count: number): Promise<boolean> {
  const text = `SELECT count(*)::int AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%append(%'`;
  return (await client.query(text)).rows[0].n === count;
}

async function stored(client: Client): Promise<string[]> {
  const { rows } = await client.query('SELECT msg_id FROM messages ORDER BY position');
  return rows.map(({ msg_id }) => String(msg_id));
}

/** Between a store and the server: can hold back what the server says, and cut everybody off. */
class Line implements AsyncDisposable {
  readonly url: string;
  readonly #listener: ReturnType<typeof createServer>;
  readonly #sockets: Set<Socket>;
  /** What the server says gets lost. */
  isDeaf = false;
  /** Whoever asks this first waits so long for what the server says. */
  late: { readonly text: string; readonly ms: number } | undefined;

  private constructor(listener: ReturnType<typeof createServer>, sockets: Set<Socket>, port: number) {
    this.#listener = listener;
    this.#sockets = sockets;
    this.url = `postgres://hawser@127.0.0.1:${port}/postgres`;
  }

  static async open(): Promise<Line> {
    const sockets = new Set<Socket>();
    const folder = new URL(server.url().replace('@/', '@localhost/')).searchParams.get('host');
    let line: Line;
    const listener = createServer((client) => {
      const to = connect(`${folder}/.s.PGSQL.5432`);
      for (const socket of [client, to]) {
        sockets.add(socket);
        socket.on('error', () => {});
        socket.once('close', () => {
          client.destroy();
          to.destroy();
          sockets.delete(socket);
        });
      }
      let heard = Promise.resolve();
      client.on('data', (bytes: Buffer) => {
        const { late } = line;
        if (late !== undefined && bytes.includes(late.text)) {
          line.late = undefined;
          heard = sleep(late.ms);
        }
        to.write(bytes);
      });
      to.on('data', (bytes) => {
        heard = heard.then(() => void (line.isDeaf || client.write(bytes)));
      });
    });
    await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
    line = new Line(listener, sockets, (listener.address() as { port: number }).port);
    return line;
  }

  cut(): void {
    this.isDeaf = false;
    for (const socket of this.#sockets) socket.destroy();
  }

  /** As by a server that was killed. The server's own end is no TCP, and goes with the other. */
  reset(): void {
    for (const socket of this.#sockets) if (socket.remoteFamily !== undefined) socket.resetAndDestroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.#listener.close(resolve));
  }
}

describe('PostgreSQL', { skip }, () => {
  test('once a run is void it stores nothing, and says so', async () => {
    const schema = newSchema();
    await using one = await open({ schema, run: 'one' });
    await using two = await open({ schema, run: 'two' });
    await one.store.append([newMessage('ann', 's', 'before')]);
    await two.store.voidRun('one');
    await assert.rejects(one.store.append([newMessage('ann', 's', 'after')]), Fenced);
    await assert.rejects(one.store.append([newMessage('new', 's', 'after')]), Fenced);
    await two.store.append([newMessage('ann', 's', 'other')]);
    assert.deepEqual(ids((await two.store.page('ann', 0, 10, 1000)).messages), ['before', 'other']);
    assert.equal(await two.store.hasBacklog('new'), false);
  });

  test('an append that is under way when its run is made void is not stored', async () => {
    const schema = newSchema();
    await using one = await open({ schema, run: 'one' });
    await using two = await open({ schema, run: 'two' });
    await one.store.append([newMessage('ann', 's', 'before')]);
    await using client = await raw(schema);
    // Its own: what a transaction sees of other connections stays as it first was.
    await using watcher = await raw(schema);
    const unlock = await lockInbox(client, 'ann');
    const appending = one.store.append([newMessage('ann', 's', 'late')]);
    const outcome = assert.rejects(appending, Fenced);
    await eventually(() => areWaiting(watcher, 1), 'the append waits');
    await two.store.voidRun('one');
    await unlock();
    await outcome;
    assert.deepEqual(await stored(client), ['before']);
  });

  test('a run is not begun twice, nor after it was made void', async () => {
    const schema = newSchema();
    await using one = await open({ schema, run: 'one' });
    await one.store.voidRun('never');
    for (const run of ['one', 'never']) await assert.rejects(open({ schema, run }), StoreUnusable);
  });

  test('a server that is alone keeps others out, and makes void what was left of those before it', async () => {
    const schema = newSchema();
    await using first = await open({ schema });
    await assert.rejects(open({ schema }), /another server uses it/);
    await assert.rejects(open({ schema, run: 'one of several' }), /another server uses it/);
    await first.store.append([newMessage('ann', 's', 'm')]);
    // Its connections are cut, as by a network, and it does not know.
    await using client = await raw(schema);
    await client.query(
      `SELECT pg_terminate_backend(l.pid) FROM pg_locks l WHERE locktype = 'advisory' AND objsubid = 2`,
    );
    await using second = await open({ schema });
    await assert.rejects(first.store.append([newMessage('ann', 's', 'n')]), Fenced);
    await second.store.append([newMessage('ann', 's', 'o')]);
    assert.deepEqual(await stored(client), ['m', 'o']);
  });

  test('when the answer of an append is lost it is found out, not stored again', async () => {
    const schema = newSchema();
    await using line = await Line.open();
    await using client = await raw(schema);
    await using one = await open({
      schema,
      run: 'one',
      url: line.url,
      times: { ...QUICK, statementMs: 5_000, appendMs: 15_000 },
    });
    await one.store.append(newMessages(3, 'ann', 's', 'a'));
    line.isDeaf = true;
    // A duplicate among them: its refusal is remembered as well.
    const appending = one.store.append([
      newMessage('ann', 's', 'b'),
      newMessage('ann', 's', 'a1'),
      newMessage('ann', 's', 'c'),
    ]);
    await eventually(async () => (await stored(client)).length === 5, 'it is committed');
    line.cut();
    const results = await appending;
    assert.equal(results[1], -1);
    const { messages } = await one.store.page('ann', 0, 10, 10_000);
    assert.deepEqual(ids(messages), ['a0', 'a1', 'a2', 'b', 'c']);
    assert.deepEqual(
      messages.slice(3).map(({ position }) => position),
      [results[0], results[2]],
    );
  });

  test('an append whose connection is lost before it was committed is stored once', async () => {
    const schema = newSchema();
    await using line = await Line.open();
    await using client = await raw(schema);
    await using one = await open({
      schema,
      run: 'one',
      url: line.url,
      times: { ...QUICK, statementMs: 5_000, appendMs: 15_000 },
    });
    await one.store.append([newMessage('ann', 's', 'a')]);
    // Its own: what a transaction sees of other connections stays as it first was.
    await using watcher = await raw(schema);
    const unlock = await lockInbox(client, 'ann');
    const appending = one.store.append([newMessage('ann', 's', 'b')]);
    await eventually(() => areWaiting(watcher, 1), 'the append waits');
    line.cut();
    await eventually(() => areWaiting(watcher, 2), 'behind the lost one waits the one that takes its place');
    await unlock();
    const [position] = await appending;
    const { messages } = await one.store.page('ann', 0, 10, 10_000);
    assert.deepEqual(ids(messages), ['a', 'b']);
    assert.equal(messages[1]!.position, position);
    await eventually(() => areWaiting(watcher, 0), 'the lost one ends');
    assert.deepEqual(await stored(client), ['a', 'b']);
  });

  test('an append during which the server is killed is stored once when it is back', async () => {
    await using own = await Postgres.start(['shared_buffers=32MB']);
    const schema = newSchema();
    await using one = await open({ schema, run: 'one', url: own.url() });
    for (let round = 0; round < 4; round++) {
      const acked: string[] = [];
      let isOver = false;
      const appending = (async () => {
        for (let n = 0; !isOver; n++) {
          const messages = newMessages(20, 'ann', 's', `${round}.${n}.`);
          const results = await one.store.append(messages).catch((error: unknown) => {
            assert.ok(error instanceof StoreAway, String(error));
            return [];
          });
          if (results.length === 0) await sleep(20);
          else assert.ok(results.every((result) => result > 0));
          if (results.length > 0) acked.push(...ids(messages));
        }
      })();
      await eventually(() => acked.length >= 100 + round * 20, 'some are stored');
      await own.kill9();
      await own.start();
      const before = acked.length;
      await eventually(() => acked.length > before, 'more are stored');
      isOver = true;
      await appending;
      const { messages } = await one.store.page('ann', 0, 100_000, 1e9);
      const mine = ids(messages).filter((msgId) => msgId.startsWith(`${round}.`));
      // All that was acked, in order, once. Of what was rejected an append may be there whole, or nothing.
      assert.deepEqual(
        mine.filter((msgId) => acked.includes(msgId)),
        acked,
      );
      assert.equal(new Set(mine).size, mine.length);
      assert.equal(mine.length % 20, 0);
    }
  });

  test('an append that a paused server did not answer is rejected in time, and not stored when it goes on', async () => {
    await using own = await Postgres.start(['shared_buffers=32MB']);
    const schema = newSchema();
    await using one = await open({ schema, run: 'one', url: own.url(), times: QUICK });
    await using client = await raw(schema, own.url());
    await one.store.append([newMessage('ann', 's', 'before')]);
    const backends = `SELECT count(*)::int AS n FROM pg_stat_activity WHERE application_name = 'hawser'`;
    for (const step of ['nothing more is asked', 'the next append follows']) {
      own.pause();
      const began = performance.now();
      try {
        await assert.rejects(one.store.append([newMessage('ann', 's', step)]), StoreAway);
      } finally {
        own.resume();
      }
      const tookMs = performance.now() - began;
      assert.ok(tookMs < LONG_MS, `it took ${tookMs} ms`);
      if (step === 'the next append follows') await one.store.append([newMessage('ann', 's', 'after')]);
      else await eventually(async () => (await client.query(backends)).rows[0].n <= 1, 'the old connections end');
    }
    assert.deepEqual(await stored(client), ['before', 'after']);
  });

  test('a connection that breaks while a transaction has it fails that, and nothing else', async () => {
    const schema = newSchema();
    await using line = await Line.open();
    await using client = await raw(schema);
    await using one = await open({ schema, run: 'one', url: line.url });
    await client.query('BEGIN');
    await client.query('LOCK TABLE names');
    const creating = one.store.createUser('ann', 'hash', 1);
    await using watcher = await raw(schema);
    const waits = `SELECT count(*)::int AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%names%'`;
    await eventually(async () => (await watcher.query(waits)).rows[0].n === 1, 'it waits');
    line.reset();
    await assert.rejects(creating, StoreAway);
    await client.query('COMMIT');
    // The others of its connections are broken, too: that may be seen when they are used.
    const created = (): Promise<boolean> =>
      one.store.createUser('bob', 'hash', 1).then(
        () => true,
        () => false,
      );
    await eventually(created, 'another transaction succeeds');
  });

  test('without a server every call says that the store is away, and works again when it is back', async () => {
    await using own = await Postgres.start(['shared_buffers=32MB']);
    const schema = newSchema();
    // An append that has just been sent when its connection ends is asked after for as long as it may take.
    await using one = await open({ schema, run: 'one', url: own.url(), times: QUICK });
    const { store } = one;
    const [position] = await store.append([newMessage('ann', 's', 'm')]);
    await store.createUser('ann', 'hash', 1);
    await own.kill9();
    const says = { version: '1', abilities: undefined };
    for (const call of [
      () => store.name('ann'),
      () => store.names(['ann']),
      () => store.createUser('bob', 'hash', 1),
      () => store.deviceSeen('lamp', says, 1),
      () => store.bind('ann', 'lamp', 1),
      () => store.peers('ann', 'user'),
      () => store.list('user', '', 1),
      () => store.removeName('ann'),
      () => store.append([newMessage('ann', 's', 'n')]),
      () => store.hasBacklog('ann'),
      () => store.page('ann', 0, 1, 1),
      () => store.read('ann', [1]),
      () => store.oldest('', 1),
    ]) {
      const began = performance.now();
      await assert.rejects(call(), StoreAway, String(call));
      assert.ok(performance.now() - began < LONG_MS, `${call} took long`);
    }
    // A removal waits for it to come back.
    store.remove({ to: 'ann', from: 's', msgId: 'm', position: position!, size: 3 });
    const removed = store.whenRemoved();
    await own.start();
    await removed;
    await using client = await raw(schema, own.url());
    assert.deepEqual(await stored(client), []);
    assert.equal((await store.name('ann'))?.kind, 'user');
    await store.append([newMessage('ann', 's', 'o')]);
  });

  test('calls that nobody answers are bounded in number and time', async () => {
    await using own = await Postgres.start(['shared_buffers=32MB']);
    await using one = await open({ schema: newSchema(), run: 'one', url: own.url(), times: QUICK });
    own.pause();
    try {
      let refused = 0;
      let isLate = false;
      const calls = Array.from({ length: 10_005 }, () =>
        one.store.name('ann').catch((error: unknown) => {
          assert.ok(error instanceof StoreAway);
          if (!isLate) refused++;
        }),
      );
      await Promise.resolve();
      await new Promise(setImmediate);
      isLate = true;
      assert.equal(refused, 5);
      const began = performance.now();
      await Promise.all(calls);
      assert.ok(performance.now() - began < 10_000);
    } finally {
      own.resume();
    }
    await eventually(
      () =>
        one.store.name('ann').then(
          () => true,
          () => false,
        ),
      'it answers again',
    );
  });

  test('the oldest messages are found behind any number of inboxes that are empty', async () => {
    const schema = newSchema();
    await using one = await open({ schema, run: 'one' });
    await using client = await raw(schema);
    await client.query(`INSERT INTO inboxes (receiver) SELECT 'empty ' || n FROM generate_series(1, 20500) n`);
    const [position] = await one.store.append([newMessage('zoe', 's', 'm')]);
    await one.store.append([newMessage('ann', 's', 'n'), newMessage('empty 2', 's', 'o')]);
    const heads = async (after: string, count: number): Promise<string[]> =>
      (await one.store.oldest(after, count)).map(({ to }) => to);
    assert.deepEqual(await heads('', 10), ['ann', 'empty 2', 'zoe']);
    assert.deepEqual(await heads('', 2), ['ann', 'empty 2']);
    assert.deepEqual(await heads('empty 2', 2), ['zoe']);
    one.store.remove({ to: 'zoe', from: 's', msgId: 'm', position: position!, size: 3 });
    assert.deepEqual(await heads('empty 2', 2), []);
  });

  test('arrays arrive in the database as they were', async () => {
    await using client = await raw('public');
    const whole = [0, 1, 255, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1];
    const floats = [0, -0.5, 1 / 3, 1e300, 5e-324, 1_700_000_000_123.456];
    const strings = ['', 'a', '"\\,{}NULL', 'é名😀\uff5e'];
    const bytes = [new Uint8Array(0), Uint8Array.from({ length: 256 }, (_, i) => i)];
    const text = `SELECT $1::int8[]::text[] AS int8s, $2::float8[] AS float8s, $3::text[] AS texts, $4::bytea[] AS byteas,
      $5::bytea[] AS utf8s, $6::int4[] AS int4s, $7::text[] AS none`;
    const values = [
      int8s(whole),
      float8s(floats),
      texts(strings),
      byteas(bytes),
      utf8s(['\0é']),
      int4s([1, -1]),
      texts([]),
    ];
    const [row] = (await client.query(text, values)).rows;
    assert.deepEqual(row.int8s.map(Number), whole);
    assert.deepEqual(row.float8s, floats);
    assert.deepEqual(row.texts, strings);
    assert.deepEqual(
      row.byteas.map((each: Buffer) => [...each]),
      bytes.map((each) => [...each]),
    );
    assert.equal(String(row.utf8s[0]), '\0é');
    assert.deepEqual([row.int4s, row.none], [[1, -1], []]);
  });

  test('what cannot mend itself is not said to be away', async () => {
    const schema = newSchema();
    await using one = await open({ schema, run: 'one' });
    await using client = await raw(schema);
    await client.query('DROP TABLE messages CASCADE');
    for (const call of [() => one.store.append([newMessage('ann', 's', 'm')]), () => one.store.page('ann', 0, 1, 1)]) {
      await assert.rejects(call(), (error) => !(error instanceof StoreAway) && !(error instanceof Fenced));
    }
  });

  test('nodes that start at the same time make the tables once', async () => {
    const schema = newSchema();
    const stores = await Promise.all(Array.from({ length: 6 }, (_, i) => open({ schema, run: `node ${i}` })));
    for (const { store } of stores)
      await store.append([newMessage('ann', 's', `m${stores.findIndex((each) => each.store === store)}`)]);
    assert.equal((await stores[0]!.store.page('ann', 0, 10, 1000)).messages.length, 6);
    await using client = await raw(schema);
    assert.equal((await client.query('SELECT schema FROM meta')).rowCount, 1);
    for (const each of stores) await each[Symbol.asyncDispose]();
  });

  test('a schema of a newer version is refused, and so is one that is not ours', async () => {
    const schema = newSchema();
    await open({ schema, run: 'one' }).then((each) => each[Symbol.asyncDispose]());
    await using client = await raw(schema);
    await client.query('UPDATE meta SET schema = schema + 1');
    await assert.rejects(
      open({ schema, run: 'two' }),
      (error) => error instanceof StoreUnusable && /newer version/.test(error.message),
    );
    await client.query('DELETE FROM meta');
    await assert.rejects(open({ schema, run: 'two' }), StoreUnusable);
  });

  test('a server that would lose or mangle what is stored is refused', async () => {
    await using client = await raw('public');
    await client.query(`CREATE DATABASE latin ENCODING LATIN1 LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0`);
    await assert.rejects(open({ schema: 'hawser', url: server.url('latin') }), /the encoding LATIN1/);
    await using unsafe = await Postgres.start(['fsync=off']);
    await assert.rejects(open({ schema: 'hawser', url: unsafe.url() }), /fsync is off/);
  });

  test('commits are synced, whatever is set for the role', async () => {
    await using own = await Postgres.start(['synchronous_commit=off', 'default_transaction_isolation=serializable']);
    const schema = newSchema();
    await using one = await open({ schema, run: 'one', url: own.url() });
    await using client = await raw(schema, own.url());
    assert.equal((await client.query('SHOW synchronous_commit')).rows[0].synchronous_commit, 'off');
    await client.query(`CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      INSERT INTO told VALUES (current_setting('synchronous_commit'), current_setting('transaction_isolation')); RETURN NULL; END $$;
      CREATE TABLE told (sync text, isolation text);
      CREATE TRIGGER tell AFTER INSERT ON messages FOR EACH STATEMENT EXECUTE FUNCTION tell();
      CREATE TRIGGER tell AFTER INSERT ON names FOR EACH STATEMENT EXECUTE FUNCTION tell()`);
    await one.store.append([newMessage('ann', 's', 'm')]);
    await one.store.createUser('ann', 'hash', 1);
    const told = { sync: 'on', isolation: 'read committed' };
    assert.deepEqual((await client.query('SELECT * FROM told')).rows, [told, told]);
  });

  test('nodes agree on the time in service, which goes on where it was and never back', async () => {
    const schema = newSchema();
    await using client = await raw(schema);
    await using one = await open({ schema, run: 'one' });
    await client.query(`UPDATE service SET ran = 5000000, noted_at = clock_timestamp() - interval '5 s'`);
    await using two = await open({ schema, run: 'two' });
    const ran = two.store.ran();
    assert.ok(ran >= 5_005_000 && ran < 5_015_000, `${ran}`);
    // The first one was behind, and catches up when it notes its own.
    await one.store.close();
    assert.ok(one.store.ran() >= 5_005_000, `${one.store.ran()}`);
    // Nobody was there for a day, or the database's clock was set: neither is time in service.
    for (const ago of ['1 day', '-1 day']) {
      await client.query(`UPDATE service SET ran = 9000000, noted_at = clock_timestamp() - $1::interval`, [ago]);
      await using later = await open({ schema, run: ago });
      assert.ok(later.store.ran() >= 9_000_000 && later.store.ran() < 9_010_000);
    }
  });

  test('a node that is told the time in service late, or notes it late, does not have it less for that', async () => {
    const schema = newSchema();
    await using client = await raw(schema);
    await using one = await open({ schema, run: 'one' });
    await using line = await Line.open();
    line.late = { text: 'service', ms: 1_500 };
    await using late = await open({ schema, run: 'late', url: line.url });
    assert.ok(
      Math.abs(late.store.ran() - one.store.ran()) < AGREED_MS,
      `${late.store.ran() - one.store.ran()} ms apart`,
    );
    await client.query('BEGIN');
    await client.query('SELECT FROM service FOR UPDATE');
    const noting = late.store.close();
    await sleep(1_500);
    await client.query('COMMIT');
    await noting;
    await using next = await open({ schema, run: 'next' });
    assert.ok(
      Math.abs(next.store.ran() - one.store.ran()) < AGREED_MS,
      `${next.store.ran() - one.store.ran()} ms apart`,
    );
  });
});
