import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fleetIds } from './fleet.ts';

test('the ids of a fleet are counted from the first, as wide as it is', () => {
  assert.deepEqual(fleetIds('lamp-1', undefined), ['lamp-1']);
  assert.deepEqual(fleetIds('lamp-9', 2), ['lamp-9', 'lamp-10']);
  assert.deepEqual(fleetIds('lamp-008', 3), ['lamp-008', 'lamp-009', 'lamp-010']);
  assert.deepEqual(fleetIds('lamp', 2), ['lamp-1', 'lamp-2']);
  assert.deepEqual(fleetIds('7', 2), ['7', '8']);
});
