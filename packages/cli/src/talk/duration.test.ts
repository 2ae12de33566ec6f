import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readDuration } from './duration.ts';

test('a duration has a unit, or is in seconds; what a timer cannot take is refused', () => {
  assert.deepEqual(['500ms', '5s', '1.5m', '1h', '7'].map(readDuration), [500, 5_000, 90_000, 3_600_000, 7_000]);
  for (const text of ['', '0', '-1s', '1d', '1e3', '600h', 's'])
    assert.throws(() => readDuration(text), /must be a time/);
});
