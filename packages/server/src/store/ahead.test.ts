import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { serverLimits } from '@hawser/protocol';
import { ClassicLevel } from 'classic-level';
import type { StoredMessage } from '../core/ports.ts';
import { Ahead, type ReadSegment } from './ahead.ts';
import { ALL, ids, lag, messageOf, newMessage, newMessages, remove, store } from './contract-harness.ts';
import { Inbox } from './inbox.ts';
import { harnessFor } from './level-harness.ts';
import { SegmentReader, SegmentWriter } from './segment.ts';
import type { LevelDb } from './writer.ts';

function segment(first: number, bytes: number): ReadSegment {
  const writer = new SegmentWriter();
  const message = { to: 'ann', from: 'bob', msgId: 'm', msg: new Uint8Array(bytes), wall: 0, ran: 0, ttl: 0 };
  writer.add(message, first);
  const { key, value } = writer.take('ann');
  return { first, reader: SegmentReader.open('ann', key, value)! };
}

test('what was kept is taken once, and only from where it begins', () => {
  const ahead = new Ahead();
  const [ann, bob] = [new Inbox(1), new Inbox(1)];
  const segments = [segment(5, 10), segment(7, 10)];
  ahead.keep(ann, 4, segments);
  assert.equal(ahead.take(ann, 3), undefined);
  assert.equal(ahead.take(bob, 4), undefined);
  assert.deepEqual(ahead.take(ann, 4), segments);
  assert.equal(ahead.take(ann, 4), undefined);
  ahead.keep(ann, 4, segments);
  ahead.forget(ann);
  assert.equal(ahead.take(ann, 4), undefined);
});

test('no more than 256 KiB are kept of one inbox, and 4 MiB of all: what finds no room is not kept', () => {
  const ahead = new Ahead(() => 0);
  const inboxes = Array.from({ length: 40 }, () => new Inbox(1));
  const large = [segment(1, 100_000), segment(2, 100_000), segment(3, 100_000)];
  for (const inbox of inboxes) ahead.keep(inbox, 0, large);
  assert.ok(ahead.bytes <= serverLimits.readAheadBytesMax);
  const kept = inboxes.map((inbox) => ahead.take(inbox, 0)?.length ?? 0);
  const expected = inboxes.map((_, i) => (i < 20 ? 2 : 0));
  assert.deepEqual(kept, expected);
  ahead.keep(inboxes[0]!, 0, [segment(1, 300_000)]);
  assert.equal(ahead.take(inboxes[0]!, 0), undefined);
  assert.equal(ahead.bytes, 0);
});

test('what nobody came back for makes room, oldest first, when it has been kept for some time', () => {
  let now = 0;
  const ahead = new Ahead(() => now);
  const old = Array.from({ length: 20 }, () => new Inbox(1));
  for (const inbox of old) ahead.keep(inbox, 0, [segment(1, 200_000)]);
  const [ann, bob] = [new Inbox(1), new Inbox(1)];
  now = serverLimits.readAheadKeptMs - 1;
  ahead.keep(old[0]!, 0, [segment(1, 200_000)]);
  ahead.keep(ann, 0, [segment(1, 200_000)]);
  assert.equal(ahead.take(ann, 0), undefined);
  now++;
  ahead.keep(ann, 0, [segment(1, 200_000)]);
  assert.equal(ahead.take(ann, 0)?.length, 1);
  ahead.keep(bob, 0, [segment(1, 200_000)]);
  const left = old.map((inbox) => ahead.take(inbox, 0)?.length ?? 0);
  assert.deepEqual(left, [1, 0, ...Array<number>(18).fill(1)]);
});

test('half of all room is held for what is read beyond a page, as long as that is read', () => {
  const ahead = new Ahead(() => 0);
  const inboxes = Array.from({ length: 9 }, () => new Inbox(1));
  const reserved = (): boolean[] => inboxes.map((inbox) => ahead.reserve(inbox));
  const first = [...Array<boolean>(8).fill(true), false];
  assert.deepEqual(reserved(), first);
  assert.deepEqual(reserved(), first);
  assert.equal(ahead.take(inboxes[0]!, 0), undefined);
  ahead.keep(inboxes[0]!, 4, [segment(5, 10)]);
  assert.equal(ahead.reserve(inboxes[8]!), false);
  ahead.forget(inboxes[1]!);
  assert.equal(ahead.reserve(inboxes[8]!), true);
  ahead.isShut = true;
  assert.equal(ahead.bytes, 0);
  assert.equal(ahead.reserve(inboxes[0]!), false);
  ahead.isShut = false;
  assert.deepEqual(reserved(), first);
});

