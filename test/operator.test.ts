// `hawser user …` and `hawser device …`, on a running server and on a data folder without one.

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { asNobody, Command, hawser, mainFile, newFolder, refused, succeed } from './cli.ts';
import { type Server, startServer } from './harness.ts';
import { unique } from './mini-client.ts';
import {
  addDevice,
  connect,
  eventually,
  expectAck,
  expectCode,
  leave,
  login,
  md5,
  newApp,
  newDevice,
  newUser,
  password,
  sleep,
} from './parties.ts';

type Row = Record<string, unknown>;

/** The commands on one data folder. */
function on(data: string) {
  const folder = ['--data', data];
  const rows = async (kind: 'user' | 'device'): Promise<Row[]> => {
    const lines = (await succeed([kind, 'list', '--json', ...folder])).split('\n').slice(0, -1);
    return lines.map((line) => JSON.parse(line) as Row);
  };
  return {
    add: (name: string, typed: string) =>
      succeed(['user', 'add', '--password-stdin', ...folder, '--', name], { input: `${typed}\n` }),
    passwd: (name: string, typed: string) =>
      succeed(['user', 'passwd', '--password-stdin', ...folder, '--', name], { input: `${typed}\n` }),
    remove: (kind: 'user' | 'device', name: string) => succeed([kind, 'remove', ...folder, '--', name]),
    refuse: (args: string[], input = 'secret\n') =>
      refused([...args.slice(0, 2), ...folder, ...args.slice(2)], { input }),
    rows,
    row: async (kind: 'user' | 'device', name: string): Promise<Row | undefined> =>
      (await rows(kind)).find((row) => (row.name ?? row.id) === name),
    table: (kind: 'user' | 'device') => succeed([kind, 'list', ...folder]),
  };
}

/** Whether these credentials are good. */
async function mayLogIn(at: Server, name: string, typed: string): Promise<boolean> {
  using client = await connect(at);
  const { code } = await client.login(name, md5(typed));
  assert.ok(code === 100 || code === 1002, String(code));
  return code === 100;
}

for (const state of ['with a running server', 'without a running server'] as const) {
  describe(state, () => {
    let server: Server;
    let hawserOn: ReturnType<typeof on>;
    before(async () => {
      server = await startServer();
      hawserOn = on(server.data);
      if (state === 'without a running server') await server.stop();
    });
    after(() => server?.[Symbol.asyncDispose]());

    /** Runs `work` with the server up, and puts it back into the state that is tested. */
    async function served(work: () => Promise<void>): Promise<void> {
      const wasUp = server.alive;
      if (!wasUp) await server.start();
      try {
        await work();
      } finally {
        if (!wasUp) await server.stop();
      }
    }

    test('a person who is added can log in with the password that was typed', async () => {
      const name = unique('ann');
      assert.equal(await hawserOn.add(name, 'correct horse'), `${name} can log in now.\n`);
      await served(async () => {
        assert.equal(await mayLogIn(server, name, 'correct horse'), true);
        assert.equal(await mayLogIn(server, name, 'correct horse\n'), false);
        assert.equal(await mayLogIn(server, name, 'wrong'), false);
      });
    });

    test('passwd changes the password', async () => {
      const name = unique('ann');
      await hawserOn.add(name, 'old');
      assert.equal(await hawserOn.passwd(name, 'new'), `The password of ${name} is changed.\n`);
      await served(async () => {
        assert.equal(await mayLogIn(server, name, 'old'), false);
        assert.equal(await mayLogIn(server, name, 'new'), true);
      });
    });

    test('names are listed in order, with devices, state and time', async () => {
      const [first, second] = [unique('list-a'), unique('list-b')];
      const since = Date.now();
      await hawserOn.add(second, 'x');
      await hawserOn.add(first, 'x');
      const names = (await hawserOn.rows('user')).map(({ name }) => name);
      assert.ok(names.indexOf(first) < names.indexOf(second));
      const row = await hawserOn.row('user', first);
      assert.deepEqual(
        { ...row, createdAt: 0 },
        { name: first, createdAt: 0, devices: 0, online: false, locked: false },
      );
      assert.ok(Number(row?.createdAt) >= since && Number(row?.createdAt) <= Date.now());
      const table = await hawserOn.table('user');
      assert.match(table, /^NAME +DEVICES +ONLINE +CREATED \(UTC\)\n/);
      assert.match(table, new RegExp(`^${first} +0 +no +\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d$`, 'm'));
    });

    test('a person who is removed is gone, and may be added again', async () => {
      const name = unique('ann');
      await hawserOn.add(name, 'x');
      assert.equal(await hawserOn.remove('user', name), `${name} is removed.\n`);
      assert.equal(await hawserOn.row('user', name), undefined);
      assert.equal(await hawserOn.refuse(['user', 'remove', name]), `there is no user "${name}"`);
      await served(async () => assert.equal(await mayLogIn(server, name, 'x'), false));
      await hawserOn.add(name, 'y');
      await served(async () => {
        assert.equal(await mayLogIn(server, name, 'x'), false);
        assert.equal(await mayLogIn(server, name, 'y'), true);
      });
    });

    test('devices are listed and removed', async () => {
      const [bound, seen] = [unique('bound'), unique('seen')];
      await served(async () => {
        using app = await newApp(server);
        await addDevice(app, bound);
        using device = await newDevice(server, { name: seen });
        assert.equal(device.name, seen);
      });
      const [added, came] = [await hawserOn.row('device', bound), await hawserOn.row('device', seen)];
      assert.deepEqual([added?.users, added?.lastSeenAt, added?.online], [1, 0, false]);
      assert.equal(came?.users, 0);
      assert.ok(Number(came?.lastSeenAt) > 0);
      assert.match(await hawserOn.table('device'), new RegExp(`^${bound} +1 +no +no +no +- +\\d{4}-`, 'm'));
      assert.equal(await hawserOn.remove('device', bound), `${bound} is removed.\n`);
      assert.equal(await hawserOn.row('device', bound), undefined);
    });

    test('what cannot be done is refused in one line', async () => {
      const name = unique('ann');
      await hawserOn.add(name, 'x');
      for (const [args, line] of [
        [['user', 'add', '--password-stdin', name], `the name "${name}" is taken`],
        [['user', 'passwd', '--password-stdin', 'nobody'], 'there is no user "nobody"'],
        [['user', 'remove', 'nobody'], 'there is no user "nobody"'],
        [['device', 'remove', 'nothing'], 'there is no device "nothing"'],
        [['device', 'remove', name], `there is no device "${name}"`],
        [['user', 'add', '--password-stdin', ''], '"" is no name: a name has 1 to 128 bytes and no control characters'],
      ] as const) {
        assert.equal(await hawserOn.refuse([...args]), line);
      }
      assert.match(await hawserOn.refuse(['user', 'add', '--password-stdin', 'é'.repeat(65)]), /is no name: /);
    });
  });
}

