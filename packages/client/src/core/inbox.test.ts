import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clientLimits, cmd, encodeFrame, encodeText } from '@hawser/protocol';
import { DeviceClient } from './device.ts';
import { ConflictError, StateError } from './errors.ts';
import type { Message } from './message.ts';
import { World } from './world.ts';

async function online(): Promise<{ world: World; device: DeviceClient }> {
  const world = new World();
  const device = new DeviceClient(world.ports(), {});
  const done = device.authenticate('lamp');
  await world.time.advance(0);
  await done;
  return { world, device };
}

function pushes(...ids: string[]): { from: string; msg: unknown; msgid: string }[] {
  return ids.map((msgid) => ({ from: 'ann', msg: msgid, msgid }));
}

/** A handler whose promises the test settles. */
class Handling {
  readonly handed: string[] = [];
  readonly #open = new Map<string, { resolve: () => void; reject: (error: Error) => void }>();

  readonly handle = (message: Message<unknown>): Promise<void> => {
    this.handed.push(message.msgId);
    return new Promise((resolve, reject) => this.#open.set(message.msgId, { resolve, reject }));
  };

  done(id: string): void {
    this.#open.get(id)?.resolve();
  }

  failed(id: string): void {
    this.#open.get(id)?.reject(new Error(`failed on ${id}`));
  }
}

test('a message is acked when the promise of its handler has resolved, and not before; the next one waits for it', async () => {
  const { world, device } = await online();
  const handling = new Handling();
  device.onMessage(handling.handle);
  world.peer.push(...pushes('a', 'b'));
  await world.time.advance(1000);
  assert.deepEqual(handling.handed, ['a']);
  assert.deepEqual(world.peer.acks(), []);
  handling.done('a');
  await world.time.advance(0);
  assert.deepEqual(world.peer.acks(), [['a']]);
  assert.deepEqual(handling.handed, ['a', 'b']);
});

test('messages of one push that are handled at once are acked in one frame', async () => {
  const { world, device } = await online();
  const seen: unknown[] = [];
  device.onMessage((message) => seen.push([message.from, message.to, message.msgId, message.msg, message.ts]));
  world.peer.push({ from: 'ann', msg: { n: 1 }, msgid: 'a', ts: 1700 }, { from: 'bob', msg: null, msgid: 'b' });
  await world.time.advance(0);
  assert.deepEqual(seen, [
    ['ann', 'me', 'a', { n: 1 }, 1700],
    ['bob', 'me', 'b', null, undefined],
  ]);
  assert.deepEqual(world.peer.acks(), [['a', 'b']]);
});

test('a handler that throws or rejects leaves its message without an ack, and gets it when it comes again', async () => {
  for (const how of ['throws', 'rejects']) {
    const { world, device } = await online();
    const handed: string[] = [];
    device.onMessage(({ msgId }) => {
      handed.push(msgId);
      if (msgId !== 'a' || handed.length > 1) return undefined;
      if (how === 'throws') throw new Error('failed');
      return Promise.reject(new Error('failed'));
    });
    world.peer.push(...pushes('a', 'b'));
    await world.time.advance(0);
    assert.deepEqual([handed, world.peer.acks().flat()], [['a', 'b'], ['b']]);
    assert.equal(world.reports.length, 1);
    world.peer.push(...pushes('a'));
    await world.time.advance(0);
    assert.deepEqual(
      [handed, world.peer.acks().flat()],
      [
        ['a', 'b', 'a'],
        ['b', 'a'],
      ],
    );
  }
});

test('a message that comes again after its ack is acked again, and not handed out', async () => {
  const { world, device } = await online();
  const handed: string[] = [];
  device.onMessage(({ from, msgId }) => handed.push(`${from} ${msgId}`));
  world.peer.push(...pushes('a'));
  await world.time.advance(0);
  world.peer.push(...pushes('a'));
  await world.time.advance(0);
  world.peer.close();
  await world.time.advance(1001);
  world.peer.push(...pushes('a'));
  await world.time.advance(0);
  assert.deepEqual(handed, ['ann a']);
  assert.deepEqual([world.peers[0]?.acks(), world.peers[1]?.acks()], [[['a'], ['a']], [['a']]]);
  // The same id from somebody else is another message.
  world.peer.push({ from: 'bob', msg: 1, msgid: 'a' });
  assert.deepEqual(handed, ['ann a', 'bob a']);
});

test('a message that comes again while its handler is at it is not handed out twice; its ack goes to the new connection', async () => {
  const { world, device } = await online();
  const handling = new Handling();
  device.onMessage(handling.handle);
  world.peer.push(...pushes('a', 'b'));
  world.peer.push(...pushes('a', 'b'));
  world.peer.close();
  await world.time.advance(1001);
  world.peer.push(...pushes('a', 'b'));
  handling.done('a');
  await world.time.advance(0);
  handling.done('b');
  await world.time.advance(0);
  assert.deepEqual(handling.handed, ['a', 'b']);
  assert.deepEqual(world.peer.acks(), [['a'], ['b']]);
});

test('a message that was handled while there was no connection is acked when it comes again', async () => {
  const { world, device } = await online();
  const handling = new Handling();
  device.onMessage(handling.handle);
  world.peer.push(...pushes('a'));
  world.peer.close();
  handling.done('a');
  await world.time.advance(1001);
  assert.deepEqual(world.peer.acks(), []);
  world.peer.push(...pushes('a'));
  await world.time.advance(0);
  assert.deepEqual(handling.handed, ['a']);
  assert.deepEqual(world.peer.acks(), [['a']]);
});

test("an ack that would count for another sender's message with the same id is not sent", async () => {
  const { world, device } = await online();
  const handling = new Handling();
  device.onMessage(handling.handle);
  world.peer.push(...pushes('a'));
  world.peer.close();
  await world.time.advance(1001);
  world.peer.push({ from: 'bob', msg: 1, msgid: 'a' });
  handling.done('a');
  await world.time.advance(0);
  assert.deepEqual([handling.handed, world.peer.acks()], [['a', 'a'], []]);
  handling.done('a');
  await world.time.advance(0);
  assert.deepEqual(world.peer.acks(), [['a']]);
  world.peer.push(...pushes('a'));
  await world.time.advance(0);
  assert.deepEqual(
    [handling.handed, world.peer.acks()],
    [
      ['a', 'a'],
      [['a'], ['a']],
    ],
  );
});

test('so it is when there was no room for the other message', async () => {
  const { world, device } = await online();
  const handling = new Handling();
  device.onMessage(handling.handle);
  world.peer.push(...pushes('a'));
  const others = Array.from({ length: clientLimits.unhandledMessagesMax }, (_, i) => `other-${i}`);
  world.peer.push(...pushes(...others), { from: 'bob', msg: 1, msgid: 'a' });
  handling.done('a');
  await world.time.advance(0);
  assert.deepEqual([handling.handed, world.peer.acks()], [['a', 'other-0'], []]);
});

test('the memory of handled ids is bounded: the last 10,000 are in it, and no more than twice as many', async () => {
  const { world, device } = await online();
  const handed: string[] = [];
  device.onMessage(({ msgId }) => handed.push(msgId));
  const most = clientLimits.handledIdsMax;
  const ids = Array.from({ length: 2 * most + 1 }, (_, n) => `m-${n}`);
  for (let at = 0; at < ids.length; at += 500) world.peer.push(...pushes(...ids.slice(at, at + 500)));
  await world.time.advance(0);
  handed.length = 0;
  world.peer.push(...pushes(`m-${most + 1}`, `m-${most}`, `m-${most - 1}`, 'm-0'));
  assert.deepEqual(handed, [`m-${most - 1}`, 'm-0']);
});

test('messages that nobody handles wait, up to a bound, unacked; what exceeds it comes again later', async () => {
  const { world, device } = await online();
  const ids = Array.from({ length: clientLimits.unhandledMessagesMax + 2 }, (_, n) => `m-${n}`);
  for (let at = 0; at < ids.length; at += 500) world.peer.push(...pushes(...ids.slice(at, at + 500)));
  await world.time.advance(0);
  assert.deepEqual(world.peer.acks(), []);
  const handed: string[] = [];
  device.onMessage(({ msgId }) => handed.push(msgId));
  assert.deepEqual(handed, ids.slice(0, -2));
  world.peer.push(...pushes(...ids.slice(-2)));
  assert.deepEqual(handed, ids);
});

test('so it is by their bytes: a server that pushes without end does not fill the memory', async () => {
  const { world, device } = await online();
  const msg = 'x'.repeat(clientLimits.unhandledBytesMax / 20);
  const ids = Array.from({ length: 25 }, (_, n) => `m-${n}`);
  for (const msgid of ids) world.peer.push({ from: 'ann', msg, msgid });
  const handed: string[] = [];
  device.onMessage(({ msgId }) => handed.push(msgId));
  assert.deepEqual(handed, ids.slice(0, 19));
  handed.length = 0;
  for (const msgid of ids.slice(19)) world.peer.push({ from: 'ann', msg, msgid });
  assert.deepEqual(handed, ids.slice(19), 'what was handed out takes no room');
});

test('names and ids longer than the protocol has make no sense: they would be remembered', async () => {
  const { world, device } = await online();
  const handed: string[] = [];
  device.onMessage(({ msgId }) => handed.push(msgId));
  const long = 'x'.repeat(129);
  for (const odd of [{ from: long }, { to: long }, { msgid: long }, { from: 'a\nb' }, { from: '' }, { msgid: '' }]) {
    world.peer.push({ from: 'ann', msg: 1, msgid: 'a', ...odd });
  }
  await world.time.advance(0);
  assert.deepEqual([handed, world.peer.acks(), world.reports.length, device.state.phase], [[], [], 6, 'online']);
});

test('many acks go out in frames that fit', async () => {
  const { world, device } = await online();
  const ids = Array.from({ length: clientLimits.ackIdsMax + 1 }, (_, n) => `m-${n}`);
  world.peer.push(...pushes(...ids.slice(0, 500)));
  world.peer.push(...pushes(...ids.slice(500)));
  device.onMessage(() => {});
  await world.time.advance(0);
  assert.deepEqual(
    world.peer.acks().map((each) => each.length),
    [clientLimits.ackIdsMax, 1],
  );
});

test('by hand: a message is acked when its ack is called, once; the next ones do not wait', async () => {
  const { world, device } = await online();
  const got: Message[] = [];
  device.onMessage((message) => got.push(message), { ack: 'by hand' });
  world.peer.push(...pushes('a', 'b'));
  await world.time.advance(0);
  assert.equal(got.length, 2);
  assert.deepEqual(world.peer.acks(), []);
  got[1]?.ack();
  got[1]?.ack();
  got[1]?.release();
  await world.time.advance(0);
  world.peer.push(...pushes('a', 'b'));
  await world.time.advance(0);
  assert.deepEqual(world.peer.acks(), [['b'], ['b']]);
  assert.equal(got.length, 2);
  got[0]?.release();
  world.peer.push(...pushes('a'));
  assert.equal(got.length, 3);
  // What was released is another's from then on.
  got[0]?.ack();
  await world.time.advance(0);
  assert.deepEqual(world.peer.acks(), [['b'], ['b']]);
});

test('the iterator gives messages in order, and acks each when the next is asked for', async () => {
  const { world, device } = await online();
  const messages = device.messages<string>();
  world.peer.push(...pushes('a', 'b'));
  await world.time.advance(0);
  assert.equal((await messages.next()).value?.msg, 'a');
  await world.time.advance(1000);
  assert.deepEqual(world.peer.acks(), []);
  assert.equal((await messages.next()).value?.msg, 'b');
  await world.time.advance(0);
  assert.deepEqual(world.peer.acks(), [['a']]);
  const third = messages.next();
  await world.time.advance(0);
  world.peer.push(...pushes('c'));
  assert.equal((await third).value?.msg, 'c');
});

test('a loop that breaks leaves its message without an ack, unless it was acked by hand', async () => {
  const { world, device } = await online();
  world.peer.push(...pushes('a', 'b', 'c'));
  for await (const message of device.messages()) {
    if (message.msgId === 'b') break;
  }
  await world.time.advance(0);
  assert.deepEqual(world.peer.acks(), [['a']]);
  world.peer.push(...pushes('b'));
  const handed: string[] = [];
  for await (const message of device.messages()) {
    handed.push(message.msgId);
    message.ack();
    if (message.msgId === 'b') break;
  }
  await world.time.advance(0);
  assert.deepEqual(handed, ['c', 'b']);
  assert.deepEqual(world.peer.acks().flat(), ['a', 'c', 'b']);
});

test('a loop ends with its signal, with logout and close; a conflict is thrown in it', async () => {
  const { world, device } = await online();
  const abort = new AbortController();
  const aborted = device.messages({ signal: abort.signal }).next();
  abort.abort();
  assert.deepEqual(await aborted, { done: true, value: undefined });
  const closed = device.messages().next();
  device.logout();
  assert.deepEqual(await closed, { done: true, value: undefined });
  const again = device.authenticate('lamp');
  await world.time.advance(0);
  await again;
  const loop = device.messages();
  const conflict = assert.rejects(loop.next(), ConflictError);
  world.peer.send(cmd.conflict, '');
  await conflict;
  assert.deepEqual(await loop.next(), { done: true, value: undefined });
});

test('a message that is being dealt with when the client logs out is done with its ack: it does not come twice', async () => {
  const { world, device } = await online();
  const loop = device.messages();
  world.peer.push(...pushes('a', 'b'));
  await loop.next();
  device.logout();
  assert.equal((await loop.next()).done, true);
  const again = device.authenticate('lamp');
  await world.time.advance(0);
  await again;
  world.peer.push(...pushes('a', 'b'));
  assert.equal((await device.messages().next()).value?.msgId, 'b');
});

test('a handler stays over a logout; another name begins with a clean memory', async () => {
  const { world, device } = await online();
  const handed: string[] = [];
  device.onMessage(({ msgId }) => handed.push(msgId));
  world.peer.push(...pushes('a'));
  for (const [id, expected] of [
    ['lamp', ['a']],
    ['other', ['a', 'a']],
  ] as const) {
    device.logout();
    const again = device.authenticate(id);
    await world.time.advance(0);
    await again;
    world.peer.push(...pushes('a'));
    assert.deepEqual(handed, expected, id);
  }
});

test('there is one handler or iterator at a time', async () => {
  const { world, device } = await online();
  const off = device.onMessage(() => {});
  assert.throws(() => device.onMessage(() => {}), StateError);
  assert.throws(() => device.messages(), StateError);
  off();
  const loop = device.messages();
  assert.throws(() => device.onMessage(() => {}), StateError);
  await loop.return?.();
  const handed: string[] = [];
  device.onMessage(({ msgId }) => handed.push(msgId));
  world.peer.push(...pushes('a'));
  assert.deepEqual(handed, ['a']);
});

test('a handler that takes itself away gets no more', async () => {
  const { world, device } = await online();
  const handed: string[] = [];
  const off = device.onMessage(({ msgId }) => {
    handed.push(msgId);
    off();
  });
  world.peer.push(...pushes('a', 'b'));
  assert.deepEqual(handed, ['a']);
});

test('numbers keep their digits in the JSON text of a message', async () => {
  const { world, device } = await online();
  const next = device.messages().next();
  const data = '[{"from":"a","to":"b","msg":[12345678901234567890, 0.10],"msgid":"m"}]';
  world.peer.sendRaw(encodeFrame(cmd.push, '', false, encodeText(data)));
  assert.equal((await next).value?.json, '[12345678901234567890, 0.10]');
});

test('a push that makes no sense is reported and not acked; the connection goes on', async () => {
  const { world, device } = await online();
  device.onMessage(() => {});
  world.peer.send(cmd.push, '', [{ from: 'ann' }]);
  world.peer.push(...pushes('a'));
  await world.time.advance(0);
  assert.equal(world.reports.length, 1);
  assert.deepEqual(world.peer.acks(), [['a']]);
  assert.equal(world.peers.length, 1);
});
