// `hawser doctor`: what it looks at, what it says, and its exit code.

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { noRedis, RedisServer } from '@hawser/server/cluster/redis/server-harness';
import { Authority, writeCertificate } from './certificates.ts';
import { asNobody, type CommandOptions, freePorts, hawser, newFolder, refused, takenPort } from './cli.ts';
import { startServer } from './harness.ts';

interface Finding {
  readonly verdict: 'ok' | 'warn' | 'FAIL';
  readonly found: string;
  readonly advice: string | undefined;
}

const subjects = ['Node', 'RSA', 'descriptors', 'data folder', 'store', 'disk', 'TCP port', 'HTTP port', 'admin port'];

/** Runs it, checks its form, and gives what it found by subject. */
async function doctor(args: readonly string[], options: CommandOptions = {}, more: readonly string[] = []) {
  const { code, stdout, stderr } = await hawser(['doctor', ...args], options);
  assert.equal(stderr, '');
  const findings = new Map<string, Finding>();
  let last = '';
  for (const line of stdout.split('\n').slice(0, -1)) {
    const advice = /^ {20}→ (.+)$/.exec(line)?.[1];
    if (advice !== undefined) {
      const finding = findings.get(last);
      assert.ok(finding !== undefined && finding.verdict !== 'ok', line);
      findings.set(last, { ...finding, advice });
      continue;
    }
    const [, verdict, subject, found] = /^(ok|warn|FAIL) +(\S+(?: \S+)?) {2,}(.+)$/.exec(line) ?? [];
    assert.ok(verdict !== undefined && subject !== undefined && found !== undefined, line);
    last = subject;
    findings.set(subject, { verdict: verdict as Finding['verdict'], found, advice: undefined });
  }
  assert.deepEqual([...findings.keys()], [...subjects, ...more]);
  for (const [subject, { verdict, advice }] of findings) {
    assert.equal(advice === undefined, verdict === 'ok', `${subject}: what is not well has an advice`);
  }
  const failed = [...findings.values()].some(({ verdict }) => verdict === 'FAIL');
  assert.equal(code, failed ? 1 : 0, stdout);
  return (subject: string): Finding => findings.get(subject) ?? assert.fail(subject);
}

test('on a machine that is ready all is well, and nothing is made', async () => {
  using folder = newFolder();
  const data = join(folder.path, 'new');
  const found = await doctor([...freePorts, '--data', data]);
  assert.equal(found('Node').verdict, 'ok');
  assert.ok(found('Node').found.startsWith(`${process.version}, `));
  assert.match(found('RSA').found, /^works, OpenSSL \d/);
  assert.match(found('data folder').found, /\/new \(will be made\)$/);
  assert.match(found('disk').found, /^\d+\.\d GiB free$/);
  assert.equal(found('TCP port').found, '127.0.0.1, any that is free');
  assert.ok(!existsSync(data));
});

test('with TLS its ports and its certificate are looked at, too', async () => {
  using folder = newFolder();
  const authority = new Authority();
  const files = writeCertificate(folder.path, authority.issue({ hosts: ['a.test'] }));
  const args = [...freePorts, '--data', join(folder.path, 'data'), '--tls-port', '0', '--https-port', '0', ...files];
  const more = ['TLS port', 'HTTPS port', 'certificate'];
  const good = await doctor(args, {}, more);
  for (const subject of more) assert.equal(good(subject).verdict, 'ok');
  writeCertificate(folder.path, authority.issue({ hosts: ['a.test'], notAfter: new Date(Date.now() + 60_000) }));
  assert.equal((await doctor(args, {}, more))('certificate').verdict, 'warn');
  writeFileSync(files[3] ?? '', authority.issue({}).key);
  const bad = (await doctor(args, {}, more))('certificate');
  assert.equal(bad.verdict, 'FAIL');
  assert.match(bad.found, /^--tls-key: not the key of the certificate/);
});

test('a port that another program has fails, with the option that chooses another', async () => {
  using folder = newFolder();
  await using taken = await takenPort();
  for (const [option, subject] of [
    ['--port', 'TCP port'],
    ['--http-port', 'HTTP port'],
    ['--admin-port', 'admin port'],
  ] as const) {
    const found = await doctor([...freePorts, '--data', folder.path, option, String(taken.port)]);
    assert.deepEqual(found(subject), {
      verdict: 'FAIL',
      found: `127.0.0.1 ${taken.port} is in use by another program`,
      advice: `free it, or choose another with ${option}`,
    });
  }
});

test('ports are free again after it has looked', async () => {
  using folder = newFolder();
  let port: number;
  {
    await using taken = await takenPort();
    port = taken.port;
  }
  for (let i = 0; i < 2; i++) {
    const found = await doctor([...freePorts, '--data', folder.path, '--port', String(port)]);
    assert.deepEqual(found('TCP port'), { verdict: 'ok', found: `127.0.0.1 ${port} is free`, advice: undefined });
  }
});

