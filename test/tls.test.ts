// The TLS listener: the same frames, handshakes that harm nobody, certificates that change, clients that show one.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { get as getOverTls } from 'node:https';
import { connect as connectSocket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type ConnectionOptions, connect as connectTls, type PeerCertificate, type TLSSocket } from 'node:tls';
import { Authority, type Issued, writeCertificate } from './certificates.ts';
import { freePorts, refused } from './cli.ts';
import { type Server, startServer } from './harness.ts';
import { closedFor, metric } from './metrics.ts';
import { Client, unique } from './mini-client.ts';
import { connect, eventually, expectAck, expectCode, newApp, newDevice, newUser, password } from './parties.ts';

const authority = new Authority();
const ofClients = new Authority('an authority of clients');
const host = '127.0.0.1';
const trusting = { ca: authority.cert, servername: 'hawser.test' };
const here = { hosts: ['hawser.test', host] };

const folder = mkdtempSync(join(tmpdir(), 'hawser-tls-'));
const clientCa = join(folder, 'client-ca.pem');
writeFileSync(clientCa, ofClients.cert);
const certificate = writeCertificate(folder, authority.issue(here));

let server: Server;
before(async () => {
  server = await startServer({ args: ['--tls-port', '0', ...certificate, '--tls-client-ca', clientCa] });
});
after(async () => {
  await server?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

function overTls(of: Server): { host: string; port: number } {
  return { host, port: of.tlsPort };
}

async function until(probe: () => Promise<boolean>, what: string, timeoutMs = 15_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await probe())) {
    assert.ok(performance.now() < deadline, `not within ${timeoutMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

describe('the same frames', () => {
  test('go between TLS and TCP, with no key agreed on', async () => {
    using app = await newApp(overTls(server), { tls: trusting, autoAck: true });
    using lamp = await newDevice(server, { autoAck: true });
    expectCode(await app.bind(lamp.name), 203, 100);
    expectAck(await app.say(lamp.name, 'over TLS'));
    expectAck(await lamp.say(app.name, 'over TCP'));
    assert.equal((await app.received(1))[0]?.msg, 'over TCP');
    assert.equal((await lamp.received(1))[0]?.msg, 'over TLS');
    assert.equal((await app.logout()).how, 'fin');
  });

  test('may be encrypted by the protocol all the same', async () => {
    using app = await newApp(overTls(server), { tls: trusting, encrypt: true, autoAck: true });
    expectAck(await app.say(app.name, 'twice'));
    assert.ok((await app.received(1))[0]?.frame.isEncrypt);
  });

  test('a megabyte passes both ways, and what is written before the close is flushed', async () => {
    using app = await newApp(overTls(server), { tls: trusting, autoAck: true });
    const msg = 'z'.repeat(1_000_000);
    expectAck(await app.say(app.name, msg, { timeoutMs: 20_000 }));
    assert.equal((await app.received(1))[0]?.msg, msg);
    using newer = await connect(overTls(server), { tls: trusting });
    expectCode(await newer.login(app.name, password), 100, 100);
    await app.takeCmd(103);
    assert.equal((await app.waitClosed()).how, 'fin');
  });

  for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
    test(`${version} is spoken`, async () => {
      const tls = { ...trusting, minVersion: version, maxVersion: version };
      using client = await connect(overTls(server), { tls });
      assert.equal((client.socket as TLSSocket).getProtocol(), version);
    });
  }

  test('nothing older is, neither to clients nor by the dispatcher, also where Node itself would speak it', async () => {
    // What Node would refuse without being told to says nothing of the server.
    const env = { NODE_OPTIONS: '--tls-min-v1.0 --tls-cipher-list=DEFAULT@SECLEVEL=0' };
    await using lax = await startServer({ args: ['--tls-port', '0', '--https-port', '0', ...certificate], env });
    const old = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' } as const;
    await assert.rejects(Client.connect(overTls(lax), { tls: { ...trusting, ...old } }), /protocol version/);
    const https = connectTls({ host, port: lax.httpsPort, ...trusting, ...old });
    await assert.rejects(once(https, 'secureConnect'), /protocol version/);
    using client = await connect(overTls(lax), { tls: { ...trusting, minVersion: 'TLSv1.2' } });
    await client.fence();
  });

  test('connections over TLS and TCP are bounded together', async () => {
    await using small = await startServer({ args: ['--tls-port', '0', ...certificate, '--max-connections', '2'] });
    using _plain = await newDevice(small);
    using _secure = await newDevice(overTls(small), { tls: trusting });
    using third = await Client.connect(small);
    await third.waitClosed();
    await assert.rejects(Client.connect(overTls(small), { tls: trusting }));
    assert.equal(await closedFor(small, 'tooManyConnections'), 2);
  });
});

describe('handshakes', () => {
  test('that fail are counted and harm nobody', async () => {
    using app = await newApp(overTls(server), { tls: trusting, autoAck: true });
    const before = await closedFor(server, 'handshakeFailed');
    const unfinished = Buffer.from(`160301006b010000670303${'11'.repeat(50)}`, 'hex');
    const sent = [
      Buffer.from('GET /?id=x HTTP/1.1\r\nHost: localhost\r\n\r\n'),
      Buffer.alloc(8),
      Buffer.alloc(100, 0xff),
      Buffer.from('160301ffff01', 'hex'),
      unfinished,
    ];
    const rounds = 20;
    for (let i = 0; i < rounds; i++) {
      await Promise.all(
        sent.map(async (bytes) => {
          const socket = connectSocket({ host, port: server.tlsPort });
          socket.on('error', () => {});
          const closed = new Promise((resolve) => socket.once('close', resolve));
          socket.resume().write(bytes);
          // Before the server would find that the rest does not come.
          if (bytes === unfinished) socket.once('connect', () => setImmediate(() => socket.resetAndDestroy()));
          await closed;
        }),
      );
    }
    expectAck(await app.say(app.name, 'still here'));
    await until(
      async () => (await closedFor(server, 'handshakeFailed')) - before === rounds * sent.length,
      'all are counted',
    );
  });

  test('that take too long are ended, also when they go on byte by byte', { timeout: 30_000 }, async () => {
    const before = await closedFor(server, 'handshakeFailed');
    const hello = Buffer.from(`160301006b010000670303${'11'.repeat(100)}`, 'hex');
    const began = performance.now();
    const lasted = async (dribbles: boolean): Promise<number> => {
      const socket = connectSocket({ host, port: server.tlsPort, noDelay: true });
      socket.on('error', () => {});
      let at = 0;
      const timer = setInterval(() => {
        if (dribbles && at < hello.length - 1) socket.write(hello.subarray(at, ++at));
      }, 250);
      socket.resume();
      await new Promise((resolve) => socket.once('close', resolve));
      clearInterval(timer);
      return performance.now() - began;
    };
    const times = await Promise.all([lasted(false), lasted(true)]);
    for (const ms of times) assert.ok(ms > 8_000 && ms < 20_000, `${ms} ms`);
    assert.equal((await closedFor(server, 'handshakeFailed')) - before, 2);
  });

  test('a session is resumed by its ticket', async () => {
    const [session] = await ticketOf(trusting);
    using again = await connect(overTls(server), { tls: { ...trusting, session } });
    assert.ok((again.socket as TLSSocket).isSessionReused());
  });

  test('are not made again on a connection that has one', async () => {
    using other = await newDevice(overTls(server), { tls: trusting });
    using client = await connect(overTls(server), { tls: { ...trusting, maxVersion: 'TLSv1.2' } });
    const refusal = new Promise<Error | null>((resolve) => {
      client.socket.once('error', resolve);
      (client.socket as TLSSocket).renegotiate({}, resolve);
    });
    assert.match(String(await refusal), /no renegotiation/i);
    await other.fence();
  });
});

/** Connects and waits for a session ticket; gives it with the client. */
async function ticketOf(tls: ConnectionOptions): Promise<[Buffer, string]> {
  const socket = connectTls({ host, port: server.tlsPort, ...tls });
  socket.on('error', () => {});
  const session = await new Promise<Buffer>((resolve) => socket.once('session', resolve));
  const protocol = socket.getProtocol() ?? '';
  socket.destroy();
  return [session, protocol];
}

describe('a certificate that changes', () => {
  /** The serial number of the certificate that a new connection is shown. */
  async function serial(of: Server): Promise<string> {
    const socket = connectTls({ host, port: of.tlsPort, ...trusting });
    try {
      await new Promise((resolve, reject) => socket.once('secureConnect', resolve).once('error', reject));
      return (socket.getPeerCertificate() as PeerCertificate).serialNumber;
    } finally {
      socket.destroy();
    }
  }

  async function changes(of: Server, from: string): Promise<string> {
    let now = from;
    await until(async () => {
      now = await serial(of);
      return now !== from;
    }, 'another certificate');
    return now;
  }

  function write(into: string, { cert, key }: Issued): void {
    writeFileSync(join(into, 'cert.pem'), cert);
    writeFileSync(join(into, 'key.pem'), key);
  }

  test('is used once it is there: by rename, by links that lead elsewhere, by writing; no session is dropped', async () => {
    const own = mkdtempSync(join(folder, 'own-'));
    // As Kubernetes has it: cert.pem → ..data/cert.pem, ..data → ..1, which is what changes.
    const version = (name: string): string => {
      mkdirSync(join(own, name));
      write(join(own, name), authority.issue(here));
      return name;
    };
    symlinkSync(version('..1'), join(own, '..data'));
    for (const name of ['cert.pem', 'key.pem']) symlinkSync(join('..data', name), join(own, name));
    const args = ['--tls-cert', join(own, 'cert.pem'), '--tls-key', join(own, 'key.pem')];
    await using renewed = await startServer({ args: ['--tls-port', '0', ...args] });
    using app = await newApp(overTls(renewed), { tls: trusting, autoAck: true });
    const serials = [await serial(renewed)];

    symlinkSync(version('..2'), join(own, '..new'));
    renameSync(join(own, '..new'), join(own, '..data'));
    serials.push(await changes(renewed, serials.at(-1)!));

    // As certbot has it: the link of each file leads to another file.
    version('archive');
    for (const name of ['key.pem', 'cert.pem']) {
      symlinkSync(join('archive', name), join(own, 'new'));
      renameSync(join(own, 'new'), join(own, name));
    }
    serials.push(await changes(renewed, serials.at(-1)!));

    write(join(own, 'archive'), authority.issue(here));
    serials.push(await changes(renewed, serials.at(-1)!));
    assert.equal(new Set(serials).size, 4);
    expectAck(await app.say(app.name, 'all the while'));
    assert.equal(renewed.logs().filter((line) => line.includes('the TLS certificate is renewed')).length, 3);
    assert.deepEqual(
      renewed.logs().filter((line) => line.includes('is refused')),
      [],
    );
  });

  test('into what cannot be used is refused in one line of the log, and the old one stays', async () => {
    const own = mkdtempSync(join(folder, 'own-'));
    const args = writeCertificate(own, authority.issue(here));
    await using kept = await startServer({ args: ['--tls-port', '0', ...args] });
    const first = await serial(kept);
    const complaints = (): string[] => kept.logs().filter((line) => line.includes('the old one stays in use'));
    const next = authority.issue(here);
    for (const [count, broken, why] of [
      [1, { cert: next.cert, key: authority.issue(here).key }, 'not the key of the certificate'],
      [2, { cert: 'nothing', key: next.key }, 'not a certificate in PEM'],
    ] as const) {
      write(own, broken);
      await eventually(
        () => complaints().length === count,
        () => kept.logs().slice(-5).join('\n'),
      );
      assert.ok(complaints().at(-1)?.includes(why), complaints().join('\n'));
      assert.equal(await serial(kept), first);
    }
    rmSync(join(own, 'cert.pem'));
    await eventually(
      () => complaints().length === 3,
      () => kept.logs().slice(-5).join('\n'),
    );
    assert.ok(complaints().at(-1)?.includes('ENOENT'));
    write(own, next);
    await changes(kept, first);
    assert.equal(complaints().length, 3);
  });

  test('what cannot be used at the start is refused in one line that names its option', async () => {
    const own = mkdtempSync(join(folder, 'own-'));
    const data = ['--data', join(own, 'data')];
    const serve = (...args: string[]) => refused(['serve', ...freePorts, ...data, '--tls-port', '0', ...args]);
    const [, cert = '', , key = ''] = writeCertificate(own, authority.issue(here));
    assert.match(
      await serve('--tls-cert', join(own, 'none'), '--tls-key', key),
      /^--tls-cert: .* cannot be read: ENOENT/,
    );
    assert.match(await serve('--tls-cert', key, '--tls-key', key), /^--tls-cert: not a certificate in PEM/);
    assert.match(await serve('--tls-cert', cert, '--tls-key', cert), /^--tls-key: not a key in PEM/);
    assert.match(await serve('--tls-cert', cert, '--tls-key', key, '--tls-client-ca', key), /^--tls-client-ca: not a/);
    writeFileSync(key, authority.issue(here).key);
    assert.match(await serve('--tls-cert', cert, '--tls-key', key), /^--tls-key: not the key of the certificate/);
  });

  test('that has expired, or soon will, is warned of, and its end is a metric', async () => {
    const own = mkdtempSync(join(folder, 'own-'));
    const notAfter = new Date(Math.floor(Date.now() / 1000) * 1000 + 60_000);
    const args = writeCertificate(own, authority.issue({ ...here, notAfter }));
    await using short = await startServer({ args: ['--tls-port', '0', ...args] });
    assert.ok(short.logs().some((line) => line.includes('expires soon')));
    assert.equal(await metric(short, 'hawser_tls_certificate_expires_seconds'), notAfter.getTime() / 1000);
  });
});

describe('clients that show a certificate', () => {
  function shown(issued: Issued): ConnectionOptions {
    return { ...trusting, cert: issued.cert, key: issued.key };
  }

  function certified(id: string): ConnectionOptions {
    return shown(ofClients.issue({ names: [id] }));
  }

  test('are who it names, and nobody else', async () => {
    const id = unique('lamp');
    const tls = certified(id);
    using lamp = await connect(overTls(server), { tls });
    const refusal = await lamp.auth(unique('other'));
    expectCode(refusal, 101, 200);
    assert.match(refusal.msg, /certificate/);
    expectCode(await lamp.auth(id), 101, 100);
    expectCode(await lamp.auth(id), 101, 100);
    const user = await newUser(server);
    using second = await connect(overTls(server), { tls });
    expectCode(await second.login(user, password), 100, 200);
    expectCode(await second.register(unique('ann'), password), 102, 200);
    await lamp.fence();
  });

  test('and a refused name is left as it was: its session goes on', async () => {
    using victim = await newDevice(server);
    using thief = await connect(overTls(server), { tls: certified(unique('thief')) });
    expectCode(await thief.auth(victim.name), 101, 200);
    await victim.fence();
    assert.equal(victim.count('x'), 0);
  });

  test('a person whose certificate it is logs in with the password, under that name only', async () => {
    const user = await newUser(server);
    using app = await connect(overTls(server), { tls: certified(user) });
    expectCode(await app.login(user, 'wrong'), 100, 1002);
    expectCode(await app.login(user, password), 100, 100);
  });

  test('need not, unless it is required', async () => {
    using lamp = await newDevice(overTls(server), { tls: trusting });
    await lamp.fence();
    const args = ['--tls-port', '0', ...certificate, '--tls-client-ca', clientCa, '--tls-client-cert', 'required'];
    await using strict = await startServer({ args });
    await turnedAway(strict, trusting);
    const id = unique('lamp');
    using known = await newDevice(overTls(strict), { tls: certified(id), name: id });
    await known.fence();
    // A resumed session shows no certificate anew: the one of the session counts, and none stays none.
    assert.equal(await closedFor(strict, 'badCertificate'), 1);
  });

  test('of another authority, expired, for no name or for two are turned away, and told so', async () => {
    const long = 'x'.repeat(129);
    for (const tls of [
      shown(authority.issue({ names: ['lamp'] })),
      shown(new Authority('an authority of clients').issue({ names: ['lamp'] })),
      shown(ofClients.issue({ names: ['lamp'], notAfter: new Date(Date.now() - 60_000) })),
      shown(ofClients.issue({ hosts: ['lamp'] })),
      shown(ofClients.issue({ names: ['lamp-1', 'lamp-2'] })),
      shown(ofClients.issue({ names: ['a\nb'] })),
      shown(ofClients.issue({ names: [long] })),
    ]) {
      await turnedAway(server, tls);
    }
  });

  for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
    test(`a resumed session of ${version} is of the same name, and one without a certificate of none`, async () => {
      const id = unique('lamp');
      for (const [tls, expected] of [
        [{ ...certified(id), maxVersion: version }, 200],
        [{ ...trusting, maxVersion: version }, 100],
      ] as const) {
        const [session, protocol] = await ticketOf(tls);
        assert.equal(protocol, version);
        using again = await connect(overTls(server), { tls: { ...tls, session } });
        assert.ok((again.socket as TLSSocket).isSessionReused());
        expectCode(await again.auth(unique('other')), 101, expected);
      }
    });
  }

  test('names in other alphabets are compared byte by byte', async () => {
    const id = unique('лампа-灯');
    using lamp = await newDevice(overTls(server), { tls: certified(id), name: id });
    await lamp.fence();
  });

  /** The connection is ended after cmd 3, before cmd 1. */
  async function turnedAway(of: Server, tls: ConnectionOptions): Promise<void> {
    const before = await closedFor(of, 'badCertificate');
    using client = await Client.connect(overTls(of), { tls });
    const answer = await client.takeCmd(3);
    assert.match(answer.msg, /certificate is needed/);
    await client.waitClosed();
    assert.deepEqual(
      client.frames.map(({ cmd }) => cmd),
      [3],
    );
    assert.equal(await closedFor(of, 'badCertificate'), before + 1);
  }
});

describe('the dispatcher', () => {
  function askOverTls(of: Server, path: string): Promise<{ answer: unknown; serial: string }> {
    return new Promise((resolve, reject) => {
      const request = getOverTls({ host, port: of.httpsPort, path, agent: false, ...trusting }, async (response) => {
        const { serialNumber } = (response.socket as TLSSocket).getPeerCertificate();
        resolve({ answer: JSON.parse(await textFrom(response)), serial: serialNumber });
      });
      request.once('error', reject);
    });
  }

  async function textFrom(stream: AsyncIterable<Buffer>): Promise<string> {
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of stream) chunks.push(chunk);
    } catch {
      // It was reset; what came before counts.
    }
    return Buffer.concat(chunks).toString();
  }

  async function ask(of: Server, query: string): Promise<unknown> {
    return (await fetch(`http://127.0.0.1:${of.httpPort}/?${query}`)).json();
  }

  test('names the TLS port to those that ask for it, and to nobody else', async () => {
    const plain = { code: 100, msg: 'ok', ip: host, port: server.port };
    assert.deepEqual(await ask(server, 'id=a'), plain);
    for (const other of ['tls', 'tls=', 'tls=0', 'tls=true'])
      assert.deepEqual(await ask(server, `id=a&${other}`), plain);
    assert.deepEqual(await ask(server, 'id=a&tls=1'), { ...plain, port: server.tlsPort, tls: true });
  });

  test('names what --advertise-tls says', async () => {
    const args = ['--tls-port', '0', ...certificate, '--advertise', 'a.test:1', '--advertise-tls', 'b.test:2'];
    await using other = await startServer({ args });
    assert.deepEqual(await ask(other, 'id=a'), { code: 100, msg: 'ok', ip: 'a.test', port: 1 });
    assert.deepEqual(await ask(other, 'id=a&tls=1'), { code: 100, msg: 'ok', ip: 'b.test', port: 2, tls: true });
  });

  test('answers over HTTPS as it does over HTTP, with the same certificate, which changes as it does', async () => {
    const own = mkdtempSync(join(folder, 'own-'));
    const args = writeCertificate(own, authority.issue(here));
    await using both = await startServer({ args: ['--tls-port', '0', '--https-port', '0', ...args] });
    const answer = { code: 100, msg: 'ok', ip: host, port: both.port };
    assert.deepEqual((await askOverTls(both, '/?id=a')).answer, answer);
    const { answer: tls, serial } = await askOverTls(both, '/?id=a&tls=1');
    assert.deepEqual(tls, { ...answer, port: both.tlsPort, tls: true });
    for (const path of ['/?id=', '/', '/?id=a&id=b']) {
      const { answer: refusal } = await askOverTls(both, path);
      assert.equal((refusal as { code: number }).code, 200, path);
    }
    const socket = connectTls({ host, port: both.httpsPort, ...trusting }, () => socket.end('no HTTP\r\n\r\n'));
    assert.match(await textFrom(socket), /^HTTP\/1.1 200 OK\r\n[\s\S]*"code":200/);
    assert.equal(await textFrom(connectSocket({ host, port: both.httpsPort }).end('GET / HTTP/1.1\r\n\r\n')), '');
    writeCertificate(own, authority.issue(here));
    await until(async () => (await askOverTls(both, '/?id=a')).serial !== serial, 'another certificate');
    assert.equal(await closedFor(both, 'handshakeFailed'), 1);
  });

  test('has no server over TLS where there is no TLS', async () => {
    await using without = await startServer();
    assert.deepEqual(await ask(without, 'id=a&tls=1'), { code: 1000, msg: 'no server is available over TLS' });
  });
});
