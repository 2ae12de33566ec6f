import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NewMessage } from './ports.ts';
import { Bench } from './testing/bench.ts';

const APPEND_MS = 8;

test('a receiver that comes to a backlog on a busy server soon gets its messages directly', async () => {
  const bench = await Bench.open();
  await bench.away('bob');
  await bench.away('carl');
  const [ann, dora] = [await bench.app('ann'), await bench.app('dora')];
  bench.time.busy = true;
  const append = bench.store.append.bind(bench.store);
  bench.store.append = async (messages: readonly NewMessage[]) => {
    await new Promise<void>((resolve) => bench.time.after(APPEND_MS, resolve));
    return append(messages);
  };
  let sent = 0;
  const oneMs = async (): Promise<void> => {
    // Somebody else's messages have commits follow one another.
    if (bench.time.now() % 7 === 0) dora.post('carl', `c${bench.time.now()}`);
    if (bench.time.now() % 20 === 0) ann.post('bob', `m${sent++}`);
    await bench.pass(1);
  };
  for (let ms = 0; ms < 200; ms++) await oneMs();
  const bob = await bench.app('bob');
  bob.fetch();
  let seen = 0;
  let waited = 0;
  for (; bench.phase('bob') !== 'live' && waited < 3000; waited++) {
    await oneMs();
    const fresh = bob.pushedIds.slice(seen);
    seen += fresh.length;
    if (fresh.length > 0) bob.ack(...fresh);
  }
  assert.ok(waited < 250, `it went live after ${waited} ms`);
  assert.deepEqual(
    bob.pushedIds,
    Array.from({ length: bob.pushedIds.length }, (_, i) => `m${i}`),
  );
});
