// The network may be hostile, but it must not be the one that loses or changes what passes.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { test } from 'node:test';
import { Random } from '../sim/random.ts';
import type { Manner } from './pipe.ts';
import { type Breakage, HostileProxy, type ProxyPlan } from './proxy.ts';

const BYTES = 300_000;
const NEVER = { plain: 0, late: 0, split: 0, merged: 0, narrow: 0 };
const UNBROKEN = {
  reset: 0,
  fin: 0,
  'reset to server': 0,
  'reset to client': 0,
  'hole up': 0,
  'hole down': 0,
  stall: 0,
};

/** An echo behind a proxy that behaves so. */
async function echo(t: { after(end: () => void): void }, plan: ProxyPlan): Promise<HostileProxy> {
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.pipe(socket);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const proxy = new HostileProxy(new Random(7));
  await proxy.listen();
  const address = server.address();
  proxy.target = typeof address === 'object' && address !== null ? address.port : 0;
  proxy.disturb(plan);
  t.after(() => {
    proxy.close();
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return proxy;
}

/** Sends all of it, closes its side, and reads to the end. */
async function roundTrip(port: number, sent: Buffer): Promise<{ readonly got: Buffer; readonly isBroken: boolean }> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  const chunks: Buffer[] = [];
  let isBroken = false;
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  socket.on('error', () => {
    isBroken = true;
  });
  socket.end(sent);
  await new Promise((resolve) => socket.once('close', resolve));
  return { got: Buffer.concat(chunks), isBroken };
}

for (const manner of Object.keys(NEVER) as Manner[]) {
  test(`whole bytes in order pass both ways through a network that is ${manner}`, async (t) => {
    const plan = { manners: { ...NEVER, [manner]: 1 }, breakages: UNBROKEN, breakEveryMs: Number.POSITIVE_INFINITY };
    const proxy = await echo(t, plan);
    const sent = randomBytes(manner === 'narrow' ? BYTES / 10 : BYTES);
    const { got, isBroken } = await roundTrip(proxy.port, sent);
    assert.ok(got.equals(sent), `${got.length} of ${sent.length} bytes came back`);
    assert.ok(!isBroken);
  });
}

for (const breakage of ['reset', 'fin', 'reset to server', 'reset to client'] as Breakage[]) {
  test(`of a connection that ends by ${breakage}, what passed is the beginning of what was sent`, async (t) => {
    const plan = { manners: { ...NEVER, split: 1 }, breakages: { ...UNBROKEN, [breakage]: 1 }, breakEveryMs: 5 };
    const proxy = await echo(t, plan);
    const sent = randomBytes(BYTES * 10);
    const { got } = await roundTrip(proxy.port, sent);
    assert.ok(got.length < sent.length, 'it broke');
    assert.ok(got.equals(sent.subarray(0, got.length)));
  });
}
