// `npm run cluster`: three nodes and a dispatcher with one command, a message that crosses, and nothing left behind.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { noRedis } from '@hawser/server/cluster/redis/server-harness';
import { postgresFolder } from '../scripts/postgres.ts';
import { Command, newFolder } from './cli.ts';
import { ownEnvironment } from './harness.ts';
import { eventually } from './parties.ts';

const skip = postgresFolder() === undefined ? 'there is no PostgreSQL here' : noRedis;
const script = join(import.meta.dirname, '..', 'scripts', 'cluster.ts');

let cluster: ChildProcess;
let printed = '';
let url = '';
before(async () => {
  if (skip !== false) return;
  const args = [script, '--http-port', '0', '--port', '0'];
  cluster = spawn(process.execPath, args, { env: ownEnvironment(), stdio: ['ignore', 'pipe', 'inherit'] });
  cluster.stdout?.setEncoding('utf8').on('data', (text: string) => {
    printed += text;
  });
  await eventually(
    () => printed.includes('kill -9'),
    () => `the cluster is up; it said:\n${printed}`,
    60_000,
  );
  url = /--server (\S+)/.exec(printed)?.[1] ?? '';
});
after(async () => {
  if (cluster !== undefined && cluster.exitCode === null) {
    cluster.kill('SIGTERM');
    await once(cluster, 'exit');
  }
});

async function portOf(id: string): Promise<number> {
  return ((await (await fetch(`${url}/?id=${id}`)).json()) as { port: number }).port;
}

/** Processes that were told of and run. */
function running(): number[] {
  const pids = Array.from(printed.matchAll(/process (\d+)/g), ([, pid]) => Number(pid));
  return pids.filter((pid) => {
    try {
      return process.kill(pid, 0);
    } catch {
      return false;
    }
  });
}

describe('a cluster with one command', { skip }, () => {
  test('a message crosses from one node to another, and its answer comes back', async () => {
    using folder = newFolder();
    const passwordFile = join(folder.path, 'pw');
    writeFileSync(passwordFile, 'secret\n');
    const ann = await portOf('ann');
    let lamp = 'lamp-1';
    for (let i = 2; (await portOf(lamp)) === ann; i++) lamp = `lamp-${i}`;
    await using device = new Command(['device', lamp, '--echo', '--server', url], { isOpen: true });
    await device.until(({ stderr, stdout }) => `${stderr}${stdout}`.includes(lamp) || undefined);
    const app = ['app', '--register', '--user', 'ann', '--add', lamp, '--to', lamp, '--answers', '1', '--server', url];
    await using person = new Command([...app, '--password-file', passwordFile], { input: 'light on\n' });
    const { code, stdout, stderr } = await person.done;
    assert.equal(code, 0, stderr);
    assert.equal(stdout, `${lamp}: light on\n`);
  });

  test('a node that is killed is started again', async () => {
    process.kill(Number(/kill -9 (\d+)/.exec(printed)?.[1]), 'SIGKILL');
    await eventually(
      () => /node-2 is up again, as process \d+/.test(printed),
      () => `node-2 is up again; it said:\n${printed}`,
      30_000,
    );
    assert.equal(running().length, 3);
  });

  test('SIGTERM stops all of it in order', async () => {
    cluster.kill('SIGTERM');
    const [code] = (await once(cluster, 'exit')) as [number | null];
    assert.equal(code, 0, printed);
    assert.deepEqual(running(), []);
    await assert.rejects(fetch(url));
  });
});
