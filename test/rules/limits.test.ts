// The limits of delivery as clients of the real server see them: below, at and above. What takes minutes, or memory that
// no test should take, is in packages/server/src/core/delivery.test.ts and packages/server/src/sockets.test.ts.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { type Server, startServer } from '../harness.ts';
import { metric } from '../metrics.ts';
import { type Client, encodeFrame } from '../mini-client.ts';
import { eventually, expectAck, leave, login, newApp, newDevice, newUser, sleep } from '../parties.ts';

const kib = 1024;
const mib = 1024 * kib;
/** For what takes many megabytes on a busy machine; only a failing test waits so long. */
const patienceMs = 60_000;

/** Nothing is stored for want of an ack: what is pending stays pending. */
let server: Server;
before(async () => {
  server = await startServer({ args: ['--persist-after', '60000', '--redelivery-after', '3600'] });
});
after(() => server?.[Symbol.asyncDispose]());

function series(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, i) => `${prefix}-${i}`);
}

/** A value whose JSON text has exactly so many bytes. */
function textOf(bytes: number): string {
  return 'x'.repeat(bytes - 2);
}

function post(sender: Client, to: string, ids: readonly string[], msg: unknown = 0): void {
  sender.sendRaw(Buffer.concat(ids.map((msgId) => sender.frame(200, { to, msg }, { msgId }))));
}

function isRetry(answer: { readonly json: unknown }): boolean {
  return (answer.json as { readonly retry?: unknown }).retry === true;
}

async function until(of: Server, name: string, value: number): Promise<void> {
  const end = performance.now() + patienceMs;
  for (;;) {
    const now = await metric(of, name);
    if (now === value) return;
    assert.ok(performance.now() < end, `${name} is ${now}, not ${value}`);
    await sleep(20);
  }
}

describe('an inbox', { concurrency: true }, () => {
  test('takes exactly as many messages as it may hold, and half as many from one sender', async () => {
    await using own = await startServer({ args: ['--inbox-messages', '6'] });
    const away = await newUser(own);
    const extra = { nack: true };
    using first = await newApp(own, { extra });
    using second = await newApp(own, { extra });
    using third = await newApp(own, { extra });
    for (const sender of [first, second]) {
      for (const id of series('m', 3)) await leave(sender, away, 1, id);
      assert.ok(isRetry(await sender.say(away, 1)), 'the fourth from one sender');
    }
    assert.ok(isRetry(await third.say(away, 1)), 'the seventh');
    assert.equal(await metric(own, 'hawser_refused_total{reason="inboxFull"}'), 3);
  });

  test('takes exactly as many bytes as it may hold, and half as many from one sender', async () => {
    await using own = await startServer({ args: ['--inbox-bytes', '20000'] });
    const away = await newUser(own);
    const extra = { nack: true };
    using first = await newApp(own, { extra });
    using second = await newApp(own, { extra });
    for (const sender of [first, second]) {
      await leave(sender, away, textOf(6_000));
      assert.ok(isRetry(await sender.say(away, textOf(4_001))), 'a byte more than half');
      await leave(sender, away, textOf(4_000));
      assert.ok(isRetry(await sender.say(away, 1)));
    }
    using third = await newApp(own, { extra });
    assert.ok(isRetry(await third.say(away, 1)), 'a byte more than all');
  });

  test('has room again when its receiver has acked', async () => {
    await using own = await startServer({ args: ['--inbox-messages', '2'] });
    const away = await newUser(own);
    using sender = await newApp(own, { extra: { nack: true } });
    await leave(sender, away, 1, 'first');
    assert.ok(isRetry(await sender.say(away, 1)));
    using receiver = await login(own, away, { autoAck: true });
    receiver.fetch();
    await receiver.message('first');
    await receiver.fence();
    receiver.destroy();
    await eventually(
      () => receiver.closed !== undefined,
      () => 'the receiver is gone',
    );
    await leave(sender, away, 1, 'second');
  });
});

describe('the window of unacked pushes', () => {
  test('is 256 messages: the next one comes when some of them are acked', async () => {
    using sender = await newApp(server);
    using receiver = await newApp(server);
    const ids = series('w', 257);
    post(sender, receiver.name, ids);
    await receiver.received(256);
    assert.deepEqual((await receiver.quiet(100)).length, 0);
    assert.equal(receiver.messages.length, 256);
    receiver.ack(ids.slice(0, 64));
    await receiver.received(257);
    assert.deepEqual(
      receiver.messages.map(({ msgid }) => msgid),
      ids,
    );
  });

  test('is 256 KiB: exactly so many are pushed, and not a byte more', async () => {
    using sender = await newApp(server);
    using receiver = await newApp(server);
    const ids = series('b', 4);
    post(sender, receiver.name, ids, textOf(64 * kib));
    post(sender, receiver.name, ['byte']);
    await receiver.received(4);
    await receiver.quiet(100);
    assert.equal(receiver.messages.length, 4);
    receiver.ack(ids.slice(0, 1));
    await receiver.message('byte');
  });
});

