// `hawser serve` as an operator sees it: starting, refusing to start, stopping, health and metrics.

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { asNobody, Command, freePorts, hawser, newFolder, refused, succeed, takenPort } from './cli.ts';
import { startServer } from './harness.ts';
import { metric } from './metrics.ts';
import { Client } from './mini-client.ts';
import { addDevice, connect, eventually, expectAck, expectCode, newApp, newDevice } from './parties.ts';

interface Endpoint {
  readonly host: string;
  readonly port: number;
}

interface ReadyLine {
  readonly time: number;
  readonly version: string;
  readonly tcp: Endpoint;
  readonly http: Endpoint;
  readonly admin: Endpoint;
  readonly advertised: { readonly ip: string; readonly port: number };
  readonly data: string;
}

function logged(stderr: string): Record<string, unknown>[] {
  return stderr
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));
}

/** The line of the log that says it is ready, once it and the banner are there. */
function ready({ stdout, stderr }: Command): ReadyLine | undefined {
  if (!stdout.includes('Anyone who reaches')) return undefined;
  return logged(stderr).find(({ msg }) => msg === 'ready') as unknown as ReadyLine;
}

const noIpv6 = Object.values(networkInterfaces()).some((each) => each?.some(({ address }) => address === '::1'))
  ? false
  : 'this machine has no IPv6';

function fetchJson(at: Endpoint, path: string): Promise<{ status: number; json: Record<string, unknown> }> {
  return new Promise((resolve, reject) => {
    get({ ...at, path, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, json: JSON.parse(text) }));
    }).on('error', reject);
  });
}

test('it says what it listens on, and ends with 0 at SIGTERM', async () => {
  using folder = newFolder();
  const data = join(folder.path, 'data');
  await using server = new Command(['serve', ...freePorts, '--data', data], {});
  const line = await server.until(ready);
  assert.equal(line.data, realpathSync(data));
  assert.match(line.version, /^\d+\.\d+\.\d+$/);
  for (const { host, port } of [line.tcp, line.http, line.admin]) {
    assert.equal(host, '127.0.0.1');
    assert.ok(port > 0);
  }
  assert.deepEqual(line.advertised, { ip: '127.0.0.1', port: line.tcp.port });

  for (const text of [
    `Hawser ${line.version} is running.`,
    `tcp://127.0.0.1:${line.tcp.port}`,
    `http://127.0.0.1:${line.http.port}/?id=<client id>  tells clients 127.0.0.1 port ${line.tcp.port}`,
    `http://127.0.0.1:${line.admin.port}/healthz and /metrics`,
    line.data,
    `npx hawser device lamp-1 --echo --server http://127.0.0.1:${line.http.port} `,
    `npx hawser app --register --user ann --add lamp-1 --to lamp-1 --server http://127.0.0.1:${line.http.port} `,
    `npx hawser user add bea --data ${line.data} `,
    'Only this machine can reach it.',
  ]) {
    assert.ok(server.stdout.includes(text), `the banner says ${text}:\n${server.stdout}`);
  }

  server.child.kill('SIGTERM');
  const { code, stderr } = await server.done;
  assert.equal(code, 0);
  const log = logged(stderr);
  assert.deepEqual(
    log.map(({ msg }) => msg).filter((msg) => msg !== 'the descriptor limit bounds the connections'),
    ['ready', 'stopping', 'stopped'],
  );
  assert.ok(!existsSync(join(data, 'control.sock')), 'no control socket is left');
});

