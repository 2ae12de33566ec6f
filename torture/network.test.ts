// One direction between two places is cut, and the other goes on.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { Network } from './network.ts';

/** Says whatever it is told, to whoever told it. */
const ECHO = `
const socket = require('node:dgram').createSocket('udp4');
socket.on('message', (text, { port, address }) => {
  console.log(String(text));
  socket.send(text, port, address);
});
socket.bind(7000, process.argv[1], () => console.log('ready'));
`;

const opened = Network.open(['a', 'b']);
const skip = typeof opened === 'string' ? opened : false;
let network: Network;
const children: ChildProcess[] = [];
let socket: Socket;
/** What place `a` was told, and what we were told by it. */
const heard: string[] = [];
const answered: string[] = [];

before(async () => {
  if (typeof opened === 'string') return;
  network = opened;
  const { address, through } = network.place('a');
  const [program, ...rest] = [...through, process.execPath, '-e', ECHO, address];
  const child = spawn(program!, rest, { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  child.stdout.setEncoding('utf8').on('data', (text: string) => heard.push(...text.trim().split('\n')));
  socket = createSocket('udp4').on('message', (text) => void answered.push(String(text)));
  await until(() => heard.includes('ready'));
});
after(async () => {
  if (skip !== false) return;
  socket.close();
  for (const child of children) {
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
  network.close();
});

async function until(isSo: () => boolean): Promise<void> {
  for (const end = performance.now() + 10_000; !isSo(); ) {
    assert.ok(performance.now() < end, `heard ${heard}, answered ${answered}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Resolves when it has left. */
async function tell(text: string): Promise<void> {
  await new Promise((resolve) => socket.send(text, 7000, network.place('a').address, resolve));
}

test('what goes one way is cut, until it is healed', { skip }, async () => {
  network.cut('a', undefined);
  await tell('no answer');
  await until(() => heard.includes('no answer'));
  network.heal();
  network.cut(undefined, 'a');
  await tell('not heard');
  network.heal();
  network.cut('b', 'a');
  await tell('well');
  await until(() => answered.includes('well'));
  assert.deepEqual([heard, answered], [['ready', 'no answer', 'well'], ['well']]);
});

test('nothing of it is left behind', { skip }, () => {
  const another = Network.open(['x']);
  assert.ok(typeof another === 'object');
  const links = (): string[] => readdirSync('/sys/class/net').filter((link) => link.startsWith(`hw${process.pid}-1`));
  const namespace = `/run/netns/hawser-${process.pid}-1-x`;
  assert.ok(existsSync(namespace));
  assert.equal(links().length, 2);
  another.close();
  assert.ok(!existsSync(namespace));
  assert.deepEqual(links(), []);
});
