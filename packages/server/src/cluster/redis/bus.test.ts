import assert from 'node:assert/strict';
import { test } from 'node:test';
import { serverLimits } from '@hawser/protocol';
import type { Packet } from '../../core/packets.ts';
import { VirtualTime } from '../../core/testing/time.ts';
import { Bus } from './bus.ts';

const nudge = (news: number): Packet => ({ type: 'nudge', to: 'ann', position: 1, news });
const forward = (bytes: number): Packet => ({
  ...{ type: 'forward', to: 'ann', stream: 1, seq: 0, finishedTo: 0, isSettled: true, from: 'bea', msgId: 'm' },
  ...{ msg: new Uint8Array(bytes), wall: 0, ran: 0, ttl: 0 },
});

function busOf(publish: (node: string, payload: Buffer) => boolean) {
  const time = new VirtualTime();
  const packets: Packet[] = [];
  const told = { malformed: 0 };
  const bus = new Bus({
    now: () => performance.now(),
    self: 'me',
    publish,
    endOfTurn: (call) => time.endOfTurn(call),
    onMalformed: () => told.malformed++,
    onPacket: (_, packet) => {
      packets.push(packet);
    },
  });
  return { time, bus, packets, told };
}

test('what one turn has for a node leaves in one batch, and nothing before its end', async () => {
  const published: string[] = [];
  const { time, bus } = busOf((node) => published.push(node) > 0);
  for (let i = 0; i < 100; i++) {
    bus.send('a', nudge(i));
    bus.send('b', nudge(i));
  }
  assert.deepEqual(published, []);
  await time.settle();
  assert.deepEqual(published, ['a', 'b']);
  assert.equal(bus.counters.packetsOut, 200);
  bus.send('b', nudge(1));
  await time.settle();
  assert.deepEqual(published, ['a', 'b', 'b']);
});

test('a batch that has grown large leaves at once, and a packet that is too large is dropped alone', async () => {
  const sizes: number[] = [];
  const { time, bus } = busOf((_, payload) => sizes.push(payload.length) > 0);
  for (let i = 0; i < 10; i++) bus.send('a', forward(100_000));
  assert.equal(sizes.length, 3);
  bus.send('a', forward(serverLimits.busPacketBytesMax));
  bus.send('a', nudge(1));
  await time.settle();
  assert.equal(bus.counters.packetsOut, 11);
  assert.equal(bus.counters.dropped, 1);
  assert.ok(Math.max(...sizes) < serverLimits.busBatchBytesMax + 100_100);
});

test('what comes a second time, or behind a later batch, does not count', async () => {
  const payloads: Buffer[] = [];
  const from = busOf((_, payload) => payloads.push(payload) > 0);
  for (let i = 1; i <= 3; i++) {
    from.bus.send('a', nudge(i));
    await from.time.settle();
  }
  const { bus, packets } = busOf(() => true);
  for (const at of [0, 0, 2, 1, 2]) bus.receive(payloads[at]!);
  assert.deepEqual(packets, [nudge(1), nudge(3)]);
  assert.equal(bus.counters.stale, 3);
});

test('what is not taken is counted, and the next batch is a later one', async () => {
  let isTaken = false;
  const payloads: Buffer[] = [];
  const from = busOf((_, payload) => isTaken && payloads.push(payload) > 0);
  from.bus.send('a', nudge(1));
  from.bus.send('a', nudge(2));
  await from.time.settle();
  assert.equal(from.bus.counters.dropped, 2);
  isTaken = true;
  from.bus.send('a', nudge(3));
  await from.time.settle();
  const { bus, packets } = busOf(() => true);
  bus.receive(payloads[0]!);
  assert.deepEqual(packets, [nudge(3)]);
});

test('what is no batch of this version is counted, and told of once', async () => {
  const payloads: Buffer[] = [];
  const from = busOf((_, payload) => payloads.push(payload) > 0);
  from.bus.send('me', nudge(1));
  await from.time.settle();
  const [batch] = payloads;
  assert.ok(batch);
  const ofAnotherVersion = Buffer.from(batch);
  ofAnotherVersion[0]!++;
  const to = busOf(() => true);
  for (let i = 0; i < 3; i++) to.bus.receive(ofAnotherVersion);
  assert.deepEqual([to.bus.counters.malformed, to.told.malformed, to.packets.length], [3, 1, 0]);
});
