// `hawser device`.

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Command, hawser, mainFile, newFolder } from './cli.ts';
import { type Server, startServer } from './harness.ts';
import { type Client, unique } from './mini-client.ts';
import { addDevice, eventually, newApp, newDevice, sleep } from './parties.ts';
import { noTerminal, Terminal } from './terminal.ts';

let server: Server;

before(async () => {
  server = await startServer();
});
after(() => server[Symbol.asyncDispose]());

function variables(): Readonly<Record<string, string>> {
  return { HAWSER_SERVER: `http://127.0.0.1:${server.httpPort}` };
}

/** A device that is online, and an app that has added it. */
async function running(
  ...args: string[]
): Promise<{ command: Command; app: Client; id: string; [Symbol.asyncDispose](): Promise<void> }> {
  const app = await newApp(server, { autoAck: true });
  const id = await addDevice(app);
  const command = new Command(['device', id, ...args], { env: variables() });
  await command.until(({ stdout, stderr }) => /is online|"online"/.test(stdout + stderr) || undefined);
  return {
    command,
    app,
    id,
    async [Symbol.asyncDispose]() {
      app[Symbol.dispose]();
      await command[Symbol.asyncDispose]();
    },
  };
}

async function received(client: Client, count: number): Promise<unknown[]> {
  await eventually(
    () => client.messages.length >= count,
    () => `${client.messages.length} of ${count} messages`,
  );
  return client.messages.map(({ msg }) => msg);
}

test('it prints what comes, text as text and the rest as JSON, and acks it', async () => {
  await using lamp = await running();
  const { command, app, id } = lamp;
  await app.say(id, 'light \u001b[31m\u2028on');
  await app.say(id, { on: true });
  await command.until(({ stdout }) => stdout.endsWith('{"on":true}\n') || undefined);
  assert.equal(command.stdout, `${app.name}: light \\u001b[31m\\u2028on\n${app.name}: {"on":true}\n`);
  command.child.kill('SIGINT');
  const { code, stderr } = await command.done;
  assert.deepEqual([code, stderr], [130, `hawser: ${id} is online at 127.0.0.1:${server.port}\n`]);
  using again = await newDevice(server, { name: id });
  again.fetch();
  await sleep(300);
  assert.deepEqual(again.messages, [], 'all was acked');
});

test('--json prints one object a line, whatever the message', async () => {
  await using lamp = await running('--json');
  const { command, app, id } = lamp;
  await app.say(id, 'a\nb\u009b31m');
  const line = await command.until(({ stdout }) => /^.*"message".*\n/m.exec(stdout)?.[0]);
  assert.ok(line.includes('"msg":"a\\nb\\u009b31m"}'), line);
  const { event, from, to, msgId, msg } = JSON.parse(line) as Record<string, unknown>;
  assert.deepEqual([event, from, to, msg], ['message', app.name, id, 'a\nb\u009b31m']);
  assert.equal(typeof msgId, 'string');
});

test('--echo sends each message back as it was, in order', async () => {
  await using lamp = await running('--echo');
  const values = ['x', { deep: [null, 1.5] }, ...Array.from({ length: 300 }, (_, n) => n)];
  for (const value of values) lamp.app.post(lamp.id, value);
  assert.deepEqual(await received(lamp.app, values.length), values);
});

test('--exec answers with what a command prints: the message on its input, names in variables', async () => {
  await using lamp = await running(
    '--exec',
    'read line; echo "$HAWSER_FROM $HAWSER_TO $HAWSER_MSGID: $line"; echo more',
  );
  const msgId = unique('m');
  await lamp.app.say(lamp.id, "it's $(me)", { msgId });
  assert.deepEqual(await received(lamp.app, 1), [`${lamp.app.name} ${lamp.id} ${msgId}: it's $(me)\nmore`]);
});

test('--exec with --json gets and gives JSON; a command that prints nothing gives no answer', async () => {
  await using lamp = await running('--json', '--exec', 'read line; case $line in 1) ;; *) echo "[$line]";; esac');
  await lamp.app.say(lamp.id, 1);
  await lamp.app.say(lamp.id, 'two');
  assert.deepEqual(await received(lamp.app, 1), [['two']]);
});

test('a message whose command fails is not acked, and comes again', async () => {
  using folder = newFolder();
  const flag = join(folder.path, 'flag');
  await using lamp = await running('--exec', `if [ -e '${flag}' ]; then cat; else touch '${flag}'; exit 7; fi`);
  await lamp.app.say(lamp.id, 'try');
  await lamp.command.until(({ stderr }) => stderr.includes('will come again: the command ended with 7') || undefined);
  lamp.command.child.kill('SIGINT');
  await lamp.command.done;
  await using again = new Command(['device', lamp.id, '--exec', 'cat'], { env: variables() });
  assert.deepEqual(await received(lamp.app, 1), ['try']);
  assert.ok(again.child.pid);
});