/** Counts the records that are read for pages, and what is read at once. */
function reads(t: TestContext): { segments: number; most: number; bytesMost: number } {
  const counted = { segments: 0, most: 0, bytesMost: 0 };
  const { getMany } = ClassicLevel.prototype;
  t.mock.method(ClassicLevel.prototype, 'getMany', async function (this: LevelDb, keys: Uint8Array[]) {
    counted.segments += keys.length;
    counted.most = Math.max(counted.most, keys.length);
    const values = (await getMany.call(this, keys, {})) as (Uint8Array | undefined)[];
    let bytes = 0;
    for (const value of values) bytes += value?.length ?? 0;
    counted.bytesMost = Math.max(counted.bytesMost, bytes);
    return values;
  });
  return counted;
}

test('where more read at once than what is kept has room for, a segment is read twice at most', async (t) => {
  const harness = await harnessFor(t);
  const names = Array.from({ length: 100 }, (_, i) => `r${i}`);
  const segments = 6;
  for (let i = 0; i < segments; i++) {
    for (let at = 0; at < names.length; at += 20) {
      const some = names.slice(at, at + 20);
      await harness.store.append(
        some.flatMap((to) => Array.from({ length: 50 }, (_, j) => messageOf(1000, to, 's', `${i}.${j}`))),
      );
    }
  }
  const counted = reads(t);
  const cursors = new Map(names.map((name) => [name, 0]));
  let served = 0;
  while (cursors.size > 0) {
    for (const [name, after] of cursors) {
      const { messages, end } = await harness.store.page(name, after, 64, 64 * 1024);
      served += messages.length;
      if (end) cursors.delete(name);
      else cursors.set(name, messages.at(-1)!.position);
    }
    assert.ok(harness.store.stats.inboxesAheadBytes <= serverLimits.readAheadBytesMax);
  }
  assert.equal(served, names.length * segments * 50);
  assert.ok(counted.segments <= 2 * names.length * segments, `${counted.segments} segments read`);
  assert.equal(harness.store.stats.inboxesAheadBytes, 0);
});

test('how much is read at once goes by what is read, not by the average of the inbox', async (t) => {
  const harness = await harnessFor(t);
  for (let i = 0; i < 10; i++) await harness.store.append([messageOf(500_000, 'ann', 's', `large${i}`)]);
  await harness.store.append(newMessages(6_000, 'ann'));
  const counted = reads(t);
  const page = await harness.store.page('ann', 0, 256, 256 * 1024);
  assert.equal(page.messages.length, 1);
  assert.ok(counted.segments <= 4, `${counted.segments} segments read`);
  // Behind some that are tiny too.
  const singles = newMessages(8, 'bob');
  for (const single of singles) await harness.store.append([single]);
  for (let i = 0; i < 20; i++) await harness.store.append([messageOf(300_000, 'bob', 's', `large${i}`)]);
  counted.segments = 0;
  const { messages } = await harness.store.page('bob', 0, 256, 256 * 1024);
  assert.equal(messages.length, singles.length + 1);
  assert.ok(counted.segments <= 4 + 8, `${counted.segments} segments read`);
});

test('much is not read at once, whatever is gone of it and however little lies in front of it', async (t) => {
  const harness = await harnessFor(t);
  const count = 12;
  for (let i = 0; i < count; i++) {
    const stored = await store(harness, [
      newMessage('gone', 's', `tiny${i}`),
      messageOf(300_000, 'gone', 's', `m${i}`),
    ]);
    remove(harness, stored.slice(1));
  }
  for (let i = 0; i < 20; i++) await store(harness, [newMessage('live', 's', `tiny${i}`)]);
  for (let i = 0; i < count; i++) await store(harness, [messageOf(300_000, 'live', 's', `m${i}`)]);
  const counted = reads(t);
  for (let round = 0; round < 2; round++) {
    const { messages, end } = await harness.store.page('gone', 0, 256, 256 * 1024);
    assert.deepEqual([messages.length, end], [count, true]);
    const again = messages.map(({ position }) => position);
    assert.equal((await harness.store.read('gone', again)).length, count);
    assert.equal((await harness.store.page('live', 0, 256, 256 * 1024)).messages.length, 21);
    // As read from the disk, too.
    await harness.reopen();
  }
  assert.ok(
    counted.bytesMost > 900_000 && counted.bytesMost <= serverLimits.inboxReadBytesMax,
    `${counted.bytesMost} bytes`,
  );
});

