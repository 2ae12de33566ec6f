import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StoredMessage } from '../core/ports.ts';
import { Ahead, type ReadSegment } from './ahead.ts';
import { ALL, newMessages, remove, store } from './contract-harness.ts';
import { Inbox } from './inbox.ts';
import { harnessFor } from './level-harness.ts';
import { SegmentReader, SegmentWriter } from './segment.ts';

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

test('no more than 256 KiB are kept of one inbox, and 4 MiB of all: those kept last', () => {
  const ahead = new Ahead();
  const inboxes = Array.from({ length: 40 }, () => new Inbox(1));
  const large = [segment(1, 100_000), segment(2, 100_000), segment(3, 100_000)];
  for (const inbox of inboxes) ahead.keep(inbox, 0, large);
  const kept = inboxes.map((inbox) => ahead.take(inbox, 0)?.length ?? 0);
  const expected = inboxes.map((_, i) => (i < 20 ? 0 : 2));
  assert.deepEqual(kept, expected);
  ahead.keep(inboxes[0]!, 0, [segment(1, 300_000)]);
  assert.equal(ahead.take(inboxes[0]!, 0), undefined);
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
