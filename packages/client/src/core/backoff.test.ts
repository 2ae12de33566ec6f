import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clientLimits } from '@hawser/protocol';
import { fullJitterMs } from './backoff.ts';
import { DeviceClient } from './device.ts';
import { World } from './world.ts';

const seed = Number(process.env.HAWSER_SEED ?? 20_261_125);
const { reconnectBaseMs, reconnectMsMax, stableAfterMs } = clientLimits;

/** The longest wait before attempt n. */
function longestMs(attempt: number): number {
  return Math.min(reconnectMsMax, reconnectBaseMs * 2 ** attempt);
}

/**
 * The Kolmogorov-Smirnov statistic: how far the share of `values` up to a point is at most from the even spread over
 * [0, 1). For n even values it exceeds 1.95/√n once in 1,000 times.
 */
function unevenness(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return Math.max(
    ...sorted.map((value, index) => Math.max(value - index / sorted.length, (index + 1) / sorted.length - value)),
  );
}

test('the wait is a random part of the smaller of cap and base doubled with each attempt', () => {
  assert.equal(fullJitterMs(0, 1000, 60_000, 0), 0);
  assert.equal(fullJitterMs(0, 1000, 60_000, 0.5), 500);
  assert.equal(fullJitterMs(5, 1000, 60_000, 0.5), 16_000);
  assert.equal(fullJitterMs(6, 1000, 60_000, 0.5), 30_000);
  assert.equal(fullJitterMs(5000, 1000, 60_000, 0.5), 30_000);
});

test('10,000 clients whose server restarts come back evenly spread, each attempt over the time that full jitter gives it', async (t) => {
  t.diagnostic(`HAWSER_SEED=${seed}`);
  const clients = 10_000;
  const downMs = 90_000;
  const world = new World(seed);
  const devices = Array.from({ length: clients }, () => new DeviceClient(world.ports(), {}));
  const waits: number[][] = [];
  const begun: number[] = [];
  for (const [n, device] of devices.entries()) {
    device.authenticate(`device-${n}`).catch(assert.fail);
    device.onState((state) => {
      if (state.phase === 'waiting') {
        waits[state.attempt] ??= [];
        waits[state.attempt]?.push(state.delayMs);
      }
      if (state.phase === 'locating') begun.push(world.time.now());
    });
  }
  await world.time.advance(0);
  assert.ok(devices.every(({ state }) => state.phase === 'online'));
  await world.time.advance(stableAfterMs);

  // The server goes away, and every attempt fails at once, for a while.
  const from = world.time.now();
  begun.length = 0;
  world.onConnect = (peer) => peer.close(new Error('refused'));
  for (const peer of world.peers.slice(0, clients)) peer.close();
  await world.time.advance(downMs);
  assert.ok(devices.every(({ state }) => state.phase === 'waiting'));
  world.onConnect = (peer) => peer.open();
  await world.time.advance(reconnectMsMax);
  assert.ok(devices.every(({ state }) => state.phase === 'online'));

  // Each attempt: even over its range, and nearly filling it.
  for (let attempt = 0; attempt <= 6; attempt++) {
    const shares = (waits[attempt] ?? []).map((waitMs) => waitMs / longestMs(attempt));
    assert.ok(shares.length >= clients / 3, `attempt ${attempt} was made by ${shares.length}`);
    const distance = unevenness(shares);
    assert.ok(distance < 1.95 / Math.sqrt(shares.length), `attempt ${attempt}: unevenness ${distance}`);
  }
  // What the server sees: the first attempts within a second, as many in each tenth of it; then ever fewer.
  const first = begun.map((at) => at - from).filter((at) => at < reconnectBaseMs);
  const inTenths = Array.from({ length: 10 }, (_, n) => first.filter((at) => Math.floor(at / 100) === n).length);
  t.diagnostic(`attempts in each tenth of the first second: ${inTenths}`);
  // At t seconds first attempts have the density 1, second ones t/2 (their wait is up to 2 s), third ones t²/16.
  for (const [tenth, count] of inTenths.entries()) {
    const t = (tenth + 0.5) / 10;
    const expected = (clients / 10) * (1 + t / 2 + t ** 2 / 16);
    assert.ok(Math.abs(count - expected) < 5 * Math.sqrt(expected), `tenth ${tenth}: ${count}, expected ${expected}`);
  }
  const lastSecond = begun.filter((at) => at - from >= downMs - 1000 && at - from < downMs).length;
  t.diagnostic(`attempts in the last second before the server is back: ${lastSecond}`);
  assert.ok(lastSecond < clients / 15, `${lastSecond} attempts in a second`);
});

test('attempts count on when a connection does not last, and anew once one has lasted', async () => {
  const world = new World(seed);
  const device = new DeviceClient(world.ports(), {});
  const attempts: number[] = [];
  let onlineAt = 0;
  device.onState((state) => {
    if (state.phase === 'waiting') attempts.push(state.attempt);
    if (state.phase === 'online') onlineAt = world.time.now();
  });
  const done = device.authenticate('lamp');
  await world.time.advance(0);
  await done;
  for (const lastsMs of [1000, stableAfterMs - 1, stableAfterMs - 1, stableAfterMs, 1000]) {
    await world.time.advance(lastsMs - (world.time.now() - onlineAt));
    world.peer.close();
    while (device.state.phase !== 'online') await world.time.advance(100);
  }
  assert.deepEqual(attempts, [0, 1, 2, 0, 1]);
});
