import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { connect, createServer as createNetServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import {
  CONTROL_PATH_BYTES_MAX,
  callControl,
  controlPath,
  isServed,
  NoServer,
  type Operate,
  serveControl,
} from './control.ts';

const root = mkdtempSync(join(tmpdir(), 'hawser-control-'));
after(() => rmSync(root, { recursive: true, force: true }));

let serial = 0;
function newFolder(): string {
  const folder = join(root, String(serial++));
  mkdirSync(folder);
  return folder;
}

const echo: Operate = async (name, argument) => ({ name, argument });

/** A control server, closed at the end of the scope. */
async function serving(path: string, operate: Operate = echo): Promise<AsyncDisposable> {
  return closing(await serveControl(path, operate));
}

function closing(server: Server): AsyncDisposable {
  return {
    async [Symbol.asyncDispose]() {
      const closed = new Promise((done) => server.close(done));
      server.closeAllConnections();
      await closed;
    },
  };
}

test('an operation gets its name and argument, and its result comes back', async () => {
  const path = controlPath(newFolder());
  await using _ = await serving(path);
  const argument = { name: 'ann 王 🦊', password: '"\\\n' };
  assert.deepEqual(await callControl(path, 'addUser', argument), { name: 'addUser', argument });
});

test('an operation without a result answers null', async () => {
  const path = controlPath(newFolder());
  await using _ = await serving(path, async () => undefined);
  assert.equal(await callControl(path, 'x', {}), null);
});

test('the socket may be opened by its owner alone, whatever the umask', async () => {
  const mask = process.umask(0);
  try {
    const path = controlPath(newFolder());
    await using _ = await serving(path);
    assert.ok(statSync(path).isSocket());
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.equal(process.umask(), 0, 'the umask is as it was');
  } finally {
    process.umask(mask);
  }
});

test('an error of an operation comes back as its text', async () => {
  const path = controlPath(newFolder());
  await using _ = await serving(path, async (name) => {
    throw new Error(`there is no operation ${name}`);
  });
  await assert.rejects(callControl(path, 'format', {}), { message: 'there is no operation format' });
});

test('an argument that is too large is refused, and the server goes on', async () => {
  const path = controlPath(newFolder());
  await using _ = await serving(path);
  await assert.rejects(callControl(path, 'addUser', { name: 'x'.repeat(70_000) }), /the argument is too large/);
  assert.deepEqual(await callControl(path, 'addUser', { name: 'x'.repeat(60_000) }).then(() => 'ok'), 'ok');
});

test('an argument that is not JSON is refused', async () => {
  const path = controlPath(newFolder());
  await using _ = await serving(path);
  const answer = await new Promise<string>((resolve, reject) => {
    const socket = connect(path);
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk.toString();
    });
    socket.on('error', reject);
    socket.on('close', () => resolve(text));
    socket.end('POST /addUser HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\n\r\n{"a');
  });
  assert.match(answer, /^HTTP\/1\.1 400 /);
  assert.match(answer, /"error":"the argument is not JSON"/);
});

test('a client that leaves in the midst of a request harms nothing', async () => {
  const path = controlPath(newFolder());
  await using _ = await serving(path);
  for (let i = 0; i < 5; i++) {
    await new Promise<void>((done) => {
      const socket = connect(path, () => {
        socket.write('POST /addUser HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"a', () => socket.destroy());
      });
      socket.on('close', () => done());
    });
  }
  assert.deepEqual(await callControl(path, 'a', {}), { name: 'a', argument: {} });
});

test('without a server there is NoServer', async () => {
  const folder = newFolder();
  await assert.rejects(callControl(controlPath(folder), 'a', {}), NoServer);
  assert.equal(await isServed(controlPath(folder)), false);
  assert.equal(await isServed(controlPath(join(folder, 'not', 'there'))), false);
});

test('a folder that is a file has no server', async () => {
  const file = join(newFolder(), 'file');
  writeFileSync(file, '');
  assert.equal(await isServed(controlPath(file)), false);
});

test('a path too long for a socket has no server', async () => {
  const path = controlPath(`/tmp/${'x'.repeat(CONTROL_PATH_BYTES_MAX)}`);
  assert.equal(await isServed(path), false);
});

/** Leaves a socket as a killed server does. */
function leaveStale(path: string): void {
  const script = `require('node:net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 9))`;
  spawnSync(process.execPath, ['-e', script]);
  assert.ok(statSync(path).isSocket());
}

test('a socket left by a killed server is no server, and the next one takes its place', async () => {
  const path = controlPath(newFolder());
  leaveStale(path);
  assert.equal(await isServed(path), false);
  await assert.rejects(callControl(path, 'a', {}), NoServer);
  await using _ = await serving(path);
  assert.equal(await isServed(path), true);
  assert.equal(statSync(path).mode & 0o777, 0o600);
});

test('a server that closes leaves no socket', async () => {
  const path = controlPath(newFolder());
  {
    await using _ = await serving(path);
    assert.ok(existsSync(path));
  }
  assert.ok(!existsSync(path));
});

test('it rejects when no socket can be made', async () => {
  const folder = newFolder();
  mkdirSync(controlPath(folder));
  await assert.rejects(serveControl(controlPath(folder), echo));
  await assert.rejects(serveControl(controlPath(join(folder, 'not', 'there')), echo));
});

test('what answers nonsense, or hangs up, is an error that names the socket', async () => {
  const path = controlPath(newFolder());
  {
    const server = createServer((_, response) => response.end('hello'));
    await new Promise<void>((done) => server.listen(path, done));
    await using _ = closing(server);
    await assert.rejects(callControl(path, 'a', {}), /the server did not answer on .*control\.sock/);
  }
  const server = createNetServer((socket) => socket.destroy());
  await new Promise<void>((done) => server.listen(path, done));
  try {
    await assert.rejects(callControl(path, 'a', {}), /the server did not answer on .*control\.sock/);
  } finally {
    server.close();
  }
});

test('a server that is cut off in the midst of its answer is an error', async () => {
  const path = controlPath(newFolder());
  const server = createNetServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"res', () => socket.destroy());
    });
  });
  await new Promise<void>((done) => server.listen(path, done));
  try {
    await assert.rejects(callControl(path, 'a', {}), /the server did not answer on .*control\.sock/);
  } finally {
    server.close();
  }
});

test('the socket of another user is an error that says so', {
  skip: process.getuid?.() !== 0 && 'only root can be another user',
}, async () => {
  const folder = newFolder();
  await using _ = await serving(controlPath(folder));
  for (const each of [root, folder]) chmodSync(each, 0o755);
  process.seteuid?.(65_534);
  try {
    await assert.rejects(isServed(controlPath(folder)), /may be used only by the user that the server runs as/);
  } finally {
    process.seteuid?.(0);
  }
});
