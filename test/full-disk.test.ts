// A disk that fills: the server acks nothing wrongly, says what is the matter and ends; with room again all is there.

import assert from 'node:assert/strict';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { hawser, newFolder, refused, succeed } from './cli.ts';
import { filesUpTo, noMount, waysOfRunningOut } from './full-disk.ts';
import { type Server, startServer } from './harness.ts';
import type { Client, Frame, Message } from './mini-client.ts';
import { addDevice, eventually, expectAck, leave, login, newApp, newDevice, newUser, sleep } from './parties.ts';

const WINDOW = 32;
/** Far more than there is room for. */
const SENT_MAX = 20_000;

/** Sends to all receivers in turn until the server is gone, never more than a window ahead of the acks. */
class Flood {
  readonly sent: { readonly msgId: string; readonly to: string; readonly n: number }[] = [];
  readonly acked = new Set<string>();
  readonly wrong: Frame[] = [];
  readonly name: string;
  #n = 0;

  constructor(name: string) {
    this.name = name;
  }

  onFrame(frame: Frame): void {
    if (frame.cmd !== 200) return;
    if (frame.data.length === 0) this.acked.add(frame.msgId);
    // A retry notice is no ack; anything else would be wrong.
    else if ((frame.json as { retry?: boolean }).retry !== true) this.wrong.push(frame);
  }

