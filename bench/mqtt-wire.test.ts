import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  connectPacket,
  DISCONNECT,
  PACKET,
  publishTemplate,
  QOS_1,
  readPacket,
  subscribePacket,
  writePuback,
} from './mqtt-wire.ts';

test('packets have the bytes that mqtt-packet 9.0.2 gives them', () => {
  assert.equal(
    connectPacket('device-7').toString('hex'),
    '102e00044d51545404c0000000086465766963652d3700126465766963652d37406c6f63616c686f737400046e6f6e65',
  );
  assert.equal(subscribePacket(1, 'bench/device-7').toString('hex'), '82130001000e62656e63682f6465766963652d3701');
  const { bytes, idAt } = publishTemplate('bench/device-7', Buffer.from('x'.repeat(200)));
  bytes.writeUInt16BE(0x1234, idAt);
  assert.equal(bytes.toString('hex'), `32da01000e62656e63682f6465766963652d371234${'78'.repeat(200)}`);
  const puback = Buffer.alloc(6);
  assert.equal(writePuback(puback, 1, 0xfffe), 5);
  assert.equal(puback.toString('hex'), '004002fffe00');
  assert.equal(DISCONNECT.toString('hex'), 'e000');
});

test('a packet is read once all of it is there', () => {
  for (const size of [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152]) {
    const { bytes } = publishTemplate('', Buffer.alloc(Math.max(0, size - 4)));
    if (size < 4) bytes.fill(size, 1, 2);
    const end = size < 4 ? 2 + size : bytes.length;
    const found = { first: 0, start: 0, end: 0 };
    assert.equal(readPacket(bytes, 0, end - 1, found), 0);
    assert.equal(readPacket(bytes, 0, end, found), 1);
    assert.deepEqual(found, { first: PACKET.publish | QOS_1, start: end - size, end });
  }
});

test('a length of more than four bytes is none', () => {
  assert.equal(readPacket(Buffer.from('30ffffffff01', 'hex'), 0, 6, { first: 0, start: 0, end: 0 }), -1);
});
