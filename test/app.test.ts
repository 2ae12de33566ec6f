// `hawser app` in a pipe.

import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { connect as connectSocket, createServer } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { createServer as createTlsServer } from 'node:tls';
import { Device } from '@hawser/client';
import { Command, hawser, newFolder, type Outcome, takenPort } from './cli.ts';
import { type Server, startServer } from './harness.ts';
import { unique } from './mini-client.ts';
import { addDevice, connect, eventually, expectCode, type login, md5, newApp, newDevice, newUser } from './parties.ts';

let server: Server;

before(async () => {
  server = await startServer();
});
after(() => server[Symbol.asyncDispose]());

/** The variables that lead to a server. */
function to(at = server): Readonly<Record<string, string>> {
  return { HAWSER_SERVER: `http://127.0.0.1:${at.httpPort}` };
}

/** Runs `hawser app` as a new user, whose password is the first line. */
async function app(args: readonly string[], input: string, name = unique('ann')): Promise<Outcome> {
  const own = ['app', '--user', name, '--register', '--password-stdin'];
  return hawser([...own, ...args], { env: to(), input: `secret\n${input}` });
}

function events(stdout: string): Record<string, unknown>[] {
  return stdout
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

test('each line is a message, also the last one that nothing ends; all are acked, and it ends well', async () => {
  using lamp = await newDevice(server, { autoAck: true });
  const { code, stdout, stderr } = await app(['--add', lamp.name, '--to', lamp.name], 'one\n\n  two \r\nthree 消😀');
  assert.deepEqual({ code, stdout, stderr }, { code: 0, stdout: '', stderr: 'hawser: 4 acked\n' });
  assert.deepEqual(
    lamp.messages.map(({ msg }) => msg),
    ['one', '', '  two ', 'three 消😀'],
  );
});

test('thousands of lines to two receivers arrive in order', async () => {
  using lamp = await newDevice(server, { autoAck: true });
  using friend = await newApp(server, { autoAck: true });
  const lines = Array.from({ length: 3000 }, (_, n) => `line ${n}`);
  const args = ['--add', lamp.name, '--to', lamp.name, '--to', friend.name];
  const { code, stderr } = await app(args, `${lines.join('\n')}\n`);
  assert.deepEqual([code, stderr], [0, 'hawser: 6000 acked\n']);
  for (const { messages } of [lamp, friend]) {
    assert.deepEqual(
      messages.map(({ msg }) => msg),
      lines,
    );
  }
});

test('what is refused is told with its line, and the exit code is 1', async () => {
  using friend = await newApp(server, { autoAck: true });
  const { code, stdout, stderr } = await app(['--to', friend.name, '--to', 'nobody'], 'x\n');
  assert.deepEqual([code, stdout], [1, '']);
  assert.equal(
    stderr,
    'hawser: line 1 to nobody is not acked: unknown receiver, or not allowed (add devices with --add)\nhawser: 1 of 2 acked\n',
  );
});

test('with --json lines are values, digit for digit, and what is printed is one object a line', async () => {
  const lampId = unique('lamp');
  const lamp = new Device({ server: { host: server.host, port: server.port } });
  const received: string[] = [];
  lamp.onMessage(({ json }) => received.push(json));
  await lamp.authenticate(lampId);
  const input = '{"n":12345678901234567890,"s":"\u009b31m"}\n\nnot JSON\n[1.10]\n';
  const { code, stdout } = await app(['--json', '--add', lampId, '--to', lampId], input);
  lamp.close();
  assert.equal(code, 1, 'a line was not JSON');
  assert.deepEqual(received, ['{"n":12345678901234567890,"s":"\u009b31m"}', '[1.10]']);
  const printed = events(stdout);
  assert.deepEqual(
    printed
      .map(({ event, line, to: receiver }) => ({ event, line, receiver }))
      .filter(({ event }) => event !== 'state'),
    [
      { event: 'unsent', line: 3, receiver: undefined },
      { event: 'acked', line: undefined, receiver: lampId },
      { event: 'acked', line: undefined, receiver: lampId },
    ],
  );
});

test('--answers prints what comes, visibly, and ends after as many', async () => {
  const name = unique('ann');
  using friend = await newApp(server, { autoAck: true });
  await newUserNamed(name);
  for (const text of ['first \u001b[2J\u202e', 'second', 'third']) await friend.say(name, text);
  const printed = await hawser(['app', '--user', name, '--password-stdin', '--answers', '2'], {
    env: to(),
    input: 'secret\n',
  });
  assert.deepEqual(printed, {
    code: 0,
    stdout: `${friend.name}: first \\u001b[2J\\u202e\n${friend.name}: second\n`,
    stderr: '',
  });
  const { stdout } = await hawser(['app', '--user', name, '--password-stdin', '--answers', '1', '--json'], {
    env: to(),
    input: 'secret\n',
  });
  assert.deepEqual(
    events(stdout)
      .filter(({ event }) => event === 'message')
      .map(({ from, msg }) => ({ from, msg })),
    [{ from: friend.name, msg: 'third' }],
  );
});

test('answers that do not come in time are a failure', async () => {
  const { code, stderr } = await app(['--answers', '1', '--timeout', '2s'], '');
  assert.deepEqual([code, stderr], [1, 'hawser: the answers did not come in time\n']);
});

test('messages to this person stay on the server when nobody asks for them', async () => {
  const name = unique('ann');
  using friend = await newApp(server, { autoAck: true });
  await newUserNamed(name);
  await friend.say(name, 'kept');
  assert.equal((await app(['--to', friend.name], 'x\n', name)).code, 0);
  using again = await loginAs(name);
  again.fetch();
  await eventually(
    () => again.messages.length === 1,
    () => 'the message that was kept',
  );
});

test('--listen prints until a signal; SIGINT ends with 130, SIGTERM with 143, and both log out', async () => {
  for (const [signal, expected] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const) {
    const name = unique('ann');
    await newUserNamed(name);
    using friend = await newApp(server, { autoAck: true });
    const before = await logouts();
    await using command = new Command(['app', '--user', name, '--password-stdin', '--listen'], {
      env: to(),
      input: 'secret\n',
      isOpen: true,
    });
    await friend.say(name, 'hello');
    await command.until(({ stdout }) => stdout.includes(`${friend.name}: hello\n`) || undefined);
    command.child.kill(signal);
    const { code, stderr } = await command.done;
    assert.deepEqual([code, stderr], [expected, '']);
    assert.equal(await logouts(), before + 1);
  }
});

test('a signal tells what is not acked', async () => {
  await using own = await startServer({ args: ['--inbox-messages', '1'] });
  const [name, friend] = [unique('ann'), await newUser(own)];
  const args = ['app', '--user', name, '--register', '--password-stdin', '--to', friend, '--json'];
  await using command = new Command(args, { env: to(own), input: 'secret\n1\n2\n', isOpen: true });
  await command.until(({ stdout }) => stdout.includes('"acked"') || undefined);
  command.child.kill('SIGINT');
  const { code, stdout, stderr } = await command.done;
  assert.equal(code, 130);
  assert.ok(stderr.endsWith('hawser: 1 of 2 acked\n'), stderr);
  assert.ok(events(stdout).some(({ event, to: receiver }) => event === 'failed' && receiver === friend));
});

test('a newer login of the same name ends it with 5', async () => {
  const name = unique('ann');
  await newUserNamed(name);
  await using command = new Command(['app', '--user', name, '--password-stdin', '--listen', '--json'], {
    env: to(),
    input: 'secret\n',
    isOpen: true,
  });
  await command.until(({ stdout }) => stdout.includes('"online"') || undefined);
  using newer = await loginAs(name);
  const { code, stderr, stdout } = await command.done;
  assert.deepEqual([code, stderr], [5, `hawser: ${newer.name} has logged in elsewhere, which ends this session\n`]);
  assert.deepEqual(events(stdout).at(-1), { event: 'state', name, state: 'offline', why: 'conflict' });
});

test('credentials that are wrong end it with 3, also where the name was to be registered', async () => {
  const name = await newUser(server);
  for (const register of [[], ['--register']]) {
    const args = ['app', '--user', name, '--password-stdin', '--to', 'x', ...register];
    const { code, stdout, stderr } = await hawser(args, { env: to(), input: 'wrong\n' });
    assert.deepEqual({ code, stdout }, { code: 3, stdout: '' });
    assert.equal(stderr, `hawser: ${name} is refused: wrong user name or password (code 1002)\n`);
  }
});

test('a server that is not there ends it with 4, after --timeout, and the reason is told at once', async () => {
  const { port } = await freePort();
  for (const url of [`http://127.0.0.1:${port}`, `tcp://127.0.0.1:${port}`]) {
    const args = ['app', '--user', 'x', '--password-stdin', '--to', 'x', '--server', url, '--timeout', '300ms'];
    const { code, stderr } = await hawser(args, { input: 'secret\nhi\n' });
    assert.equal(code, 4);
    assert.match(stderr, /^hawser: x is not connected: .*ECONNREFUSED.*; trying again\nhawser: x could not log in: .*/);
  }
  await using silent = await takenPort();
  const args = ['app', '--user', 'x', '--password-stdin', '--to', 'x', '--timeout', '300ms'];
  const { code } = await hawser([...args, '--server', `tcp://127.0.0.1:${silent.port}`], { input: 'secret\n' });
  assert.equal(code, 4);
});

test('a device that cannot be added ends it with 1; one that was added before is well; --remove removes', async () => {
  using other = await newApp(server);
  const lamp = await addDevice(other);
  const name = unique('ann');
  assert.equal((await app(['--add', lamp], '', name)).code, 0);
  assert.equal((await app(['--add', lamp, '--to', lamp], 'x\n', name)).code, 0);
  assert.equal((await app(['--remove', lamp], '', name)).code, 0);
  assert.equal((await app(['--to', lamp], 'x\n', name)).code, 1);
  const { code, stderr } = await app(['--add', other.name], '', name);
  assert.deepEqual([code, stderr], [1, `hawser: ${other.name} cannot be added: this id is the name of a user\n`]);
});

test('over TCP without the dispatcher, and over TLS with a certificate of one’s own', async () => {
  const tlsFolder = join(import.meta.dirname, 'fixtures', 'tls');
  const [cert, key] = ['cert.pem', 'key.pem'].map((name) => readFileSync(join(tlsFolder, name)));
  const front = createTlsServer({ cert: cert!, key: key! }, (socket) => {
    const back = connectSocket({ host: server.host, port: server.port });
    socket.pipe(back).pipe(socket);
    socket.on('error', () => back.destroy());
    back.on('error', () => socket.destroy());
  });
  await new Promise<void>((resolve) => front.listen(0, '127.0.0.1', resolve));
  const { port } = front.address() as { port: number };
  using friend = await newApp(server, { autoAck: true });
  try {
    for (const url of [`tcp://127.0.0.1:${server.port}`, `tls://127.0.0.1:${port}`]) {
      const args = ['app', '--server', url, '--user', unique('ann'), '--register', '--password-stdin'];
      const { code, stderr } = await hawser([...args, '--to', friend.name], {
        env: { NODE_EXTRA_CA_CERTS: join(tlsFolder, 'cert.pem') },
        input: `secret\n${url}\n`,
      });
      assert.deepEqual([code, stderr], [0, 'hawser: 1 acked\n']);
    }
  } finally {
    await new Promise((resolve) => front.close(resolve));
  }
  assert.equal(friend.messages.length, 2);
});

test('the password comes from a file, name and file from variables; an option wins', async () => {
  using folder = newFolder();
  const file = join(folder.path, 'password');
  writeFileSync(file, 'secret\n');
  const name = unique('ann');
  await newUserNamed(name);
  using friend = await newApp(server, { autoAck: true });
  const env = { ...to(), HAWSER_USER: name, HAWSER_PASSWORD_FILE: file };
  const args = ['app', '--to', friend.name];
  assert.equal((await hawser(args, { env, input: 'one\n' })).code, 0);
  assert.equal((await hawser([...args, '--user', 'nobody'], { env, input: 'two\n' })).code, 3);
  assert.deepEqual(
    friend.messages.map(({ msg, from }) => [msg, from]),
    [['one', name]],
  );
  // The operator's commands let these variables be.
  assert.equal((await hawser(['user', 'list', '--data', server.data], { env })).code, 0);
});

test('a command line that makes no sense ends it with 2, and one line', async () => {
  for (const [args, says] of [
    [['--to', 'x'], /who is it\? Give --user/],
    [['--user', 'x', '--to', 'x'], /no terminal to ask for the password/],
    [['--user', 'x'], /no terminal to chat on/],
    [['--user', 'x', '--to', 'x', '--password-file', '/nowhere'], /the password file cannot be read/],
    [['--user', 'x', '--to', 'x', '--password-stdin'], /the password must not be empty/],
    [['--server', '127.0.0.1:8888'], /must be a URL such as/],
    [['--timeout', '5 parsecs'], /must be a time such as/],
    [['--answers', '0'], /must be a whole number/],
    [['--bogus'], /unknown option '--bogus'/],
  ] as const) {
    // In a session of its own it has no terminal, also where the tests have one.
    const through = existsSync('/usr/bin/setsid') ? ['setsid', '--wait'] : [];
    const { code, stdout, stderr } = await hawser(['app', ...args], { env: to(), through });
    assert.deepEqual({ code, stdout }, { code: 2, stdout: '' }, `${args.join(' ')}: ${stderr}`);
    assert.match(stderr, says);
    assert.match(stderr, /^hawser: [^\n]+\n$/);
  }
  const { code, stderr } = await hawser(['app'], { env: { HAWSER_SEVRER: 'x' } });
  assert.deepEqual([code, /^hawser: HAWSER_SEVRER is not a setting/.test(stderr)], [2, true]);
});

async function newUserNamed(name: string): Promise<void> {
  using client = await connect(server);
  expectCode(await client.register(name, md5('secret')), 102, 100);
}

async function loginAs(name: string): Promise<Awaited<ReturnType<typeof login>>> {
  const client = await connect(server);
  expectCode(await client.login(name, md5('secret')), 100, 100);
  return client;
}

/** How many clients have logged out, by the server's count. */
async function logouts(): Promise<number> {
  const metrics = await (await fetch(`http://127.0.0.1:${server.adminPort}/metrics`)).text();
  return Number(/^hawser_closed_total\{[^}]*reason="logout"[^}]*\} (\d+)/m.exec(metrics)?.[1] ?? 0);
}

async function freePort(): Promise<{ port: number }> {
  const listening = createServer();
  await new Promise<void>((resolve) => listening.listen(0, '127.0.0.1', resolve));
  const { port } = listening.address() as { port: number };
  await new Promise((resolve) => listening.close(resolve));
  return { port };
}