  async run(client: Client, receivers: readonly string[]): Promise<void> {
    while (client.closed === undefined && this.#n < SENT_MAX) {
      const to = receivers[this.#n % receivers.length] ?? '';
      const msgId = `${this.name}-${this.#n}`;
      this.sent.push({ msgId, to, n: this.#n });
      client.post(to, { n: this.#n++, pad: 'p'.repeat(1_500) }, { msgId });
      while (client.closed === undefined && this.#n - this.acked.size > WINDOW) await sleep(1);
    }
  }
}

function fatalLines(server: Server): { msg: string; err?: unknown }[] {
  return server
    .logs()
    .filter((line) => line.startsWith('{"level":60'))
    .map((line) => JSON.parse(line) as { msg: string });
}

for (const { way, skip, open } of waysOfRunningOut) {
  describe(way, { timeout: 120_000, skip }, () => {
    test('filled under load: the server stops with a clear line; with room, all that was acked is there, in order', async () => {
      using folder = open();
      const data = join(folder.path, 'data');
      await using server = await startServer({ data, through: folder.through });
      const away = [await newUser(server), await newUser(server), await newUser(server)];
      const seen = new Map<string, Message[]>();
      const onPush = (message: Message): void => {
        const got = seen.get(message.to) ?? [];
        seen.set(message.to, got);
        got.push(message);
      };
      const online = await newUser(server);
      const floods = [new Flood(await newUser(server)), new Flood(await newUser(server))];
      using _online = await login(server, online, { autoAck: true, onPush });
      const clients = await Promise.all(
        floods.map((flood, i) =>
          login(server, flood.name, { extra: i === 0 ? {} : { nack: true }, onFrame: (frame) => flood.onFrame(frame) }),
        ),
      );
      const running = floods.map((flood, i) => flood.run(clients[i]!, [...away, online]));
      await Promise.all(running);
      await eventually(
        () => !server.alive,
        () => 'the server goes on',
      );
      assert.equal(await server.ended(), 1);

      const [line, ...others] = fatalLines(server);
      assert.ok(line !== undefined && others.length === 0, server.logs().slice(-5).join('\n'));
      assert.match(
        line.msg,
        /^nothing more is accepted: .*\/data\/store cannot be read or written \(.*\): make room on/,
      );
      assert.equal(line.err, undefined);
      assert.doesNotMatch(server.logs().join('\n'), / {4}at /);
      for (const flood of floods) {
        assert.deepEqual(flood.wrong, []);
        assert.ok(flood.acked.size > 100, `${flood.acked.size} acks`);
      }

      folder.makeRoom();
      await using second = await startServer({ data });
      const receivers = await Promise.all(
        [...away, online].map((name) => login(second, name, { autoAck: true, onPush })),
      );
      for (const receiver of receivers) receiver.fetch();
      const wanted = floods.flatMap((flood) => flood.sent.filter(({ msgId }) => flood.acked.has(msgId)));
      const missing = () => wanted.filter(({ msgId, to }) => !seen.get(to)?.some((message) => message.msgid === msgId));
      await eventually(
        () => missing().length === 0,
        () => `${missing().length} acked messages missing of ${wanted.length}: ${missing()[0]?.msgId}`,
        30_000,
      );
      for (const receiver of receivers) await receiver.quiet(100);
      for (const flood of floods) {
        for (const to of [...away, online]) {
          const got = (seen.get(to) ?? []).filter(({ from }) => from === flood.name);
          const numbers = [...new Set(got.map(({ msg }) => (msg as { n: number }).n))];
          assert.deepEqual(
            numbers,
            numbers.toSorted((a, b) => a - b),
            `${to} got the messages of ${flood.name} in order`,
          );
        }
      }
      // What had no ack is sent again, and is taken.
      for (const flood of floods) {
        using again = await login(second, flood.name, { onFrame: (frame) => flood.onFrame(frame) });
        const unacked = flood.sent.filter(({ msgId }) => !flood.acked.has(msgId));
        for (const { msgId, to, n } of unacked) again.post(to, { n, pad: 'p'.repeat(1_500) }, { msgId });
        await eventually(
          () => unacked.every(({ msgId }) => flood.acked.has(msgId)),
          () => `not all of ${unacked.length} are acked`,
        );
      }
      for (const receiver of receivers) receiver.destroy();
    });
  });
}

describe('a disk that is full at the start', { timeout: 60_000 }, () => {
  test('is said in a line, by serve and by the other commands; with room all is there', async () => {
    await using server = await startServer();
    const name = await newUser(server);
    using sender = await newApp(server);
    await leave(sender, name, 'before');
    await server.kill9();
    const through = filesUpTo(0);
    const full = /^--data: .*\/store cannot be read or written \(.*\): make room on that disk/;
    for (const args of [
      ['serve', '--port', '0', '--http-port', '0', '--admin-port', '0'],
      ['user', 'list'],
      ['inbox', 'list'],
    ]) {
      assert.match(await refused([...args, '--data', server.data], { through }), full);
    }
    await server.start();
    using receiver = await login(server, name, { autoAck: true });
    receiver.fetch();
    assert.equal((await receiver.received(1))[0]?.msg, 'before');
  });

  test('and no store there yet: the same, and the next start makes one', async () => {
    using folder = newFolder();
    const data = join(folder.path, 'data');
    const args = ['serve', '--port', '0', '--http-port', '0', '--admin-port', '0', '--data', data];
    assert.match(await refused(args, { through: filesUpTo(0) }), /^--data: .* cannot be read or written/);
    await using server = await startServer({ data });
    using app = await newApp(server);
    expectAck(await app.say(app.name, 'hello'));
  });
});

describe('a backup', { timeout: 60_000 }, () => {
  /** A stopped server's data folder with some MiB in it, none of it in LevelDB's log. */
  async function filled(): Promise<{ server: Server; device: string }> {
    const server = await startServer();
    using app = await newApp(server);
    const device = await addDevice(app);
    for (let i = 0; i < 40; i++) await leave(app, device, { i, pad: `${i}`.repeat(40_000) });
    await server.stop();
    await succeed(['user', 'list', '--data', server.data]);
    return { server, device };
  }

  test('for which there is no room is refused in a line, and leaves nothing behind', async () => {
    const { server } = await filled();
    await using _server = server;
    using folder = newFolder();
    const copy = join(folder.path, 'copy');
    const through = filesUpTo(300);
    const line = await refused(['backup', copy, '--data', server.data], { through });
    assert.match(line, /\/copy cannot be read or written \(.*\): make room on that disk/);
    assert.deepEqual(readdirSync(folder.path), []);

    await succeed(['backup', copy, '--data', server.data]);
    const data = join(folder.path, 'data');
    assert.match(
      await refused(['restore', copy, '--data', data], { through }),
      /\/data\/store cannot be read or written/,
    );
    assert.ok(!existsSync(join(data, 'store')));
    assert.match(await succeed(['restore', copy, '--data', data]), /data holds \d+ records/);
  });

  test('of a running server into a full disk leaves the server as it was', { skip: noMount }, async () => {
    const { server, device } = await filled();
    await using _server = server;
    await server.start();
    using folder = waysOfRunningOut[1].open();
    writeFileSync(join(folder.path, 'filling'), Buffer.alloc(4.5 * 1024 * 1024));
    const copy = join(folder.path, 'copy');
    const { code, stdout, stderr } = await hawser(['backup', copy, '--data', server.data]);
    assert.deepEqual([code, stdout], [1, '']);
    assert.match(stderr, /^hawser: [^\n]*\/copy cannot be read or written \([^\n]*No space left[^\n]*\n$/);
    assert.deepEqual(readdirSync(folder.path), ['filling']);
    using receiver = await newDevice(server, { name: device, autoAck: true });
    receiver.fetch();
    await receiver.received(40);
    folder.makeRoom();
    await succeed(['backup', copy, '--data', server.data]);
  });
});
