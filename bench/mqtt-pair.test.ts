import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Histogram } from './histogram.ts';
import { MqttPair } from './mqtt-pair.ts';
import { PACKET_ID_MAX, readPacket } from './mqtt-wire.ts';

const PAYLOAD_SIZE = 100;

/** A pair without connections, and what it would write as its next message, from behind the length on. */
function newPair(window: number) {
  const pair = new MqttPair(null, null, 'bench/device-7', PAYLOAD_SIZE, window);
  const packet = { first: 0, start: 0, end: 0 };
  const next = (): Buffer => {
    const bytes = Buffer.alloc(pair.size);
    pair.next(bytes, 0, 1);
    assert.equal(readPacket(bytes, 0, bytes.length, packet), 1);
    return bytes.subarray(packet.start, packet.end);
  };
  const receive = (bytes: Buffer): boolean => pair.receive(bytes, 0, bytes.length, 4);
  return { pair, next, receive };
}

test('a message is in flight until it is both acked and delivered, in whichever order', () => {
  const { pair, next, receive } = newPair(2);
  const [first, second] = [next(), next()];
  assert.equal(pair.wantsToSend, false);
  assert.equal(pair.ack(1), 1);
  assert.equal(pair.wantsToSend, false);
  assert.ok(receive(first));
  assert.equal(pair.wantsToSend, true);
  assert.ok(receive(second));
  next();
  assert.equal(pair.wantsToSend, false);
  assert.equal(pair.ack(2), 1);
  assert.equal(pair.wantsToSend, true);
  assert.equal(pair.ack(2), -1);
  assert.equal(pair.ack(9), -1);
  assert.deepEqual(pair.unacked, [1, 2]);
});

test('what is lost, doubled, out of order or altered is found', () => {
  const { pair, next, receive } = newPair(9);
  const [first, second, third] = [next(), next(), next()];
  assert.ok(receive(first));
  assert.ok(receive(first));
  assert.deepEqual([pair.duplicates, pair.lost], [1, 0]);
  assert.ok(receive(third));
  assert.ok(receive(second));
  assert.deepEqual([pair.duplicates, pair.lost], [2, 1]);
  for (const at of [2, 20, third.length - 1]) {
    const altered = Buffer.from(next());
    altered[at]! ^= 0x40;
    assert.equal(receive(altered), false, `byte ${at}`);
  }
  assert.equal(receive(third.subarray(0, -1)), false);
});

test('packet ids begin anew behind the last, and latencies go with them', () => {
  const { pair, next, receive } = newPair(9);
  const histogram = new Histogram();
  pair.deliveries = histogram;
  for (let number = 0; number < PACKET_ID_MAX + 3; number++) {
    assert.ok(receive(next()));
    assert.equal(pair.ack((number % PACKET_ID_MAX) + 1), 1);
  }
  assert.equal(pair.unacked.at(-1), 3);
  assert.equal(histogram.total, PACKET_ID_MAX + 3);
  assert.equal(histogram.percentile(100).toFixed(3), '3.001');
  assert.deepEqual([pair.duplicates, pair.lost], [0, 0]);
});
