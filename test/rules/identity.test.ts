// PROTOCOL.md, "Extensions": `secret` in 101, which device may come, and what becomes of those that may not.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { hawser, newFolder, refused, succeed } from '../cli.ts';
import { type Server, startServer } from '../harness.ts';
import { metric } from '../metrics.ts';
import { type Client, type Frame, unique } from '../mini-client.ts';
import { addDevice, connect, expectAck, expectCode, leave, login, newApp, newDevice, newUser } from '../parties.ts';

let server: Server;
before(async () => {
  server = await startServer();
});
after(() => server?.[Symbol.asyncDispose]());

function newSecret(): string {
  return randomBytes(20).toString('base64url');
}

/** Tries to come as a device, on a connection of its own, and is refused. */
async function expectRefused(at: Server, id: string, extra: Record<string, unknown> = {}): Promise<Frame> {
  using stranger = await connect(at);
  const answer = await stranger.auth(id, extra);
  expectCode(answer, 101, 200);
  // It is nobody: it may send and fetch nothing.
  expectCode(await stranger.request(202), 202, 300);
  return answer;
}

/** What came on a live session since was nothing, and it is still the one of its name. */
async function expectUndisturbed(device: Client, owner: Client): Promise<void> {
  assert.deepEqual(await device.quiet(0), []);
  const msgId = owner.post(device.name, 'still you?');
  await device.message(msgId);
  device.ack([msgId]);
  expectAck(await owner.reply(msgId));
}

describe('an id that has a secret', () => {
  test('is let in with it, again and again, and after a restart', async () => {
    await using own = await startServer();
    const secret = newSecret();
    const device = await newDevice(own, { extra: { secret } });
    const id = device.name;
    device.destroy();
    for (let i = 0; i < 2; i++) {
      using again = await newDevice(own, { name: id, extra: { secret } });
      await again.fence();
    }
    await own.kill9();
    await own.start();
    using again = await newDevice(own, { name: id, extra: { secret } });
    await again.fence();
    await expectRefused(own, id);
  });

  test('without it, or with another, displaces nobody, receives nothing, and is told the same', async () => {
    using owner = await newApp(server);
    const secret = newSecret();
    using device = await newDevice(server, { extra: { secret } });
    await addDevice(owner, device.name);
    const takeovers = await metric(server, 'hawser_takeovers_total');
    const texts = new Set<string>();
    for (const wrong of [undefined, null, 'x', secret.slice(1), `${secret}x`, secret.toLowerCase(), newSecret()]) {
      const answer = await expectRefused(server, device.name, wrong === undefined ? {} : { secret: wrong });
      texts.add(answer.msg);
    }
    assert.equal(texts.size, 1, [...texts].join(', '));
    assert.equal(await metric(server, 'hawser_takeovers_total'), takeovers);
    await expectUndisturbed(device, owner);
  });

  test('gives a stranger none of what waits for it, and what the stranger said of it is not noted', async () => {
    using owner = await newApp(server);
    const secret = newSecret();
    const device = await newDevice(server, { extra: { secret, version: 'true' } });
    const id = device.name;
    await addDevice(owner, id);
    device.destroy();
    await device.waitClosed();
    const msgId = await leave(owner, id, 'for the device alone');
    {
      using stranger = await connect(server);
      expectCode(await stranger.auth(id, { version: 'forged', abilities: ['forged'] }), 101, 200);
      stranger.fetch();
      // The backlog would come unasked after a second.
      const seen = await stranger.quiet(1_300);
      assert.ok(
        seen.every((frame) => frame.startsWith('202')),
        seen.join('\n'),
      );
    }
    const list = (await owner.request(205)).json as { devices: { version: string; lastSeen: number }[] };
    assert.equal(list.devices[0]?.version, 'true');
    using back = await newDevice(server, { name: id, extra: { secret } });
    back.fetch();
    assert.equal((await back.message(msgId)).msg, 'for the device alone');
  });

  test('needs it again when a live connection authenticates again, and the session goes on', async () => {
    using owner = await newApp(server);
    const secret = newSecret();
    using device = await newDevice(server, { extra: { secret } });
    await addDevice(owner, device.name);
    expectCode(await device.auth(device.name), 101, 200);
    expectCode(await device.auth(device.name, { secret: newSecret() }), 101, 200);
    expectCode(await device.auth(device.name, { secret }), 101, 100);
    await expectUndisturbed(device, owner);
  });

  test('needs it also where all may come', async () => {
    await using own = await startServer();
    const secret = newSecret();
    using device = await newDevice(own, { extra: { secret } });
    await using other = await restartedWith(own, ['--devices', 'open']);
    await expectRefused(other, device.name);
    using back = await newDevice(other, { name: device.name, extra: { secret } });
    await back.fence();
  });

  test('is encrypted like the rest of a login when the device has a key', async () => {
    const secret = newSecret();
    using device = await newDevice(server, { encrypt: true, extra: { secret } });
    await expectRefused(server, device.name);
  });
});

