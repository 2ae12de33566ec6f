// The tests' own tools, checked against bytes written down by hand.

import assert from 'node:assert/strict';
import { createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import { aesDecrypt, aesEncrypt, Client, decodeBody, encodeBody, encodeFrame } from './mini-client.ts';
import { explicitBody, fieldsOf, varint } from './wire.ts';

test('the test client encodes envelopes as proto3 does', () => {
  assert.deepEqual(encodeFrame({}), Buffer.from('00000000', 'hex'));
  assert.deepEqual(
    encodeFrame({ cmd: 200, msgId: 'ab', isEncrypt: true, data: Buffer.from('hi') }),
    Buffer.from('0000000d08c80112026162180122026869', 'hex'),
  );
  assert.deepEqual(encodeBody({ cmd: -1 }), Buffer.from('08ffffffffffffffffff01', 'hex'));
});

test('the test client decodes what it encodes', () => {
  const fields = {
    cmd: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
    msgId: fc.string({ unit: 'grapheme' }),
    isEncrypt: fc.boolean(),
    data: fc.uint8Array().map((bytes) => Buffer.from(bytes)),
  };
  const envelope = fc.record(fields, { noNullPrototype: true });
  fc.assert(fc.property(envelope, (given) => assert.deepEqual(decodeBody(encodeBody(given)), given)));
});

test('the hand-written protobuf agrees with protobufjs', () => {
  assert.deepEqual(varint(300), Buffer.from('ac02', 'hex'));
  assert.deepEqual(varint(0, 3), Buffer.from('808000', 'hex'));
  assert.deepEqual(decodeBody(explicitBody(200, 'x', 'y')), {
    cmd: 200,
    msgId: 'x',
    isEncrypt: false,
    data: Buffer.from('y'),
  });
  const fields = fieldsOf(encodeBody({ cmd: 200, msgId: 'x', isEncrypt: true, data: Buffer.from('y') }));
  assert.deepEqual(
    fields.map(({ field, value }) => [field, value]),
    [
      [1, 200n],
      [2, Buffer.from('x')],
      [3, 1n],
      [4, Buffer.from('y')],
    ],
  );
});

test('the test client encrypts as FIPS 197 and PKCS#7 say', () => {
  const key = Buffer.from('000102030405060708090a0b0c0d0e0f', 'hex');
  // FIPS 197, appendix C.1, and the padding block that PKCS#7 adds to it.
  const plain = Buffer.from('00112233445566778899aabbccddeeff', 'hex');
  const secret = aesEncrypt(key, plain);
  assert.equal(secret.subarray(0, 16).toString('hex'), '69c4e0d86a7b0430d8cdb78070b4c55a');
  assert.equal(secret.length, 32);
  assert.deepEqual(aesDecrypt(key, secret), plain);
});

test('the test client tells a FIN from a reset', async () => {
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => {});
    socket.write(encodeFrame({ cmd: 3 }));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  const at = { host: '127.0.0.1', port: address.port };
  try {
    using first = await Client.connect(at);
    await first.takeCmd(3);
    sockets[0]?.end();
    assert.equal((await first.waitClosed()).how, 'fin');
    using second = await Client.connect(at);
    await second.takeCmd(3);
    sockets[1]?.resetAndDestroy();
    assert.equal((await second.waitClosed()).how, 'reset');
    using third = await Client.connect(at);
    await third.takeCmd(3);
    third.destroy();
    assert.equal((await third.waitClosed()).how, 'self');
    await assert.rejects(third.takeCmd(3), /closed \(self\), no frame with cmd 3/);
  } finally {
    for (const socket of sockets) socket.destroy();
    server.close();
  }
});
