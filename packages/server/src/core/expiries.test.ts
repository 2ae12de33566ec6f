import assert from 'node:assert/strict';
import { test } from 'node:test';
import { serverLimits } from '@hawser/protocol';
import { Expiries } from './expiries.ts';
import type { Time } from './ports.ts';

/** A log that is kept, and a clock of which the timers are called by hand. */
function surroundings() {
  const lines: [string, object, string][] = [];
  const timers = new Set<() => void>();
  const keep = (level: string) => (fields: object, text: string) => void lines.push([level, fields, text]);
  const time: Time = {
    now: () => 0,
    wall: () => 0,
    ran: () => 0,
    endOfTurn: () => {},
    isBusy: () => false,
    after(ms, call) {
      assert.equal(ms, serverLimits.expiryLogMs);
      timers.add(call);
      return { cancel: () => timers.delete(call) };
    },
  };
  const log = { debug: keep('debug'), info: keep('info'), warn: keep('warn'), error: keep('error') };
  return { lines, timers, expiries: new Expiries(time, log) };
}

test('a hundred thousand messages dropped for one receiver are one line, and nothing is told twice', () => {
  const { lines, timers, expiries } = surroundings();
  for (let i = 0; i < 100_000; i++) expiries.note('ann', i % 4 === 0 ? 'ttl' : 'age', 1);
  expiries.note('bob', 'ttl', 1);
  assert.deepEqual([lines.length, timers.size], [0, 1]);
  for (const call of timers) call();
  assert.deepEqual(
    lines.map(([level, fields]) => [level, fields]),
    [
      ['warn', { receiver: 'ann', age: 75_000, ttl: 25_000 }],
      ['info', { receiver: 'bob', age: 0, ttl: 1 }],
    ],
  );
  assert.equal(timers.size, 0);
  expiries.tell();
  assert.equal(lines.length, 2);
  expiries.note('ann', 'age', 3);
  expiries.tell();
  assert.deepEqual([lines.at(-1)?.[1], timers.size], [{ receiver: 'ann', age: 3, ttl: 0 }, 0]);
});

test('however many receivers there are, the lines are few and leave no message out', () => {
  const { lines, expiries } = surroundings();
  for (let i = 0; i < 10_000; i++) expiries.note(`r${i}`, 'age', 2);
  expiries.tell();
  assert.equal(lines.length, serverLimits.expiryReceiversLoggedMax + 1);
  assert.equal(
    lines.reduce((sum, [, fields]) => sum + (fields as { age: number }).age, 0),
    20_000,
  );
});