/** The same data with other options. */
async function restartedWith(own: Server, args: readonly string[]): Promise<Server> {
  await own.stop();
  return startServer({ data: own.data, args });
}

describe('a secret for an id that has none', () => {
  test('binds an id that was never seen', async () => {
    using device = await newDevice(server, { extra: { secret: newSecret() } });
    await expectRefused(server, device.name);
  });

  test('binds an id that was added and never came', async () => {
    using app = await newApp(server);
    const id = await addDevice(app);
    using device = await newDevice(server, { name: id, extra: { secret: newSecret() } });
    await expectRefused(server, id);
    await expectUndisturbed(device, app);
  });

  test('is refused when the device is known, online or not, and changes nothing', async () => {
    using app = await newApp(server);
    const id = await addDevice(app);
    {
      using device = await newDevice(server, { name: id });
      const answer = await expectRefused(server, id, { secret: newSecret() });
      assert.match(answer.msg, /without a secret/);
      await expectUndisturbed(device, app);
    }
    await expectRefused(server, id, { secret: newSecret() });
    using again = await newDevice(server, { name: id });
    await again.fence();
  });

  test('is refused after a crash right behind the first authentication', async () => {
    await using own = await startServer();
    using app = await newApp(own);
    const id = await addDevice(app);
    // It says nothing of itself, so that only the time is new.
    using device = await connect(own);
    expectCode(await device.request(101, { id }), 101, 100);
    await own.kill9();
    await own.start();
    await expectRefused(own, id, { secret: newSecret() });
  });

  test('binds it once, whoever comes at the same time', async () => {
    for (let round = 0; round < 5; round++) {
      const id = unique('device');
      const clients = await Promise.all(Array.from({ length: 8 }, () => connect(server)));
      const secrets = clients.map(() => newSecret());
      const answers = await Promise.all(clients.map((client, i) => client.auth(id, { secret: secrets[i] })));
      const winners = answers.flatMap(({ code }, i) => (code === 100 ? i : []));
      assert.equal(winners.length, 1, answers.join('\n'));
      for (const client of clients) client.destroy();
      using back = await newDevice(server, { name: id, extra: { secret: secrets[winners[0]!] } });
      await back.fence();
    }
  });

  test('binds nothing where all may come', async () => {
    await using own = await startServer({ args: ['--devices', 'open'] });
    using device = await newDevice(own, { extra: { secret: newSecret() } });
    using taker = await newDevice(own, { name: device.name });
    await taker.fence();
    assert.equal((await device.waitClosed()).how, 'fin');
  });

  test('of the wrong type or size is a wrong body', async () => {
    using client = await connect(server);
    for (const secret of [1, true, [], {}, '', 'x'.repeat(129)]) {
      const answer = await client.auth(unique('device'), { secret });
      expectCode(answer, 101, 200);
      assert.match(answer.msg, /"secret"/);
    }
    expectCode(await client.auth(unique('device'), { secret: 'x'.repeat(128) }), 101, 100);
  });
});

describe('where devices are provisioned', () => {
  test('an id comes only with the secret that the operator was given, known or not', async () => {
    await using own = await startServer({ args: ['--devices', 'provisioned'] });
    using app = await newApp(own);
    const added = await addDevice(app);
    const id = unique('device');
    const secret = (await succeed(['device', 'add', id, '--data', own.data])).trim();
    assert.match(secret, /^[A-Za-z0-9_-]{27}$/);
    const texts = new Set<string>();
    for (const each of [id, added, unique('unknown')]) {
      texts.add((await expectRefused(own, each)).msg);
      texts.add((await expectRefused(own, each, { secret: newSecret() })).msg);
    }
    assert.equal(texts.size, 1, 'nobody learns which ids there are');
    using device = await newDevice(own, { name: id, extra: { secret } });
    await device.fence();
    assert.match(await succeed(['device', 'list', '--data', own.data]), new RegExp(`^${id} +0 +yes +yes +no`, 'm'));
  });

  test('an id that bound itself before does not come', async () => {
    await using own = await startServer();
    const secret = newSecret();
    using device = await newDevice(own, { extra: { secret } });
    await using other = await restartedWith(own, ['--devices', 'provisioned']);
    await expectRefused(other, device.name, { secret });
    const given = (await succeed(['device', 'secret', device.name, '--data', other.data])).trim();
    using back = await newDevice(other, { name: device.name, extra: { secret: given } });
    await back.fence();
  });
});

