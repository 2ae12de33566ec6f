// `hawser migrate`: from a data folder to a PostgreSQL database, and on as if nothing had been.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Postgres, postgresFolder } from '../scripts/postgres.ts';
import { Command, hawser, newFolder, refused, succeed } from './cli.ts';
import { startServer } from './harness.ts';
import { addDevice, eventually, newApp, newDevice, sleep } from './parties.ts';
import { randomFrom } from './random.ts';

const skip = postgresFolder() === undefined ? 'there is no PostgreSQL here' : false;
const seed = Number(process.env.HAWSER_SEED ?? 1);
const KILLS = 8;

let postgres: Postgres;
before(async () => {
  if (skip === false) postgres = await Postgres.start(['shared_buffers=32MB']);
});
after(() => postgres?.[Symbol.asyncDispose]());

describe('hawser migrate', { skip }, () => {
  test(`killed at random moments and given again, it moves all that was acked (HAWSER_SEED=${seed})`, async () => {
    await using server = await startServer();
    const sent: string[] = [];
    let name = '';
    {
      using app = await newApp(server);
      name = await addDevice(app);
      for (let i = 0; i < 2_500; i++) sent.push(app.post(name, { i }));
      await eventually(
        () => app.frames.filter(({ cmd, data }) => cmd === 200 && data.length === 0).length === sent.length,
        () => 'all acks',
      );
    }
    const url = postgres.url();
    const command = ['migrate', '--from', server.data];
    const env = { HAWSER_POSTGRES: url };
    const startedAt = performance.now();
    assert.match(await refused(command, { env }), /^a server is running on .*: stop it first$/);
    const startMs = performance.now() - startedAt;
    await server.stop();
    const random = randomFrom(seed);
    for (let i = 0; i < KILLS; i++) {
      const run = new Command(command, { env });
      await Promise.race([run.done, sleep(startMs * (0.6 + 1.4 * random()))]);
      await run[Symbol.asyncDispose]();
    }
    const held = /1 users, 1 devices, 1 bindings, 2500 messages/;
    assert.match(await succeed(command, { env }), held);
    // Once more: there is nothing to do.
    assert.match(await succeed(command, { env }), /^All that .* was moved on \d{4}-.*2500 messages/);
    await using moved = await startServer({ args: ['--postgres', url] });
    using device = await newDevice(moved, { name, autoAck: true });
    await eventually(
      () => device.messages.length >= sent.length,
      () => `all messages, ${device.messages.length} came`,
    );
    assert.deepEqual(
      device.messages.map(({ msgid }) => msgid),
      sent,
    );
  });

  test('what it says when it cannot is one line, without the password', async () => {
    using folder = newFolder();
    const to = (url: string): Promise<string> => refused(['migrate', '--from', folder.path, '--to', url]);
    assert.match(await to('mysql://ann:hunter2@db/db'), /^--to must be a URL such as postgres:[^ ]+$/);
    assert.match(await to('postgres://ann:hunter2@127.0.0.1:1/db'), /store is not there$/);
    assert.match(
      await refused(['migrate', '--from', folder.path]),
      /^say with --to or HAWSER_POSTGRES which database$/,
    );
    await hawser(['user', 'add', 'ann', '--password-stdin', '--data', folder.path], { input: 'secret\n' });
    const unreachable = await to('postgres://ann:hunter2@127.0.0.1:1/db');
    assert.match(unreachable, /ECONNREFUSED/);
    assert.ok(!unreachable.includes('hunter2'));
  });
});
