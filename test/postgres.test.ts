// `hawser serve --postgres`: a single server whose store is a PostgreSQL database.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Postgres, postgresFolder } from '../scripts/postgres.ts';
import { freePorts, newFolder, refused, succeed } from './cli.ts';
import { startServer } from './harness.ts';
import { addDevice, eventually, expectAck, expectCode, newApp, newDevice } from './parties.ts';

const skip = postgresFolder() === undefined ? 'there is no PostgreSQL here' : false;

let postgres: Postgres;
before(async () => {
  if (skip === false) postgres = await Postgres.start(['shared_buffers=32MB']);
});
after(() => postgres?.[Symbol.asyncDispose]());

describe('hawser serve --postgres', { skip }, () => {
  test('what was acked comes in order after the server, and the database, were killed', async () => {
    await using server = await startServer({ args: ['--postgres', postgres.url()] });
    const sent: string[] = [];
    let name = '';
    {
      using app = await newApp(server);
      name = await addDevice(app);
      for (let i = 0; i < 50; i++) sent.push(app.post(name, { i }));
      await eventually(
        () => app.frames.filter(({ cmd, data }) => cmd === 200 && data.length === 0).length === 50,
        () => '50 acks',
      );
    }
    await server.kill9();
    await postgres.kill9();
    await postgres.start();
    await server.start();
    using device = await newDevice(server, { name, autoAck: true });
    await eventually(
      () => device.messages.length >= 50,
      () => `50 messages, ${device.messages.length} came`,
    );
    assert.deepEqual(
      device.messages.map(({ msgid }) => msgid),
      sent,
    );
    // What it has acked is gone, for the next run too.
    using app = await newApp(server);
    expectCode(await app.bind(name), 203, 100);
    const inboxes = (): Promise<string> => succeed(['inbox', 'list', '--json', '--data', server.data]);
    for (const until = performance.now() + 10_000; (await inboxes()) !== ''; ) assert.ok(performance.now() < until);
    await server.restart();
    using again = await newDevice(server, { name, autoAck: true });
    using other = await newApp(server);
    expectCode(await other.bind(name), 203, 100);
    expectAck(await other.say(name, 'last'));
    await eventually(
      () => again.messages.length > 0,
      () => 'the last message',
    );
    assert.deepEqual(
      again.messages.map(({ msg }) => msg),
      ['last'],
    );
  });

  test('while the database is away what is acked by its receiver flows, and the rest waits for it', async () => {
    await using server = await startServer({ args: ['--postgres', postgres.url()] });
    using app = await newApp(server);
    const away = await addDevice(app);
    using device = await newDevice(server, { autoAck: true });
    expectCode(await app.bind(device.name), 203, 100);
    expectAck(await app.say(device.name, 'before'));
    await postgres.kill9();
    expectAck(await app.say(device.name, 'meanwhile'));
    const unacked = app.post(away, 'kept by its sender');
    await eventually(
      () => server.logs().some((line) => line.includes('the store is away')),
      () => 'it says so',
    );
    assert.ok(!app.frames.some(({ cmd, msgId }) => cmd === 200 && msgId === unacked));
    await postgres.start();
    expectAck(await app.say(away, 'afterwards'));
    assert.ok(server.alive);
  });

  test('operators work on it while it runs, and are told what PostgreSQL does itself', async () => {
    await using server = await startServer({ args: ['--postgres', postgres.url()] });
    const on = ['--data', server.data];
    await succeed(['user', 'add', 'operated', '--password-stdin', ...on], { input: 'secret\n' });
    assert.match(await succeed(['user', 'list', ...on]), /operated/);
    await succeed(['damaged', 'list', ...on]);
    using folder = newFolder();
    assert.match(await refused(['backup', join(folder.path, 'copy'), ...on]), /pg_dump/);
    await server.stop();
    // Without a server: by the variable to the database, and never to a folder that would be made for it.
    const env = { HAWSER_POSTGRES: postgres.url() };
    assert.match(await succeed(['user', 'list', ...on], { env }), /operated/);
    await succeed(['user', 'remove', 'operated', ...on], { env });
    assert.match(await refused(['user', 'list', ...on]), /is not the data folder of a server/);
  });

  test('a second server on the same database, and a database that is not there, are refused in a line', async () => {
    await using server = await startServer({ args: ['--postgres', postgres.url()] });
    using folder = newFolder();
    const serve = (url: string): Promise<string> =>
      refused(['serve', ...freePorts, '--data', folder.path, '--postgres', url]);
    assert.match(await serve(postgres.url()), /--postgres: another server uses it/);
    assert.match(await serve(postgres.url('nowhere')), /--postgres: .*"nowhere" does not exist/);
    for (const url of ['postgres://ann:hunter2@127.0.0.1:1/db', 'mysql://ann:hunter2@db/db']) {
      assert.ok(!(await serve(url)).includes('hunter2'), 'the password is not told');
    }
    assert.ok(server.alive);
  });
});