describe('the operator', () => {
  test('adds a device that somebody has added already, once, and no user', async () => {
    using app = await newApp(server);
    const id = await addDevice(app);
    const secret = (await succeed(['device', 'add', id, '--data', server.data])).trim();
    await expectRefused(server, id);
    using device = await newDevice(server, { name: id, extra: { secret } });
    await expectUndisturbed(device, app);
    assert.match(await refused(['device', 'add', id, '--data', server.data]), /is known already/);
    assert.match(await refused(['device', 'add', app.name, '--data', server.data]), /is a user/);
    assert.match(await refused(['device', 'secret', unique('x'), '--data', server.data]), /there is no device/);
    assert.match(await refused(['device', 'revoke', app.name, '--data', server.data]), /is a user/);
  });

  test('changes a secret: the session ends at once, and only the new one is good', async () => {
    using app = await newApp(server);
    const old = newSecret();
    using device = await newDevice(server, { extra: { secret: old } });
    await addDevice(app, device.name);
    const secret = (await succeed(['device', 'secret', device.name, '--data', server.data])).trim();
    assert.equal((await device.waitClosed()).how, 'fin');
    assert.ok(!device.frames.some(({ cmd }) => cmd === 103), 'no other client has taken over');
    await expectRefused(server, device.name, { secret: old });
    using back = await newDevice(server, { name: device.name, extra: { secret } });
    await addDevice(app).then(() => expectUndisturbed(back, app));
  });

  test('gives a device that came without one a secret, which it needs from then on', async () => {
    using device = await newDevice(server);
    const secret = (await succeed(['device', 'secret', device.name, '--data', server.data])).trim();
    assert.equal((await device.waitClosed()).how, 'fin');
    await expectRefused(server, device.name);
    using back = await newDevice(server, { name: device.name, extra: { secret } });
    await back.fence();
  });

  test('revokes a device: the session ends at once, and nobody comes until there is a new secret', async () => {
    using app = await newApp(server);
    const secret = newSecret();
    using device = await newDevice(server, { extra: { secret } });
    await addDevice(app, device.name);
    await succeed(['device', 'revoke', device.name, '--data', server.data]);
    assert.equal((await device.waitClosed()).how, 'fin');
    await expectRefused(server, device.name, { secret });
    await expectRefused(server, device.name);
    await expectRefused(server, device.name, { secret: 'locked' });
    assert.match(
      await succeed(['device', 'list', '--data', server.data]),
      new RegExp(`^${device.name} +1 +no +locked`, 'm'),
    );
    const msgId = await leave(app, device.name, 'kept');
    const given = (await succeed(['device', 'secret', device.name, '--data', server.data])).trim();
    using back = await newDevice(server, { name: device.name, extra: { secret: given } });
    back.fetch();
    await back.message(msgId);
  });

  test('can do so without a server, and a device that comes then is as it was left', async () => {
    await using own = await startServer();
    const device = await newDevice(own);
    await own.stop();
    const secret = (await succeed(['device', 'secret', device.name, '--data', own.data])).trim();
    const other = (await succeed(['device', 'add', 'other', '--data', own.data])).trim();
    await own.start();
    await expectRefused(own, device.name);
    using back = await newDevice(own, { name: device.name, extra: { secret } });
    using second = await newDevice(own, { name: 'other', extra: { secret: other } });
    await Promise.all([back.fence(), second.fence()]);
  });

  test('adds many from a file, gets each secret once, and may give the file again', async () => {
    using folder = newFolder();
    const file = join(folder.path, 'devices.csv');
    const lines = [
      'id,secret,code',
      'a lamp,,',
      '"a ""quoted"", lock",own-secret,1234',
      ...Array.from({ length: 300 }, (_, i) => `bulk-${i},,`),
    ];
    const { writeFileSync } = await import('node:fs');
    writeFileSync(file, `\ufeff${lines.join('\r\n')}\r\n`);
    await using own = await startServer({ args: ['--devices', 'provisioned'] });
    const printed = await succeed(['device', 'add', '--csv', file, '--data', own.data]);
    const rows = printed.trim().split('\n');
    assert.equal(rows[0], 'id,secret,code');
    assert.equal(rows.length, 303);
    assert.ok(rows.includes('"a ""quoted"", lock",own-secret,1234'), printed);
    const secret = rows.find((row) => row.startsWith('bulk-299,'))?.split(',')[1];
    using device = await newDevice(own, { name: 'bulk-299', extra: { secret } });
    using lock = await newDevice(own, { name: 'a "quoted", lock', extra: { secret: 'own-secret' } });
    await Promise.all([device.fence(), lock.fence()]);

    writeFileSync(file, [...lines, 'late,,'].join('\n'));
    const again = await hawser(['device', 'add', '--csv', file, '--data', own.data]);
    assert.equal(again.code, 0, again.stderr);
    assert.match(again.stdout, /^id,secret,code\nlate,[\w-]{27},\n$/);
    assert.equal(again.stderr.trim().split('\n').length, 302);
    assert.match(again.stderr, /^hawser: bulk-299 is known already, and was not changed$/m);
    await device.fence();
  });

  test('is told which line of a file cannot be, before any device is added', async () => {
    using folder = newFolder();
    const file = join(folder.path, 'devices.csv');
    const { writeFileSync } = await import('node:fs');
    for (const [text, says] of [
      ['id,secret\na,\na,\n', /"a" is there twice/],
      ['id,password\na,x\n', /"password" is none of id, secret, code/],
      ['a,b,c,d\n', /more than 3 columns/],
      ['id\n"a\n', /devices\.csv: /],
    ] as const) {
      writeFileSync(file, text);
      assert.match(await refused(['device', 'add', '--csv', file, '--data', server.data]), says);
    }
    assert.match(await refused(['device', 'add', '--csv', join(folder.path, 'none'), '--data', server.data]), /none/);
    assert.match(await refused(['device', 'add', '--data', server.data]), /give an id, or --csv FILE/);
  });
});