test('an empty password is refused, and so is none', async () => {
  await using server = await startServer();
  const hawserOn = on(server.data);
  for (const input of ['', '\nsecond line']) {
    assert.equal(
      await hawserOn.refuse(['user', 'add', '--password-stdin', 'empty'], input),
      'the password must not be empty',
    );
  }
  assert.match(await hawserOn.refuse(['user', 'add', 'piped']), /^there is no terminal to ask for the password/);
  assert.equal(await hawserOn.row('user', 'empty'), undefined);
  assert.equal(await hawserOn.row('user', 'piped'), undefined);
});

test('the first line of standard input is the password, whatever ends it', async () => {
  await using server = await startServer();
  for (const [ending, rest] of [
    ['\n', ''],
    ['\r\n', 'more\n'],
    ['', ''],
  ] as const) {
    const name = unique('ann');
    const args = ['user', 'add', '--password-stdin', '--data', server.data, name];
    await succeed(args, { input: `  é密码 ${ending}${rest}` });
    assert.equal(await mayLogIn(server, name, '  é密码 '), true);
  }
});

test('names that are hard to print are taken, and printed so that they cannot move the cursor', async () => {
  await using server = await startServer();
  const hawserOn = on(server.data);
  const names = ['--data', '王小明', '🦊 é', 'a\u202eb', 'a"b\\c', '__proto__', '👨‍👩‍👧'].map(
    (each) => each + unique('x'),
  );
  for (const name of names) await hawserOn.add(name, 'x');
  const listed = (await hawserOn.rows('user')).map(({ name }) => name);
  for (const name of names) assert.ok(listed.includes(name), name);
  const table = await hawserOn.table('user');
  assert.match(table, /^王小明/m);
  assert.match(table, /^a\\u202eb/m);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
  assert.doesNotMatch(table, /[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e]/);
});

test('a name with control characters is refused, and not printed as it is', async () => {
  await using server = await startServer();
  const hawserOn = on(server.data);
  for (const [name, shown] of [
    ['a\u001b[31mb', '"a\\u001b[31mb"'],
    ['a\u009b31mb', '"a\\u009b31mb"'],
    ['a\nb', '"a\\nb"'],
  ] as const) {
    assert.ok((await hawserOn.refuse(['user', 'add', '--password-stdin', name])).startsWith(`${shown} is no name`));
  }
});

