// The client of packages/client and the real server.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { type AddressInfo, connect as connectSocket } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { createServer as createTlsServer } from 'node:tls';
import {
  App,
  CertificateError,
  type ClientOptions,
  ConflictError,
  Device,
  type DeviceInfo,
  type Message,
  RefusedError,
  type State,
  TimeoutError,
  tcp,
  tls,
  websocket,
} from '@hawser/client';
import { type Server, startServer } from './harness.ts';
import { unique } from './mini-client.ts';
import { eventually, sleep } from './parties.ts';
import { HostileProxy } from './proxy.ts';
import { WebSocketRelay } from './relay.ts';

let server: Server;
const opened: { close(): void }[] = [];

before(async () => {
  server = await startServer();
});

after(async () => {
  for (const client of opened) client.close();
  await server[Symbol.asyncDispose]();
});

function dispatcherUrl(): string {
  return `http://127.0.0.1:${server.httpPort}`;
}

function newClient<T extends App | Device>(Class: new (options: ClientOptions) => T, options?: ClientOptions): T {
  const client = new Class(options ?? { dispatcher: dispatcherUrl() });
  opened.push(client);
  return client;
}

async function newApp(options?: ClientOptions, name = unique('user')): Promise<{ app: App; name: string }> {
  const app = newClient(App, options);
  await app.register(name, 'correct horse');
  await app.login(name, 'correct horse');
  return { app, name };
}

/** A device that is online, and an app that has added it. */
async function pair(options?: ClientOptions): Promise<{ lamp: Device; lampId: string; app: App; user: string }> {
  const lampId = unique('lamp');
  const lamp = newClient(Device, options);
  await lamp.authenticate(lampId);
  const { app, name } = await newApp(options);
  await app.addDevice(lampId);
  return { lamp, lampId, app, user: name };
}

/** Resolves when the client's state is one that `probe` looks for. */
function reaches(client: App | Device, probe: (state: State) => boolean): Promise<State> {
  return new Promise((resolve) => {
    const look = (state: State): void => {
      if (!probe(state)) return;
      off();
      resolve(state);
    };
    const off = client.onState(look);
    look(client.state);
  });
}

/** The next `count` messages that the client is given. */
function take<T>(client: App | Device, count: number): Promise<Message<T>[]> {
  return new Promise((resolve) => {
    const taken: Message<T>[] = [];
    const off = client.onMessage<T>((message) => {
      taken.push(message);
      if (taken.length === count) {
        off();
        resolve(taken);
      }
    });
  });
}

test('an app and a device find the server, log in, and exchange any JSON value', async () => {
  const { lamp, lampId, app } = await pair();
  const values = [null, true, 0, -1.5e300, '', 'é消😀"\\', [], {}, { on: true, deep: [[[1]]] }];
  const received = take(lamp, values.length);
  for (const value of values) await app.send(lampId, value);
  assert.deepEqual(
    (await received).map(({ msg }) => msg),
    values,
  );
});

test('a device answers the user whose message it got', async () => {
  const { lamp, lampId, app, user } = await pair();
  lamp.onMessage<number>(async ({ from, msg, ts }) => {
    assert.ok(Math.abs(Date.now() - ts!) < 60_000);
    await lamp.send(from, msg + 1);
  });
  const answers = app.messages<number>();
  await app.send(lampId, 41);
  const { value } = await answers.next();
  assert.deepEqual([value?.msg, value?.from, value?.to], [42, lampId, user]);
});

test('what was sent while the receiver was away comes in order when it logs in', async () => {
  const { lamp, lampId, app } = await pair();
  lamp.logout();
  for (let n = 0; n < 500; n++) app.send(lampId, n).catch(assert.fail);
  await app.send(lampId, 500);
  const received = take<number>(lamp, 501);
  await lamp.authenticate(lampId);
  assert.deepEqual(
    (await received).map(({ msg }) => msg),
    Array.from({ length: 501 }, (_, n) => n),
  );
});

test('a message of a thousand kilobytes passes; one more byte than may be is told at once', async () => {
  const { lamp, lampId, app } = await pair();
  const largest = 'x'.repeat(1_044_480 - 2);
  const received = take<string>(lamp, 1);
  await app.send(lampId, largest);
  assert.equal((await received)[0]?.msg.length, largest.length);
  await assert.rejects(app.send(lampId, `${largest}x`), { name: 'InvalidError' });
});

