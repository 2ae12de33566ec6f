import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Command, newFolder, refused, succeed } from './cli.ts';
import { type Server, startServer } from './harness.ts';
import { addDevice, leave, login, newApp, newDevice } from './parties.ts';

describe('a backup', { timeout: 180_000 }, () => {
  let server: Server;
  before(async () => {
    server = await startServer();
  });
  after(() => server.stop());

  test('of a running server holds accounts, bindings and messages as they were, and nothing that came later', async () => {
    using folder = newFolder();
    using app = await newApp(server);
    const device = await addDevice(app);
    for (let i = 0; i < 50; i++) await leave(app, device, { before: i });
    const copy = join(folder.path, 'copy');
    const said = await succeed(['backup', copy, '--data', server.data]);
    assert.match(said, /copy holds \d+ records, \d+\.\d MiB/);
    await leave(app, device, 'after');

    const data = join(folder.path, 'data');
    assert.match(await succeed(['restore', copy, '--data', data]), /data holds \d+ records.* as of 20/);
    await using second = await startServer({ data });
    using again = await login(second, app.name);
    using receiver = await newDevice(second, { name: device, autoAck: true });
    receiver.send(202);
    const messages = await receiver.received(50);
    assert.deepEqual(
      messages.map(({ msg }) => msg),
      Array.from({ length: 50 }, (_, i) => ({ before: i })),
    );
    await again.say(device, 'new');
    assert.equal((await receiver.received(51))[50]?.msg, 'new');
  });

  test('taken while messages pour in is whole', async () => {
    using folder = newFolder();
    using app = await newApp(server);
    const device = await addDevice(app);
    let isDone = false;
    const flood = (async () => {
      for (let i = 0; !isDone; i++) await leave(app, device, i);
    })();
    const copy = join(folder.path, 'copy');
    await succeed(['backup', copy, '--data', server.data]);
    isDone = true;
    await flood;
    const data = join(folder.path, 'data');
    await succeed(['restore', copy, '--data', data]);
    const rows = (await succeed(['inbox', 'show', device, '--json', '--data', data])).trim().split('\n');
    const numbers = rows.map((row) => Number((JSON.parse(row) as { msg: string }).msg));
    assert.deepEqual(
      numbers,
      numbers.map((_, i) => i),
      'a prefix of what was sent',
    );
  });

  test('goes into a new folder only', async () => {
    using folder = newFolder();
    assert.match(await refused(['backup', folder.path, '--data', server.data]), /is there already/);
  });

  test('is not restored over a store', async () => {
    using folder = newFolder();
    const copy = join(folder.path, 'copy');
    await succeed(['backup', copy, '--data', server.data]);
    assert.match(await refused(['restore', copy, '--data', server.data]), /is there already/);
  });

  test('that is damaged is refused in a line that names it, and leaves no store that would open', async () => {
    using folder = newFolder();
    const copy = join(folder.path, 'copy');
    await succeed(['backup', copy, '--data', server.data]);
    // The write-ahead log or a table: whatever holds the records.
    const file = readdirSync(copy)
      .filter((name) => /\.(log|ldb)$/.test(name))
      .map((name) => join(copy, name))
      .find((path) => readFileSync(path).length > 1_000);
    assert.ok(file);
    const bytes = readFileSync(file);
    const middle = Math.floor(bytes.length / 2);
    writeFileSync(file, bytes.with(middle, (bytes[middle] ?? 0) ^ 0xff));
    const data = join(folder.path, 'data');
    assert.match(await refused(['restore', copy, '--data', data]), /\/copy is (damaged|no backup)/);
    assert.match(await refused(['user', 'list', '--data', data]), /is not the data folder of a server/);
  });

  test('that is none is refused in a line, and nothing is made of it', async () => {
    using folder = newFolder();
    const data = join(folder.path, 'data');
    mkdirSync(join(folder.path, 'empty'));
    writeFileSync(join(folder.path, 'file'), 'hello');
    for (const [name, line] of [
      ['none', /is not there$/],
      ['empty', /is no backup, or one that was not finished$/],
      ['file', /is no backup: it is not a folder$/],
    ] as const) {
      assert.match(await refused(['restore', join(folder.path, name), '--data', data]), line);
      assert.ok(!existsSync(join(data, 'store')));
    }
    assert.deepEqual(readdirSync(join(folder.path, 'empty')), []);
  });

  test('that was broken off by kill -9 is refused, and so is a restore that was', async () => {
    using folder = newFolder();
    await using own = await startServer();
    using app = await newApp(own);
    const device = await addDevice(app);
    for (let i = 0; i < 30; i++) await leave(app, device, 'x'.repeat(900_000));
    await own.stop();
    const copy = join(folder.path, 'copy');
    const broken = async (args: string[], folderMade: string): Promise<void> => {
      await using command = new Command(args, {});
      await command.until(() => (existsSync(folderMade) ? true : undefined));
      command.child.kill('SIGKILL');
      await command.done;
    };
    await broken(['backup', copy, '--data', own.data], `${copy}.unfinished`);
    const data = join(folder.path, 'data');
    assert.match(await refused(['restore', copy, '--data', data]), /copy is not there$/);
    const left = `${copy}.unfinished`;
    assert.match(await refused(['restore', left, '--data', data]), /is no backup, or one that was not finished$/);
    assert.match(await refused(['backup', copy, '--data', own.data]), /is left of one that was broken off: delete it$/);
    rmSync(left, { recursive: true });
    await succeed(['backup', copy, '--data', own.data]);
    await broken(['restore', copy, '--data', data], join(data, 'store.unfinished'));
    assert.match(await refused(['inbox', 'list', '--data', data]), /is not the data folder of a server/);
    assert.match(await refused(['restore', copy, '--data', data]), /is left of one that was broken off: delete it$/);
  });
});

describe('hawser inbox', { timeout: 60_000 }, () => {
  test('lists, shows and purges what waits, with and without a server', async () => {
    await using server = await startServer();
    using app = await newApp(server);
    const device = await addDevice(app);
    const other = await addDevice(app);
    for (let i = 0; i < 3; i++) await leave(app, device, { n: i });
    await leave(app, other, 'x'.repeat(100));
    const list = async () =>
      (await succeed(['inbox', 'list', '--json', '--data', server.data]))
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as { receiver: string; messages: number; bytes: number; online: boolean });
    assert.deepEqual(
      (await list()).map(({ receiver, messages, bytes, online }) => ({ receiver, messages, bytes, online })),
      [
        { receiver: device, messages: 3, bytes: 21, online: false },
        { receiver: other, messages: 1, bytes: 102, online: false },
      ].sort((a, b) => (a.receiver < b.receiver ? -1 : 1)),
    );
    const shown = await succeed(['inbox', 'show', device, '--data', server.data]);
    assert.match(shown, /FROM .* MSG\n/);
    assert.match(shown, /\{"n":0\}[\s\S]*\{"n":1\}[\s\S]*\{"n":2\}/);
    assert.match(await succeed(['inbox', 'purge', device, '--data', server.data]), /^3 messages for .* are deleted/);
    assert.deepEqual(
      (await list()).map(({ receiver }) => receiver),
      [other],
    );
    using receiver = await newDevice(server, { name: device });
    receiver.send(202);
    await leave(app, app.name, 'fence');
    assert.deepEqual(receiver.messages, []);
    await server.stop();
    assert.deepEqual(
      (await list()).map(({ receiver }) => receiver).filter((name) => name !== app.name),
      [other],
    );
    assert.match(await succeed(['inbox', 'purge', other, '--data', server.data]), /^1 message for .* is deleted/);
  });
});
