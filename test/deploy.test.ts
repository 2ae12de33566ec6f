// What `deploy/` says fits the code: every command line, every file that it names, every time and bound.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { delimiter, join, normalize } from 'node:path';
import { test } from 'node:test';
import { serverLimits } from '@hawser/protocol';
import { parse } from 'yaml';
import { Command, newFolder, refused, succeed } from './cli.ts';
import { startServer } from './harness.ts';

interface Service {
  readonly image: string;
  readonly command?: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly build?: { readonly context: string; readonly dockerfile: string };
  readonly depends_on?: Readonly<Record<string, unknown>>;
  readonly ports?: readonly string[];
  readonly volumes?: readonly string[];
  readonly stop_grace_period: string;
  readonly ulimits?: { readonly nofile: number };
  readonly healthcheck: { readonly test: readonly string[] };
}

interface Compose {
  readonly services: Readonly<Record<string, Service>>;
  readonly volumes: Readonly<Record<string, null>>;
}

const root = join(import.meta.dirname, '..');
const deploy = join(root, 'deploy');
const read = (file: string): string => readFileSync(join(deploy, file), 'utf8');
const compose = parse(read('compose.yaml'), { merge: true }) as Compose;
const services = Object.entries(compose.services);
const ours = services.filter(([, { image }]) => image === 'hawser');
const unit = read('hawser.service');
const dockerfile = read('Dockerfile').replaceAll(' \\\n', ' ');
const commands = await succeed(['--help']);
const serveOptions = await succeed(['serve', '--help']);

/** Values as Compose reads them, where `.env` has nothing but passwords. */
function interpolated(text: string): string {
  return text.replaceAll(/\$\{(\w+)(?::-([^}]*)|:\?[^}]*)\}/g, (_, name: string, fallback?: string) => {
    assert.ok(fallback !== undefined || name.endsWith('_PASSWORD'), name);
    return fallback ?? '0123456789abcdef';
  });
}

function environmentIn(folder: string, environment: Readonly<Record<string, string>>): Record<string, string> {
  const values = Object.entries(environment).map(([name, value]) => [name, interpolated(String(value))]);
  const env: Record<string, string> = { ...Object.fromEntries(values), HAWSER_DATA: folder };
  for (const name of ['HAWSER_POSTGRES', 'HAWSER_REDIS']) {
    if (env[name] !== undefined) env[name] = env[name].replace(/@(postgres|redis):\d+/, '@127.0.0.1:1');
  }
  return env;
}

/** A command line that gets as far as the database or Redis, which are not there, has passed for what it says. */
async function expectAccepted(args: readonly string[], environment: Readonly<Record<string, string>>): Promise<void> {
  using folder = newFolder();
  assert.match(
    await refused(args.map(interpolated), { env: environmentIn(folder.path, environment) }),
    /^--(postgres|redis): /,
  );
}

/** A dispatcher waits for nothing. */
async function expectDispatching(
  args: readonly string[],
  environment: Readonly<Record<string, string>>,
): Promise<void> {
  using folder = newFolder();
  const here = { HAWSER_HOST: '127.0.0.1', HAWSER_HTTP_PORT: '0', HAWSER_ADMIN_PORT: '0' };
  await using command = new Command(args, { env: { ...environmentIn(folder.path, environment), ...here } });
  await command.until(({ child, stderr }) => stderr.includes('"msg":"ready"') || (child.exitCode ?? undefined));
  assert.equal(command.child.exitCode, null, command.stderr);
}

function secondsOf(text: string): number {
  return Number(/^(\d+)s?$/.exec(text)?.[1]);
}

for (const [name, { command = [], environment }] of ours) {
  const isThere = commands.includes(`\n  ${command[0]} `);
  const skip = isThere || command[0] !== 'dispatch' ? false : 'this version has no "hawser dispatch" yet';
  test(`compose.yaml: the command line of ${name} is accepted`, { skip }, () =>
    command[0] === 'dispatch' ? expectDispatching(command, environment) : expectAccepted(command, environment),
  );
}

