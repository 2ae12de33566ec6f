// `hawser serve --postgres --redis --node`: nodes as processes of their own, on one PostgreSQL and one Redis.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { noRedis, RedisServer } from '@hawser/server/cluster/redis/server-harness';
import { Postgres, postgresFolder } from '../scripts/postgres.ts';
import { Command, freePorts, refused, succeed } from './cli.ts';
import { type Server, startServer } from './harness.ts';
import { metric } from './metrics.ts';
import type { Client, Frame } from './mini-client.ts';
import {
  addDevice,
  connect,
  eventually,
  expectAck,
  expectCode,
  login,
  newDevice,
  newUser,
  password,
  sleep,
} from './parties.ts';

const skip = postgresFolder() === undefined ? 'there is no PostgreSQL here' : noRedis;

let postgres: Postgres;
let redis: RedisServer;
const nodes: Server[] = [];

function argsOf(name: string): string[] {
  return ['--postgres', postgres.url(), '--redis', `redis://127.0.0.1:${redis.port}`, '--node', name];
}

function startNode(name: string): Promise<Server> {
  return startServer({ args: argsOf(name) });
}

before(async () => {
  if (skip !== false) return;
  [postgres, redis] = await Promise.all([Postgres.start(['shared_buffers=32MB']), RedisServer.start()]);
  for (const name of ['a', 'b', 'c']) nodes.push(await startNode(name));
});
after(async () => {
  await Promise.all(nodes.map((node) => node[Symbol.asyncDispose]()));
  await redis?.close();
  await postgres?.[Symbol.asyncDispose]();
});

/** Logs in as soon as that can be done: a name of a node that died is free some seconds later. */
async function again(at: Server, prove: (client: Client) => Promise<Frame>): Promise<Client> {
  for (const until = performance.now() + 20_000; ; ) {
    const client = await connect(at, { autoAck: true });
    const answer = await prove(client);
    if (answer.code === 100) return client;
    client.destroy();
    assert.ok(performance.now() < until, `${answer}`);
    await sleep(100);
  }
}

function deviceAgain(at: Server, id: string): Promise<Client> {
  return again(at, (client) => client.auth(id, { nack: true }, { timeoutMs: 15_000 }));
}

function appAgain(at: Server, name: string): Promise<Client> {
  return again(at, (client) => client.login(name, password, { nack: true }, { timeoutMs: 15_000 }));
}

function acks(client: Client): Set<string> {
  return new Set(client.frames.filter(({ cmd, data }) => cmd === 200 && data.length === 0).map(({ msgId }) => msgId));
}

/** Posts messages every few ms until it is told to stop; gives their ids in order. */
function stream(from: Client, to: string): { readonly sent: string[]; stop(): void } {
  const sent: string[] = [];
  const timer = setInterval(() => sent.push(from.post(to, sent.length)), 2);
  return { sent, stop: () => clearInterval(timer) };
}

/** `hawser dispatch` on a free port. */
async function startDispatcher(): Promise<AsyncDisposable & { readonly port: number }> {
  const args = ['dispatch', '--redis', `redis://127.0.0.1:${redis.port}`, '--http-port', '0', '--admin-port', '0'];
  const command = new Command(args, { isOpen: true });
  const port = await command.until(({ stderr }) => Number(/"http":\{[^}]*"port":(\d+)/.exec(stderr)?.[1]) || undefined);
  return {
    port,
    async [Symbol.asyncDispose]() {
      command.child.kill('SIGTERM');
      assert.equal((await command.done).code, 0);
    },
  };
}

/** The port that a dispatcher tells this client; `undefined` for code 1000. */
async function dispatched(httpPort: number, id: string): Promise<number | undefined> {
  const answer = (await (await fetch(`http://127.0.0.1:${httpPort}/?id=${id}`)).json()) as Record<string, unknown>;
  if (answer.code === 1000) return undefined;
  assert.equal(answer.code, 100);
  return Number(answer.port);
}

