// The clients over TLS, against the server itself: the library, `hawser app` and `hawser device`. Between them and somebody
// who would listen stands the certificate alone.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { App, CertificateError, type ClientOptions, Device, DispatcherError, type State, tcp } from '@hawser/client';
import { Authority, writeCertificate } from './certificates.ts';
import { Command, hawser } from './cli.ts';
import { type Server, startServer } from './harness.ts';
import { unique } from './mini-client.ts';
import { newApp } from './parties.ts';

const host = '127.0.0.1';
const authority = new Authority();
const strangers = new Authority('somebody else');
const ofClients = new Authority('an authority of clients');
const ca = authority.cert;

const folder = mkdtempSync(join(tmpdir(), 'hawser-tls-clients-'));
const caFile = join(folder, 'ca.pem');
const clientCa = join(folder, 'client-ca.pem');
const strangersFile = join(folder, 'strangers.pem');
writeFileSync(caFile, ca);
writeFileSync(clientCa, ofClients.cert);
writeFileSync(strangersFile, strangers.cert);

let server: Server;
/** One whose certificate is for another name. */
let misnamed: Server;
const clients: (App | Device)[] = [];
before(async () => {
  const args = writeCertificate(folder, authority.issue({ hosts: [host] }));
  server = await startServer({
    args: ['--tls-port', '0', '--https-port', '0', ...args, '--tls-client-ca', clientCa],
  });
  const other = mkdtempSync(join(folder, 'other-'));
  const otherArgs = writeCertificate(other, authority.issue({ hosts: ['elsewhere.test'] }));
  misnamed = await startServer({ args: ['--tls-port', '0', '--https-port', '0', ...otherArgs] });
});
afterEach(() => {
  for (const client of clients.splice(0)) client.close();
});
after(async () => {
  await server?.[Symbol.asyncDispose]();
  await misnamed?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

function newDevice(options: ClientOptions): { device: Device; reported: Error[]; states: State[] } {
  const reported: Error[] = [];
  const states: State[] = [];
  const device = new Device({ reconnectBaseMs: 1, onError: (error) => reported.push(error), ...options });
  device.onState((state) => states.push(state));
  clients.push(device);
  return { device, reported, states };
}

describe('the library', () => {
  test('asks over https: and then talks over TLS, in the server’s tongue with no key', async () => {
    const options = { dispatcher: `https://${host}:${server.httpsPort}`, tls: { ca } };
    const { device } = newDevice(options);
    const id = unique('lamp');
    await device.authenticate(id);
    assert.deepEqual(device.state.phase === 'online' && device.state.address, { host, port: server.tlsPort });
    const app = new App(options);
    clients.push(app);
    const name = unique('ann');
    await app.register(name, 'secret');
    await app.login(name, 'secret');
    await app.addDevice(id);
    const got = device.messages().next();
    await app.send(id, { on: true });
    assert.deepEqual((await got).value?.msg, { on: true });
  });

  test('asks over http: for TCP, unless TLS is its transport; over https: for TCP, if that is', async () => {
    const overTcp = newDevice({ dispatcher: `https://${host}:${server.httpsPort}`, tls: { ca }, transport: tcp() });
    await overTcp.device.authenticate(unique('lamp'));
    const { state } = overTcp.device;
    assert.deepEqual(state.phase === 'online' && state.address, { host, port: server.port });
  });

  test('shows its certificate, and is that device', async () => {
    const id = unique('lamp');
    const own = ofClients.issue({ names: [id] });
    const options = { server: `tls://${host}:${server.tlsPort}`, tls: { ca, cert: own.cert, key: own.key } };
    await assert.rejects(newDevice(options).device.authenticate(unique('other')), /certificate .* another name/);
    await newDevice(options).device.authenticate(id);
  });

  test('with a dispatcher that knows of no TLS it says so', async () => {
    await using without = await startServer();
    const { tls } = await import('@hawser/client');
    const { device, states } = newDevice({ dispatcher: `http://${host}:${without.httpPort}`, transport: tls({ ca }) });
    await assert.rejects(device.authenticate('lamp', { timeoutMs: 300 }), { name: 'TimeoutError' });
    const waiting = states.find((state) => state.phase === 'waiting');
    assert.ok(waiting?.phase === 'waiting' && waiting.error instanceof DispatcherError);
    assert.match(waiting.error.message, /no server is available over TLS/);
  });

  for (const [what, options, why] of [
    ['no authority that it knows', (at: Server) => ({ server: `tls://${host}:${at.tlsPort}` }), /unable to verify/],
    [
      'another authority',
      (at: Server) => ({ server: `tls://${host}:${at.tlsPort}`, tls: { ca: strangers.cert } }),
      /unable to verify/,
    ],
    ['another name', () => ({ server: `tls://${host}:${misnamed.tlsPort}`, tls: { ca } }), /does not match/],
    [
      'another name, of the dispatcher',
      () => ({ dispatcher: `https://${host}:${misnamed.httpsPort}`, tls: { ca } }),
      /does not match/,
    ],
    [
      'no authority that it knows, of the dispatcher',
      (at: Server) => ({ dispatcher: `https://${host}:${at.httpsPort}` }),
      /unable to verify/,
    ],
  ] as const) {
    test(`a certificate of ${what} is refused before anything is sent, and each attempt is told`, async () => {
      const { device, reported, states } = newDevice(options(server));
      const failure: Error = await device.authenticate('lamp', { timeoutMs: 500 }).then(
        () => assert.fail('it is online'),
        (error) => error,
      );
      assert.ok(failure.cause instanceof CertificateError, String(failure.cause));
      assert.match(failure.cause.message, why);
      assert.ok(reported.length > 1, `${reported.length} reports`);
      assert.ok(reported.every((error) => error instanceof CertificateError));
      assert.ok(states.every(({ phase }) => phase !== 'connected' && phase !== 'logging in'));
    });
  }

  test('it goes on trying, and is online once the certificate is right', async () => {
    const own = mkdtempSync(join(folder, 'own-'));
    const args = writeCertificate(own, strangers.issue({ hosts: [host] }));
    await using late = await startServer({ args: ['--tls-port', '0', ...args] });
    const { device, reported } = newDevice({
      server: `tls://${host}:${late.tlsPort}`,
      tls: { ca },
      reconnectMsMax: 100,
    });
    const online = device.authenticate(unique('lamp'));
    writeCertificate(own, authority.issue({ hosts: [host] }));
    await online;
    assert.ok(reported.length > 0);
  });
});

describe('the terminal clients', () => {
  const url = (at: Server): string => `https://${host}:${at.httpsPort}`;

  test('talk over TLS with --ca, to a dispatcher and to a server, and show a certificate', async () => {
    using friend = await newApp(server, { autoAck: true });
    for (const to of [url(server), `tls://${host}:${server.tlsPort}`]) {
      const args = ['app', '--server', to, '--ca', caFile, '--user', unique('ann'), '--register', '--password-stdin'];
      const { code, stderr } = await hawser([...args, '--to', friend.name], { input: `secret\nhello\n` });
      assert.deepEqual([code, stderr], [0, 'hawser: 1 acked\n']);
    }
    assert.equal(friend.messages.length, 2);
    const id = unique('lamp');
    const [, cert = '', , key = ''] = writeCertificate(
      mkdtempSync(join(folder, 'device-')),
      ofClients.issue({ names: [id] }),
    );
    const certified = ['--server', url(server), '--ca', caFile, '--cert', cert, '--key', key];
    await using device = new Command(['device', id, ...certified], { env: {}, isOpen: true });
    await device.until(({ stderr }) => stderr.includes(`${id} is online at ${host}:${server.tlsPort}`) || undefined);
    const { code, stderr } = await hawser(['device', unique('other'), ...certified]);
    assert.equal(code, 3);
    assert.match(stderr, /is refused: the certificate of this connection is for another name/);
  });

  for (const [what, to, ca, why] of [
    ['an authority that it does not know', () => url(server), strangersFile, /unable to verify/],
    ['another name', () => `tls://${host}:${misnamed.tlsPort}`, caFile, /does not match/],
  ] as const) {
    test(`a certificate of ${what} ends them at once, with one clear line`, async () => {
      for (const args of [
        ['device', 'lamp'],
        ['app', '--user', 'ann', '--password-stdin', '--to', 'x'],
      ]) {
        const { code, stderr } = await hawser([...args, '--server', to(), '--ca', ca], { input: 'secret\nhello\n' });
        assert.equal(code, 4, stderr);
        // Had it tried again, it would have said so.
        assert.match(stderr, /^hawser: \w+ could not log in: the certificate of [^\n]* is not accepted: [^\n]*\n$/);
        assert.match(stderr, why);
      }
    });
  }

  test('with --timeout never they go on, and say so each time', async () => {
    const args = ['device', 'lamp', '--server', url(server), '--ca', strangersFile, '--timeout', 'never'];
    await using device = new Command(args, { isOpen: true });
    await device.until(
      ({ stderr }) => (stderr.match(/is not accepted: .*; trying again/g)?.length ?? 0) >= 2 || undefined,
    );
  });

  test('options that have no effect, or make no sense, are refused', async () => {
    for (const [args, why] of [
      [['--server', 'http://127.0.0.1:1', '--ca', caFile], /are for https: and tls:/],
      [['--server', 'tls://a', '--ca', join(folder, 'none')], /must be a file that can be read/],
      [['--server', 'tls://a', '--cert', caFile], /go together/],
      [['--server', 'tls://a', '--cert', caFile, '--key', caFile, '--count', '2'], /for one device/],
    ] as const) {
      const { code, stderr } = await hawser(['device', 'lamp', ...args]);
      assert.equal(code, 2, stderr);
      assert.match(stderr, why);
    }
  });
});