test('a command line that is not accepted is found', async () => {
  const [, { command = [], environment }] = ours[0]!;
  await assert.rejects(expectAccepted([...command, '--nodes', '3'], environment), /unknown option/);
  await assert.rejects(expectAccepted(command, { ...environment, HAWSER_NODES: '3' }), /HAWSER_NODES is not a setting/);
  await assert.rejects(expectAccepted(['serve', '--node', 'node 1'], environment), /--node must be/);
});

test('compose.yaml: three nodes with names and ports of their own, which they tell clients, and a dispatcher', () => {
  const nodes = ours.filter(([, { command = [] }]) => command[0] === 'serve');
  const optionOf = (command: readonly string[] = [], option = ''): string => command[command.indexOf(option) + 1] ?? '';
  assert.deepEqual(
    nodes.map(([name]) => name),
    nodes.map(([, { command }]) => optionOf(command, '--node')),
  );
  const ports = nodes.map(([, { ports = [] }]) => interpolated(ports[0]!));
  assert.equal(new Set(ports).size, 3);
  for (const [i, [, { command }]] of nodes.entries()) {
    assert.equal(`${interpolated(optionOf(command, '--advertise'))}:8888`, ports[i]);
  }
  assert.deepEqual(
    ours.filter(([, { command = [] }]) => command[0] === 'dispatch').map(([, { ports }]) => ports?.map(interpolated)),
    [['127.0.0.1:9999:9999']],
  );
});

test('compose.yaml: what it refers to is there, and every service has a health check', () => {
  for (const [name, service] of services) {
    for (const other of Object.keys(service.depends_on ?? {})) assert.ok(Object.hasOwn(compose.services, other), other);
    for (const volume of service.volumes ?? []) {
      assert.ok(Object.hasOwn(compose.volumes, volume.split(':')[0]!), `${name}: ${volume}`);
    }
    if (service.build !== undefined) {
      const context = join(deploy, service.build.context);
      assert.equal(normalize(`${context}/`), normalize(`${root}/`));
      assert.ok(existsSync(join(context, service.build.dockerfile)));
    }
    assert.ok(service.healthcheck.test.length > 1, name);
  }
});

test('no password is in the files', () => {
  for (const [name, { environment }] of services) {
    for (const [variable, value] of Object.entries(environment)) {
      const written = value.replaceAll(/\$\{\w+_PASSWORD:\?[^}]+\}/g, '<from outside>');
      const [, password = '<from outside>'] = /:\/\/[^@/:]*:([^@]*)@/.exec(written) ?? [];
      assert.equal(password, '<from outside>', `${name}: ${variable}`);
      if (/PASSWORD|AUTH/.test(variable)) assert.equal(written, '<from outside>', `${name}: ${variable}`);
    }
  }
  assert.ok(readFileSync(join(root, '.gitignore'), 'utf8').split('\n').includes('deploy/.env'));
});

