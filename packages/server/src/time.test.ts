import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { serverLimits } from '@hawser/protocol';
import { systemTime } from './time.ts';

/** Keeps the event loop from everything else. */
function work(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

test('the event loop is busy after it did nothing but work, and not any more after it waited', async () => {
  const { loopBusyCheckMs } = serverLimits;
  const time = systemTime(0);
  // In turns of their own, since what counts is the time between polls.
  for (let i = 0; i < 10; i++) {
    work(loopBusyCheckMs / 5);
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.equal(time.isBusy(), true);
  await sleep(4 * loopBusyCheckMs);
  assert.equal(time.isBusy(), false);
});
