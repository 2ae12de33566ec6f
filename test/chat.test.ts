// `hawser app` on a terminal.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { mainFile } from './cli.ts';
import { type Server, startServer } from './harness.ts';
import { type Client, unique } from './mini-client.ts';
import { connect, eventually, expectCode, md5, newApp, newDevice, newUser } from './parties.ts';
import { escapeCharacter, noTerminal, Terminal } from './terminal.ts';

const ctrlC = '\x03';
const ctrlD = '\x04';
let server: Server;

before(async () => {
  server = await startServer();
});
after(() => server[Symbol.asyncDispose]());

const hawser = `'${process.execPath}' '${mainFile}'`;

/** The command on this server. */
function run(args: string, at = server, env: Readonly<Record<string, string>> = {}): Terminal {
  return new Terminal(`${hawser} ${args}`, { HAWSER_SERVER: `http://127.0.0.1:${at.httpPort}`, ...env });
}

/** A chat of a new user who has just logged in. */
async function chat(
  args = '',
  at = server,
  env: Readonly<Record<string, string>> = {},
): Promise<{ chat: Terminal; name: string }> {
  const name = unique('ann');
  const terminal = run(`app --register --user ${name} ${args}`, at, env);
  await terminal.until(`Password for ${name}`);
  terminal.type('secret\r');
  await terminal.until(`${name} is online at 127.0.0.1:${at.port}`);
  return { chat: terminal, name };
}

async function received(client: Client, count: number): Promise<unknown[]> {
  await eventually(
    () => client.messages.length >= count,
    () => `${client.messages.length} of ${count} messages`,
  );
  return client.messages.map(({ msg }) => msg);
}

const options = { skip: noTerminal };

test('it asks who it is, for the password without showing it, and whether to register', options, async () => {
  const name = unique('bea');
  for (const isNew of [true, false]) {
    await using terminal = run('app');
    await terminal.until('User name:');
    terminal.type(`${name}\r`);
    await terminal.until(`Password for ${name}`);
    terminal.type('geheim');
    await terminal.until('******');
    terminal.type('\r');
    if (isNew) {
      await terminal.until(`Register ${name} with it? (y/N)`);
      terminal.type('y\r');
    }
    await terminal.until(`${name} is online`);
    assert.ok(!terminal.text.includes('geheim'));
    terminal.type(ctrlD);
    assert.equal(await terminal.done, 0);
  }
});

test('who does not want to register is refused with exit code 3', options, async () => {
  await using terminal = run(`app --user ${unique('nobody')}`);
  await terminal.until('Password');
  terminal.type('x\r');
  await terminal.until('(y/N)');
  terminal.type('\r');
  await terminal.until('wrong user name or password (code 1002)');
  assert.equal(await terminal.done, 3);
});

test('devices are added, talked to, and removed; acks are seen; what comes is seen', options, async () => {
  using lamp = await newDevice(server, { autoAck: true });
  const { chat: terminal, name } = await chat();
  await using _ = terminal;
  await terminal.until('(nobody)>');
  terminal.type('lost?\r');
  await terminal.until('it was not sent');
  terminal.type(`/add ${lamp.name}\r`);
  await terminal.until(`${lamp.name} is added`);
  terminal.type('light on\r//slash\r/json {"n":12345678901234567890}\r');
  await terminal.until(new RegExp(`acked by ${lamp.name}: \\{"n":12345678901234567890\\}`));
  assert.deepEqual((await received(lamp, 3)).slice(0, 2), ['light on', '/slash']);
  assert.equal(lamp.messages[2]?.from, name);
  await lamp.say(name, 'it is \u001b[31m on\u0007');
  await terminal.until(`${lamp.name}: it is \\u001b[31m on\\u0007`);
  terminal.type('/devices\r');
  await terminal.until(`${lamp.name}  online`);
  terminal.type('/status\r/bogus\r/help\r');
  await terminal.until(/is online at .*\n[\s\S]*\/bogus is no command[\s\S]*\/quit +leave/);
  terminal.type(`/remove ${lamp.name}\r`);
  await terminal.until(`${lamp.name} is removed`);
  terminal.type(`/to ${lamp.name}\rhello?\r`);
  await terminal.until(/is not acked: unknown receiver, or not allowed \(add devices with \/add\)/);
  terminal.type('/quit\r');
  assert.equal(await terminal.done, 1, 'not all was acked');
});

test('Tab completes commands and names, the arrow fetches what was typed before', options, async () => {
  const friend = unique('Friend Of Mine');
  using client = await newApp(server, { name: friend, autoAck: true });
  const { chat: terminal } = await chat(`--to '${friend}'`);
  await using _ = terminal;
  terminal.type('one\r');
  await terminal.until('acked by');
  terminal.type('/sta\t\r');
  await terminal.until('is online at');
  terminal.type('/to nobody\r');
  await terminal.until('nobody>');
  terminal.type('/to "Fr\t\r');
  await terminal.until(`${friend}> `);
  terminal.type('\x1b[A\x1b[A\x1b[A\x1b[A\r');
  assert.deepEqual(await received(client, 2), ['one', 'one']);
  terminal.type(ctrlD);
  assert.equal(await terminal.done, 0);
});

