// Whoever is not bound to a device can do nothing to it, whatever the command, the state and the role.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type Server, startServer } from '../harness.ts';
import { type Client, unique } from '../mini-client.ts';
import { addDevice, connect, expectAck, expectCode, leave, newApp, newDevice, newUser, password } from '../parties.ts';

let server: Server;
before(async () => {
  // What a receiver has is told from what the disk has.
  server = await startServer({ args: ['--persist-after', '60000'] });
});
after(() => server?.[Symbol.asyncDispose]());

/** A device with its owner, something waiting for it, and a stranger of some kind. */
interface Scene {
  readonly owner: Client;
  readonly deviceId: string;
  readonly device: Client;
  readonly secret: string;
}

async function scene(): Promise<Scene> {
  const owner = await newApp(server);
  const secret = unique('secret');
  const device = await newDevice(server, { extra: { secret, code: 'its code' } });
  expectCode(await owner.request(203, { deviceId: device.name, code: 'its code' }), 203, 100);
  return { owner, device, deviceId: device.name, secret };
}

const strangers = {
  'a connection that is not logged in': () => connect(server),
  'an app': () => newApp(server),
  'an app that had added it': async ({ deviceId }: Scene) => {
    const app = await newApp(server);
    expectCode(await app.request(203, { deviceId, code: 'its code' }), 203, 100);
    expectCode(await app.unbind(deviceId), 204, 100);
    return app;
  },
  'a device': () => newDevice(server),
  'a device of the same owner': async ({ owner }: Scene) => {
    const device = await newDevice(server);
    await addDevice(owner, device.name);
    return device;
  },
} as const;

/** Every command by which one could reach a device: none of them is answered 100, or acked. */
function attempts({ deviceId, owner }: Scene): readonly (readonly [cmd: number, body: object | string | undefined])[] {
  return [
    [101, { id: deviceId }],
    [101, { id: deviceId, secret: 'guessed', code: 'another' }],
    [100, { username: deviceId, password }],
    [102, { username: deviceId, password }],
    [200, { to: deviceId, msg: 'open' }],
    [203, { deviceId }],
    [203, { deviceId, code: 'guessed' }],
    [203, { deviceId: owner.name }],
    [204, { deviceId }],
    [1, { id: deviceId }],
    [3, { id: deviceId }],
    [103, { id: deviceId }],
    [201, [{ msgid: 'waiting' }]],
    [206, { deviceId }],
  ];
}

describe('a stranger', () => {
  for (const [what, make] of Object.entries(strangers)) {
    test(`that is ${what} can do nothing to a device`, async () => {
      const at = await scene();
      const { owner, device, deviceId } = at;
      const msgId = owner.post(deviceId, 'for the device alone', { msgId: 'waiting' });
      await device.message(msgId);
      const stranger = await make(at);
      for (const [cmd, body] of attempts(at)) {
        const id = unique(`a${cmd}`);
        stranger.send(cmd, body, { msgId: id });
        stranger.send(0, undefined, { msgId: `${id} fence` });
        const fence = await stranger.reply(`${id} fence`, 20_000);
        assert.equal(fence.cmd, 0);
        const answer = stranger.frames.find((frame) => frame.msgId === id);
        if (answer === undefined) continue;
        assert.ok(answer.plain.length > 0 && answer.code !== 100, `${cmd} ${JSON.stringify(body)}: ${answer}`);
      }
      stranger.fetch();
      await stranger.fence();
      assert.deepEqual(stranger.messages, []);
      // It is as it was: online, bound, and its message not acked by another.
      assert.equal(device.closed, undefined);
      assert.ok(!owner.frames.some((frame) => frame.msgId === msgId), 'nobody else acks');
      device.ack([msgId]);
      expectAck(await owner.reply(msgId));
      for (const client of [owner, device, stranger]) client.destroy();
    });
  }
});

test('a binding that is removed is in force no more on live sessions, from either side', async () => {
  const { owner, device, deviceId } = await scene();
  const first = owner.post(deviceId, 1);
  await device.message(first);
  device.ack([first]);
  expectAck(await owner.reply(first));
  // In one write: each frame sees the effect of those before it.
  owner.sendRaw(
    Buffer.concat([
      owner.frame(200, { to: deviceId, msg: 'still mine' }, { msgId: 'before' }),
      owner.frame(204, { deviceId }, { msgId: 'remove' }),
      owner.frame(200, { to: deviceId, msg: 'mine no more' }, { msgId: 'behind' }),
    ]),
  );
  expectCode(await owner.reply('remove'), 204, 100);
  expectCode(await owner.reply('behind'), 200, 200);
  expectCode(await device.say(owner.name, 'hello?'), 200, 200);
  const pushed = await device.message('before');
  assert.equal(pushed.msg, 'still mine');
  device.ack(['before']);
  expectAck(await owner.reply('before'));
  assert.equal(device.count('behind'), 0);
  for (const client of [owner, device]) client.destroy();
});

describe('one name space', () => {
  test('a user with the name of a device, or the reverse, there is not, in whatever order they come', async () => {
    using app = await newApp(server);
    const device = await newDevice(server);
    const added = await addDevice(app);
    using client = await connect(server);
    for (const id of [device.name, added]) {
      expectCode(await client.register(id, password), 102, 1001);
      expectCode(await client.login(id, password), 100, 1002);
    }
    const user = await newUser(server);
    for (const extra of [{}, { secret: 'a secret' }, { code: 'a code' }]) {
      expectCode(await client.auth(user, extra), 101, 200);
    }
    expectCode(await app.request(203, { deviceId: user }), 203, 200);
    device.destroy();
  });

  test('who registers as lock-1 cannot write to the owner of the lock as it', async () => {
    const owner = await newApp(server);
    const lock = await addDevice(owner, unique('lock'));
    using thief = await connect(server);
    expectCode(await thief.register(lock, password), 102, 1001);
    expectCode(await thief.request(200, { to: owner.name, msg: 'unlocked' }), 200, 300);
    // A user who took a name that nobody had is no device of anybody's.
    using posing = await newApp(server, { name: unique('lock') });
    expectCode(await owner.request(203, { deviceId: posing.name }), 203, 200);
    const msgId = posing.post(owner.name, 'I am a lock');
    const pushed = await owner.message(msgId);
    assert.equal(pushed.from, posing.name);
    owner.destroy();
  });
});

test('a secret keeps what waits for a device that is away from whoever comes as it', async () => {
  const { owner, device, deviceId, secret } = await scene();
  device.destroy();
  await device.waitClosed();
  const msgId = await leave(owner, deviceId, 'kept');
  for (const wrong of [undefined, 'guessed']) {
    using stranger = await connect(server);
    expectCode(await stranger.auth(deviceId, wrong === undefined ? {} : { secret: wrong }), 101, 200);
    stranger.fetch();
    await stranger.fence();
    assert.deepEqual(stranger.messages, []);
  }
  using back = await newDevice(server, { name: deviceId, extra: { secret } });
  back.fetch();
  await back.message(msgId);
  owner.destroy();
});
