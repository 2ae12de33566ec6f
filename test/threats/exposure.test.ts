// What can be reached from where, what clients write into the log, and a server that runs out of descriptors.

import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { connect as connectSocket, type Socket } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { noProc, startServer } from '../harness.ts';
import { Client, unique } from '../mini-client.ts';
import {
  addDevice,
  connect,
  eventually,
  expectAck,
  expectCode,
  leave,
  newApp,
  newDevice,
  password,
} from '../parties.ts';
import { escapeCharacter, noTerminal, sequences, Terminal } from '../terminal.ts';

/** Another address of this machine, on which nothing listens that was not told to. */
const elsewhere = '127.0.0.2';
const noElsewhere = process.platform !== 'linux' && 'only Linux has all of 127.0.0.0/8';

function connects(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connectSocket({ host, port }, () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

test('the port of the operators is reached only where it is configured, and no other port answers for it', {
  skip: noElsewhere,
}, async () => {
  await using open = await startServer({ args: ['--host', '0.0.0.0', '--advertise', '127.0.0.1'] });
  assert.ok(await connects(elsewhere, open.port));
  assert.ok(await connects(elsewhere, open.httpPort));
  assert.ok(!(await connects(elsewhere, open.adminPort)), 'by default on loopback alone');
  assert.ok(await connects('127.0.0.1', open.adminPort));
  for (const path of ['/metrics', '/healthz']) {
    const response = await fetch(`http://${elsewhere}:${open.httpPort}${path}`);
    assert.equal(((await response.json()) as { code: number }).code, 200, 'a refusal of the dispatcher');
  }
  await using moved = await startServer({ args: ['--admin-host', elsewhere] });
  assert.ok(await connects(elsewhere, moved.adminPort));
  assert.ok(!(await connects('127.0.0.1', moved.adminPort)));
  assert.ok(!(await connects(elsewhere, moved.port)));
});

/** What would break a line of the log, move the cursor, colour what follows, or turn its direction. */
const hostile = [
  'a\r\n{"level":60,"msg":"forged"}',
  'a\nforged',
  'a\rforged',
  'a\u001b[2J\u001b[31mforged',
  'a\u009b2Jforged',
  'a\u2028forged',
  'a\u2029forged',
  'a\u0085forged',
  'a\u202eforged',
  'a\u{e0041}forged',
];
const harm = /[\p{Cc}\p{Zl}\p{Zp}\p{Cf}]/u;

test('what clients say cannot write into the log: no line is forged, nothing moves a cursor', async () => {
  await using server = await startServer({ args: ['--log-level', 'trace'] });
  await sayAll(server);
  await server.stop();
  const lines = server.logs();
  for (const line of lines) {
    assert.doesNotMatch(line, harm);
    const entry = JSON.parse(line) as { level: number; msg: string };
    assert.ok(typeof entry.level === 'number' && entry.msg !== 'forged', line);
  }
  // Names with line separators are names, and in the log with escapes.
  assert.ok(lines.some((line) => line.includes('a\\u2028forged')));
  assert.ok(lines.some((line) => line.includes('a\\udb40\\udc41forged')));
});

test('nor on a terminal', { skip: noTerminal }, async () => {
  await using server = new Terminal(
    'npx hawser serve --port 0 --http-port 0 --admin-port 0 --log-level trace --data "$(mktemp -d)"',
    {},
    join(import.meta.dirname, '..', '..'),
  );
  await server.until('Only this machine can reach it.');
  const port = Number(/tcp:\/\/127\.0\.0\.1:(\d+)/.exec(server.raw)?.[1]);
  await sayAll({ host: '127.0.0.1', port });
  await server.until('u202eforged');
  server.type('\u0003');
  await server.done;
  const shown = server.raw.replaceAll(sequences, '').replaceAll(/[\n\t]/g, '');
  assert.doesNotMatch(shown, harm);
  assert.doesNotMatch(server.raw, new RegExp(`${escapeCharacter}\\[2J`));
});

/** Each of them as every kind of name and id, by those who log in and those who do not. */
async function sayAll(at: { readonly host: string; readonly port: number }): Promise<void> {
  using app = await newApp(at);
  for (const text of hostile) {
    using device = await connect(at);
    await device.auth(text, { version: text, abilities: [text] });
    using person = await connect(at);
    await person.register(text, password);
    await person.login(text, password);
    await person.request(999, { [text]: text }, { msgId: text });
    await app.bind(text);
    await app.request(200, { to: text, msg: text }, { msgId: text });
    app.ack([text]);
    person.sendRaw(Buffer.from(text));
    await person.logout().catch(() => {});
    await device.logout().catch(() => {});
  }
}

test('a server whose descriptors run out goes on storing', { skip: noProc, timeout: 60_000 }, async () => {
  const limit = 320;
  const through = ['sh', '-c', `ulimit -n ${limit}; exec "$@"`, 'sh'];
  await using server = await startServer({ through });
  using app = await newApp(server);
  const away = await addDevice(app);
  await leave(app, away, 'before');
  const sockets: Socket[] = [];
  try {
    // Far more than there are descriptors, on each port.
    for (const port of [server.port, server.httpPort, server.adminPort]) {
      for (let i = 0; i < limit; i++) {
        const socket = connectSocket({ host: '127.0.0.1', port });
        socket.on('error', () => {});
        sockets.push(socket.resume());
      }
    }
    await eventually(
      () => sockets.filter((socket) => socket.closed).length > limit,
      () => `${sockets.filter((socket) => socket.closed).length} were turned away`,
    );
    const open = readdirSync(`/proc/${server.pid}/fd`).length;
    assert.ok(open < limit, `${open} of ${limit} descriptors`);
    // Enough for the store to begin new files.
    const msg = 'z'.repeat(200_000);
    const ids = Array.from({ length: 100 }, () => app.post(away, msg));
    for (const id of ids) expectAck(await app.reply(id, 30_000));
    assert.ok(server.alive, server.logs().slice(-5).join('\n'));
  } finally {
    for (const socket of sockets) socket.destroy();
  }
  using late = await Client.connect(server);
  await late.awaitKey();
  using device = await newDevice(server, { name: away, autoAck: true });
  device.fetch();
  await device.received(101, 30_000);
  expectCode(await app.bind(unique('lamp')), 203, 100);
});
