import assert from 'node:assert/strict';
import { test } from 'node:test';
import { serverLimits } from '@hawser/protocol';
import { type AbuseLimits, abuseLimits } from './abuse-limits.ts';
import { Admission, type Place } from './admission.ts';
import { Counters } from './counters.ts';
import { VirtualTime } from './testing/time.ts';

function opened(limits: Partial<AbuseLimits>): { admission: Admission; counters: Counters; time: VirtualTime } {
  const time = new VirtualTime();
  const counters = new Counters();
  return { admission: new Admission(abuseLimits(limits), time, counters), counters, time };
}

/** A place whose connection gives way, unless the server is at work for it. */
function admit(admission: Admission, address: string, isBusy = false): (Place & { isEnded?: boolean }) | undefined {
  const place: (Place & { isEnded?: boolean }) | undefined = admission.admit(address);
  if (place === undefined) return undefined;
  place.giveWay = () => {
    if (!isBusy) place.isEnded = true;
    return !isBusy;
  };
  return place;
}

test('an address has so many connections and no more, whatever others have; one that leaves makes room', () => {
  const { admission, counters } = opened({ connectionsPerAddressMax: 3 });
  const places = Array.from({ length: 3 }, () => admit(admission, '203.0.113.9'));
  for (const place of places) place?.loggedIn();
  assert.equal(admit(admission, '203.0.113.9'), undefined);
  assert.equal(admit(admission, '::ffff:203.0.113.9'), undefined, 'the same address');
  assert.ok(admit(admission, '203.0.113.10'));
  assert.equal(counters.limited.connectionsPerAddress, 2);
  assert.equal(counters.closed.tooManyConnections, 2);
  places[0]?.leave();
  places[0]?.leave();
  assert.ok(admit(admission, '203.0.113.9'));
  assert.equal(admit(admission, '203.0.113.9'), undefined);
});

test('a /64 of IPv6 is one address', () => {
  const { admission } = opened({ connectionsPerAddressMax: 2 });
  for (let i = 1; i <= 2; i++) assert.ok(admit(admission, `2001:db8::${i}`));
  assert.equal(admit(admission, '2001:db8::ffff'), undefined);
  assert.ok(admit(admission, '2001:db8:0:1::1'));
});

test('an address opens so many connections a second, twice as many after a rest, and does not hold up others', async () => {
  const { admission, counters, time } = opened({ handshakesPerAddressPerSecondMax: 10 });
  const tries = (address: string): number => {
    let count = 0;
    for (let i = 0; i < 100; i++) {
      const place = admission.admit(address);
      if (place === undefined) continue;
      count++;
      place.leave();
    }
    return count;
  };
  assert.equal(tries('a'), 20);
  assert.equal(tries('b'), 20);
  await time.pass(1000);
  assert.equal(tries('a'), 10);
  assert.equal(counters.limited.newConnectionsPerAddress, 250);
  assert.equal(admission.addresses, 0, 'nothing is kept of those that are gone');
});

test('all together open so many connections a second', () => {
  const { admission, counters } = opened({ connectionsPerSecondMax: 50 });
  let count = 0;
  for (let i = 0; i < 500; i++) if (admission.admit(`10.0.${i >> 8}.${i & 255}`) !== undefined) count++;
  assert.equal(count, 100);
  assert.equal(counters.limited.newConnections, 400);
});

test('two addresses that may open all that there are leave room for the connections of others', async () => {
  const { admission, time } = opened({ handshakesPerAddressPerSecondMax: 2_000, connectionsPerSecondMax: 4_000 });
  let refused = 0;
  for (let i = 0; i < 500; i++) {
    for (let n = 0; n < 100; n++) {
      for (const address of ['203.0.113.8', '203.0.113.9']) admission.admit(address)?.leave();
    }
    const honest = admission.admit(`198.51.100.${i % 20}`);
    if (honest === undefined) refused++;
    honest?.leave();
    await time.pass(20);
  }
  assert.equal(refused, 0);
});

