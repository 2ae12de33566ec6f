// Secrets and pairing codes in the client and on the command line.

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { App, Device, InvalidError, RefusedError } from '@hawser/client';
import { Command, hawser, newFolder, succeed } from './cli.ts';
import { type Server, startServer } from './harness.ts';
import { unique } from './mini-client.ts';
import { connect, expectCode, newApp } from './parties.ts';

let server: Server;
before(async () => {
  server = await startServer();
});
after(() => server?.[Symbol.asyncDispose]());

function variables(): Readonly<Record<string, string>> {
  return { HAWSER_SERVER: `http://127.0.0.1:${server.httpPort}` };
}

async function expectBound(id: string): Promise<void> {
  using stranger = await connect(server);
  expectCode(await stranger.auth(id), 101, 200);
}

/** Runs a device until it is online, or has ended. */
async function run(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  input?: string,
): Promise<{ readonly isOnline: boolean; readonly code: number | null; readonly stderr: string }> {
  await using command = new Command(['device', ...args], {
    env: { ...variables(), ...env },
    ...(input !== undefined && { input }),
  });
  const ended = command.done.then(() => true);
  let isEnded = false;
  void ended.then(() => {
    isEnded = true;
  });
  await command.until(({ stderr }) => /(is|are) online/.test(stderr) || isEnded || undefined);
  const isOnline = /(is|are) online/.test(command.stderr);
  command.child.kill('SIGTERM');
  const { code, stderr } = await command.done;
  return { isOnline, code, stderr };
}

test('the client shows the secret and the code of a device on every connection, and an app the code', async () => {
  const at = { server: { host: server.host, port: server.port } };
  const [id, secret] = [unique('device'), unique('secret')];
  const device = new Device(at);
  await device.authenticate(id, { secret, code: '471 108' });
  await expectBound(id);
  const app = new App(at);
  const name = unique('user');
  await app.register(name, 'pw');
  await app.login(name, 'pw');
  for (const options of [{}, { code: '471 109' }]) {
    await assert.rejects(app.addDevice(id, options), (error) => {
      assert.ok(error instanceof RefusedError && error.code === 200 && !error.retry, String(error));
      return true;
    });
  }
  await app.addDevice(id, { code: '471 108' });
  device.onMessage(() => {});
  await app.send(id, 'hello');
  device.logout();
  await assert.rejects(device.authenticate(id, { secret: 'wrong' }), RefusedError);
  const again = new Device(at);
  await again.authenticate(id, { secret });
  for (const client of [app, device, again]) client.close();
});

test('the client sends no secret and no code that cannot be', async () => {
  const device = new Device({ server: { host: server.host, port: server.port } });
  for (const options of [{ secret: '' }, { secret: 'x'.repeat(129) }, { code: '123' }, { code: 'x'.repeat(65) }]) {
    await assert.rejects(device.authenticate(unique('device'), options), InvalidError);
  }
  device.close();
});

test('a device on the command line has its secret from a file, standard input or the environment', async () => {
  using folder = newFolder();
  const id = unique('device');
  const secret = (await succeed(['device', 'add', id, '--data', server.data])).trim();
  const file = join(folder.path, 'secret');
  writeFileSync(file, `${secret}\n`);
  assert.equal((await run([id])).code, 3);
  assert.ok((await run([id, '--secret-file', file])).isOnline);
  assert.ok((await run([id], { HAWSER_SECRET_FILE: file })).isOnline);
  assert.ok((await run([id], { HAWSER_SECRET: secret })).isOnline);
  assert.ok((await run([id, '--secret-stdin'], {}, `${secret}\nmore`)).isOnline);
  writeFileSync(file, 'wrong\n');
  const wrong = await run([id, '--secret-file', file]);
  assert.deepEqual([wrong.isOnline, wrong.code], [false, 3]);
  assert.ok(!wrong.stderr.includes('wrong\n') && wrong.stderr.includes('secret of this device is wrong'), wrong.stderr);
  for (const args of [['--secret-file', join(folder.path, 'none')], ['--secret-stdin']]) {
    assert.equal((await run([id, ...args], {}, '')).code, 2);
  }
});

test('a fleet has its secrets from what "device add --csv" printed', async () => {
  using folder = newFolder();
  const [ids, secrets] = [join(folder.path, 'ids.csv'), join(folder.path, 'secrets.csv')];
  const stem = unique('fleet');
  writeFileSync(ids, [1, 2, 3].map((i) => `${stem}-${i}\n`).join(''));
  writeFileSync(secrets, await succeed(['device', 'add', '--csv', ids, '--data', server.data]));
  await expectBound(`${stem}-2`);
  const fleet = await run([`${stem}-1`, '--count', '3', '--secret-file', secrets]);
  assert.match(fleet.stderr, /3 of 3 devices are online/);
});

test('a command under --exec does not get the secret', async () => {
  const owner = await newApp(server, { autoAck: true });
  const id = unique('device');
  const args = ['device', id, '--exec', 'env | grep -c SECRET || true'];
  await using command = new Command(args, { env: { ...variables(), HAWSER_SECRET: 'only the device' } });
  await command.until(({ stderr }) => stderr.includes('is online') || undefined);
  expectCode(await owner.bind(id), 203, 100);
  owner.post(id, 'tell me');
  const [answer] = await owner.received(1);
  assert.equal(String(answer?.msg).trim(), '0');
  owner.destroy();
});

test('hawser app adds a device by its code, and says when that is wrong', async () => {
  const id = unique('device');
  await succeed(['device', 'add', id, '--code', '4711', '--data', server.data]);
  const app = (...more: string[]) =>
    hawser(['app', '--user', unique('ann'), '--register', '--password-stdin', '--add', id, ...more], {
      env: variables(),
      input: 'secret\n',
    });
  for (const code of [[], ['--code', '4712']]) {
    const { code: exit, stderr } = await app(...code);
    assert.deepEqual([exit, stderr.includes('the pairing code of the device is wrong or missing')], [1, true], stderr);
  }
  assert.equal((await app('--code', '4711')).code, 0);
});

test('what the server says at its start about who may come follows from its settings', async () => {
  for (const [args, says] of [
    [
      [],
      /may come as any device id that has no secret, or is the first to give it one, and may add any device, or, where/,
    ],
    [
      ['--registration', 'closed'],
      /app --user ann [\s\S]*reaches this server may log in only as a user that "hawser user add" made, may come/,
    ],
    [['--devices', 'open'], /may register, may come as any device id that has no secret, and may add any device/],
    [
      ['--devices', 'provisioned', '--pairing', 'code'],
      /only with a secret from "hawser device add", and may add a device only with its pairing code\./,
    ],
  ] as const) {
    using folder = newFolder();
    const ports = ['--port', '0', '--http-port', '0', '--admin-port', '0'];
    await using command = new Command(['serve', ...ports, '--data', folder.path, ...args], {});
    await command.until(({ stdout }) => stdout.includes('Anyone who reaches') || undefined);
    assert.match(command.stdout, says);
    command.child.kill('SIGTERM');
    await command.done;
  }
});