/** The processor time that a process has taken so far; `undefined` where that cannot be told. */
function processorMs(pid: number | undefined): number | undefined {
  const file = `/proc/${pid}/stat`;
  if (!existsSync(file)) return undefined;
  // Fields 14 and 15, in hundredths of a second; the name before them may hold spaces.
  const fields = readFileSync(file, 'utf8').split(') ').at(-1)?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

test('a start takes under a second by its own log', async () => {
  using folder = newFolder();
  const times: string[] = [];
  for (let i = 0; i < 3; i++) {
    const began = Date.now();
    await using server = new Command(['serve', ...freePorts, '--data', folder.path], {});
    const { time } = await server.until(ready);
    const usedMs = processorMs(server.child.pid);
    // On a machine that others keep busy, what it takes of the processor tells how long it would be alone.
    if (Math.min(time - began, usedMs ?? Number.POSITIVE_INFINITY) < 1000) return;
    times.push(`${time - began} ms, ${usedMs} ms of the processor`);
  }
  assert.fail(times.join('; '));
});

test('SIGINT stops it just as well, and a second one that follows at once changes nothing', async () => {
  using folder = newFolder();
  await using server = new Command(['serve', ...freePorts], { cwd: folder.path });
  const line = await server.until(ready);
  assert.equal(line.data, join(realpathSync(folder.path), 'hawser-data'), 'the default data folder');
  assert.ok(server.stdout.includes('  npx hawser user add bea  '), 'which needs no --data');
  server.child.kill('SIGINT');
  server.child.kill('SIGINT');
  const { code, stderr } = await server.done;
  assert.equal(code, 0);
  assert.equal(logged(stderr).at(-1)?.msg, 'stopped');
});

test('it stops while clients are connected that take no notice', async () => {
  await using server = await startServer();
  using app = await newApp(server, { holdOpen: true });
  using stranger = await Client.connect(server, { holdOpen: true });
  const began = performance.now();
  const stopped = server.stop();
  // They are told at once, and forced later: by then nothing may be lost on the way to them.
  await app.waitClosed();
  assert.ok(performance.now() - began < 3000, 'told at once');
  assert.equal(await stopped, 0);
  await stranger.waitClosed();
});

test('messages accepted just before SIGTERM are acked, or in the inbox after a restart', async () => {
  await using server = await startServer({ args: ['--persist-after', '60000', '--redelivery-after', '3600'] });
  using app = await newApp(server);
  const away = await addDevice(app);
  using silent = await newDevice(server);
  expectCode(await app.bind(silent.name), 203, 100);

  const sent = new Map<string, string>();
  for (let i = 0; i < 300; i++) {
    const to = i % 2 === 0 ? away : silent.name;
    sent.set(app.post(to, { i }), to);
  }
  // The receiver that is there has some of them, and acks none.
  await eventually(
    () => silent.messages.length > 0,
    () => 'a push',
  );
  await server.stop();
  await app.waitClosed();
  const acked = new Set(
    app.frames.filter(({ cmd, data }) => cmd === 200 && data.length === 0).map(({ msgId }) => msgId),
  );
  assert.ok(acked.size > 0, 'what was in flight was committed and acked');
  const accepted = new Set(acked);

  await server.restart();
  for (const name of [away, silent.name]) {
    using device = await newDevice(server, { name, autoAck: true });
    const wanted = [...accepted].filter((id) => sent.get(id) === name);
    await eventually(
      () => wanted.every((id) => device.messages.some(({ msgid }) => msgid === id)),
      () => `${wanted.length} messages for ${name}, ${device.messages.length} came`,
    );
  }
});

test('every message that was acked before SIGTERM in mid-flood is there after the restart', async () => {
  await using server = await startServer();
  using app = await newApp(server);
  const device = await addDevice(app);
  let serial = 0;
  const flood = setInterval(() => {
    for (let i = 0; i < 50; i++) app.post(device, { serial: serial++ });
  }, 1);
  try {
    await eventually(
      () => app.frames.length > 500,
      () => `${app.frames.length} acks`,
    );
    await server.stop();
  } finally {
    clearInterval(flood);
  }
  await app.waitClosed();
  const acked = app.frames.filter(({ cmd, data }) => cmd === 200 && data.length === 0).map(({ msgId }) => msgId);
  await server.restart();
  const got = new Set<string>();
  using receiver = await newDevice(server, { name: device, autoAck: true, onPush: ({ msgid }) => got.add(msgid) });
  receiver.fetch();
  await eventually(
    () => acked.every((id) => got.has(id)),
    () => `${acked.length} acked, ${got.size} came`,
  );
});

// ---- refusals

test('impossible settings are refused in one line', async () => {
  using folder = newFolder();
  const serve = (...args: string[]) => refused(['serve', ...freePorts, '--data', folder.path, ...args]);
  assert.equal(await serve('--port', '70000'), '--port must be a port from 0 to 65535, not "70000"');
  assert.match(await serve('--host', '0.0.0.0'), /^--host 0\.0\.0\.0 is reachable from other machines: .*--advertise/);
  assert.match(await serve('--host', 'example.org'), /^--host must be an IP address/);
  assert.match(await serve('--log-level', 'loud'), /^--log-level must be one of trace/);
  assert.equal(await refused(['serve', '--data', '']), '--data must be the path of a folder, not ""');
});

test('so are those of the environment, and variables that there are not', async () => {
  assert.match(await refused(['serve'], { env: { HAWSER_PORT: '' } }), /^HAWSER_PORT must be a port/);
  assert.match(await refused(['serve'], { env: { HAWSER_PROT: '1' } }), /^HAWSER_PROT is not a setting/);
});

test('unknown options, arguments and commands are refused in one line', async () => {
  for (const [args, line] of [
    [['serve', '--prot', '1'], "unknown option '--prot' (Did you mean --port?) (see hawser --help)"],
    [['serve', 'now'], /^too many arguments for 'serve'/],
    [['serve', '--port'], "option '--port <PORT>' argument missing (see hawser --help)"],
    [['sreve'], "unknown command 'sreve' (Did you mean serve?) (see hawser --help)"],
    [['user', 'delete', 'ann'], "unknown command 'delete' (see hawser --help)"],
  ] as const) {
    const said = await refused(args);
    if (typeof line === 'string') assert.equal(said, line);
    else assert.match(said, line);
  }
});

test('a port in use is refused in one line that names its option, and nothing is left running', async () => {
  using folder = newFolder();
  await using taken = await takenPort();
  for (const option of ['--port', '--http-port', '--admin-port']) {
    const line = await refused(['serve', ...freePorts, '--data', folder.path, option, String(taken.port)]);
    assert.equal(line, `${option}: port ${taken.port} is in use`);
  }
  assert.ok(!existsSync(join(folder.path, 'control.sock')));
  await succeed(['user', 'list', '--data', folder.path]);
});

test('an address that this machine does not have is refused', async () => {
  using folder = newFolder();
  const args = ['serve', ...freePorts, '--data', folder.path, '--host', '192.0.2.1', '--advertise', 'a'];
  assert.match(await refused(args), /^--port: this machine does not have the address/);
});

test('a data folder that another server holds is refused, and that one goes on', async () => {
  await using server = await startServer();
  const line = await refused(['serve', ...freePorts, '--data', server.data]);
  assert.match(line, /^--data: .* is in use by another process$/);
  using client = await connect(server);
  assert.equal(client.closed, undefined);
  await succeed(['user', 'list', '--data', server.data]);
});

test('a data folder that is a file, that is below one, or whose path is too long is refused', async () => {
  using folder = newFolder();
  const file = join(folder.path, 'file');
  writeFileSync(file, '');
  assert.equal(await refused(['serve', '--data', file]), `--data: ${file} cannot be used: it is not a folder`);
  assert.match(await refused(['serve', '--data', join(file, 'x')]), /^--data: .* cannot be used: ENOTDIR/);
  const long = join(folder.path, 'x'.repeat(120));
  assert.match(
    await refused(['serve', '--data', long]),
    /^--data: the path .* is too long for the control socket in it$/,
  );
  assert.ok(!existsSync(long), 'and is not made');
});

test('a folder that is a link to one with a short path can be used', async () => {
  using folder = newFolder();
  mkdirSync(join(folder.path, 'real'));
  const link = join(folder.path, 'l'.repeat(100));
  symlinkSync(join(folder.path, 'real'), link);
  await using server = new Command(['serve', ...freePorts, '--data', link], {});
  assert.equal((await server.until(ready)).data, realpathSync(link));
  await succeed(['user', 'list', '--data', link]);
});

test('a data folder that may not be written is refused', { skip: asNobody === undefined && 'needs root' }, async () => {
  using folder = newFolder();
  const line = await refused(['serve', ...freePorts, '--data', join(folder.path, 'x')], { through: asNobody ?? [] });
  assert.match(line, /^--data: .* cannot be used: EACCES/);
});

test('a descriptor limit that does not do for the store is refused', {
  skip: process.platform !== 'linux',
}, async () => {
  using folder = newFolder();
  const through = ['sh', '-c', 'ulimit -n 120; exec "$@"', 'sh'];
  const line = await refused(['serve', ...freePorts, '--data', folder.path], { through });
  assert.equal(line, 'only 120 files may be open at once: raise that with "ulimit -n 100000"');
});

test('a small one bounds the connections, and the log says so', { skip: process.platform !== 'linux' }, async () => {
  using folder = newFolder();
  const through = ['sh', '-c', 'ulimit -n 300; exec "$@"', 'sh'];
  await using server = new Command(['serve', ...freePorts, '--data', folder.path], { through });
  await server.until(ready);
  const line = logged(server.stderr).find(({ msg }) => msg === 'the descriptor limit bounds the connections');
  // What is left when the store and the HTTP ports have theirs.
  const { connectionsMax, asked } = line as { connectionsMax: number; asked: number };
  assert.ok(connectionsMax > 0 && connectionsMax <= 100, String(connectionsMax));
  assert.equal(asked, 100_000);
});

// ---- addresses

test('the environment configures it as options do', async () => {
  using folder = newFolder();
  const env = {
    HAWSER_PORT: '0',
    HAWSER_HTTP_PORT: '0',
    HAWSER_ADMIN_PORT: '0',
    HAWSER_DATA: folder.path,
    HAWSER_ADVERTISE: 'im.example.org:7',
  };
  await using server = new Command(['serve'], { env });
  const line = await server.until(ready);
  assert.deepEqual(line.advertised, { ip: 'im.example.org', port: 7 });
  assert.equal(line.data, realpathSync(folder.path));
  assert.equal(await succeed(['user', 'list', '--json'], { env: { HAWSER_DATA: folder.path } }), '');
});

test('on ::1 it is reached by IPv6 alone, and written with brackets', { skip: noIpv6 }, async () => {
  using folder = newFolder();
  await using server = new Command(
    ['serve', ...freePorts, '--data', folder.path, '--host', '::1', '--admin-host', '::1'],
    {},
  );
  const line = await server.until(ready);
  assert.ok(server.stdout.includes(`tcp://[::1]:${line.tcp.port}`));
  assert.ok(server.stdout.includes(`http://[::1]:${line.http.port}/?id=<client id>  tells clients ::1 port`));
  const { json } = await fetchJson(line.http, '/?id=a');
  assert.deepEqual(json, { code: 100, msg: 'ok', ip: '::1', port: line.tcp.port });
  assert.equal((await fetchJson(line.admin, '/healthz')).status, 200);
  using app = await newApp(line.tcp);
  expectAck(await app.say(app.name, 'hello'));
  await assert.rejects(Client.connect({ host: '127.0.0.1', port: line.tcp.port }));
});

test('on :: it is reached by IPv4 and IPv6, and tells clients what --advertise says', { skip: noIpv6 }, async () => {
  using folder = newFolder();
  const args = ['serve', ...freePorts, '--data', folder.path, '--host', '::', '--advertise', '[2001:db8::7]:7000'];
  await using server = new Command(args, {});
  const line = await server.until(ready);
  assert.ok(!server.stdout.includes('Only this machine can reach it.'));
  for (const host of ['127.0.0.1', '::1']) {
    // Its clients are of this machine either way: they may log in without encryption.
    using app = await newApp({ host, port: line.tcp.port });
    expectAck(await app.say(app.name, 'hello'));
    const { json } = await fetchJson({ host, port: line.http.port }, '/?id=a');
    assert.deepEqual(json, { code: 100, msg: 'ok', ip: '2001:db8::7', port: 7000 });
  }
});

test('on 0.0.0.0 it is reached by IPv4', async () => {
  using folder = newFolder();
  const args = ['serve', ...freePorts, '--data', folder.path, '--host', '0.0.0.0', '--advertise', 'im.example.org'];
  await using server = new Command(args, {});
  const line = await server.until(ready);
  using app = await newApp({ host: '127.0.0.1', port: line.tcp.port });
  expectAck(await app.say(app.name, 'hello'));
  assert.deepEqual(line.advertised, { ip: 'im.example.org', port: line.tcp.port });
});

test('localhost is what this machine takes it for', async () => {
  using folder = newFolder();
  await using server = new Command(['serve', ...freePorts, '--data', folder.path, '--host', 'localhost'], {});
  const { tcp, advertised } = await server.until(ready);
  assert.equal(tcp.host, 'localhost');
  using client = await connect({ host: advertised.ip, port: advertised.port });
  assert.equal(client.closed, undefined);
});

// ---- health, metrics, output

test('it is healthy while it serves', async () => {
  await using server = await startServer();
  const { status, json } = await fetchJson({ host: '127.0.0.1', port: server.adminPort }, '/healthz');
  assert.deepEqual([status, json], [200, { state: 'serving' }]);
});

test('metrics move with the traffic', async () => {
  await using server = await startServer();
  const value = (name: string): Promise<number> => metric(server, name);
  const connectionsBefore = await value('hawser_connections_opened_total');
  using app = await newApp(server);
  using device = await newDevice(server, { autoAck: true });
  expectCode(await app.bind(device.name), 203, 100);
  const away = await addDevice(app);
  for (let i = 0; i < 3; i++) expectAck(await app.say(device.name, { i }));
  for (let i = 0; i < 2; i++) expectAck(await app.say(away, { i }));
  expectCode(await app.unbind('nothing-here'), 204, 2002);
  using wrong = await connect(server);
  expectCode(await wrong.login(app.name, 'wrong'), 100, 1002);

  assert.equal((await value('hawser_connections_opened_total')) - connectionsBefore, 3);
  assert.equal(await value('hawser_connections'), 3);
  assert.equal(await value('hawser_sessions'), 2);
  assert.equal(await value('hawser_registrations_total'), 1);
  assert.equal(await value('hawser_logins_total{role="app"}'), 1);
  assert.equal(await value('hawser_logins_total{role="device"}'), 1);
  assert.equal(await value('hawser_messages_accepted_total'), 5);
  assert.equal(await value('hawser_messages_pushed_total'), 3);
  assert.equal(await value('hawser_messages_acked_total'), 3);
  assert.equal(await value('hawser_messages_stored_total'), 2);
  assert.equal(await value('hawser_refused_total{reason="deviceNotAdded"}'), 1);
  assert.equal(await value('hawser_refused_total{reason="wrongCredentials"}'), 1);
  assert.ok((await value('hawser_store_writes_total')) > 0);
  assert.ok((await value('nodejs_eventloop_lag_seconds')) >= 0);

  app.destroy();
  for (let i = 0; i < 100 && (await value('hawser_sessions')) !== 1; i++);
  assert.equal(await value('hawser_sessions'), 1);
  assert.equal(await value('hawser_connections'), 2);
});

test('log levels leave out what is below them', async () => {
  using folder = newFolder();
  await using server = new Command(['serve', ...freePorts, '--data', folder.path, '--log-level', 'silent'], {});
  await server.until(({ stdout }) => stdout.includes('Anyone who reaches') || undefined);
  server.child.kill('SIGTERM');
  assert.deepEqual(await server.done.then(({ code, stderr }) => ({ code, stderr })), { code: 0, stderr: '' });
});

test('it goes on when nobody reads what it prints or logs', async () => {
  using folder = newFolder();
  await using server = new Command(['serve', ...freePorts, '--data', folder.path, '--log-level', 'trace'], {});
  const line = await server.until(ready);
  server.child.stdout?.destroy();
  server.child.stderr?.destroy();
  for (let i = 0; i < 3; i++) {
    using app = await newApp(line.tcp);
    expectAck(await app.say(app.name, 'hello'));
  }
  server.child.kill('SIGTERM');
  assert.equal((await server.done).code, 0);
});

test('help and version are printed on stdout', async () => {
  assert.match(await succeed(['--version']), /^\d+\.\d+\.\d+\n$/);
  const help = await succeed(['serve', '--help']);
  for (const text of [
    '--http-port <PORT>',
    'HAWSER_HTTP_PORT',
    '(default: 9999)',
    '--allow-plain-login',
    'HAWSER_DATA',
  ]) {
    assert.ok(help.replace(/\s+/g, ' ').includes(text), text);
  }
  assert.equal((await hawser([])).code, 1);
});
