import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { SocketWire } from './socket.ts';

const peer = { address: '127.0.0.1', isLoopback: true, isTls: false, certifiedName: undefined };
const clock = { now: 0 };

/** Both ends of a connection. */
async function pair(t: TestContext): Promise<{ here: Socket; there: Socket; wire: SocketWire }> {
  const server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const accepted = once(server, 'connection');
  const there = connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', allowHalfOpen: true });
  const [here] = (await accepted) as [Socket];
  t.after(() => {
    here.destroy();
    there.destroy();
    server.close();
  });
  return { here, there, wire: new SocketWire(here, peer, () => clock.now) };
}

test('when a write was done is told from when it was first seen to be', async (t) => {
  const { here, there, wire } = await pair(t);
  there.pause();
  clock.now = 5;
  assert.equal(wire.wroteAt, 0, 'nothing was written');
  wire.write(Buffer.alloc(100));
  assert.equal(wire.wroteAt, 5);
  clock.now = 6;
  assert.equal(wire.wroteAt, 5, 'nothing was written since');
  // More than the system takes while nobody reads.
  while (here.writableLength === 0) wire.write(Buffer.alloc(1024 * 1024));
  clock.now = 7;
  const { wroteAt } = wire;
  clock.now = 8;
  assert.equal(wire.wroteAt, wroteAt, 'what waits is not done');
  const drained = once(here, 'drain');
  there.resume();
  await drained;
  assert.equal(wire.wroteAt, 8);
});

test('a peer that has ended its side gets all that was written, then the end, and the socket is gone at once', async (t) => {
  const { here, there, wire } = await pair(t);
  const received: Buffer[] = [];
  there.on('data', (chunk: Buffer) => received.push(chunk));
  const closed = once(there, 'close');
  here.resume();
  there.end('bye');
  await once(here, 'end');
  wire.write(Buffer.from('good-bye'));
  wire.end();
  assert.equal(here.destroyed, true);
  assert.deepEqual(await closed, [false], 'closed without an error');
  assert.equal(Buffer.concat(received).toString(), 'good-bye');
});

test('a peer that has ended its side and does not read yet gets all that was written', async (t) => {
  const { here, there, wire } = await pair(t);
  here.resume();
  there.pause();
  there.end();
  await once(here, 'end');
  let bytes = 0;
  while (here.writableLength === 0) {
    wire.write(Buffer.alloc(1024 * 1024));
    bytes += 1024 * 1024;
  }
  wire.end();
  await turn();
  assert.equal(here.destroyed, false, 'some of it is not with the system');
  let received = 0;
  there.on('data', (chunk: Buffer) => {
    received += chunk.length;
  });
  there.resume();
  assert.deepEqual(await once(there, 'close'), [false]);
  assert.equal(received, bytes);
});