test('no secret, no code and no password is on the disk or in the log, nor the md5 of one', async () => {
  await using own = await startServer({ args: ['--log-level', 'trace'] });
  const secret = newSecret();
  const code = 'pairing code 4711';
  const device = await newDevice(own, { extra: { secret, code } });
  const id = unique('device');
  const given = (await succeed(['device', 'add', id, '--code', 'another code', '--data', own.data])).trim();
  const name = await newUser(own);
  using app = await login(own, name);
  expectCode(await app.request(203, { deviceId: device.name, code }), 203, 100);
  expectCode(await app.request(203, { deviceId: id, code: 'wrong code' }), 203, 200);
  await expectRefused(own, device.name, { secret: 'a wrong secret' });
  using wrong = await connect(own);
  expectCode(await wrong.login(name, '0123456789abcdef0123456789abcdef'), 100, 1002);
  await own.stop();
  const { password } = await import('../parties.ts');
  const secrets = [secret, code, given, 'another code', 'wrong code', 'a wrong secret', password, '0123456789abcdef'];
  const kept = [own.logs().join('\n')];
  const folder = join(own.data, 'store');
  for (const file of readdirSync(folder)) kept.push(readFileSync(join(folder, file), 'latin1'));
  for (const text of kept) for (const each of secrets) assert.ok(!text.includes(each), `${each} was found`);
  assert.ok(
    kept.some((text) => text.includes(device.name)),
    'the search finds what is there',
  );
  assert.ok(kept.some((text) => text.includes('hmac-sha256$')));
});

test('what is stored of a secret or a password lets nobody in', async () => {
  await using own = await startServer();
  const device = await newDevice(own, { extra: { secret: newSecret() } });
  const name = await newUser(own);
  await own.stop();
  const folder = join(own.data, 'store');
  const text = readdirSync(folder)
    .map((file) => readFileSync(join(folder, file), 'latin1'))
    .join('\n');
  const digest = /hmac-sha256\$[\w-]+\$[\w-]+/.exec(text)?.[0];
  const hash = /\$argon2id\$v=19\$m=19456,t=2,p=1\$[\w+/]+\$[\w+/]+/.exec(text)?.[0];
  assert.ok(digest !== undefined && hash !== undefined);
  await own.start();
  for (const part of [digest, ...digest.split('$')]) await expectRefused(own, device.name, { secret: part });
  using client = await connect(own);
  for (const part of [hash, hash.split('$').at(-1) ?? '']) expectCode(await client.login(name, part), 100, 1002);
});
