// Several nodes on one PostgreSQL that append to the same inboxes at once, in random steps.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { Postgres, postgresFolder } from '../../../scripts/postgres.ts';
import { APPEND, Fenced, type StoredMessage } from './core/ports.ts';
import { ids, newMessage, randomFrom, type WholeMessage } from './store/contract-harness.ts';
import type { InboxLimits } from './store/inbox.ts';
import { PostgresStore } from './store/postgres/store.ts';

const skip = postgresFolder() === undefined ? 'there is no PostgreSQL here' : false;
const log = { debug() {}, info() {}, warn() {}, error() {} };
const firstSeed = Number(process.env.HAWSER_SEED ?? Math.floor(Math.random() * 2 ** 31));
const seeds = Array.from({ length: Number(process.env.HAWSER_SEEDS ?? 3) }, (_, i) => firstSeed + i);

const RECEIVERS = ['a', 'ab', 'á', '\uff5e', '😀', 'z'];
const SENDERS = ['s', 't', 'ß'];
const ROUNDS = 60;

let server: Postgres;

before(async () => {
  if (skip === false)
    server = await Postgres.start(['max_connections=60', 'shared_buffers=32MB', 'deadlock_timeout=20s']);
});
after(() => server?.[Symbol.asyncDispose]());

function openNodes(count: number, schema: string, limits: InboxLimits): Promise<PostgresStore[]> {
  const options = { url: server.url(), schema, log, onError: (error: unknown) => console.error(error), limits };
  return Promise.all(Array.from({ length: count }, (_, i) => PostgresStore.open({ ...options, run: `node ${i}` })));
}

function inbox(store: PostgresStore, receiver: string): Promise<readonly StoredMessage[]> {
  return store.page(receiver, 0, 1_000_000, 1e12).then(({ messages }) => messages);
}