/** What came first of each message. */
function firsts(...clients: Client[]): string[] {
  return [...new Set(clients.flatMap(({ messages }) => messages.map(({ msgid }) => msgid)))];
}

describe('nodes of a cluster', { skip }, () => {
  test('a user registered on one node logs in on another, and messages cross both ways, in order', async () => {
    const [a, b, c] = nodes as [Server, Server, Server];
    const name = await newUser(a);
    using app = await login(b, name, { autoAck: true });
    using device = await newDevice(c, { autoAck: true });
    expectCode(await app.bind(device.name), 203, 100);
    const sent = Array.from({ length: 300 }, (_, i) => app.post(device.name, i));
    await eventually(
      () => sent.every((id) => acks(app).has(id)),
      () => `300 acks, ${acks(app).size} came`,
    );
    // What was stored comes a second after the login.
    await device.received(300);
    assert.deepEqual(firsts(device), sent);
    expectAck(await device.say(name, 'back'));
    assert.equal((await app.received(1))[0]?.msg, 'back');
  });

  test('a newer login on another node ends the older one with 103, and nothing acked is lost or out of order', async () => {
    const [a, b, c] = nodes as [Server, Server, Server];
    const name = await newUser(a);
    using sender = await login(a, name);
    using older = await newDevice(b, { autoAck: true });
    expectCode(await sender.bind(older.name), 203, 100);
    const posting = stream(sender, older.name);
    await older.received(50);
    using newer = await newDevice(c, { name: older.name, autoAck: true });
    const conflict = await older.takeCmd(103);
    assert.equal(conflict.data.length, 0);
    assert.equal((await older.waitClosed()).how, 'fin');
    await newer.received(50);
    posting.stop();
    await eventually(
      () => posting.sent.every((id) => acks(sender).has(id)),
      () => 'all acks',
    );
    await eventually(
      () => firsts(older, newer).length === posting.sent.length,
      () => 'all messages',
    );
    assert.deepEqual(firsts(older, newer), posting.sent);
  });

  test('nodes that are killed -9 with messages on their way lose nothing that was acked', async () => {
    const [a] = nodes as [Server];
    await using sendersNode = await startNode('d');
    await using receiversNode = await startNode('e');
    const name = await newUser(a);
    using sender = await login(sendersNode, name);
    using first = await newDevice(receiversNode, { autoAck: true });
    const id = first.name;
    expectCode(await sender.bind(id), 203, 100);
    using other = await login(a, await newUser(a));
    const away = await addDevice(sender);
    expectCode(await other.bind(id), 203, 100);
    const posting = stream(sender, id);
    const postingAway = stream(sender, away);
    await first.received(100);
    await receiversNode.kill9();
    const since = acks(sender).size;
    await eventually(
      () => acks(sender).size > since + 200,
      () => 'acks go on without the receiver',
    );
    await sendersNode.kill9();
    posting.stop();
    postingAway.stop();
    const acked = acks(sender);
    using second = await deviceAgain(a, id);
    using late = await deviceAgain(a, away);
    for (const [clients, { sent }] of [
      [[first, second], posting],
      [[late], postingAway],
    ] as const) {
      const wanted = sent.filter((each) => acked.has(each));
      await eventually(
        () => wanted.every((each) => firsts(...clients).includes(each)),
        () => `${wanted.length} messages, ${firsts(...clients).length} came`,
      );
      const got = new Set(firsts(...clients));
      assert.deepEqual(
        [...got],
        sent.filter((each) => got.has(each)),
      );
    }
    using back = await appAgain(a, name);
    expectAck(await back.say(id, 'after all'));
  });

  test('the dispatchers of all nodes, and one alone, send an id to the same node, and all ids to all of them', async () => {
    await using alone = await startDispatcher();
    const asked = Array.from({ length: 40 }, (_, i) => `lamp-${i}`);
    const ports = nodes.slice(0, 3).map(({ port }) => port);
    // Each has seen the others within a second.
    await eventually(
      async () => new Set(await Promise.all(asked.map((id) => dispatched(alone.port, id)))).size === 3,
      () => 'all nodes are told of',
    );
    const answers = await Promise.all(
      [alone.port, ...nodes.slice(0, 3).map(({ httpPort }) => httpPort)].map((port) =>
        Promise.all(asked.slice(0, 12).map((id) => dispatched(port, id))),
      ),
    );
    for (const answer of answers) {
      assert.deepEqual(answer, answers[0]);
      for (const port of answer) assert.ok(ports.includes(port ?? 0));
    }
  });

  test('a node that is frozen is told to nobody, ends with a line and exit code 1, and Redis away changes nothing', async () => {
    await using alone = await startDispatcher();
    await using node = await startNode('f');
    const asked = Array.from({ length: 60 }, (_, i) => `lamp-${i}`);
    const told = async (): Promise<Set<number | undefined>> => {
      // Whoever asks too often is told that there is none.
      await sleep(60);
      return new Set(await Promise.all(asked.map((id) => dispatched(alone.port, id))));
    };
    const { port } = node;
    await eventually(
      async () => (await told()).has(port) && (await told()).size === 4,
      () => 'the new node is told of',
    );
    redis.freeze();
    try {
      const until = performance.now() + 1000;
      while (performance.now() < until) {
        assert.deepEqual(await told(), new Set([...nodes.slice(0, 3).map((each) => each.port), port]));
      }
    } finally {
      redis.thaw();
    }
    process.kill(node.pid, 'SIGSTOP');
    try {
      await eventually(
        async () => !(await told()).has(port),
        () => 'it is told of no more',
        15_000,
      );
      assert.equal((await told()).size, 3);
      await eventually(
        async () => (await metric(nodes[0]!, 'hawser_cluster_peers')) === 2,
        () => 'others have condemned it',
        15_000,
      );
    } finally {
      process.kill(node.pid, 'SIGCONT');
    }
    assert.equal(await node.ended(), 1);
    assert.ok(node.logs().some((line) => line.includes('this node is fenced')));
  });

  test('node drain moves the sessions of a node to others and says so, node list shows it, --undo takes it back', async () => {
    const [a] = nodes as [Server];
    await using node = await startNode('h');
    const on = ['--redis', `redis://127.0.0.1:${redis.port}`];
    const devices: Client[] = [];
    for (let i = 0; i < 20; i++) devices.push(await newDevice(node));
    const listed = await succeed(['node', 'list', '--json', ...on]);
    const rows = listed
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    assert.deepEqual(
      rows.map((row) => row.node),
      ['a', 'b', 'c', 'h'],
    );
    assert.equal(rows[3]?.sessions, 20);
    assert.equal(rows[3]?.isDraining, false);
    const draining = succeed(['node', 'drain', 'h', '--rate', '40/s', ...on]);
    await Promise.race(devices.map((device) => device.waitClosed(20_000)));
    for (let i = 0; i < 60; i++) assert.notEqual(await dispatched(a.httpPort, `lamp-${i}`), node.port);
    assert.match(await draining, /^h has no sessions/);
    for (const device of devices) assert.equal((await device.waitClosed()).how, 'fin');
    assert.ok(!devices.some(({ frames }) => frames.some(({ cmd }) => cmd === 103)));
    for (let i = 0; i < 60; i++) assert.notEqual(await dispatched(node.httpPort, `lamp-${i}`), node.port);
    assert.equal(await succeed(['node', 'drain', 'h', '--undo', ...on]), 'h takes clients again.\n');
    const again = new Set(
      await Promise.all(Array.from({ length: 60 }, (_, i) => dispatched(node.httpPort, `lamp-${i}`))),
    );
    assert.ok(again.has(node.port));
  });

  test('SIGTERM gives the sessions of a node to others before it ends, and what is on its way to them is kept', async () => {
    const [a, b] = nodes as [Server, Server];
    await using node = await startNode('i');
    using app = await login(a, await newUser(b), { autoAck: true });
    using device = await newDevice(node);
    expectCode(await app.bind(device.name), 203, 100);
    const sent = app.post(device.name, 'not acked by its receiver');
    await device.received(1);
    const stopping = node.stop();
    assert.equal((await device.waitClosed()).how, 'fin');
    using later = await deviceAgain(b, device.name);
    assert.equal((await later.received(1))[0]?.msgid, sent);
    assert.equal(await stopping, 0, node.logs().slice(-10).join('\n'));
    await eventually(
      () => acks(app).has(sent),
      () => 'the ack',
    );
  });

  test('user remove and device remove end a session on another node, and who has the name next gets nothing of it', async () => {
    const [a, b, c] = nodes as [Server, Server, Server];
    const name = await newUser(a);
    const onB = ['--data', b.data];
    using app = await login(a, name);
    using other = await login(b, await newUser(a), { autoAck: true });
    using device = await newDevice(c);
    expectCode(await app.bind(device.name), 203, 100);
    // In inboxes, in a window on another node, and on the way there.
    expectAck(await other.say(name, 'stored for the user'));
    await app.received(1);
    const posting = stream(app, device.name);
    await device.received(20);
    await succeed(['device', 'remove', device.name, ...onB]);
    assert.equal((await device.waitClosed()).how, 'fin');
    assert.ok(!device.frames.some(({ cmd }) => cmd === 103), 'nobody else has its name');
    posting.stop();
    await succeed(['user', 'remove', name, ...onB]);
    assert.equal((await app.waitClosed()).how, 'fin');
    assert.ok(!app.frames.some(({ cmd }) => cmd === 103));
    for (const node of [a, b, c]) {
      using stranger = await connect(node);
      expectCode(await stranger.login(name, password), 100, 1002);
    }
    // Whoever wrote to them before may not any more, nor do their old names bring anything.
    expectCode(await other.say(name, 'nobody'), 200, 200);
    await newUser(c, name);
    using again = await login(a, name, { autoAck: true });
    using deviceAgainOnA = await newDevice(a, { name: device.name, autoAck: true });
    expectCode(await again.say(device.name, 'not added'), 200, 200);
    expectCode(await again.bind(device.name), 203, 100);
    expectAck(await again.say(device.name, 'new'));
    expectAck(await other.say(name, 'new, too'));
    await eventually(
      () => again.messages.length > 0 && deviceAgainOnA.messages.length > 0,
      () => 'what is new',
    );
    assert.deepEqual(
      again.messages.map(({ msg }) => msg),
      ['new, too'],
    );
    assert.deepEqual(
      deviceAgainOnA.messages.map(({ msg }) => msg),
      ['new'],
    );
    assert.match(await refused(['user', 'remove', 'nobody-of-that-name', ...onB]), /there is no user/);
  });

  test('a name is not removed while a node that may have it is frozen, and is when that node is void', async () => {
    const [a, b] = nodes as [Server, Server];
    await using node = await startNode('j');
    const name = await newUser(a);
    using app = await login(node, name);
    process.kill(node.pid, 'SIGSTOP');
    try {
      const began = performance.now();
      await succeed(['user', 'remove', name, '--data', b.data]);
      assert.ok(performance.now() - began > 3000, 'it waited for the lease of that node');
      using stranger = await connect(a);
      expectCode(await stranger.login(name, password), 100, 1002);
    } finally {
      process.kill(node.pid, 'SIGCONT');
    }
    assert.equal(await node.ended(), 1);
    await app.waitClosed();
  });

  test('a second node on a data folder is refused in a line', async () => {
    const [a] = nodes as [Server];
    assert.match(
      await refused(['serve', ...freePorts, '--data', a.data, ...argsOf('f')]),
      /--data: another server runs on /,
    );
  });
});