test('who looks for the head of an inbox reads nothing ahead, and leaves what is kept for its reader', async (t) => {
  const harness = await harnessFor(t);
  const stored: StoredMessage[] = [];
  for (let i = 0; i < 20; i++) stored.push(...(await store(harness, newMessages(4, 'ann', 's', `${i}.`))));
  const counted = reads(t);
  const { messages } = await harness.store.page('ann', 0, 6, ALL);
  const kept = harness.store.stats.inboxesAheadBytes;
  assert.ok(kept > 0);
  remove(harness, stored.slice(0, 2));
  counted.segments = 0;
  assert.deepEqual(ids(await harness.store.oldest('', 10)), ['0.2']);
  assert.equal(counted.segments, 1);
  assert.equal(harness.store.stats.inboxesAheadBytes, kept);
  counted.segments = 0;
  const next = await harness.store.page('ann', messages.at(-1)!.position, 6, ALL);
  assert.deepEqual(ids(next.messages), ids(stored.slice(6, 12)));
  assert.equal(counted.segments, 0);
});

test('of an inbox whose name is removed while a page of it is read nothing is kept', async (t) => {
  const harness = await harnessFor(t);
  await harness.store.createUser('ann', 'hash', 0);
  for (let i = 0; i < 4; i++) await store(harness, newMessages(4, 'ann', 's', `${i}.`));
  assert.equal((await harness.store.page('ann', 0, 6, ALL)).end, false);
  assert.ok(harness.store.stats.inboxesAheadBytes > 0);
  let go = (): void => undefined;
  const gate = new Promise<void>((resolve) => {
    go = resolve;
  });
  const { getMany } = ClassicLevel.prototype;
  const mock = t.mock.method(ClassicLevel.prototype, 'getMany', async function (this: LevelDb, keys: Uint8Array[]) {
    const values = await getMany.call(this, keys, {});
    await gate;
    return values;
  });
  const page = harness.store.page('ann', 0, 6, ALL);
  while (mock.mock.callCount() === 0) await lag(4);
  mock.mock.restore();
  assert.equal(await harness.store.removeName('ann'), true);
  go();
  await page;
  assert.equal(harness.store.stats.inboxesAheadBytes, 0);
});

test('while memory is short nothing is kept', async (t) => {
  const harness = await harnessFor(t);
  await store(harness, newMessages(20, 'ann'));
  const first = await harness.store.page('ann', 0, 6, ALL);
  assert.ok(harness.store.stats.inboxesAheadBytes > 0);
  harness.store.isMemoryShort = true;
  assert.equal(harness.store.stats.inboxesAheadBytes, 0);
  const next = await harness.store.page('ann', first.messages.at(-1)!.position, 6, ALL);
  assert.deepEqual(ids(next.messages), ['m6', 'm7', 'm8', 'm9', 'm10', 'm11']);
  assert.equal(harness.store.stats.inboxesAheadBytes, 0);
  harness.store.isMemoryShort = false;
  await harness.store.page('ann', 0, 6, ALL);
  assert.ok(harness.store.stats.inboxesAheadBytes > 0);
});

test('pages that begin where the one before ended leave out what was removed, and have what was stored since', async (t) => {
  const harness = await harnessFor(t);
  const stored: StoredMessage[] = [];
  for (const name of ['a', 'b', 'c']) stored.push(...(await store(harness, newMessages(50, 'ann', 'bob', name))));
  const removed = new Set<number>();
  const gone = new Set<number>();
  const served: number[] = [];
  let after = 0;
  for (let end = false, pages = 1; !end; pages++) {
    const page = await harness.store.page('ann', after, 10, ALL);
    end = page.end;
    served.push(...page.messages.map(({ position }) => position));
    after = served.at(-1)!;
    // Those just served, and some of the same segment and the next; and once a whole one, with which the next page would begin.
    const last = stored.findIndex(({ position }) => position === after);
    const ahead = pages === 10 ? stored.slice(100, 150) : [last + 2, last + 60].flatMap((at) => stored[at] ?? []);
    const some = [...stored.slice(0, last + 1), ...ahead].filter(({ position }) => !gone.has(position));
    remove(harness, some);
    for (const { position } of some) gone.add(position);
    for (const { position } of ahead) if (position > after) removed.add(position);
    if (pages === 5) stored.push(...(await store(harness, newMessages(20, 'ann', 'bob', 'd'))));
  }
  const expected = stored.map(({ position }) => position).filter((position) => !removed.has(position));
  assert.deepEqual(served, expected);
  assert.ok(removed.size > 40);
});
