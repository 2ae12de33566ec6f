import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { newFolder, refused, succeed } from './cli.ts';
import { type Server, startServer } from './harness.ts';
import { addDevice, leave, login, newApp, newDevice } from './parties.ts';

describe('a backup', { timeout: 60_000 }, () => {
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

  test('that is damaged or no backup is refused, and leaves no store that would open', async () => {
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
    bytes.writeUInt8((bytes[middle] ?? 0) ^ 0xff, middle);
    writeFileSync(file, bytes);
    const data = join(folder.path, 'data');
    await refused(['restore', copy, '--data', data]);
    assert.match(await refused(['user', 'list', '--data', data]), /is not the data folder of a server/);
    assert.match(
      await refused(['restore', join(folder.path, 'none'), '--data', join(folder.path, 'b')]),
      /is not there/,
    );
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
    assert.match(await succeed(['inbox', 'purge', other, '--data', server.data]), /^1 messages/);
  });
});
