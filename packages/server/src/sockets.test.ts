// What clients see over real sockets of what no real server can be brought to in a test: a store that is away, a queue
// of passwords that is full, deadlines of a minute. Between the sockets is the core's bench, whose time a test lets pass.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { refusals, serverLimits } from '@hawser/protocol';
import { Client, type ConnectOptions, encodeFrame, type Frame } from '../../../test/mini-client.ts';
import { StoreAway } from './core/ports.ts';
import { Bench } from './core/testing/bench.ts';
import type { Gateway } from './gateway/listener.ts';
import { listenTcp } from './gateway/tcp.ts';

const PASSWORD = '5f4dcc3b5aa765d61d8327deb882cf99';
/** Deadlines are looked at this often. */
const CHECK_MS = 1_000;

let bench: Bench;
let gateway: Gateway;
let turns: NodeJS.Timeout;
let clients: Client[];

beforeEach(async () => {
  bench = await Bench.open();
  gateway = await listenTcp(bench.core, { host: '127.0.0.1', port: 0, connectionsMax: 100 });
  // Turns end by themselves; time passes only when a test says so.
  turns = setInterval(() => void bench.settle(), 1);
  clients = [];
});

afterEach(async () => {
  for (const client of clients) client.destroy();
  gateway.stopAccepting();
  await gateway.closed();
  clearInterval(turns);
});

async function connect(options: ConnectOptions = {}): Promise<Client> {
  const client = await Client.connect(gateway, options);
  clients.push(client);
  await client.takeCmd(1);
  return client;
}

async function newApp(
  name: string,
  extra: Record<string, unknown> = {},
  options: ConnectOptions = {},
): Promise<Client> {
  const client = await connect(options);
  assert.equal((await client.register(name, PASSWORD)).code, 100);
  assert.equal((await client.login(name, PASSWORD, extra)).code, 100);
  return client;
}

function expectAck(frame: Frame): void {
  assert.deepEqual([frame.cmd, frame.data.length], [200, 0], `${frame}`);
}

describe('a store that is away', () => {
  beforeEach(() => bench.away('bob'));

  test('a client that sent "nack" is told to come again, another is told nothing; both are acked once it is back', async () => {
    const plain = await newApp('plain');
    const nack = await newApp('nack', { nack: true });
    bench.store.fail('append', new StoreAway('for a test'));
    plain.post('bob', 1, { msgId: 'p' });
    const answer = await nack.say('bob', 1, { msgId: 'n' });
    assert.deepEqual(answer.json, { code: 200, msg: refusals.storeAway.msg, retry: true });
    assert.deepEqual(await plain.quiet(50), []);
    bench.store.mend('append');
    expectAck(await plain.say('bob', 1, { msgId: 'p' }));
    expectAck(await nack.say('bob', 1, { msgId: 'n' }));
  });

  test('what an online receiver acks goes on', async () => {
    const sender = await newApp('ann');
    const receiver = await newApp('cal', {}, { autoAck: true });
    bench.store.fail('append', new StoreAway('for a test'));
    expectAck(await sender.say('cal', 1, { msgId: 'm' }));
    assert.equal(receiver.count('m'), 1);
  });

  test('a login is refused, not left unanswered, and the same connection logs in once it is back', async () => {
    const client = await connect();
    bench.store.fail('name', new StoreAway('for a test'));
    assert.equal((await client.login('bob', PASSWORD)).code, 200);
    bench.store.mend('name');
    bench.store.fail('hasBacklog', new StoreAway('for a test'));
    assert.equal((await client.login('bob', PASSWORD)).code, 200);
    assert.equal((await client.say('bob', 1)).code, 300, 'it is not logged in');
    bench.store.mend('hasBacklog');
    assert.equal((await client.login('bob', PASSWORD)).code, 100);
    client.autoAck = true;
    expectAck(await client.say('bob', 1));
  });
});

describe('a queue of passwords that is full', () => {
  test('login and registration are answered that it is too busy; the connection stays, and both work later', async () => {
    await bench.away('bob');
    const client = await connect();
    const busy = { code: 200, msg: refusals.busy.msg };
    bench.passwords.isBusy = true;
    assert.deepEqual((await client.register('new', PASSWORD)).json, busy);
    assert.deepEqual((await client.login('bob', PASSWORD)).json, busy);
    assert.equal(bench.core.counters.refused.busy, 2);
    bench.passwords.isBusy = false;
    assert.equal((await client.register('new', PASSWORD)).code, 100);
    assert.equal((await client.login('bob', PASSWORD)).code, 100);
  });

  test('those who are logged in notice nothing', async () => {
    const app = await newApp('ann', {}, { autoAck: true });
    bench.passwords.isBusy = true;
    expectAck(await app.say('ann', 1));
  });
});

describe('a frame that does not arrive whole', () => {
  const frame = encodeFrame({ cmd: 0, msgId: 'whole' });

  async function withHalf(): Promise<Client> {
    const client = await newApp('ann');
    client.sendRaw(frame.subarray(0, 5));
    await received(5);
    return client;
  }

  /** Waits until the server has received so many bytes more. */
  async function received(bytes: number): Promise<void> {
    const { counters } = bench.core;
    for (const goal = counters.bytesReceived + bytes; counters.bytesReceived < goal; ) {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }

  test('closes its connection after 60 s, with a FIN and no answer, and no other', async () => {
    const other = await connect();
    assert.equal((await other.auth('lamp')).code, 100);
    const client = await withHalf();
    await bench.pass(serverLimits.frameTimeoutMs - 1);
    assert.equal(client.closed, undefined);
    await bench.pass(CHECK_MS + 1);
    assert.equal((await client.waitClosed()).how, 'fin');
    assert.deepEqual(client.frames.filter(({ taken }) => !taken).map(String), []);
    assert.equal(bench.core.counters.closed.frameTimeout, 1);
    await other.fence();
  });

  test('is answered when it is whole before that, however slowly it came', async () => {
    const client = await withHalf();
    for (let at = 5; at < frame.length; at++) {
      await bench.pass((serverLimits.frameTimeoutMs - CHECK_MS) / frame.length);
      const arrived = received(1);
      client.sendRaw(frame.subarray(at, at + 1));
      await arrived;
    }
    assert.equal((await client.reply('whole')).cmd, 0);
    await bench.pass(2 * serverLimits.frameTimeoutMs);
    await client.fence();
  });

  test('each byte of it does not begin the minute anew', async () => {
    const client = await withHalf();
    for (let at = 5; at < 8; at++) {
      await bench.pass(serverLimits.frameTimeoutMs / 4);
      const arrived = received(1);
      client.sendRaw(frame.subarray(at, at + 1));
      await arrived;
    }
    await bench.pass(serverLimits.frameTimeoutMs / 4 + CHECK_MS);
    assert.equal((await client.waitClosed()).how, 'fin');
  });
});