test('with a server on the data folder, ports in use are its own', async () => {
  await using server = await startServer();
  const ports = ['--port', server.port, '--http-port', server.httpPort, '--admin-port', server.adminPort].map(String);
  const found = await doctor([...ports, '--data', server.data]);
  assert.match(found('data folder').found, /, a server is running on it$/);
  for (const subject of ['TCP port', 'HTTP port', 'admin port']) {
    assert.equal(found(subject).verdict, 'ok');
    assert.match(found(subject).found, /is in use, and a server is running on the data folder$/);
  }
});

test('a server that was killed is not running', async () => {
  await using server = await startServer();
  await server.kill9();
  const found = await doctor([...freePorts, '--data', server.data]);
  assert.equal(found('data folder').verdict, 'ok');
  assert.doesNotMatch(found('data folder').found, /running/);
});

test('an address that this machine does not have fails', async () => {
  using folder = newFolder();
  const args = [...freePorts, '--data', folder.path, '--host', '192.0.2.1', '--advertise', 'a'];
  const found = await doctor(args);
  assert.equal(found('TCP port').found, '192.0.2.1 is not an address of this machine');
  assert.equal(found('TCP port').advice, 'choose another with --host');
  assert.equal(found('admin port').verdict, 'ok');
});

test('a data folder that is a file, or below one, fails', async () => {
  using folder = newFolder();
  const file = join(folder.path, 'file');
  writeFileSync(file, '');
  for (const data of [file, join(file, 'x')]) {
    const finding = (await doctor([...freePorts, '--data', data]))('data folder');
    assert.equal(finding.verdict, 'FAIL');
    assert.match(finding.found, /file is not a folder$/);
  }
});

test('a data folder that may not be written fails', { skip: asNobody === undefined && 'needs root' }, async () => {
  using folder = newFolder();
  const through = asNobody ?? [];
  const finding = (await doctor([...freePorts, '--data', join(folder.path, 'x')], { through }))('data folder');
  assert.equal(finding.verdict, 'FAIL');
  assert.match(finding.found, /cannot be written by this user$/);
});

test('so does the data folder of a server that another user runs', {
  skip: asNobody === undefined && 'needs root',
}, async () => {
  await using server = await startServer();
  const finding = (await doctor([...freePorts, '--data', server.data], { through: asNobody ?? [] }))('data folder');
  assert.equal(finding.verdict, 'FAIL');
});

test('few descriptors are a warning, too few fail', { skip: process.platform !== 'linux' }, async () => {
  using folder = newFolder();
  for (const [limit, verdict] of [
    [120, 'FAIL'],
    [200, 'FAIL'],
    [300, 'warn'],
    [9999, 'warn'],
    [10_000, 'ok'],
  ] as const) {
    const through = ['sh', '-c', `ulimit -n ${limit}; exec "$@"`, 'sh'];
    const finding = (await doctor([...freePorts, '--data', folder.path], { through }))('descriptors');
    assert.equal(finding.verdict, verdict, String(limit));
    assert.equal(finding.found, `${limit} files and connections at once`);
  }
});

test('the environment is looked at as serve does', async () => {
  using folder = newFolder();
  await using taken = await takenPort();
  mkdirSync(join(folder.path, 'data'));
  const env = { HAWSER_PORT: String(taken.port), HAWSER_DATA: join(folder.path, 'data') };
  const found = await doctor(['--http-port', '0', '--admin-port', '0'], { env });
  assert.equal(found('TCP port').verdict, 'FAIL');
  assert.ok(found('data folder').found.endsWith('/data'));
});

test('what serve would refuse is refused in one line', async () => {
  assert.match(await refused(['doctor'], { env: { HAWSER_PROT: '1' } }), /^HAWSER_PROT is not a setting/);
  assert.match(await refused(['doctor', '--port', 'x']), /^--port must be a port/);
  assert.match(await refused(['doctor', '--host', '0.0.0.0']), /^--host 0\.0\.0\.0 is reachable/);
  assert.match(await refused(['doctor', 'now']), /^too many arguments for 'doctor'/);
});

test('a Redis that evicts keys is warned of, and one that cannot be reached is a fault', {
  skip: noRedis,
}, async () => {
  using folder = newFolder();
  const redis = await RedisServer.start('maxmemory 64mb\nmaxmemory-policy allkeys-lru');
  const cluster = [
    '--redis',
    `redis://127.0.0.1:${redis.port}`,
    '--node',
    'a',
    '--postgres',
    'postgres://nobody@127.0.0.1/x',
  ];
  const args = [...freePorts, '--data', folder.path, ...cluster];
  try {
    const found = (await doctor(args, {}, ['Redis']))('Redis');
    assert.deepEqual(found, {
      verdict: 'warn',
      found: 'its maxmemory-policy is allkeys-lru',
      advice: 'set "maxmemory-policy noeviction": evicted are claims of names and leases of nodes',
    });
    await redis.ask('CONFIG', 'SET', 'maxmemory-policy', 'noeviction');
    assert.equal((await doctor(args, {}, ['Redis']))('Redis').verdict, 'ok');
  } finally {
    await redis.close();
  }
  assert.equal((await doctor(args, {}, ['Redis']))('Redis').verdict, 'FAIL');
});
