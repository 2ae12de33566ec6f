// PROXY protocol v2: whose connections begin with a header, and what follows from what it says.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect as connectSocket, isIPv4 } from 'node:net';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Authority, writeCertificate } from './certificates.ts';
import { type Server, startServer } from './harness.ts';
import { closedFor } from './metrics.ts';
import { Client, type ConnectOptions, encodeFrame, unique } from './mini-client.ts';
import { connect, eventually, expectAck, expectCode, newApp, newDevice, password } from './parties.ts';

const host = '127.0.0.1';
const authority = new Authority();
const folder = mkdtempSync(join(tmpdir(), 'hawser-proxy-'));
const tls = { ca: authority.cert, servername: 'hawser.test' };

let server: Server;
before(async () => {
  const certificate = writeCertificate(folder, authority.issue({ hosts: ['hawser.test'] }));
  const args = ['--proxy-from', '127.0.0.0/8', '--tls-port', '0', ...certificate, '--log-level', 'debug'];
  server = await startServer({ args });
});
after(async () => {
  await server?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

/** A header of version 2: where the client is, and whether it came to the proxy over TLS. */
function header(source: string, { overTls = false, kind = 0x21, family = isIPv4(source) ? 0x11 : 0x21 } = {}): Buffer {
  const bytes = isIPv4(source) ? Buffer.from(source.split('.').map(Number)) : Buffer.alloc(16, 0x20);
  const ports = Buffer.from([0x9c, 0x40, 0x22, 0xb8]);
  const more = overTls ? Buffer.from('2000050100000000', 'hex') : Buffer.alloc(0);
  const content = Buffer.concat([bytes, bytes, ports, more]);
  const head = Buffer.from('0d0a0d0a000d0a515549540a00000000', 'hex');
  head[12] = kind;
  head[13] = family;
  head.writeUInt16BE(content.length, 14);
  return Buffer.concat([head, content]);
}

const overTls = (): { host: string; port: number } => ({ host, port: server.tlsPort });

/** The code of a registration in the clear. */
async function plainRegistration(at: { host: string; port: number }, options: ConnectOptions): Promise<unknown> {
  using client = await connect(at, options);
  return (await client.register(unique('user'), password)).code;
}

async function expectLogged(address: string): Promise<void> {
  const lines = (): string[] => server.logs().filter((line) => line.includes('"closed"'));
  await eventually(
    () => lines().some((line) => (JSON.parse(line) as { address?: string }).address === address),
    () => lines().slice(-5).join('\n'),
  );
}

test('the address is that of the client, over TCP and TLS, IPv4 and IPv6', async () => {
  for (const [at, options, address] of [
    [server, {}, '203.0.113.1'],
    [overTls(), { tls }, '203.0.113.2'],
    [server, {}, '2020:2020:2020:2020:2020:2020:2020:2020'],
  ] as const) {
    using device = await newDevice(at, { ...options, preface: header(address) });
    await device.fence();
    await device.logout();
    await expectLogged(address);
  }
});

test('a header that comes byte by byte, with frames right behind it, is read', async () => {
  const bytes = Buffer.concat([header('203.0.113.3'), encodeFrame({ msgId: 'early' })]);
  for (const pieces of [[...bytes].map((byte) => Buffer.from([byte])), [bytes]]) {
    using client = await Client.connect(server);
    for (const piece of pieces) {
      client.sendRaw(piece);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await client.reply('early');
    assert.deepEqual(
      client.frames.map(({ cmd }) => cmd),
      [1, 0],
    );
  }
});

test('a client elsewhere is not taken for one of this machine because its proxy is here', async () => {
  assert.equal(await plainRegistration(server, { preface: header('203.0.113.4') }), 200);
  assert.equal(await plainRegistration(server, { preface: header('127.0.0.1') }), 100);
  assert.equal(await plainRegistration(server, { preface: header('203.0.113.4', { kind: 0x20 }) }), 100);
  assert.equal(await plainRegistration(server, { preface: header('203.0.113.4', { overTls: true }) }), 100);
  assert.equal(await plainRegistration(overTls(), { tls, preface: header('203.0.113.4') }), 100);
});

const outside = Object.values(networkInterfaces())
  .flat()
  .find((address) => address !== undefined && !address.internal && address.family === 'IPv4')?.address;

test('nor one that a proxy elsewhere says is of this machine, or came over TLS: others may read what it sends', {
  skip: outside === undefined && 'this machine has no address but loopback',
}, async () => {
  const args = ['--host', '0.0.0.0', '--advertise', '127.0.0.1', '--proxy-from', outside ?? ''];
  await using open = await startServer({ args });
  const at = { host: outside ?? '', port: open.port };
  for (const preface of [
    header('127.0.0.1'),
    header('127.0.0.1', { overTls: true }),
    header('127.0.0.1', { kind: 0x20 }),
  ]) {
    assert.equal(await plainRegistration(at, { preface }), 200);
  }
});

test('a proxy without a valid header is closed and told nothing, over TCP and TLS', async () => {
  const before = await closedFor(server, 'badProxyHeader');
  const sent = [
    encodeFrame({ msgId: 'x' }),
    Buffer.from('PROXY TCP4 203.0.113.9 203.0.113.10 1 2\r\n'),
    header('203.0.113.5', { family: 0x12 }),
    header('203.0.113.5', { family: 0x00 }),
    header('203.0.113.5', { kind: 0x11 }),
    Buffer.from('0d0a0d0a000d0a515549540a2111ffff', 'hex'),
    Buffer.from(`160301006b010000670303${'11'.repeat(100)}`, 'hex'),
  ];
  for (const port of [server.port, server.tlsPort]) {
    for (const bytes of sent) {
      using client = await Client.connect({ host, port });
      client.sendRaw(bytes);
      await client.waitClosed();
      assert.deepEqual(client.frames, []);
    }
  }
  assert.equal((await closedFor(server, 'badProxyHeader')) - before, 2 * sent.length);
});

test('a proxy that sends none in time is closed; one that only looks in is no fault', { timeout: 20_000 }, async () => {
  const before = await closedFor(server, 'badProxyHeader');
  const began = performance.now();
  using silent = await Client.connect(server);
  using slow = await Client.connect(server);
  slow.sendRaw(header('203.0.113.6').subarray(0, 20));
  const look = connectSocket({ host, port: server.port });
  await new Promise<void>((resolve) =>
    look
      .on('close', () => resolve())
      .resume()
      .end(),
  );
  await Promise.all([silent.waitClosed(), slow.waitClosed()]);
  const ms = performance.now() - began;
  assert.ok(ms > 4_000 && ms < 15_000, `${ms} ms`);
  assert.equal((await closedFor(server, 'badProxyHeader')) - before, 2);
});

test('at the stop nobody waits for headers and handshakes that do not come', {
  skip: process.platform !== 'linux' && 'only Linux has all of 127.0.0.0/8',
}, async () => {
  const certificate = ['--tls-cert', join(folder, 'cert.pem'), '--tls-key', join(folder, 'key.pem')];
  await using stopping = await startServer({ args: ['--proxy-from', '127.0.0.2', '--tls-port', '0', ...certificate] });
  // Takes no notice, so that the server goes on for the 5 s that it has to close.
  using deaf = await connect(stopping, { holdOpen: true });
  using headless = await Client.connect(stopping, { localAddress: '127.0.0.2' });
  using handless = await Client.connect({ host, port: stopping.tlsPort });
  await deaf.fence();
  const ended = stopping.stop().then(() => performance.now());
  const closed = await Promise.all([headless.waitClosed(), handless.waitClosed()]);
  for (const { at } of closed) assert.ok((await ended) - at > 2_500, 'long before the server ends');
});

test('from anybody else a header is a bad frame', async () => {
  await using strict = await startServer({ args: ['--proxy-from', '192.0.2.0/24'] });
  using client = await connect(strict);
  client.sendRaw(header('127.0.0.1'));
  await client.waitClosed();
  assert.equal(await closedFor(strict, 'frameTooLong'), 1);
  using app = await newApp(strict, { autoAck: true });
  expectAck(await app.say(app.name, 'hello'));
});

test('over a proxy everything works as without', async () => {
  using app = await newApp(overTls(), { tls, preface: header('203.0.113.7'), autoAck: true });
  using lamp = await newDevice(server, { preface: header('203.0.113.8'), autoAck: true, encrypt: true });
  expectCode(await app.bind(lamp.name), 203, 100);
  expectAck(await app.say(lamp.name, 'z'.repeat(500_000)));
  expectAck(await lamp.say(app.name, 'back'));
});