test('what comes while a line is being typed stands above it, and the line stays', options, async () => {
  using friend = await newApp(server, { autoAck: true });
  const { chat: terminal, name } = await chat(`--to ${friend.name}`);
  await using _ = terminal;
  terminal.type('half a ');
  await terminal.until('half a ');
  await friend.say(name, 'hello');
  await terminal.until(new RegExp(`${friend.name}: hello\\n${friend.name}> half a `));
  const [e, begin] = [escapeCharacter, `${escapeCharacter}\\[1G${escapeCharacter}\\[0J`];
  assert.match(
    terminal.raw,
    new RegExp(`${begin}(?:${e}\\[\\d+m)*${friend.name}(?:${e}\\[\\d+m)*: hello`),
    'the line was erased before',
  );
  terminal.type('line\r');
  assert.deepEqual(await received(friend, 1), ['half a line']);
  terminal.type(ctrlD);
  assert.equal(await terminal.done, 0);
});

test('what was typed before Ctrl-D is sent, and its acks awaited', options, async () => {
  // Nobody acks, so that each ack comes when the message is stored, a second later.
  await using own = await startServer({ args: ['--persist-after', '1000'] });
  using friend = await newApp(own);
  const { chat: terminal } = await chat(`--to ${friend.name}`, own);
  await using _ = terminal;
  terminal.type(Array.from({ length: 50 }, (_, n) => `${n}\r`).join('') + ctrlD);
  await terminal.until('waiting for 50 acks; Ctrl-C gives up');
  assert.equal(await terminal.done, 0);
  assert.doesNotMatch(terminal.text, /is not acked/);
  assert.deepEqual(
    await received(friend, 50),
    Array.from({ length: 50 }, (_, n) => String(n)),
  );
});

test('a message behind a command waits for it, also when Ctrl-D follows', options, async () => {
  const lamp = unique('lamp');
  const { chat: terminal } = await chat();
  await using _ = terminal;
  terminal.type(`/add ${lamp}\rlight on\r${ctrlD}`);
  assert.equal(await terminal.done, 0);
  using device = await newDevice(server, { name: lamp });
  device.fetch();
  assert.deepEqual(await received(device, 1), ['light on']);
});

test('Ctrl-C logs out, tells what is not acked, and ends with 130', options, async () => {
  await using own = await startServer({ args: ['--inbox-messages', '1'] });
  const friend = await newUser(own);
  const { chat: terminal } = await chat(`--to ${friend}`, own);
  await using _ = terminal;
  terminal.type('kept\r');
  await terminal.until(`acked by ${friend}: kept`);
  terminal.type('no room\r');
  await terminal.until(`sent to ${friend}, not acked yet: no room`);
  terminal.type(ctrlC);
  await terminal.until(/no room to .* is not acked: /);
  assert.equal(await terminal.done, 130);
  const metrics = await (await fetch(`http://127.0.0.1:${own.adminPort}/metrics`)).text();
  assert.match(metrics, /^hawser_closed_total\{.*reason="logout".*\} [1-9]/m);
});

test('a newer login of the same name ends the chat with 5', options, async () => {
  const { chat: terminal, name } = await chat();
  await using _ = terminal;
  using other = await connect(server);
  expectCode(await other.login(name, md5('secret')), 100, 100);
  await terminal.until(`${name} has logged in elsewhere`);
  assert.equal(await terminal.done, 5);
});

test('the password is asked for on the terminal when messages come from a pipe', options, async () => {
  using friend = await newApp(server, { autoAck: true });
  const name = unique('cid');
  const args = `app --register --user ${name} --to ${friend.name}`;
  await using terminal = new Terminal(`printf 'hi' | ${hawser} ${args}`, {
    HAWSER_SERVER: `http://127.0.0.1:${server.httpPort}`,
  });
  await terminal.until(`Password for ${name}`);
  terminal.type('secret\r');
  await terminal.until('1 acked');
  assert.equal(await terminal.done, 0);
  assert.deepEqual(await received(friend, 1), ['hi']);
});

test('--listen on a terminal is no chat: it asks for the password, and prints until Ctrl-C', options, async () => {
  using friend = await newApp(server, { autoAck: true });
  const name = unique('dan');
  await using terminal = run(`app --register --user ${name} --listen --json`);
  await terminal.until(`Password for ${name}`);
  terminal.type('secret\r');
  await terminal.until('"online"');
  await friend.say(name, 'hello');
  await terminal.until('"msg":"hello"}\n');
  assert.doesNotMatch(terminal.raw, /\(nobody\)>/);
  terminal.type(ctrlC);
  assert.equal(await terminal.done, 130);
});

test('Ctrl-C at the password ends with 130', options, async () => {
  await using terminal = run('app --user x');
  await terminal.until('Password');
  terminal.type(ctrlC);
  assert.equal(await terminal.done, 130);
});

test('colours are for terminals, and for those who have not said otherwise', options, async () => {
  using friend = await newApp(server, { autoAck: true });
  for (const [env, isColoured] of [
    [{}, true],
    [{ NO_COLOR: '1' }, false],
  ] as const) {
    const { chat: terminal, name } = await chat('', server, env as Record<string, string>);
    await using _ = terminal;
    await friend.say(name, 'hello');
    await eventually(
      () => terminal.text.includes(': hello'),
      () => terminal.raw,
    );
    const isSo = new RegExp(`${escapeCharacter}\\[[\\d;]*m[^\\n]*: hello`).test(terminal.raw);
    assert.equal(isSo, isColoured, JSON.stringify(terminal.raw));
    terminal.type(ctrlD);
    assert.equal(await terminal.done, 0);
  }
});