test('refusals of the server are errors with their codes', async () => {
  const { lampId, app, user } = await pair();
  await assert.rejects(app.addDevice(lampId), { name: 'RefusedError', code: 2001, retry: false });
  await app.removeDevice(lampId);
  await assert.rejects(app.removeDevice(lampId), { name: 'RefusedError', code: 2002 });
  await assert.rejects(app.send(lampId, 1), { name: 'RefusedError', code: 200, outcome: 'refused' });
  const other = newClient(App);
  await assert.rejects(other.register(user, 'x'), { name: 'RefusedError', code: 1001 });
  await assert.rejects(other.login(user, 'wrong'), { name: 'RefusedError', code: 1002 });
  await other.login(user, 'correct horse');
});

test('an app sees its devices, with what they said, and which of them are online', async () => {
  const { lamp, lampId, app } = await pair();
  const chatty = newClient(Device);
  const chattyId = unique('chatty');
  await chatty.authenticate(chattyId, { version: '1.2', abilities: ['on', { levels: 3 }] });
  await app.addDevice(chattyId);
  const absent = unique('absent');
  await app.addDevice(absent);
  lamp.logout();
  await eventually(
    () => lamp.state.phase === 'offline',
    () => lamp.state.phase,
  );
  const devices = new Map<string, DeviceInfo>();
  for await (const device of app.devices()) devices.set(device.deviceId, device);
  assert.deepEqual([...devices.keys()].sort(), [lampId, chattyId, absent].sort());
  const { lastSeen, ...known } = devices.get(chattyId)!;
  assert.deepEqual(known, { deviceId: chattyId, version: '1.2', abilities: ['on', { levels: 3 }], online: true });
  assert.ok(lastSeen !== undefined && Math.abs(lastSeen - Date.now()) < 60_000);
  const unknown = { version: undefined, abilities: undefined, online: false, lastSeen: undefined };
  assert.deepEqual(devices.get(absent), { deviceId: absent, ...unknown });
});

test('of two clients with one name the older is told, and stays away', async () => {
  const { lamp, lampId } = await pair({ dispatcher: dispatcherUrl(), reconnectBaseMs: 10 });
  const newer = newClient(Device);
  await newer.authenticate(lampId);
  const state = await reaches(lamp, ({ phase }) => phase === 'offline');
  assert.ok(state.phase === 'offline' && state.why === 'conflict' && state.error instanceof ConflictError);
  await sleep(300);
  assert.equal(lamp.state.phase, 'offline');
  assert.equal(newer.state.phase, 'online');
});

test('a message that an inbox has no room for is refused for now until there is', async () => {
  await using own = await startServer({ args: ['--inbox-messages', '2'] });
  const dispatcher = `http://127.0.0.1:${own.httpPort}`;
  const { lamp, lampId, app } = await pair({ dispatcher });
  lamp.logout();
  await app.send(lampId, 'first');
  await assert.rejects(app.send(lampId, 'no time', { timeoutMs: 300 }), (error: Error) => {
    return error instanceof RefusedError && error.retry && error.outcome === 'unknown';
  });
  const second = app.send(lampId, 'second');
  await sleep(200);
  const received = take(lamp, 2);
  await lamp.authenticate(lampId);
  await second;
  assert.deepEqual(
    (await received).map(({ msg }) => msg),
    ['first', 'second'],
  );
  app.close();
  lamp.close();
});

test('a client whose connection goes dead without a word notices, comes back, and its send is acked once', async () => {
  await using proxy = await HostileProxy.listen(server, Math.random);
  const { lamp, lampId, app } = await pair({ server: proxy, heartbeatMs: 300, awaitingHeartbeatMs: 100 });
  const handed: unknown[] = [];
  lamp.onMessage(({ msg }) => handed.push(msg));
  await app.send(lampId, 1);
  proxy.cutAll('silence');
  await app.send(lampId, 2);
  await eventually(
    () => handed.length === 2,
    () => `handed: ${handed}`,
  );
  assert.deepEqual(handed, [1, 2]);
});

test('a send outlives the server: it is acked by the one that is started on the same data', async () => {
  await using own = await startServer();
  await using proxy = await HostileProxy.listen(own, Math.random);
  const { lamp, lampId, app } = await pair({ server: proxy });
  lamp.logout();
  await app.send(lampId, 'before');
  await own.kill9();
  const during = app.send(lampId, 'during');
  await assert.rejects(app.send(lampId, 'no time', { timeoutMs: 50 }), TimeoutError);
  await own.restart();
  proxy.target = own;
  await during;
  const received = take(lamp, 2);
  await lamp.authenticate(lampId);
  assert.deepEqual(
    (await received).map(({ msg }) => msg),
    ['before', 'during'],
  );
  app.close();
  lamp.close();
});

