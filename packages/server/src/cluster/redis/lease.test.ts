import assert from 'node:assert/strict';
import { test } from 'node:test';
import { VirtualTime } from '../../core/testing/time.ts';
import { Lease } from './lease.ts';

test('a lease lasts from when it was asked for, and never shorter for an older answer', async () => {
  const time = new VirtualTime();
  const lease = new Lease(time, 3000);
  const from = time.now();
  await time.pass(2000);
  lease.prolong(from + 4000);
  lease.prolong(from + 3500);
  assert.equal(lease.heldUntil, from + 4000);
  await time.pass(1999);
  assert.equal(lease.hasLapsed, false);
  await time.pass(1);
  assert.equal(lease.hasLapsed, true);
});

test('once it has run out nothing prolongs it, whoever says so: others may have what was held', async () => {
  const time = new VirtualTime();
  const lease = new Lease(time, 3000);
  await time.pass(3000);
  lease.prolong(time.now() + 3000);
  assert.ok(lease.heldUntil <= time.now());
  assert.equal(lease.hasLapsed, true);
});

test('it ends at once when the run is void', async () => {
  const time = new VirtualTime();
  const lease = new Lease(time, 3000);
  lease.end();
  assert.ok(lease.heldUntil <= time.now());
  lease.prolong(time.now() + 3000);
  assert.ok(lease.heldUntil <= time.now());
});