test('there is time to stop, and there are descriptors for all connections', () => {
  // What a node takes for giving its sessions away, if it can.
  const drainS = Number(/--drain-within[^[]*\(default:\s+(\d+)\)/.exec(serveOptions)?.[1] ?? 0);
  const leastS = drainS + (1.5 * serverLimits.stopTimeoutMs) / 1000;
  const descriptorsLeast = serverLimits.connectionsMax + serverLimits.descriptorsReserved;
  for (const [name, { stop_grace_period, ulimits }] of ours) {
    assert.ok(secondsOf(stop_grace_period) >= leastS, name);
    assert.ok((ulimits?.nofile ?? 0) >= descriptorsLeast, name);
  }
  assert.ok(secondsOf(directiveOf('TimeoutStopSec')) >= leastS);
  assert.ok(Number(directiveOf('LimitNOFILE')) >= descriptorsLeast);
});

function directiveOf(directive: string): string {
  return new RegExp(`^${directive}=(.*)$`, 'm').exec(unit)?.[1] ?? '';
}

test('hawser.service: what it starts is there, is accepted, and may write where it stores', async () => {
  const [node = '', main = '', ...args] = directiveOf('ExecStart').split(' ');
  for (const file of [node, main]) assert.ok(existsSync(file.replace('/opt/hawser', root)), file);
  await expectAccepted(args, { HAWSER_POSTGRES: 'postgres://hawser@postgres:5432/hawser' });
  assert.equal(directiveOf('Environment'), `HAWSER_DATA=/var/lib/${directiveOf('StateDirectory')}`);
});

test('Dockerfile: what it copies is in its context, what it runs is there and accepted', async () => {
  const ignored = read('Dockerfile.dockerignore').split('\n');
  const isIn = (path: string): boolean =>
    ignored.some((line) => line.startsWith('!') && `${path}/`.startsWith(`${line.slice(1)}/`));
  for (const [, sources = ''] of dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)) {
    for (const source of sources.split(' ')) {
      assert.ok(existsSync(join(root, source)), source);
      assert.ok(isIn(source), `${source} is ignored`);
    }
  }
  const { workspaces } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { workspaces: string[] };
  for (const each of workspaces) assert.ok(dockerfile.includes(`COPY ${each}/package.json ${each}/\n`), each);
  const listOf = (instruction: string): string[] =>
    JSON.parse(new RegExp(`^${instruction} .*?(\\[.*\\])$`, 'm').exec(dockerfile)![1]!) as string[];
  const [node, main = '', ...more] = listOf('ENTRYPOINT');
  assert.deepEqual([node, more], ['node', []]);
  for (const file of [main, listOf('HEALTHCHECK')[1]!]) assert.ok(existsSync(file.replace('/app', root)), file);
  await expectAccepted(listOf('CMD'), { HAWSER_POSTGRES: 'postgres://hawser@postgres:5432/hawser' });
  for (const [, { healthcheck }] of ours) {
    assert.deepEqual(healthcheck.test.slice(0, 3), ['CMD', ...listOf('HEALTHCHECK')]);
  }
});

test('Dockerfile: the last stage has no tools to build with, its Node is the one of package-lock.json, and no root', () => {
  const last = dockerfile.slice(dockerfile.lastIndexOf('\nFROM '));
  assert.match(last, /^\nFROM debian:\S+-slim\n/);
  assert.match(last, /^ENV PATH=\/app\/node_modules\/\.bin:\$PATH /m);
  assert.doesNotMatch(last, /\bnpm\b|build-essential|g\+\+ |python/);
  assert.match(last, /^USER [1-9]\d*:[1-9]\d*$/m);
});

test('healthy.mjs tells a server that serves, and a dispatcher that has one to tell of, from none', async () => {
  await using server = await startServer();
  const env = { ...process.env, HAWSER_ADMIN_HOST: '0.0.0.0', HAWSER_ADMIN_PORT: String(server.adminPort) };
  const dispatcher = `http://127.0.0.1:${server.httpPort}`;
  const codes = (): (number | null)[] =>
    [[], [dispatcher]].map(
      (args) => spawnSync(process.execPath, [join(deploy, 'healthy.mjs'), ...args], { env }).status,
    );
  assert.deepEqual(codes(), [0, 0]);
  await server.stop();
  assert.deepEqual(codes(), [1, 1]);
});

test('up.sh makes passwords once, which nobody else may read, and starts what is beside it', () => {
  using folder = newFolder();
  cpSync(join(deploy, 'up.sh'), join(folder.path, 'up.sh'));
  // There may be no docker here: what it is told to do is all that matters.
  writeFileSync(join(folder.path, 'docker'), '#!/bin/sh\necho "$PWD: $*"\n');
  chmodSync(join(folder.path, 'docker'), 0o755);
  const env = { ...process.env, PATH: `${folder.path}${delimiter}${process.env.PATH}` };
  const up = (): string => spawnSync(join(folder.path, 'up.sh'), ['--pull', 'never'], { env, encoding: 'utf8' }).stdout;
  const passwords = (): string => readFileSync(join(folder.path, '.env'), 'utf8');
  assert.equal(up(), `${folder.path}: compose up --build --detach --wait --pull never\n`);
  const made = passwords();
  assert.match(made, /^POSTGRES_PASSWORD=([0-9a-f]{48})\nREDIS_PASSWORD=(?!\1)[0-9a-f]{48}\n$/);
  assert.equal(statSync(join(folder.path, '.env')).mode & 0o777, 0o600);
  up();
  assert.equal(passwords(), made);
});
