import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import { closings, refusals } from '@hawser/protocol';
import { Counters, limitNames } from '../core/counters.ts';
import { createAdmin, type Health } from './http.ts';
import type { Meters } from './meters.ts';
import { type Measured, serverMeters } from './metrics.ts';

const counters = new Counters();
const measured = {
  counters,
  connections: () => 11,
  sessions: () => 12,
  beforeLogin: () => 20,
  loginsDelayed: () => 21,
  delivery: () => ({ mailboxes: 13, senders: 14, rememberedIds: 15, pendingBytes: 16 }),
  store: () => ({ batches: 17, operations: 18, damaged: 19 }),
} as unknown as Measured;

let health: Health = { ok: true, state: 'serving' };
let metrics: Meters;
let server: Server;
let base: string;
before(async () => {
  metrics = serverMeters(measured);
  server = createAdmin(metrics, () => health);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
after(() => {
  metrics.close();
  server.close();
  server.closeAllConnections();
});

/** The samples of `/metrics`, by name with labels. */
async function samples(): Promise<Map<string, number>> {
  const text = await (await fetch(`${base}/metrics`)).text();
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]),
  );
}

test('/healthz is 200 while it serves, and 503 with the state else', async () => {
  for (const [now, status] of [
    [{ ok: true, state: 'serving' }, 200],
    [{ ok: false, state: 'stopping' }, 503],
    [{ ok: false, state: 'failed' }, 503],
    [{ ok: true, state: 'serving' }, 200],
  ] as const) {
    health = now;
    const response = await fetch(`${base}/healthz`);
    assert.equal(response.status, status);
    assert.equal(response.headers.get('cache-control'), 'no-store');
    assert.deepEqual(await response.json(), { state: now.state });
  }
});

test('/healthz and /metrics take a query, and HEAD', async () => {
  for (const path of ['/healthz?x=1', '/metrics?x=1']) {
    assert.equal((await fetch(base + path)).status, 200);
    const head = await fetch(base + path, { method: 'HEAD' });
    assert.equal(head.status, 200);
    assert.equal(await head.text(), '');
  }
});

test('other paths are 404 and say what there is; other methods are 405', async () => {
  for (const path of ['/', '/health', '/metrics/', '/healthz/x']) {
    const response = await fetch(base + path);
    assert.equal(response.status, 404, path);
    assert.equal(await response.text(), 'here are /healthz and /metrics\n');
  }
  for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS']) {
    const response = await fetch(`${base}/healthz`, { method });
    assert.equal(response.status, 405, method);
    assert.equal(response.headers.get('allow'), 'GET, HEAD');
  }
});

test('metrics are in the form of Prometheus, each with its help and type', async () => {
  const response = await fetch(`${base}/metrics`);
  assert.match(response.headers.get('content-type') ?? '', /^text\/plain; version=0\.0\.4/);
  const text = await response.text();
  for (const [name] of await samples()) {
    const family = name.replace(/\{.*/, '').replace(/_(bucket|sum|count)$/, '');
    assert.ok(text.includes(`# HELP ${family} `), family);
    assert.match(text, new RegExp(`# TYPE ${family} (counter|gauge|histogram)`), family);
  }
});

test('every counter shows in its own metric, and counts', async () => {
  const plain = {
    connectionsOpened: 'hawser_connections_opened_total',
    registrations: 'hawser_registrations_total',
    appLogins: 'hawser_logins_total{role="app"}',
    deviceLogins: 'hawser_logins_total{role="device"}',
    takeovers: 'hawser_takeovers_total',
    accepted: 'hawser_messages_accepted_total',
    joined: 'hawser_messages_joined_total',
    forwarded: 'hawser_messages_forwarded_total',
    pushed: 'hawser_messages_pushed_total',
    redelivered: 'hawser_messages_redelivered_total',
    acked: 'hawser_messages_acked_total',
    stored: 'hawser_messages_stored_total',
    removed: 'hawser_messages_removed_total',
    expiredByAge: 'hawser_messages_expired_total{reason="age"}',
    expiredByTtl: 'hawser_messages_expired_total{reason="ttl"}',
    devicesExpired: 'hawser_devices_expired_total',
    frames: 'hawser_frames_received_total',
    bytesReceived: 'hawser_bytes_received_total',
    bytesSent: 'hawser_bytes_sent_total',
  } as const;
  const names = Object.keys(plain) as (keyof typeof plain)[];
  const labelled = ['refused', 'closed', 'limited'];
  const missing = Object.keys(counters).filter((name) => !(name in plain) && !labelled.includes(name));
  assert.deepEqual(missing, [], 'a counter that no metric shows');
  for (const [i, name] of names.entries()) counters[name] = 1000 + i;
  const first = await samples();
  for (const [i, name] of names.entries()) assert.equal(first.get(plain[name]), 1000 + i, name);
  for (const name of names) counters[name]++;
  const second = await samples();
  for (const [i, name] of names.entries()) assert.equal(second.get(plain[name]), 1001 + i, name);
});

test('refusals and closings count by reason, and every reason is there from the start', async () => {
  counters.refused.busy = 3;
  counters.closed.gone = 4;
  counters.closed.idleTimeout = 5;
  const now = await samples();
  for (const reason of Object.keys(refusals)) {
    assert.equal(now.get(`hawser_refused_total{reason="${reason}"}`), reason === 'busy' ? 3 : 0, reason);
  }
  for (const reason of Object.keys(closings)) {
    assert.equal(now.get(`hawser_closed_total{reason="${reason}"}`), reason === 'idleTimeout' ? 5 : 0, reason);
  }
  assert.equal(now.get('hawser_closed_total{reason="gone"}'), 4);
});

test('each limit against abuse counts how often it was met, and is there from the start', async () => {
  counters.limited.registrations = 6;
  const now = await samples();
  for (const limit of limitNames) {
    assert.equal(now.get(`hawser_limited_total{limit="${limit}"}`), limit === 'registrations' ? 6 : 0, limit);
  }
});

test('what is measured when asked shows as it is', async () => {
  const now = await samples();
  for (const [name, value] of [
    ['hawser_connections', 11],
    ['hawser_sessions', 12],
    ['hawser_connections_before_login', 20],
    ['hawser_logins_delayed', 21],
    ['hawser_mailboxes', 13],
    ['hawser_remembered_ids', 15],
    ['hawser_pending_bytes', 16],
    ['hawser_store_batches_total', 17],
    ['hawser_store_writes_total', 18],
    ['hawser_store_damaged_records', 19],
  ] as const) {
    assert.equal(now.get(name), value, name);
  }
});

test('the delay of the event loop and the memory are there', async () => {
  const now = await samples();
  for (const name of [
    'nodejs_eventloop_lag_seconds',
    'nodejs_eventloop_lag_p99_seconds',
    'process_resident_memory_bytes',
  ]) {
    assert.ok(Number(now.get(name)) >= 0, name);
  }
});
