import assert from 'node:assert/strict';
import { test } from 'node:test';
import { follow, Schedule } from './schedule.ts';

test('messages are due at even distances from the start, whole rounds of them', () => {
  const schedule = new Schedule(1000, 5000, 2010, 50);
  assert.equal(schedule.count, 10_050);
  assert.equal(schedule.dueBy(999.99), 0);
  assert.equal(schedule.dueBy(1000), 1);
  assert.equal(schedule.dueBy(1000.19), 1);
  assert.equal(schedule.dueBy(1001.05), 6);
  assert.equal(schedule.dueBy(1e9), 10_050);
  assert.equal(schedule.dueAtMs(0), 1000);
  assert.equal(schedule.dueAtMs(5000).toFixed(6), '2000.000000');
});

test('a stall leaves no message out and shifts no due time', async () => {
  const schedule = new Schedule(performance.now(), 2000, 60, 1);
  const lateMs: number[] = [];
  let stalled = false;
  await follow(schedule, (n) => {
    lateMs.push(performance.now() - schedule.dueAtMs(n));
    if (n !== 20 || stalled) return;
    stalled = true;
    const end = performance.now() + 20;
    while (performance.now() < end);
  });
  assert.equal(lateMs.length, 120);
  assert.ok(lateMs.every((late) => late >= -1e-6));
  // Due half a millisecond after the one that stalled 20 ms: counted from when it was sent, the stall would not be seen.
  assert.ok(lateMs[21]! >= 19, `${lateMs[21]} ms late`);
  assert.ok(lateMs[40]! >= 9, `${lateMs[40]} ms late`);
});