test('a command that takes too long is killed with all it has started; so is one that prints too much', async () => {
  using folder = newFolder();
  const file = join(folder.path, 'pid');
  await using lamp = await running('--exec-timeout', '300ms', '--exec', `read x; sleep 60 & echo $! >'${file}'; wait`);
  await lamp.app.say(lamp.id, 'x');
  await lamp.command.until(({ stderr }) => stderr.includes('the command took more than 300 ms') || undefined);
  const pid = Number(readFileSync(file, 'utf8'));
  await eventually(
    () => !isRunning(pid),
    () => `process ${pid} is running`,
  );
  await using loud = await running('--exec', 'yes');
  await loud.app.say(loud.id, 'x');
  await loud.command.until(({ stderr }) => stderr.includes('printed more than 1044480 bytes') || undefined);
});

test('commands run one after the other, or as many at once as --jobs says', async () => {
  for (const [jobs, most] of [
    [[], 1],
    [['--jobs', '3'], 3],
  ] as const) {
    using folder = newFolder();
    // Each says how many there are, itself among them, while it waits.
    const exec = `cd '${folder.path}'; touch $$; sleep 0.3; ls | wc -l; rm $$`;
    await using lamp = await running(...jobs, '--exec', exec);
    for (let n = 0; n < 6; n++) lamp.app.post(lamp.id, n);
    const counts = (await received(lamp.app, 6)).map(Number);
    assert.equal(Math.max(...counts), most, counts.join(' '));
  }
});

test('SIGINT stops a command; its message is not lost', async () => {
  await using lamp = await running('--exec', 'echo started >&2; sleep 60');
  await lamp.app.say(lamp.id, 'unfinished');
  await lamp.command.until(({ stderr }) => stderr.includes('started') || undefined);
  lamp.command.child.kill('SIGINT');
  assert.equal((await lamp.command.done).code, 130);
  using again = await newDevice(server, { name: lamp.id });
  again.fetch();
  assert.deepEqual(await received(again, 1), ['unfinished']);
});

test('--send-to sends once; with --every and --times as often, and ends when all are acked', async () => {
  using app = await newApp(server, { autoAck: true });
  const id = await addDevice(app);
  const began = performance.now();
  const args = ['device', id, '--send-to', app.name, '--every', '200ms', '--times', '3', '{"t":21}'];
  const { code } = await hawser(args, { env: variables() });
  assert.equal(code, 0);
  assert.ok(performance.now() - began > 400);
  assert.deepEqual(
    app.messages.map(({ msg }) => msg),
    [{ t: 21 }, { t: 21 }, { t: 21 }],
  );
  const once = await hawser(['device', id, '--send-to', app.name, '--times', '1', 'just text'], { env: variables() });
  assert.deepEqual([once.code, app.messages.at(-1)?.msg], [0, 'just text']);
});

