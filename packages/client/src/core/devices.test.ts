import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cmd } from '@hawser/protocol';
import { AppClient, type DeviceInfo } from './app.ts';
import { ClosedError, HawserError, RefusedError, StateError, TimeoutError } from './errors.ts';
import { type Got, jsonOf, type Peer, politely, World } from './world.ts';

/** An app that is online, with a server that answers cmd 205 as the test says. */
async function online(
  answer: (after: string | undefined, peer: Peer, frame: Got) => unknown,
): Promise<{ world: World; app: AppClient }> {
  const world = new World();
  world.onFrame = (peer, frame) => {
    if (frame.cmd !== cmd.devices) politely(peer, frame);
    else {
      const body = answer((jsonOf(frame) as { after?: string }).after, peer, frame);
      if (body !== undefined) peer.send(cmd.devices, frame.msgId, body);
    }
  };
  const app = new AppClient(world.ports(), {});
  const done = app.login('ann', 'secret');
  await world.time.advance(0);
  await done;
  return { world, app };
}

async function listOf(devices: AsyncIterable<DeviceInfo>): Promise<DeviceInfo[]> {
  const list: DeviceInfo[] = [];
  for await (const device of devices) list.push(device);
  return list;
}

/** All devices, while time goes on. */
async function all(world: World, app: AppClient, options = {}): Promise<DeviceInfo[]> {
  const result = Promise.allSettled([listOf(app.devices(options))]);
  for (let i = 0; i < 10; i++) await world.time.advance(1000);
  const [settled] = await result;
  if (settled.status === 'rejected') throw settled.reason;
  return settled.value;
}

function ok(devices: unknown[], next?: string): object {
  return { code: 100, msg: 'ok', devices, next };
}

test('devices come page after page, with what is not known left undefined', async () => {
  const pages: Record<string, object> = {
    '': ok([{ deviceId: 'a', version: '1', abilities: ['on'], online: true, lastSeen: 5 }], 'a'),
    a: ok(
      [
        { deviceId: 'b', online: false, lastSeen: 0 },
        { deviceId: 'c', lastSeen: 7 },
      ],
      'c',
    ),
    c: ok([]),
  };
  const { world, app } = await online((after) => pages[after ?? '']);
  const unknown = { version: undefined, abilities: undefined };
  assert.deepEqual(await all(world, app), [
    { deviceId: 'a', version: '1', abilities: ['on'], online: true, lastSeen: 5 },
    { deviceId: 'b', ...unknown, online: false, lastSeen: undefined },
    { deviceId: 'c', ...unknown, online: undefined, lastSeen: 7 },
  ]);
  assert.deepEqual(world.peer.all(cmd.devices).map(jsonOf), [{}, { after: 'a' }, { after: 'c' }]);
});

test('a page is asked for when the loop has come to it, and no further one after a break', async () => {
  const { world, app } = await online((after = 'd-0') => ok([{ deviceId: after }], `d-${Number(after.slice(2)) + 1}`));
  const seen: string[] = [];
  const loop = (async () => {
    for await (const { deviceId } of app.devices()) {
      seen.push(deviceId);
      if (seen.length === 3) break;
    }
  })();
  for (let i = 0; i < 10; i++) await world.time.advance(1000);
  await loop;
  assert.deepEqual(seen, ['d-0', 'd-1', 'd-2']);
  assert.equal(world.peer.all(cmd.devices).length, 3);
});

test('a connection that breaks in between is no matter: the page is asked for again on the next one', async () => {
  let isBroken = false;
  const { world, app } = await online((after, peer) => {
    if (after === undefined) return ok([{ deviceId: 'a' }], 'a');
    if (isBroken) return ok([{ deviceId: 'b' }]);
    isBroken = true;
    peer.close();
    return undefined;
  });
  assert.deepEqual(
    (await all(world, app)).map(({ deviceId }) => deviceId),
    ['a', 'b'],
  );
  assert.equal(world.peers.length, 2);
});

test('a server that does not know the command refuses it; one that does not answer is timed out', async () => {
  const refusing = await online(() => ({ code: 200, msg: 'unknown command' }));
  await assert.rejects(
    all(refusing.world, refusing.app),
    (error) => error instanceof RefusedError && error.code === 200,
  );
  const silent = await online(() => undefined);
  await assert.rejects(all(silent.world, silent.app, { timeoutMs: 500 }), TimeoutError);
});

test('an answer that is no list, or leads nowhere, ends the loop with an error', async () => {
  for (const body of [ok([{}]), { code: 100, msg: 'ok' }, { code: 100, devices: 'x' }]) {
    const { world, app } = await online(() => body);
    await assert.rejects(all(world, app), HawserError);
  }
  const { world, app } = await online(() => ok([{ deviceId: 'a' }], 'a'));
  await assert.rejects(all(world, app), { message: /makes no sense/ });
  assert.equal(world.peer.all(cmd.devices).length, 2);
});

test('the loop ends with the client, and does not begin before a login', async () => {
  await assert.rejects(listOf(new AppClient(new World().ports(), {}).devices()), StateError);
  const { world, app } = await online(() => undefined);
  const ended = assert.rejects(listOf(app.devices()), ClosedError);
  await world.time.advance(10);
  app.close();
  await ended;
});