test('over a WebSocket, in the clear; a relay that breaks is found again', async () => {
  await using relay = await WebSocketRelay.listen(server);
  const { lamp, lampId, app } = await pair({ server: relay.url, reconnectBaseMs: 50 });
  const handed: unknown[] = [];
  lamp.onMessage(({ msg }) => handed.push(msg));
  await app.send(lampId, 1);
  relay.cutAll();
  await app.send(lampId, 2);
  await eventually(
    () => handed.length === 2,
    () => `handed: ${handed}`,
  );
  assert.deepEqual(handed, [1, 2]);
  app.close();
  lamp.close();
});

test('a WebSocket that cannot be made is an error like any other, and is tried again', async () => {
  const device = newClient(Device, { server: 'ws://127.0.0.1:1', reconnectBaseMs: 1 });
  await assert.rejects(device.authenticate('x', { timeoutMs: 200 }), TimeoutError);
  const broken = newClient(Device, {
    server: 'ws://x',
    transport: websocket({ url: 'not a url' }),
    reconnectBaseMs: 1,
  });
  await assert.rejects(broken.authenticate('x', { timeoutMs: 200 }), TimeoutError);
});

/** Ends TLS before the server. */
async function tlsServer(): Promise<{ port: number; close: () => Promise<void> }> {
  const fixture = (name: string): string => readFileSync(join(import.meta.dirname, 'fixtures', 'tls', name), 'utf8');
  const front = createTlsServer({ cert: fixture('cert.pem'), key: fixture('key.pem') }, (socket) => {
    const back = connectSocket({ host: server.host, port: server.port });
    socket.pipe(back).pipe(socket);
    socket.on('error', () => back.destroy());
    back.on('error', () => socket.destroy());
  });
  await new Promise<void>((resolve) => front.listen(0, '127.0.0.1', resolve));
  const port = (front.address() as AddressInfo).port;
  return { port, close: () => new Promise((resolve) => front.close(() => resolve())) };
}

test('over TLS, with a certificate that is vouched for; another is not accepted', async () => {
  const front = await tlsServer();
  const address = { host: '127.0.0.1', port: front.port };
  const ca = readFileSync(join(import.meta.dirname, 'fixtures', 'tls', 'cert.pem'), 'utf8');
  const { lamp, lampId, app } = await pair({ server: address, transport: tls({ ca }) });
  const received = take(lamp, 1);
  await app.send(lampId, 'over TLS');
  assert.equal((await received)[0]?.msg, 'over TLS');
  app.close();
  lamp.close();

  const trusting = newClient(Device, { server: `tls://127.0.0.1:${front.port}` });
  const waiting = reaches(trusting, ({ phase }) => phase === 'waiting');
  const failed = assert.rejects(trusting.authenticate('x', { timeoutMs: 500 }), TimeoutError);
  const state = await waiting;
  assert.ok(state.phase === 'waiting' && state.error instanceof CertificateError);
  const cause = state.error.cause as NodeJS.ErrnoException;
  assert.equal(cause.code, 'DEPTH_ZERO_SELF_SIGNED_CERT');
  await failed;

  const other = newClient(Device, { server: address, transport: tls({ ca, servername: 'elsewhere.test' }) });
  const refused = reaches(other, ({ phase }) => phase === 'waiting');
  const gaveUp = assert.rejects(other.authenticate('x', { timeoutMs: 500 }), TimeoutError);
  const { error } = (await refused) as State & { phase: 'waiting' };
  assert.equal((error.cause as NodeJS.ErrnoException).code, 'ERR_TLS_CERT_ALTNAME_INVALID');
  await gaveUp;
  await front.close();
});

test('a weak device does without encryption, from a local address of its choice', async () => {
  const options = { server: { host: server.host, port: server.port }, encrypt: false };
  const { lamp, lampId, app } = await pair({ ...options, transport: tcp({ localAddress: '127.0.0.1' }) });
  const received = take(lamp, 1);
  await app.send(lampId, 'in the clear');
  assert.equal((await received)[0]?.msg, 'in the clear');
});