test('key exchanges are so many a second for an address', () => {
  const { admission, counters } = opened({ handshakesPerAddressPerSecondMax: 10 });
  let count = 0;
  for (let i = 0; i < 100; i++) if (admission.mayExchangeKeys('a')) count++;
  assert.equal(count, 20);
  assert.equal(counters.limited.keyExchangesPerAddress, 80);
  assert.ok(admission.mayExchangeKeys('b'));
});

test('of an address with too many connections that have not logged in the newest is refused, and others get in', () => {
  const { admission, counters } = opened({ beforeLoginPerAddressMax: 5 });
  const places = Array.from({ length: 5 }, () => admit(admission, 'a'));
  assert.equal(admit(admission, 'a'), undefined);
  assert.equal(counters.limited.beforeLoginPerAddress, 1);
  assert.ok(admit(admission, 'b'));
  places[4]?.loggedIn();
  assert.ok(admit(admission, 'a'), 'who has logged in does not count');
  places[4]?.loggedOut();
  assert.equal(admit(admission, 'a'), undefined, 'nor is it forgotten when that came to nothing');
});

test('of too many connections in all that have not logged in the oldest goes that waits for nothing of the server', () => {
  const { admission, counters } = opened({ beforeLoginMax: 4 });
  const loggedIn = admit(admission, 'z');
  loggedIn?.loggedIn();
  const busy = admit(admission, 'a', true);
  const slow = ['b', 'c', 'd'].map((address) => admit(admission, address));
  assert.ok(admit(admission, 'e'));
  assert.deepEqual([busy?.isEnded, ...slow.map((place) => place?.isEnded)], [undefined, true, undefined, undefined]);
  assert.ok(admit(admission, 'f'));
  assert.equal(slow[1]?.isEnded, true);
  assert.equal(loggedIn?.isEnded, undefined);
  assert.equal(counters.limited.beforeLogin, 2);
  assert.equal(admission.beforeLogin, 4);
});

test('while the server is at work for all of them the newest is refused', () => {
  const { admission, counters } = opened({ beforeLoginMax: 100 });
  for (let i = 0; i < 100; i++) assert.ok(admit(admission, `10.0.0.${i}`, true));
  assert.equal(admit(admission, '10.0.1.1'), undefined);
  assert.equal(counters.closed.tooManyConnections, 1);
  assert.equal(admission.beforeLogin, 100);
});

test('those that have not logged in never take more than half of all connections', () => {
  const { admission } = opened({ connectionsMax: 10 });
  for (let i = 0; i < 20; i++) admit(admission, `10.0.0.${i}`);
  assert.equal(admission.beforeLogin, 5);
});

test('slow sockets from one address, however many come, leave room to log in for others and for itself', async () => {
  const { admission, time } = opened({});
  for (let second = 0; second < 30; second++) {
    for (let i = 0; i < 3_000; i++) admit(admission, '203.0.113.9');
    await time.pass(1000);
    const honest = admit(admission, '198.51.100.7');
    assert.ok(honest);
    assert.equal(honest.isEnded, undefined);
    honest.loggedIn();
  }
  assert.ok(admission.beforeLogin <= serverLimits.beforeLoginPerAddressMax);
});

test('slow sockets from ever new addresses are ended before one that logs in within seconds', async () => {
  const { admission, time } = opened({ connectionsPerSecondMax: 2_000 });
  for (let i = 0; i < 60; i++) {
    const honest = admit(admission, `198.51.100.${i}`);
    for (let n = 0; n < 1_000; n++) admit(admission, `10.${i}.${n >> 8}.${n & 255}`);
    await time.pass(1000);
    assert.ok(honest);
    honest.loggedIn();
    assert.equal(honest.isEnded, undefined);
    // The place that it leaves among them is not kept for the next.
    admit(admission, `10.200.0.${i}`);
  }
  assert.ok(admission.beforeLogin <= serverLimits.beforeLoginMax);
});
