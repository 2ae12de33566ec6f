// PROTOCOL.md, "Extensions": cmd 205, the devices of an app.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type Server, startServer } from '../harness.ts';
import { metric } from '../metrics.ts';
import { type Client, type Frame, unique } from '../mini-client.ts';
import { addDevice, connect, expectCode, login, newApp, newDevice, newUser } from '../parties.ts';

let server: Server;
before(async () => {
  server = await startServer();
});
after(() => server?.[Symbol.asyncDispose]());

interface Device {
  readonly deviceId: string;
  readonly version?: unknown;
  readonly abilities?: unknown;
  readonly online?: boolean;
  readonly lastSeen: number;
}

interface Page {
  readonly devices: readonly Device[];
  readonly next?: string;
}

function pageOf(frame: Frame): Page {
  expectCode(frame, 205, 100);
  return JSON.parse(frame.text) as Page;
}

async function pages(app: Client): Promise<Page[]> {
  const found: Page[] = [];
  for (let next: string | undefined; ; ) {
    const page = pageOf(await app.request(205, next === undefined ? {} : { after: next }));
    found.push(page);
    if (page.next === undefined) return found;
    next = page.next;
  }
}

async function devicesOf(app: Client): Promise<readonly Device[]> {
  return (await pages(app)).flatMap(({ devices }) => devices);
}

/** Adds many devices at once. */
async function addMany(app: Client, ids: readonly string[]): Promise<void> {
  app.sendRaw(Buffer.concat(ids.map((deviceId) => app.frame(203, { deviceId }, { msgId: `add ${deviceId}` }))));
  for (const id of ids) expectCode(await app.reply(`add ${id}`, 30_000), 203, 100);
}

/** Devices of one user that have much to say; their ids in order. */
async function addTalkative(app: Client, count: number): Promise<string[]> {
  const abilities = ['x'.repeat(8 * 1024 - 4)];
  const ids: string[] = [];
  for (let i = 0; i < count; i++) {
    using device = await newDevice(server, { name: unique(`"é"${i}`), extra: { abilities } });
    ids.push(await addDevice(app, device.name));
  }
  return ids.sort();
}

test('an app without devices gets an empty list, with nothing behind it', async () => {
  using app = await newApp(server);
  const answer = await app.request(205);
  assert.equal(answer.text, '{"code":100,"msg":"ok","devices":[]}');
});

test("an app gets the devices that it has added, and nobody else's, as soon as they are, and until they are removed", async () => {
  using app = await newApp(server);
  using other = await newApp(server);
  const [one, two] = [await addDevice(app), await addDevice(app)];
  const shared = await addDevice(other);
  const ids = async (client: Client) => (await devicesOf(client)).map(({ deviceId }) => deviceId);
  assert.deepEqual(await ids(app), [one, two].sort());
  assert.deepEqual(await ids(other), [shared]);
  app.sendRaw(
    Buffer.concat([
      app.frame(204, { deviceId: one }, { msgId: 'remove' }),
      app.frame(203, { deviceId: shared }, { msgId: 'add' }),
      app.frame(205, undefined, { msgId: 'list' }),
    ]),
  );
  const list = pageOf(await app.reply('list'));
  assert.deepEqual(
    list.devices.map(({ deviceId }) => deviceId),
    [two, shared].sort(),
  );
});

test('a device that never came is offline and was never seen, and nothing is known of it', async () => {
  using app = await newApp(server);
  const deviceId = await addDevice(app);
  assert.deepEqual(await devicesOf(app), [{ deviceId, online: false, lastSeen: 0 }]);
});

test('a device is told of as it last said, online while it is, and seen when it last authenticated', async () => {
  using app = await newApp(server);
  const begun = Date.now();
  const abilities = ['on', { of: [1.5, 'é\u0000"'] }, null];
  const device = await newDevice(server, { extra: { version: 'v "1"', abilities } });
  const deviceId = await addDevice(app, device.name);
  const [online] = await devicesOf(app);
  assert.ok(online !== undefined && online.lastSeen >= begun && online.lastSeen <= Date.now(), `${online?.lastSeen}`);
  assert.deepEqual(online, { deviceId, version: 'v "1"', abilities, online: true, lastSeen: online.lastSeen });

  device.destroy();
  await device.waitClosed();
  let [gone] = await devicesOf(app);
  while (gone?.online === true) [gone] = await devicesOf(app);
  assert.deepEqual(gone, { ...online, online: false });

  using again = await newDevice(server, { name: deviceId, extra: { version: 2, abilities: null } });
  const [back] = await devicesOf(app);
  assert.ok(back !== undefined && back.lastSeen >= online.lastSeen);
  assert.deepEqual(back, { deviceId, version: 2, online: true, lastSeen: back.lastSeen });
  await again.fence();
});