test('what it sends to a stranger is told, and the exit code is 1', async () => {
  const { code, stderr } = await hawser(['device', unique('lamp'), '--send-to', 'nobody', '--times', '1', 'x'], {
    env: variables(),
  });
  assert.equal(code, 1);
  assert.match(stderr, /message 1 to nobody is not acked: unknown receiver, or not allowed \(a device may write to/);
});

test('a fleet: ids counted from the first, each online, each sending, each printed with its name', async () => {
  using app = await newApp(server, { autoAck: true });
  const stem = unique('lamp-');
  const ids = ['08', '09', '10'].map((number) => stem + number);
  for (const id of ids) await addDevice(app, id);
  const args = ['device', `${stem}08`, '--count', '3', '--send-to', app.name, '--every', '1h', 'hello', '--echo'];
  await using command = new Command(args, { env: variables() });
  await command.until(({ stderr }) => stderr.includes('3 of 3 devices are online') || undefined);
  await app.say(ids[1]!, 'you');
  await command.until(({ stdout }) => stdout === `${ids[1]} < ${app.name}: you\n` || undefined);
  // They take turns within the interval: the first is there at once, and with the echo that makes two.
  await received(app, 2);
  assert.ok(app.messages.every(({ from }) => ids.includes(from)));
  command.child.kill('SIGTERM');
  assert.equal((await command.done).code, 143);
});

test('of a fleet some of which are refused the others go on; the exit code tells', async () => {
  using app = await newApp(server, { autoAck: true });
  const stem = unique('lamp-');
  using user = await newApp(server, { name: `${stem}2` });
  for (const id of [`${stem}1`, `${stem}3`]) await addDevice(app, id);
  const args = ['device', `${stem}1`, '--count', '3', '--send-to', app.name, '--times', '1', 'x'];
  const { code, stderr } = await hawser(args, { env: variables() });
  assert.equal(code, 3);
  assert.ok(stderr.includes(`hawser: ${user.name} is refused: this id is the name of a user (code 200)\n`), stderr);
  assert.ok(stderr.includes('2 of 3 devices are online'));
  assert.deepEqual(await received(app, 2), ['x', 'x']);
});

test('a progress bar shows how many of a fleet are online, on a terminal only', { skip: noTerminal }, async () => {
  const stem = unique('lamp-');
  const args = `device ${stem}1 --count 40 --server tcp://127.0.0.1:${server.port}`;
  await using terminal = new Terminal(`'${process.execPath}' '${mainFile}' ${args}`);
  await terminal.until(/connecting .*? of 40 devices/);
  await terminal.until('40 of 40 devices are online');
  terminal.type('\x03');
  assert.equal(await terminal.done, 130);
});

test('what cannot be printed is not acked: it is there for the next', async () => {
  await using lamp = await running();
  lamp.command.child.stdout?.destroy();
  await lamp.app.say(lamp.id, 'unread');
  assert.equal((await lamp.command.done).code, 1);
  using again = await newDevice(server, { name: lamp.id });
  again.fetch();
  assert.deepEqual(await received(again, 1), ['unread']);
});

test('a newer device of the same id ends it with 5', async () => {
  await using lamp = await running();
  using newer = await newDevice(server, { name: lamp.id });
  const { code, stderr } = await lamp.command.done;
  assert.equal(code, 5);
  assert.ok(stderr.endsWith(`hawser: ${newer.name} has logged in elsewhere, which ends this session\n`), stderr);
});

test('it outlives the server, and says so', async () => {
  await using own = await startServer({ args: ['--http-port', '0'] });
  using app = await newApp(own);
  const id = await addDevice(app);
  const args = ['device', id, '--server', `tcp://127.0.0.1:${own.port}`];
  await using command = new Command(args, {});
  await command.until(({ stderr }) => stderr.includes('is online') || undefined);
  await own.kill9();
  await command.until(({ stderr }) => stderr.includes(`${id} is not connected: `) || undefined);
  assert.equal(command.child.exitCode, null);
});

test('an id that is the name of a command is reached by "run"; version and abilities are told', async () => {
  for (const id of ['list', 'remove']) {
    const args = [
      'device',
      'run',
      id,
      '--device-version',
      '1.2',
      '--abilities',
      '["light"]',
      '--send-to',
      'x',
      '--times',
      '1',
    ];
    const { code, stderr } = await hawser([...args, 'y'], { env: variables() });
    assert.equal(code, 1);
    assert.match(stderr, new RegExp(`^hawser: ${id} is online`));
  }
});

test('a command line that makes no sense ends it with 2', async () => {
  for (const [args, says] of [
    [[], /missing required argument 'id'/],
    [['x', '--echo', '--exec', 'cat'], /a message has one answer/],
    [['x', '--send-to', 'ann'], /nothing to send/],
    [['x', '--every', '5s'], /nothing to send/],
    [['x', 'hello'], /who is the message for\?/],
    [['x', '--count', '0'], /must be a whole number from 1 to 20000/],
    [['x', '--jobs', 'x'], /must be a whole number/],
    [['x', '--abilities', '{}'], /must be a JSON array/],
    [['x', '--exec-timeout', '1d'], /must be a time/],
  ] as const) {
    const { code, stdout, stderr } = await hawser(['device', ...args], { env: variables() });
    assert.deepEqual({ code, stdout }, { code: 2, stdout: '' }, `${args.join(' ')}: ${stderr}`);
    assert.match(stderr, says);
  }
  assert.equal((await hawser(['device', 'list', '--bogus'])).code, 1, "an operator's command keeps its exit code");
});

test('--help says how it ends', async () => {
  for (const command of ['app', 'device']) {
    const { code, stdout } = await hawser([command, '--help']);
    assert.equal(code, 0);
    for (const each of ['Exit codes:', '--server', 'HAWSER_SERVER', '--json']) assert.ok(stdout.includes(each), each);
  }
});

function isRunning(pid: number): boolean {
  if (!existsSync('/proc/self/stat')) return false;
  // One that is dead and was not waited for yet runs no more.
  return existsSync(`/proc/${pid}/stat`) && !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
}
