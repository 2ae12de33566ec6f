import assert from 'node:assert/strict';
import { constants, PerformanceObserver } from 'node:perf_hooks';
import { mock, test } from 'node:test';
import { serverLimits } from '@hawser/protocol';
import { BufferGarbage, boundGarbage, heapGrowthPercent, inboxesKnownBytesMax, watchMemory } from './memory.ts';

test('the gate shuts beyond one mark and opens below a lower one, saying so once each time', () => {
  mock.timers.enable({ apis: ['setInterval'] });
  try {
    const said: boolean[] = [];
    let used = 10;
    const stop = watchMemory(
      (isShort) => said.push(isShort),
      () => used,
    );
    const check = (percent: number): void => {
      used = percent;
      mock.timers.tick(serverLimits.memoryCheckMs);
    };
    check(serverLimits.memoryPercentPause);
    assert.deepEqual(said, []);
    check(serverLimits.memoryPercentPause + 1);
    check(serverLimits.memoryPercentPause + 2);
    assert.deepEqual(said, [true]);
    check(serverLimits.memoryPercentResume + 1);
    assert.deepEqual(said, [true]);
    check(serverLimits.memoryPercentResume);
    assert.deepEqual(said, [true, false]);
    stop();
    check(100);
    assert.deepEqual(said, [true, false]);
  } finally {
    mock.timers.reset();
  }
});

test('the process uses some of what it may', () => {
  let seen = -1;
  mock.timers.enable({ apis: ['setInterval'] });
  try {
    // The real reading is what it takes when none is given: with it, a fresh process is far from the mark.
    const stop = watchMemory(() => {
      seen = 1;
    });
    mock.timers.tick(serverLimits.memoryCheckMs);
    stop();
    assert.equal(seen, -1);
  } finally {
    mock.timers.reset();
  }
});

test('the share of garbage is smaller the more is alive, within bounds', () => {
  const { heapGarbageBytes, heapGrowthPercentLeast, heapGrowthPercentMost } = serverLimits;
  assert.equal(heapGrowthPercent(heapGarbageBytes), 100);
  assert.equal(heapGrowthPercent(2 * heapGarbageBytes), 50);
  assert.equal(heapGrowthPercent(1), heapGrowthPercentMost);
  assert.equal(heapGrowthPercent(1e12), heapGrowthPercentLeast);
});

test('a heap through which objects stream keeps to the bound on garbage', async () => {
  const alive = Array.from({ length: 300_000 }, (_, i) => ({ text: `${i}`, more: [i] }));
  const unbound = boundGarbage();
  // What lives just long enough to grow old. Without the bound the heap comes to 310 MiB, with it to about 130.
  const ring: object[] = new Array(200_000).fill(alive);
  let most = 0;
  for (let i = 0; i < 4_000_000; i++) {
    ring[i % ring.length] = { text: `${i}`, more: [i] };
    if (i % 50_000 !== 0) continue;
    most = Math.max(most, process.memoryUsage().heapUsed);
    // Collections are told of between turns of the event loop.
    await new Promise(setImmediate);
  }
  unbound();
  assert.equal(alive.length, 300_000);
  assert.ok(most < 260 * 2 ** 20, `${Math.round(most / 2 ** 20)} MiB`);
});

test('buffers are collected after so many bytes on the wire, counted from the last collection of any kind', () => {
  let collections = 0;
  const garbage = new BufferGarbage(() => collections++);
  const every = serverLimits.wireBytesPerCollection;
  try {
    garbage.turnEnded(every - 1);
    assert.equal(collections, 0);
    garbage.turnEnded(every);
    assert.equal(collections, 1);
    garbage.turnEnded(2 * every - 1);
    garbage.collected();
    garbage.turnEnded(3 * every - 2);
    assert.equal(collections, 1);
    garbage.turnEnded(3 * every - 1);
    assert.equal(collections, 2);
  } finally {
    garbage.stop();
  }
});

test('the young generation is collected when asked for, and not the whole heap', async () => {
  let kinds: unknown[] = [];
  const observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) kinds.push((entry as { detail?: { kind?: number } }).detail?.kind);
  });
  observer.observe({ entryTypes: ['gc'] });
  const garbage = new BufferGarbage();
  const every = serverLimits.wireBytesPerCollection;
  const { NODE_PERFORMANCE_GC_MINOR, NODE_PERFORMANCE_GC_MAJOR } = constants;
  try {
    // V8 may collect of its own accord at the same time: a call for the whole heap would do so each time.
    for (let tries = 1; tries <= 10; tries++) {
      kinds = [];
      garbage.turnEnded(tries * every);
      while (kinds.length === 0) await new Promise(setImmediate);
      if (kinds.includes(NODE_PERFORMANCE_GC_MINOR) && !kinds.includes(NODE_PERFORMANCE_GC_MAJOR)) return;
    }
    assert.fail('the whole heap was collected each time');
  } finally {
    observer.disconnect();
    garbage.stop();
  }
});

test('what may be known of inboxes grows with the memory that there is and with the heap, from 64 MiB on', () => {
  const [mib, gib] = [2 ** 20, 2 ** 30];
  assert.equal(inboxesKnownBytesMax(gib, 4 * gib), 64 * mib);
  assert.equal(inboxesKnownBytesMax(24 * gib, 4 * gib), 384 * mib);
  assert.equal(inboxesKnownBytesMax(256 * gib, 4 * gib), 512 * mib);
  assert.equal(inboxesKnownBytesMax(256 * gib, gib / 4), 64 * mib);
});