test('what a device said is given byte for byte', async () => {
  using device = await connect(server);
  const id = unique('device');
  const abilities = '[ 1e2, 10000000000000000001, "\\u00e9\\/" ,{}]';
  expectCode(await device.request(101, `{"id":"${id}","abilities":${abilities},"version":-0.0}`), 101, 100);
  using app = await newApp(server);
  await addDevice(app, id);
  const answer = await app.request(205);
  assert.ok(answer.text.includes(`"version":-0.0,"abilities":${abilities},"online":true`), answer.text);
});

test('what devices said, and when they were seen, outlives a restart of the server', async () => {
  await using own = await startServer();
  const name = await newUser(own);
  const device = await newDevice(own, { extra: { version: '7', abilities: ['on'] } });
  using before = await login(own, name);
  const deviceId = await addDevice(before, device.name);
  const [known] = await devicesOf(before);
  await own.restart();
  using app = await login(own, name);
  const [found] = await devicesOf(app);
  assert.deepEqual(found, { deviceId, version: '7', abilities: ['on'], online: false, lastSeen: known?.lastSeen });
});

test('a wrong "after" is answered 200, saying which; null is as good as none', async () => {
  using app = await newApp(server);
  for (const wrong of [1, true, [], {}, ['x']]) {
    const answer = await app.request(205, { after: wrong });
    expectCode(answer, 205, 200);
    assert.ok(answer.msg.includes('after'), `${answer}`);
  }
  for (const noName of ['', 'x'.repeat(129), 'a\u0000']) {
    const answer = await app.request(205, { after: noName });
    expectCode(answer, 205, 200);
    assert.ok(answer.msg.includes('name'), `${answer}`);
  }
  for (const body of ['[]', 'null', '1', '{"after":"a","after":"a"}', Buffer.from('{"after":"\xff"}', 'latin1')]) {
    expectCode(await app.request(205, body), 205, 200);
  }
  for (const body of [{ after: null }, { after: 'x', next: 1, more: {} }]) {
    expectCode(await app.request(205, body), 205, 100);
  }
});

test('more than 500 devices come in pages, each once, also when some are removed in between', async () => {
  using app = await newApp(server);
  const ids = Array.from({ length: 520 }, () => unique('device')).sort();
  await addMany(app, ids);
  const all = await pages(app);
  assert.deepEqual(
    all.map(({ devices }) => devices.length),
    [500, 20],
  );
  assert.deepEqual(
    all.flatMap(({ devices }) => devices.map(({ deviceId }) => deviceId)),
    ids,
  );
  const next = all[0]?.next ?? '';
  assert.equal(next, ids[499]);
  for (const id of [ids[0]!, next, ids[510]!]) expectCode(await app.unbind(id), 204, 100);
  const rest = pageOf(await app.request(205, { after: next }));
  assert.deepEqual(
    rest.devices.map(({ deviceId }) => deviceId),
    ids.slice(500).filter((id) => id !== ids[510]),
  );
  assert.equal(rest.next, undefined);
});

test('whatever devices say, an answer keeps within 128 KiB, in the clear and encrypted', async () => {
  for (const encrypt of [false, true]) {
    using app = await newApp(server, { encrypt });
    const ids = await addTalkative(app, 40);
    const all = await pages(app);
    assert.ok(all.length >= 3);
    assert.deepEqual(
      all.flatMap(({ devices }) => devices.map(({ deviceId }) => deviceId)),
      ids,
    );
    for (const { devices } of all) assert.ok(devices.every(({ abilities }) => JSON.stringify(abilities).length > 8000));
    for (const frame of app.frames) assert.ok(frame.data.length <= 128 * 1024, `${frame.data.length} bytes`);
  }
});

test('an app that asks without end, and takes none of it, is read from no more, and hurts nobody', async () => {
  using greedy = await newApp(server);
  await addTalkative(greedy, 16);
  greedy.socket.pause();
  // All of the answers would be 600 MB.
  const asked = Array.from({ length: 5000 }, () => greedy.frame(205));
  greedy.sendRaw(Buffer.concat(asked));
  using other = await newApp(server);
  for (let i = 0; i < 50; i++) await other.fence();
  const resident = await metric(server, 'process_resident_memory_bytes');
  assert.ok(resident > 0 && resident < 400_000_000, `${resident} bytes`);
  const sent = await metric(server, 'hawser_bytes_sent_total');
  assert.ok(sent < 50_000_000, `${sent} bytes were sent`);
});
