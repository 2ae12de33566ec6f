// `hawser dispatch`: what it tells clients over HTTP and HTTPS, what it tells operators, and what it does without Redis.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { get as getOverTls } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { PeerCertificate, TLSSocket } from 'node:tls';
import { noRedis, RedisServer } from '@hawser/server/cluster/redis/server-harness';
import { Postgres, postgresFolder } from '../scripts/postgres.ts';
import { Authority, writeCertificate } from './certificates.ts';
import { Command, refused } from './cli.ts';
import { type Server, startServer } from './harness.ts';
import { eventually, sleep } from './parties.ts';

const skip = postgresFolder() === undefined ? 'there is no PostgreSQL here' : noRedis;
const authority = new Authority();
const here = { hosts: ['hawser.test', '127.0.0.1'] };
const folder = mkdtempSync(join(tmpdir(), 'hawser-dispatch-'));
const certificate = writeCertificate(folder, authority.issue(here));
/** A lease, and a renewal more: what is not renewed by then counts as gone where Redis is there to tell. */
const BEYOND_LEASE_MS = 4500;

let postgres: Postgres;
let redis: RedisServer;
let node: Server;
before(async () => {
  if (skip !== false) return;
  [postgres, redis] = await Promise.all([Postgres.start(['shared_buffers=32MB']), RedisServer.start()]);
  const cluster = ['--postgres', postgres.url(), '--redis', redisUrl(), '--node', 'a'];
  node = await startServer({ args: [...cluster, '--tls-port', '0', ...certificate] });
});
after(async () => {
  await node?.[Symbol.asyncDispose]();
  await redis?.close();
  await postgres?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

function redisUrl(): string {
  return `redis://127.0.0.1:${redis.port}`;
}

interface Dispatcher extends AsyncDisposable {
  readonly http: number;
  readonly https: number;
  readonly admin: number;
  readonly command: Command;
}

async function start(...more: string[]): Promise<Dispatcher> {
  const ports = ['--http-port', '0', '--admin-port', '0'];
  const command = new Command(['dispatch', '--redis', redisUrl(), ...ports, ...more], { isOpen: true });
  const line = await command.until(({ stderr }) => stderr.split('\n').find((each) => each.includes('"msg":"ready"')));
  const { http, https, admin } = JSON.parse(line) as Record<string, { port: number } | undefined>;
  return {
    ...{ http: http?.port ?? 0, https: https?.port ?? 0, admin: admin?.port ?? 0, command },
    async [Symbol.asyncDispose]() {
      command.child.kill('SIGTERM');
      assert.equal((await command.done).code, 0);
    },
  };
}

type Answer = { code: number; port?: number; tls?: boolean };

async function ask({ http }: Dispatcher, query = ''): Promise<Answer> {
  const response = await fetch(`http://127.0.0.1:${http}/?id=lamp${query}`);
  assert.equal(response.status, 200);
  return (await response.json()) as Answer;
}

async function askOverTls({ https }: Dispatcher): Promise<{ answer: Answer; peer: PeerCertificate }> {
  const at = { host: '127.0.0.1', port: https, path: '/?id=lamp&tls=1', ca: authority.cert, agent: false };
  return new Promise((resolve, reject) => {
    const request = getOverTls({ ...at, servername: 'hawser.test' }, (response) => {
      const peer = (response.socket as TLSSocket).getPeerCertificate();
      response.setEncoding('utf8').on('data', (text: string) => resolve({ answer: JSON.parse(text) as Answer, peer }));
    });
    request.on('error', reject);
  });
}

async function health({ admin }: Dispatcher): Promise<[number, string]> {
  const response = await fetch(`http://127.0.0.1:${admin}/healthz`);
  return [response.status, ((await response.json()) as { state: string }).state];
}

async function metric({ admin }: Dispatcher, name: string): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${admin}/metrics`)).text();
  const line = text.split('\n').find((each) => each.startsWith(`${name} `));
  assert.ok(line !== undefined, `${name} is there`);
  return Number(line.slice(name.length).replace('+Inf', 'Infinity'));
}

function tellsOf(dispatcher: Dispatcher, port: number): Promise<void> {
  return eventually(
    async () => (await ask(dispatcher)).port === port,
    () => `it tells of port ${port}`,
  );
}

describe('hawser dispatch', { skip }, () => {
  test('tells of a node over HTTP and HTTPS, counts what it told, and is healthy', async () => {
    await using dispatcher = await start('--https-port', '0', ...certificate);
    await tellsOf(dispatcher, node.port);
    const before = await metric(dispatcher, 'hawser_dispatcher_answers_total{answer="told"}');
    assert.deepEqual(await ask(dispatcher, '&tls=1'), {
      code: 100,
      msg: 'ok',
      ip: node.host,
      port: node.tlsPort,
      tls: true,
    });
    assert.equal((await askOverTls(dispatcher)).answer.port, node.tlsPort);
    assert.equal(await metric(dispatcher, 'hawser_dispatcher_answers_total{answer="told"}'), before + 2);
    assert.equal(await metric(dispatcher, 'hawser_dispatcher_nodes'), 1);
    assert.deepEqual(await health(dispatcher), [200, 'serving']);
    assert.ok((await metric(dispatcher, 'hawser_tls_certificate_expires_seconds')) > Date.now() / 1000);
    assert.ok((await metric(dispatcher, 'process_resident_memory_bytes')) > 0);
  });

  test('a handshake that fails is counted, and harms nobody', async () => {
    await using dispatcher = await start('--https-port', '0', ...certificate);
    await assert.rejects(fetch(`https://127.0.0.1:${dispatcher.https}/?id=lamp`));
    await eventually(
      async () => (await metric(dispatcher, 'hawser_closed_total{reason="handshakeFailed"}')) === 1,
      () => 'one handshake that failed',
    );
    await tellsOf(dispatcher, node.port);
  });

  test('a new certificate is used once it is there', async () => {
    const own = mkdtempSync(join(folder, 'own-'));
    await using dispatcher = await start('--https-port', '0', ...writeCertificate(own, authority.issue(here)));
    const first = (await askOverTls(dispatcher)).peer.serialNumber;
    writeCertificate(own, authority.issue(here));
    await eventually(
      async () => (await askOverTls(dispatcher)).peer.serialNumber !== first,
      () => 'another certificate',
      15_000,
    );
  });

  test('without Redis it tells what it knew last, and how old that is; one that knows nothing says so', async () => {
    await using dispatcher = await start();
    await tellsOf(dispatcher, node.port);
    await redis.kill();
    // For longer than a node is told of that does not renew its lease while Redis is there.
    await sleep(BEYOND_LEASE_MS);
    assert.equal((await ask(dispatcher)).port, node.port);
    assert.ok((await metric(dispatcher, 'hawser_dispatcher_age_seconds')) > 3);
    assert.deepEqual(await health(dispatcher), [200, 'serving']);

    await using blind = await start();
    assert.equal((await ask(blind)).code, 1000);
    assert.deepEqual(await health(blind), [503, 'blind']);
    assert.equal(await metric(blind, 'hawser_dispatcher_age_seconds'), Number.POSITIVE_INFINITY);
    assert.equal(await metric(blind, 'hawser_dispatcher_answers_total{answer="none"}'), 1);

    await redis.start();
    await tellsOf(blind, node.port);
    assert.deepEqual(await health(blind), [200, 'serving']);
    // It tries to reach Redis ever more rarely.
    await eventually(
      async () => (await metric(dispatcher, 'hawser_dispatcher_age_seconds')) < 2,
      () => 'it knows anew',
    );
    assert.equal((await ask(dispatcher)).port, node.port);
  });

  test('what cannot be served with is refused in a line', async () => {
    const on = ['dispatch', '--redis', redisUrl(), '--http-port', '0', '--admin-port', '0'];
    assert.equal(await refused([...on, '--https-port', '0']), '--https-port needs --tls-cert and --tls-key');
    assert.equal(
      await refused([...on, ...certificate]),
      '--tls-cert and --tls-key have no effect without --https-port',
    );
    assert.match(
      await refused([...on, '--https-port', '0', '--tls-cert', join(folder, 'none.pem'), '--tls-key', certificate[3]!]),
      /^--tls-cert: \S+none\.pem cannot be read: /,
    );
    assert.match(await refused([...on, '--admin-port', String(node.adminPort)]), /^--admin-port: port \d+ is in use$/);
  });
});