test('a list of more than a page is whole, and each name in it once', async () => {
  await using server = await startServer();
  using app = await newApp(server);
  const ids = Array.from({ length: 1001 }, (_, i) => `many-${String(i).padStart(4, '0')}`);
  for (const id of ids) {
    using device = await newDevice(server, { name: id });
    assert.equal(device.name, id);
  }
  for (const up of [true, false]) {
    if (!up) await server.stop();
    assert.deepEqual(
      (await on(server.data).rows('device')).map(({ id }) => id),
      ids,
    );
  }
  assert.ok(app.name.length > 0);
});

test('ONLINE says who is there', async () => {
  await using server = await startServer();
  using app = await newApp(server);
  using device = await newDevice(server);
  expectCode(await app.bind(device.name), 203, 100);
  const hawserOn = on(server.data);
  const user = await hawserOn.row('user', app.name);
  assert.deepEqual([user?.devices, user?.online], [1, true]);
  const row = await hawserOn.row('device', device.name);
  assert.deepEqual([row?.users, row?.online], [1, true]);
});

test('a session goes on when its password is changed', async () => {
  await using server = await startServer();
  using app = await newApp(server);
  await on(server.data).passwd(app.name, 'new');
  expectAck(await app.say(app.name, 'still here'));
});

test('removing a person ends the session, and drops the bindings and the inbox', async () => {
  await using server = await startServer();
  const hawserOn = on(server.data);
  using app = await newApp(server);
  using device = await newDevice(server, { autoAck: true });
  expectCode(await app.bind(device.name), 203, 100);
  await hawserOn.remove('user', app.name);
  assert.equal((await app.waitClosed()).how, 'fin');
  assert.equal((await hawserOn.row('device', device.name))?.users, 0);
  const refusal = await device.say(app.name, 'hello?');
  assert.equal(refusal.code, 200, String(refusal));
});

test('whoever registers a removed name gets nothing of the former one', async () => {
  await using server = await startServer();
  const hawserOn = on(server.data);
  using friend = await newApp(server, { autoAck: true });
  const name = unique('ann');
  let device = '';
  {
    using former = await newApp(server, { name });
    device = await addDevice(former);
    // One message in the window of the session that is ended, unacked; others in the inbox.
    friend.post(name, 'in the window');
    await eventually(
      () => former.messages.length > 0,
      () => 'a push',
    );
    await hawserOn.remove('user', name);
    await former.waitClosed();
  }
  for (const restarted of [false, true]) {
    if (restarted) await server.restart();
    using again = restarted
      ? await login(server, name, { autoAck: true })
      : await newApp(server, { name, autoAck: true });
    again.fetch();
    await sleep(1500);
    assert.deepEqual(again.messages, [], 'no message of the former one');
    expectCode(await again.unbind(device), 204, 2002);
    assert.equal((await again.say(device, 'mine?')).code, 200, 'no binding of the former one');
  }
});

test('the inbox of a removed name is dropped when nobody of that name is there', async () => {
  await using server = await startServer();
  const hawserOn = on(server.data);
  using friend = await newApp(server, { autoAck: true });
  const name = await newUser(server);
  for (let i = 0; i < 50; i++) await leave(friend, name, { i });
  await hawserOn.remove('user', name);
  using again = await newApp(server, { name, autoAck: true });
  again.fetch();
  await sleep(1500);
  assert.deepEqual(again.messages, []);
  // What comes from now on is its own.
  expectAck(await friend.say(name, 'welcome'));
  await eventually(
    () => again.messages.length === 1,
    () => 'the first message of its own',
  );
});

test('a message of the new one is not taken for one of the former one that had the same msgId', async () => {
  await using server = await startServer();
  const hawserOn = on(server.data);
  using friend = await newApp(server, { autoAck: true });
  const name = unique('ann');
  const msgId = unique('same');
  {
    using former = await newApp(server, { name });
    expectAck(await former.say(friend.name, 'hello', { msgId }));
  }
  await hawserOn.remove('user', name);
  using again = await newApp(server, { name });
  expectAck(await again.say(friend.name, 'hello', { msgId }));
  await eventually(
    () => friend.messages.length === 2,
    () => `${friend.messages.length} of 2 messages`,
  );
});