describe('nodes on one PostgreSQL', { skip }, () => {
  test('nodes that begin one after the other on a store that rested agree on how long it has been in service', async () => {
    const options = {
      url: server.url(),
      schema: 'service_time',
      log,
      onError: (error: unknown) => console.error(error),
    };
    const first = await PostgresStore.open({ ...options, run: 'first' });
    await first.close();
    const client = new pg.Client(server.url());
    await client.connect();
    const { rows } = await client.query<{ ran: number }>(
      `UPDATE service_time.service SET noted_at = now() - interval '1 hour' RETURNING ran`,
    );
    await client.end();
    const rested = Number(rows[0]?.ran);
    const second = await PostgresStore.open({ ...options, run: 'second' });
    const from = second.ran();
    assert.ok(from - rested < 60_000, 'the hour in which nobody served does not count');
    while (second.ran() < from + 1500) await sleep(50);
    const third = await PostgresStore.open({ ...options, run: 'third' });
    assert.ok(Math.abs(third.ran() - second.ran()) < 1000, `${third.ran() - second.ran()} ms apart`);
    await Promise.all([second.close(), third.close()]);
  });

  for (const seed of seeds) {
    test(`they keep order, and whoever has read a position has seen all before it (HAWSER_SEED=${seed})`, async () => {
      const nodes = await openNodes(3, `order_${seed}`, { messagesMax: 1e6, bytesMax: 1e9, senderShare: 2 });
      const appended = new Map(RECEIVERS.map((name): [string, StoredMessage[]] => [name, []]));
      let isOver = false;
      const writing = nodes.map(async (node, n) => {
        const random = randomFrom(seed * 10 + n);
        for (let round = 0; round < ROUNDS; round++) {
          const messages = Array.from({ length: 1 + Math.floor(random() * 20) }, (_, i) =>
            newMessage(RECEIVERS[Math.floor(random() * RECEIVERS.length)]!, `${n}`, `${n}.${round}.${i}`),
          );
          const positions = await node.append(messages);
          for (const [i, message] of messages.entries()) {
            assert.ok(positions[i]! > 0);
            appended.get(message.to)!.push({ ...message, position: positions[i]! });
          }
        }
      });
      // Each reads on from where it came to, as a mailbox does: nothing may come in behind it.
      const reading = RECEIVERS.map(async (receiver, i) => {
        const found: StoredMessage[] = [];
        for (let isLast = false; ; isLast = isOver) {
          const node = nodes[i % nodes.length]!;
          const { messages, end } = await node.page(receiver, found.at(-1)?.position ?? 0, 7, 1e9);
          found.push(...messages);
          if (isLast && end) return found;
        }
      });
      await Promise.all(writing);
      isOver = true;
      for (const [i, found] of (await Promise.all(reading)).entries()) {
        const expected = appended.get(RECEIVERS[i]!)!;
        assert.deepEqual(ids(found), ids(expected.toSorted((one, other) => one.position - other.position)));
        // In the order in which its node appended them.
        for (const n of nodes.keys()) {
          const own = (messages: readonly StoredMessage[]): string[] =>
            ids(messages.filter(({ from }) => from === `${n}`));
          assert.deepEqual(own(found), own(expected));
        }
      }
      await Promise.all(nodes.map((node) => node.close()));
    });

    test(`they keep limits, shares and ids, while messages come and go (HAWSER_SEED=${seed})`, async () => {
      const limits: InboxLimits = { messagesMax: 12, bytesMax: 400, senderShare: 2 };
      const nodes = await openNodes(3, `limits_${seed}`, limits);
      const counts = { stored: 0, duplicate: 0, conflict: 0, full: 0 };
      let isOver = false;
      const writing = nodes.map(async (node, n) => {
        const random = randomFrom(seed * 10 + n);
        const of = <Value>(values: readonly Value[]): Value => values[Math.floor(random() * values.length)]!;
        for (let round = 0; round < ROUNDS; round++) {
          const messages: WholeMessage[] = Array.from({ length: 1 + Math.floor(random() * 8) }, () =>
            newMessage(of(RECEIVERS), of(SENDERS), `m${Math.floor(random() * 15)}`, 'x'.repeat(of([0, 10, 10, 40]))),
          );
          for (const result of await node.append(messages)) {
            if (result > 0) counts.stored++;
            else if (result === APPEND.duplicate) counts.duplicate++;
            else if (result === APPEND.conflict) counts.conflict++;
            else counts.full++;
          }
          for (const message of await inbox(node, of(RECEIVERS))) {
            if (random() < 0.4) node.remove({ ...message, size: message.msg.length });
          }
        }
      });
      const watching = (async () => {
        while (!isOver) {
          for (const receiver of RECEIVERS) check(await inbox(nodes[0]!, receiver), limits);
        }
      })();
      await Promise.all(writing);
      isOver = true;
      await watching;
      await Promise.all(nodes.map((node) => node.whenRemoved()));
      for (const [what, count] of Object.entries(counts)) assert.ok(count > 0, `none was ${what}, seed ${seed}`);

      // What is known of each inbox fits what is in it: exactly as much goes in as is missing.
      for (const receiver of RECEIVERS) {
        const before = await inbox(nodes[1]!, receiver);
        assert.deepEqual(ids(await inbox(nodes[2]!, receiver)), ids(before));
        const more = Array.from({ length: 12 }, (_, i) => newMessage(receiver, `new ${i}`, 'n', ''));
        const taken = (await nodes[1]!.append(more)).filter((result) => result > 0).length;
        const bytes = before.reduce((sum, { msg }) => sum + msg.length, 0);
        assert.equal(taken, Math.min(12 - before.length, Math.floor((400 - bytes) / 2)), `seed ${seed}`);
        for (const message of await inbox(nodes[0]!, receiver))
          nodes[0]!.remove({ ...message, size: message.msg.length });
      }
      await nodes[0]!.whenRemoved();
      for (const receiver of RECEIVERS) assert.equal(await nodes[1]!.hasBacklog(receiver), false);
      await Promise.all(nodes.map((node) => node.close()));
    });
  }

  test('of nodes that register one name, or bind beyond what a device may have, as many succeed as may', async () => {
    const nodes = await openNodes(3, 'names', { messagesMax: 10, bytesMax: 100, senderShare: 2 });
    for (let i = 0; i < 10; i++) {
      const results = await Promise.all(nodes.map((node, n) => node.createUser(`name ${i}`, `hash ${n}`, n)));
      assert.equal(results.filter((result) => result === 'created').length, 1);
    }
    const bound = await Promise.all(
      Array.from({ length: 120 }, (_, i) => nodes[i % nodes.length]!.bind(`user ${i}`, 'lamp', 1)),
    );
    assert.equal(bound.filter((result) => result === 'bound').length, 100);
    assert.equal((await nodes[0]!.peers('lamp', 'device')).length, 100);
    await Promise.all(nodes.map((node) => node.close()));
  });

  test('a name is taken out when no run stands but those that have let go of it, and by none that is void', async () => {
    const limits = { messagesMax: 10, bytesMax: 1000, senderShare: 2 };
    const [a, b, c] = (await openNodes(3, 'removal', limits)) as [PostgresStore, PostgresStore, PostgresStore];
    await a.createUser('ann', 'hash', 1);
    await a.bind('ann', 'lamp', 1);
    await b.append([newMessage('ann', 'bob', 'm')]);
    assert.equal(await a.removeName('ann', ['node 1']), 'others');
    assert.equal((await a.name('ann'))?.kind, 'user', 'nothing is changed');
    assert.deepEqual(await a.peers('lamp', 'device'), ['ann']);
    assert.equal((await inbox(b, 'ann')).length, 1);
    await a.voidRun('node 2');
    await assert.rejects(c.removeName('ann', ['node 0', 'node 1']), Fenced);
    assert.equal(await a.removeName('ann', ['node 1']), true);
    assert.equal(await b.name('ann'), undefined);
    assert.deepEqual(await b.peers('lamp', 'device'), []);
    assert.equal(await b.createUser('ann', 'other', 2), 'created');
    assert.deepEqual(await inbox(b, 'ann'), []);
    assert.equal(await a.removeName('nobody', []), false);
    // The lamp is of no use to anybody now.
    assert.equal(await a.dropUnused('lamp', 2, 2, []), 'others');
    assert.equal(await a.dropUnused('lamp', 2, 2, ['node 1']), true);
    await Promise.all([a, b, c].map((node) => node.close()));
  });

  test('of a removal and a run that begins at the same time one sees the other', async () => {
    const options = { url: server.url(), schema: 'beginning', log, onError: (error: unknown) => console.error(error) };
    const a = await PostgresStore.open({ ...options, run: 'a' });
    for (let i = 0; i < 10; i++) {
      await a.createUser('ann', 'hash', 1);
      const began = PostgresStore.open({ ...options, run: `b${i}` });
      const removed = a.removeName(
        'ann',
        Array.from({ length: i }, (_, n) => `b${n}`),
      );
      const b = await began;
      // When it has begun the removal has been, or sees it.
      const seen = await b.name('ann');
      if ((await removed) === true) assert.equal(seen, undefined);
      await b.close();
    }
    await a.close();
  });

  test('the seeds are printed', (t) =>
    t.diagnostic(`replay with HAWSER_SEED=${firstSeed} HAWSER_SEEDS=${seeds.length}`));
});

function check(messages: readonly StoredMessage[], { messagesMax, bytesMax, senderShare }: InboxLimits): void {
  const bytes = (some: readonly StoredMessage[]): number => some.reduce((sum, { msg }) => sum + msg.length, 0);
  assert.ok(messages.length <= messagesMax);
  assert.ok(messages.length <= 1 || bytes(messages) <= bytesMax);
  const keys = new Set(messages.map(({ from, msgId }) => `${from}\n${msgId}`));
  assert.equal(keys.size, messages.length, 'an id is there twice');
  for (const sender of SENDERS) {
    const own = messages.filter(({ from }) => from === sender);
    assert.ok(own.length <= Math.max(1, messagesMax / senderShare));
  }
}
