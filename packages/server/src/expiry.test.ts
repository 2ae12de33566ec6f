// What becomes too old, by both clocks, on the real parts: age counts by the smaller, ttl by the larger.

import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { Log } from './core/ports.ts';
import { openParts, type Parts, storePath } from './parts.ts';
import { readSettings } from './settings.ts';
import { LevelStore } from './store/level.ts';

const DAY_MS = 86_400_000;
/** So long the store had been in service when it was opened. */
const RAN_MS = 100 * DAY_MS;
const quiet: Log = { debug() {}, info() {}, warn() {}, error() {} };

interface Aged {
  readonly id: string;
  /** How long ago it was accepted, by the wall clock and by the time in service; negative when the clock was set back. */
  readonly wallDays: number;
  readonly ranDays: number;
  readonly ttlSeconds?: number;
}

/** A server's parts on a store that holds these messages, each for a receiver of its own or all for one. */
async function partsWith(
  t: TestContext,
  inboxes: Readonly<Record<string, readonly Aged[]>>,
): Promise<{ parts: Parts; lines: string[] }> {
  const data = await mkdtemp(join(tmpdir(), 'hawser-expiry-'));
  t.after(() => rm(data, { recursive: true }));
  const store = await LevelStore.open({
    folder: storePath(data),
    log: quiet,
    onError: (error) => assert.ifError(error),
  });
  store.noteRan(RAN_MS);
  for (const [to, messages] of Object.entries(inboxes)) {
    await store.append(
      messages.map(({ id, wallDays, ranDays, ttlSeconds = 0 }) => ({
        from: 'sender',
        to,
        msgId: id,
        msg: Buffer.from('1'),
        wall: Date.now() - wallDays * DAY_MS,
        ran: RAN_MS - ranDays * DAY_MS,
        ttl: ttlSeconds,
      })),
    );
  }
  await store.close();
  const lines: string[] = [];
  const keep = (fields: object, text: string) => void lines.push(`${text} ${JSON.stringify(fields)}`);
  const log: Log = { ...quiet, info: keep, warn: keep };
  const settings = readSettings({ data, inboxAge: '30' }, {});
  const parts = await openParts(data, settings, log, (error) => assert.ifError(error as Error));
  return { parts, lines };
}

async function left(parts: Parts, receiver: string): Promise<string[]> {
  return (await parts.store.page(receiver, 0, 1_000, 1e6)).messages.map(({ msgId }) => msgId);
}

const byAge: readonly Aged[] = [
  { id: 'old by both clocks', wallDays: 31, ranDays: 31 },
  { id: 'old by the wall clock alone', wallDays: 31, ranDays: 29 },
  { id: 'old by the time in service alone', wallDays: 29, ranDays: 31 },
  { id: 'after the clock was set back', wallDays: -400, ranDays: 90 },
  { id: 'after the clock was set forward', wallDays: 4_000, ranDays: 1 },
  { id: 'young by both clocks', wallDays: 1, ranDays: 1 },
];

test('the sweep drops what is old by both clocks, counts it, and tells it in one line a receiver', async (t) => {
  const old = Array.from({ length: 700 }, (_, i): Aged => ({ id: `o${i}`, wallDays: 40 - i / 1_000, ranDays: 40 }));
  const inboxes = Object.fromEntries(byAge.map((message) => [message.id, [message]]));
  const { parts, lines } = await partsWith(t, { ...inboxes, many: [...old, { id: 'new', wallDays: 1, ranDays: 1 }] });
  await parts.core.delivery.sweepInboxes();
  for (const { id } of byAge) assert.deepEqual(await left(parts, id), id === 'old by both clocks' ? [] : [id]);
  assert.deepEqual(await left(parts, 'many'), ['new']);
  assert.deepEqual([parts.core.counters.expiredByAge, parts.core.counters.expiredByTtl], [701, 0]);
  await parts.core.delivery.sweepInboxes();
  assert.equal(parts.core.counters.expiredByAge, 701);
  await parts.close();
  const text = 'messages were dropped: their receiver did not come in time';
  assert.deepEqual(lines.filter((line) => line.includes('dropped')).sort(), [
    `${text} {"receiver":"many","age":700,"ttl":0}`,
    `${text} {"receiver":"old by both clocks","age":1,"ttl":0}`,
  ]);
});

test('a receiver that comes gets what is not old by both clocks, and no message past its ttl by either', async (t) => {
  const byTtl: readonly Aged[] = [
    { id: 'ttl past by both clocks', wallDays: 2, ranDays: 2, ttlSeconds: 3_600 },
    { id: 'ttl past by the wall clock alone', wallDays: 2, ranDays: 0, ttlSeconds: 3_600 },
    { id: 'ttl past by the time in service alone', wallDays: -2, ranDays: 2, ttlSeconds: 3_600 },
    { id: 'ttl not past', wallDays: 0, ranDays: 0, ttlSeconds: 3_600 },
    { id: 'ttl of 30 days', wallDays: 29, ranDays: 29, ttlSeconds: 30 * 86_400 },
  ];
  const { parts, lines } = await partsWith(t, { ann: [...byAge, ...byTtl] });
  const { delivery, counters } = parts.core;
  const mailbox = delivery.mailbox('ann');
  const stored = (await parts.store.page('ann', 0, 1_000, 1e6)).messages;
  const served = stored.filter((message) => delivery.fromStore(mailbox, message) !== undefined);
  assert.deepEqual(
    served.map(({ msgId }) => msgId),
    [...byAge.slice(1).map(({ id }) => id), 'ttl not past', 'ttl of 30 days'],
  );
  assert.deepEqual([counters.expiredByAge, counters.expiredByTtl], [1, 3]);
  await parts.close();
  assert.deepEqual(
    lines.filter((line) => line.includes('dropped')),
    ['messages were dropped: their receiver did not come in time {"receiver":"ann","age":1,"ttl":3}'],
  );
});
