import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Histogram } from './histogram.ts';

test('a percentile is the smallest time that so many are not above, to a step', () => {
  const histogram = new Histogram();
  const times = Array.from({ length: 1000 }, (_, i) => (i + 0.5) * 0.05);
  for (const ms of times.toReversed()) histogram.record(ms);
  for (const percent of [0.1, 1, 50, 95, 99, 100]) {
    const exact = times[Math.ceil((times.length * percent) / 100) - 1]!;
    const found = histogram.percentile(percent);
    assert.ok(found >= exact - 1e-9 && found <= exact + 0.011, `p${percent}: ${found}, exactly ${exact}`);
  }
  assert.equal(histogram.maxMs, times.at(-1));
  assert.equal(histogram.total, 1000);
});

test('times below a millisecond are told apart to a microsecond', () => {
  const histogram = new Histogram();
  for (let i = 0; i < 100; i++) histogram.record(0.0705);
  histogram.record(0.0925);
  assert.equal(histogram.percentile(50).toFixed(3), '0.071');
  assert.equal(histogram.percentile(100).toFixed(3), '0.093');
});

test('the end of the fine steps and that of the coarse ones lose nothing', () => {
  const histogram = new Histogram();
  for (const ms of [19.9995, 20, 9_999.999, 10_000, 60_000]) histogram.record(ms);
  assert.deepEqual(
    [20, 40, 60, 80, 100].map((percent) => Number(histogram.percentile(percent).toFixed(2))),
    [20, 20.01, 10_000, 10_000, 10_000],
  );
  assert.equal(histogram.maxMs, 60_000);
});

test('nothing recorded is 0', () => {
  assert.equal(new Histogram().percentile(50), 0);
  assert.equal(new Histogram().maxMs, 0);
});