test('removing a device ends its session; who adds it again gets a device that was never seen', async () => {
  await using server = await startServer();
  const hawserOn = on(server.data);
  using app = await newApp(server);
  using device = await newDevice(server);
  expectCode(await app.bind(device.name), 203, 100);
  await hawserOn.remove('device', device.name);
  assert.equal((await device.waitClosed()).how, 'fin');
  assert.equal((await app.say(device.name, 'there?')).code, 200);
  expectCode(await app.unbind(device.name), 204, 2002);
  await addDevice(app, device.name);
  assert.equal((await hawserOn.row('device', device.name))?.lastSeenAt, 0);
});

// ---- folders

test('a folder that is no data folder is refused, and stays as it was', async () => {
  using folder = newFolder();
  mkdirSync(join(folder.path, 'empty'));
  for (const data of [join(folder.path, 'empty'), join(folder.path, 'not', 'there')]) {
    for (const args of [
      ['user', 'list'],
      ['user', 'remove', 'ann'],
      ['user', 'passwd', '--password-stdin', 'ann'],
      ['device', 'list'],
      ['device', 'remove', 'lamp'],
    ]) {
      assert.match(await on(data).refuse(args), /^--data: .* is not the data folder of a server$/);
    }
  }
  assert.deepEqual(readdirSync(folder.path), ['empty']);
  assert.deepEqual(readdirSync(join(folder.path, 'empty')), []);
});

test('people may be added before the first start, and the folder that is made for it is named', async () => {
  using folder = newFolder();
  const data = join(folder.path, 'new');
  const said = await on(data).add('ann', 'x');
  assert.match(said, /^A new data folder is made: .*\/new\nann can log in now\.\n$/);
  await using server = await startServer({ data });
  assert.equal(await mayLogIn(server, 'ann', 'x'), true);
});

test('the folder is found by HAWSER_DATA, and by its default in the working directory', async () => {
  using folder = newFolder();
  const data = join(folder.path, 'hawser-data');
  await on(data).add('ann', 'x');
  for (const options of [{ env: { HAWSER_DATA: data } }, { cwd: folder.path }]) {
    assert.match(await succeed(['user', 'list', '--json'], options), /^\{"name":"ann"/);
  }
  assert.match(await refused(['user', 'list'], { env: { HAWSER_DATA: '' } }), /^HAWSER_DATA must be the path/);
  assert.match(await refused(['user', 'list'], { env: { HAWSER_DTA: data } }), /^HAWSER_DTA is not a setting/);
});

test('after a server was killed, the commands work on its folder all the same', async () => {
  await using server = await startServer();
  const name = await newUser(server);
  await server.kill9();
  assert.ok(existsSync(join(server.data, 'control.sock')), 'the socket of the killed one is still there');
  assert.equal((await on(server.data).row('user', name))?.name, name);
  await on(server.data).remove('user', name);
  await server.start();
  using client = await connect(server);
  expectCode(await client.login(name, password), 100, 1002);
});

test('the folder of another user is refused', { skip: asNobody === undefined && 'needs root' }, async () => {
  await using server = await startServer();
  const through = asNobody ?? [];
  const args = ['user', 'list', '--data', server.data];
  assert.match(
    await refused(args, { through }),
    /may be used only by the user that the server runs as|not the data folder/,
  );
  await server.stop();
  await refused(args, { through });
});

// ---- output

test('a list whose reader has seen enough ends quietly', async () => {
  using folder = newFolder();
  await on(folder.path).add('ann', 'x');
  await using command = new Command(['user', 'list', '--data', folder.path], {});
  command.child.stdout?.destroy();
  const { code, stderr } = await command.done;
  assert.deepEqual({ code, stderr }, { code: 0, stderr: '' });
});

test('output that cannot be written is a failure', { skip: !existsSync('/dev/full') }, async () => {
  using folder = newFolder();
  await on(folder.path).add('ann', 'x');
  const through = ['sh', '-c', 'exec "$@" >/dev/full', 'sh'];
  assert.match(await refused(['user', 'list', '--data', folder.path], { through }), /^the output cannot be written: /);
});

test('an offline command ends as soon as it is done', async () => {
  using folder = newFolder();
  await on(folder.path).add('ann', 'x');
  const times: number[] = [];
  for (let i = 0; i < 3; i++) {
    const began = performance.now();
    await on(folder.path).table('user');
    times.push(performance.now() - began);
  }
  // A timer of a second that is left running would show in each of them.
  const bare = performance.now();
  await hawser(['--version']);
  const startMs = performance.now() - bare;
  assert.ok(Math.min(...times) < startMs + 900, `${times} ms, ${startMs} ms for --version of ${mainFile}`);
});