describe('a sender', () => {
  test('with 1,000 messages neither acked nor refused is not read from until half of them are', async () => {
    using sender = await newApp(server);
    const receivers: Client[] = [];
    try {
      for (let i = 0; i < 4; i += 1) receivers.push(await newApp(server));
      for (const receiver of receivers) post(sender, receiver.name, series(receiver.name, 250).slice(0, 249));
      for (const receiver of receivers) await receiver.received(249);
      for (const receiver of receivers.slice(0, 3)) post(sender, receiver.name, [`${receiver.name}-249`]);
      await sender.fence();
      const last = receivers[3]?.name ?? '';
      post(sender, last, [`${last}-249`]);
      await receivers[3]?.received(250);
      sender.send(0, undefined, { msgId: 'held up' });
      using other = await newApp(server, { autoAck: true });
      expectAck(await other.say(other.name, 1));
      await sleep(100);
      assert.equal(sender.frames.filter(({ msgId }) => msgId === 'held up').length, 0);
      receivers[0]?.ack(series(receivers[0].name, 250));
      receivers[1]?.ack(series(receivers[1].name, 249));
      await receivers[1]?.fence();
      await sleep(100);
      assert.equal(sender.frames.filter(({ msgId }) => msgId === 'held up').length, 0, 'one too many is left');
      receivers[1]?.ack([`${receivers[1].name}-249`]);
      await sender.reply('held up');
    } finally {
      for (const receiver of receivers) receiver.destroy();
    }
  });

  test('that does not take its answers is not read from, and gets all of them when it does', async () => {
    await using own = await startServer();
    using client = await newDevice(own);
    const before = await metric(own, 'hawser_frames_received_total');
    client.socket.pause();
    const msgId = 'x'.repeat(100_000);
    const count = 400;
    for (let i = 0; i < count; i += 1) client.sendRaw(encodeFrame({ msgId }));
    let seen = -1;
    for (let now = 0; now !== seen; ) {
      seen = now;
      await sleep(200);
      now = (await metric(own, 'hawser_frames_received_total')) - before;
    }
    assert.ok(seen < count, `${seen} of ${count} were handled though nobody takes 40 MB of answers`);
    client.socket.resume();
    const isAnswer = ({ msgId: id }: { readonly msgId: string }) => id === msgId;
    const all = () => (client.frames.filter(isAnswer).length === count ? true : undefined);
    await client.until(all, `${count} answers`, patienceMs);
  });
});

describe('frames that have not arrived whole', () => {
  test('may take 128 MiB in all; beyond it a connection that takes more than 64 KiB of them is closed', {
    timeout: 120_000,
  }, async () => {
    await using own = await startServer();
    const closed = 'hawser_closed_total{reason="unfinishedFrames"}';
    // A heartbeat of exactly 1 MiB: an unknown field, then nothing.
    const body = Buffer.alloc(mib);
    body.set([0x2a, 0xfc, 0xff, 0x3f]);
    const frame = Buffer.concat([Buffer.from([0, 16, 0, 0]), body]);
    // Of each a byte is missing: with less, how much room is taken depends on the pieces that arrive.
    const most = frame.subarray(0, -1);
    const clients: Client[] = [];
    try {
      for (let i = 0; i < 128; i += 1) clients.push(await newDevice(own));
      const small = await newDevice(own);
      const large = await newDevice(own);
      const before = await metric(own, 'hawser_bytes_received_total');
      for (const client of clients) client.sendRaw(most);
      await until(own, 'hawser_bytes_received_total', before + 128 * most.length);
      assert.equal(await metric(own, closed), 0, 'all of the 128 MiB are taken');
      small.sendRaw(frame.subarray(0, 20 * kib));
      large.sendRaw(frame.subarray(0, 200 * kib));
      assert.equal((await large.waitClosed(patienceMs)).how, 'fin');
      await until(own, closed, 1);
      assert.equal(small.closed, undefined);
      clients[0]?.sendRaw(frame.subarray(most.length));
      await clients[0]?.takeCmd(0, patienceMs);
      // Its megabyte is free now.
      small.sendRaw(frame.subarray(20 * kib));
      await small.takeCmd(0, patienceMs);
      assert.equal(await metric(own, closed), 1);
      clients.push(small, large);
    } finally {
      for (const client of clients) client.destroy();
    }
  });
});

describe('memory', () => {
  test('when it runs short nobody who sends messages is read from, receivers are served, and nothing is lost', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'hawser-memory-'));
    const flag = join(folder, 'short');
    const preload = pathToFileURL(join(import.meta.dirname, '..', 'short-memory.mjs')).href;
    try {
      await using own = await startServer({ env: { NODE_OPTIONS: `--import=${preload}`, TEST_SHORT_MEMORY: flag } });
      const name = await newUser(own);
      using sender = await newApp(own);
      using receiver = await newApp(own, { autoAck: true });
      for (const id of series('stored', 3)) await leave(sender, name, 1, id);
      writeFileSync(flag, '');
      const says = (text: string) => () => own.logs().some((line) => line.includes(text));
      await eventually(says('memory runs short'), () => own.logs().join('\n'));
      // The one that is being read is taken; its sender is not read from behind it.
      expectAck(await sender.say(receiver.name, 1, { msgId: 'taken' }));
      const ids = series('waiting', 50);
      post(sender, receiver.name, ids);
      using other = await login(own, name, { autoAck: true });
      other.fetch();
      await other.received(3);
      await receiver.fence();
      await sleep(100);
      assert.deepEqual(
        receiver.messages.map(({ msgid }) => msgid),
        ['taken'],
      );
      rmSync(flag);
      await eventually(says('memory suffices again'), () => own.logs().join('\n'));
      for (const id of ids) expectAck(await sender.reply(id));
      assert.deepEqual(
        receiver.messages.map(({ msgid }) => msgid),
        ['taken', ...ids],
      );
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
