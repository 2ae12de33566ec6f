// Bits that turn in what a server has stored, and what its clients and its operator notice.

import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { ClassicLevel } from 'classic-level';
import { hawser, succeed } from './cli.ts';
import { type Server, startServer } from './harness.ts';
import { metric } from './metrics.ts';
import { addDevice, connect, expectAck, expectCode, leave, login, md5, newApp, newUser, password } from './parties.ts';

/** Turns a bit in the value of each record whose key begins so; the server must be stopped. */
async function flip(server: Server, prefix: string): Promise<void> {
  const db = new ClassicLevel<Buffer, Buffer>(join(server.data, 'store'), {
    keyEncoding: 'buffer',
    valueEncoding: 'buffer',
  });
  let flipped = 0;
  for await (const [key, value] of db.iterator()) {
    if (!key.toString('latin1').startsWith(prefix)) continue;
    const middle = value.length >> 1;
    await db.put(key, Buffer.from(value.with(middle, value[middle]! ^ 0x04)));
    flipped++;
  }
  await db.close();
  assert.ok(flipped > 0, prefix);
}

/** Moves each record whose key begins so under one that begins otherwise; the server must be stopped. */
async function renameKey(server: Server, from: string, to: string): Promise<void> {
  const db = new ClassicLevel<Buffer, Buffer>(join(server.data, 'store'), {
    keyEncoding: 'buffer',
    valueEncoding: 'buffer',
  });
  let renamed = 0;
  for await (const [key, value] of db.iterator()) {
    const text = key.toString('latin1');
    if (!text.startsWith(from)) continue;
    await db.put(Buffer.from(to + text.slice(from.length), 'latin1'), value);
    await db.del(key);
    renamed++;
  }
  await db.close();
  assert.ok(renamed > 0, from);
}

async function doctorOnStore(server: Server): Promise<string> {
  const { stdout } = await hawser([
    'doctor',
    '--port',
    '0',
    '--http-port',
    '0',
    '--admin-port',
    '0',
    '--data',
    server.data,
  ]);
  return /^(\S+ +store +.*)\n/m.exec(stdout)?.[1] ?? stdout;
}

test('a damaged password is never served: the name is locked, the operator sees it and can open it', async () => {
  await using server = await startServer();
  const on = ['--data', server.data];
  const name = await newUser(server);
  const friend = await newApp(server);
  await leave(friend, name, 'kept');
  friend.destroy();
  assert.match(await doctorOnStore(server), /^ok +store +no damaged record was found so far$/);
  await server.stop();
  await flip(server, `n${name}`);
  await server.start();
  using stranger = await connect(server);
  expectCode(await stranger.register(name, password), 102, 1001);
  expectCode(await stranger.login(name, password), 100, 1002);
  expectCode(await stranger.auth(name), 101, 200);
  const reports = server.logs().filter((line) => line.includes('a damaged record was set aside'));
  assert.equal(reports.length, 1);
  assert.ok(reports[0]?.includes(`"name":"${name}"`) && reports[0].includes('the name is locked'));
  assert.equal(await metric(server, 'hawser_store_damaged_records'), 1);
  assert.match(await doctorOnStore(server), /^warn +store +1 damaged record was set aside$/);
  const listed = await hawser(['user', 'list', ...on]);
  assert.match(listed.stdout, new RegExp(`^${name} +0 +locked `, 'm'));
  assert.equal(
    listed.stderr,
    'hawser: 1 damaged record was set aside, and not shown here: see "hawser damaged list"\n',
  );
  assert.match(await succeed(['damaged', 'list', ...on]), new RegExp(`^RECORD +OF +BYTES\nname +${name} +\\d+\n$`));

  await server.stop();
  assert.match(await doctorOnStore(server), /^warn +store +1 damaged record was set aside$/);
  await server.start();
  assert.equal(await metric(server, 'hawser_store_damaged_records'), 1, 'also after a restart');
  await succeed(['user', 'passwd', '--password-stdin', ...on, name], { input: 'correct horse\n' });
  using owner = await login(server, name, { autoAck: true });
  owner.fetch();
  assert.equal((await owner.received(1))[0]?.msg, 'kept');
  assert.equal(await succeed(['damaged', 'forget', ...on]), '1 damaged record is forgotten.\n');
  assert.equal(await metric(server, 'hawser_store_damaged_records'), 0);
  assert.match(await doctorOnStore(server), /^ok +store/);
  assert.equal(password, md5('correct horse'));
});

test('messages whose receiver has become another by damage reach nobody, also not from a backup', async () => {
  await using server = await startServer();
  await using other = await startServer();
  const [away, stranger] = [await newUser(server), await newUser(server)];
  {
    using app = await newApp(server);
    await leave(app, away, 'secret');
    await leave(app, stranger, 'own');
  }
  await server.stop();
  await renameKey(server, `m${away}\0`, `m${stranger}\0`);
  await server.start();
  const backup = join(server.data, 'backup');
  await succeed(['backup', backup, '--data', server.data]);
  await other.stop();
  await rm(join(other.data, 'store'), { recursive: true });
  await succeed(['restore', backup, '--data', other.data]);
  await other.start();
  for (const each of [server, other]) {
    for (const [name, expected] of [
      [stranger, ['own']],
      [away, []],
    ] as const) {
      using receiver = await login(each, name, { autoAck: true });
      receiver.fetch();
      // What comes after shows that nothing came before.
      using app = await newApp(each);
      expectAck(await app.say(name, 'last'));
      const received = await receiver.received(expected.length + 1);
      assert.deepEqual(
        received.map(({ msg }) => msg),
        [...expected, 'last'],
      );
    }
    assert.equal(await metric(each, 'hawser_store_damaged_records'), 1);
    const [row, ...others] = (await succeed(['damaged', 'list', '--json', '--data', each.data])).trim().split('\n');
    assert.equal(others.length, 0);
    assert.match(row!, new RegExp(`"record":"messages".*"${stranger}"`));
  }
});

test('damaged messages, removals and bindings are set aside, counted and listed, and the rest is served', async () => {
  await using server = await startServer();
  const on = ['--data', server.data];
  const away = await newUser(server);
  let device = '';
  let kept = '';
  {
    using app = await newApp(server);
    device = await addDevice(app);
    kept = await addDevice(app);
    await leave(app, away, 'lost');
    await server.stop();
    await flip(server, `m${away}`);
    await flip(server, `b${app.name}\0${device}`);
    await flip(server, `r${device}\0`);
    await server.start();
    using again = await login(server, app.name);
    // No stranger to the device any more than before, and no friend either: it must be added again.
    expectCode(await again.say(device, 'on'), 200, 200);
    expectAck(await again.say(kept, 'on'));
    expectCode(await again.bind(device), 203, 100);
    expectAck(await again.say(device, 'on'));
    await leave(again, away, 'new');
  }
  using receiver = await login(server, away, { autoAck: true });
  receiver.fetch();
  assert.deepEqual(
    (await receiver.received(1)).map(({ msg }) => msg),
    ['new'],
  );
  const rows = (await succeed(['damaged', 'list', '--json', ...on])).trim().split('\n');
  assert.deepEqual(rows.map((row) => (JSON.parse(row) as { record: string }).record).sort(), [
    'binding',
    'binding',
    'messages',
  ]);
  assert.equal(await metric(server, 'hawser_store_damaged_records'), 3);
  const { stderr } = await hawser(['inbox', 'list', ...on]);
  assert.match(stderr, /^hawser: 3 damaged records were set aside/);
});
