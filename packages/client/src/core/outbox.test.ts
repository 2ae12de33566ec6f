import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cmd } from '@hawser/protocol';
import { AppClient } from './app.ts';
import { AbortedError, ClosedError, OverloadedError, RefusedError, TimeoutError } from './errors.ts';
import type { SessionOptions } from './options.ts';
import { type Got, jsonOf, type Peer, politely, World } from './world.ts';

const MINUTE_MS = 60_000;

interface Watched {
  error: Error | undefined;
  isSettled: boolean;
  at: number;
}

/** An app that is online, and what became of each message it sends, by msgId. */
class Sender {
  readonly world = new World();
  readonly app: AppClient;
  readonly results = new Map<string, Watched>();
  /** How the server answers a message. */
  answer: (peer: Peer, frame: Got) => void = () => {};

  constructor(options: Partial<SessionOptions> = {}) {
    this.app = new AppClient(this.world.ports(), options);
    this.world.onFrame = (peer, frame) => {
      if (frame.cmd === cmd.message) this.answer(peer, frame);
      else politely(peer, frame);
    };
  }

  static async online(options: Partial<SessionOptions> = {}): Promise<Sender> {
    const sender = new Sender(options);
    const done = sender.app.login('ann', 'x');
    await sender.world.time.advance(0);
    await done;
    return sender;
  }

  send(msgId: string, options: { to?: string; msg?: unknown; timeoutMs?: number; signal?: AbortSignal } = {}): void {
    const result: Watched = { error: undefined, isSettled: false, at: 0 };
    this.results.set(msgId, result);
    const { to = 'lamp', msg = msgId, ...rest } = options;
    const settle = (error?: Error): void => {
      Object.assign(result, { error, isSettled: true, at: this.world.time.now() });
    };
    this.app.send(to, msg, { msgId, ...rest }).then(() => settle(), settle);
  }

  result(msgId: string): Watched {
    return this.results.get(msgId)!;
  }

  /** What settled well. */
  acked(): string[] {
    return [...this.results].filter(([, { isSettled, error }]) => isSettled && error === undefined).map(([id]) => id);
  }

  /** The connection breaks, and there is a new one a second later. */
  async reconnect(): Promise<void> {
    this.world.peer.close();
    await this.world.time.advance(1001);
  }
}

const ack = (peer: Peer, frame: Got): void => peer.send(cmd.message, frame.msgId);
const refuseForNow = (peer: Peer, frame: Got): void =>
  peer.send(cmd.message, frame.msgId, { code: 200, msg: 'the inbox of the receiver is full', retry: true });

test('a message goes out with its ttl, and its promise resolves with its msgId on the ack, not before', async () => {
  const sender = await Sender.online();
  const sent = sender.app.send('lamp', { on: true }, { ttl: 5 });
  await sender.world.time.advance(0);
  const [frame] = sender.world.peer.all(cmd.message);
  assert.deepEqual(jsonOf(frame), { to: 'lamp', msg: { on: true }, ttl: 5 });
  sender.send('other');
  await sender.world.time.advance(20_000);
  sender.world.peer.send(cmd.message, frame!.msgId);
  assert.deepEqual(await sent, { msgId: frame!.msgId });
  assert.equal(sender.result('other').isSettled, false);
});

test('what cannot be sent is told at once, and nothing is written', async () => {
  const { app, world } = await Sender.online();
  const circular: unknown[] = [];
  circular.push(circular);
  const invalid = { name: 'InvalidError', outcome: 'not sent' };
  for (const msg of [undefined, () => {}, circular, 1n, 'x'.repeat(1024 * 1024 - 4096 - 1)]) {
    await assert.rejects(app.send('lamp', msg), invalid);
  }
  for (const options of [{ ttl: 0 }, { ttl: 1.5 }, { ttl: 2_592_001 }, { msgId: '' }, { msgId: 'é'.repeat(65) }]) {
    await assert.rejects(app.send('lamp', 1, options), invalid);
  }
  await assert.rejects(app.send('', 1), invalid);
  app.send('lamp', 1, { msgId: 'same' }).catch(() => {});
  await assert.rejects(app.send('lamp', 1, { msgId: 'same' }), invalid);
  await world.time.advance(0);
  assert.deepEqual(world.peer.messageIds(), ['same']);
});

test('a refusal is told with its code; so is cmd 3 with the msgId', async () => {
  const sender = await Sender.online();
  sender.answer = (peer, { msgId }) => {
    if (msgId === 'a') peer.send(cmd.message, msgId, { code: 200, msg: 'unknown receiver, or not allowed' });
    else peer.send(cmd.internalError, msgId, { code: 200, msg: 'the data cannot be decrypted' });
  };
  sender.send('a');
  sender.send('b');
  await sender.world.time.advance(0);
  for (const id of ['a', 'b']) {
    const { error } = sender.result(id);
    assert.ok(error instanceof RefusedError, id);
    assert.deepEqual([error.code, error.retry, error.outcome], [200, false, 'refused']);
  }
  assert.equal(sender.result('a').error?.message, 'unknown receiver, or not allowed');
});

test('what is not acked when the connection breaks is sent again, in order, with the same msgId and content', async () => {
  const sender = await Sender.online();
  for (const id of ['a', 'b', 'c', 'd']) sender.send(id);
  await sender.world.time.advance(0);
  const first = sender.world.peer;
  first.send(cmd.message, 'b');
  first.close(new Error('reset'));
  sender.send('e');
  sender.answer = ack;
  await sender.world.time.advance(1001);
  const second = sender.world.peer;
  assert.deepEqual(first.messageIds(), ['a', 'b', 'c', 'd']);
  assert.deepEqual(second.messageIds(), ['a', 'c', 'd', 'e']);
  assert.deepEqual(second.all(cmd.message)[0]?.data, first.all(cmd.message)[0]?.data);
  // The fetch of what is stored comes before them.
  assert.deepEqual(
    second.got.slice(0, 3).map((frame) => frame.cmd),
    [cmd.login, cmd.fetch, cmd.message],
  );
  assert.deepEqual(sender.acked(), ['a', 'b', 'c', 'd', 'e']);
  await sender.reconnect();
  assert.deepEqual(sender.world.peer.messageIds(), []);
});

test('a timeout says whether the message may still arrive, and it is not sent again', async () => {
  const sender = await Sender.online();
  sender.send('sent', { timeoutMs: 5000 });
  await sender.world.time.advance(0);
  sender.world.locate = () => new Promise(() => {});
  sender.world.peer.close();
  sender.send('never', { timeoutMs: 5000 });
  sender.send('default');
  await sender.world.time.advance(4999);
  assert.ok(![...sender.results.values()].some(({ isSettled }) => isSettled));
  await sender.world.time.advance(1);
  for (const [id, outcome] of [
    ['sent', 'unknown'],
    ['never', 'not sent'],
  ] as const) {
    const { error } = sender.result(id);
    assert.ok(error instanceof TimeoutError && error.outcome === outcome, id);
  }
  await sender.world.time.advance(MINUTE_MS - 5001);
  assert.equal(sender.result('default').isSettled, false);
  await sender.world.time.advance(1);
  assert.ok(sender.result('default').error instanceof TimeoutError);
  sender.world.locate = () => Promise.resolve({ host: 'server', port: 1 });
  await sender.world.time.advance(2 * MINUTE_MS);
  assert.deepEqual(sender.world.peer.messageIds(), []);
});

test('an abort says whether the message may still arrive; an ack that comes later does no harm', async () => {
  const sender = await Sender.online({ outstandingMessagesMax: 1 });
  const abort = new AbortController();
  sender.send('sent', { signal: abort.signal });
  sender.send('waiting', { signal: abort.signal });
  await sender.world.time.advance(0);
  abort.abort('no more');
  sender.send('late', { signal: abort.signal });
  await sender.world.time.advance(0);
  for (const [id, outcome] of [
    ['sent', 'unknown'],
    ['waiting', 'not sent'],
    ['late', 'not sent'],
  ] as const) {
    const { error } = sender.result(id);
    assert.ok(error instanceof AbortedError && error.outcome === outcome, id);
    assert.deepEqual([error.name, error.cause], ['AbortError', 'no more']);
  }
  sender.world.peer.send(cmd.message, 'sent');
  await sender.reconnect();
  assert.deepEqual(sender.world.peer.messageIds(), []);
});

test('closing settles all sends: sent ones as unknown, waiting ones as not sent', async () => {
  const sender = await Sender.online({ outstandingMessagesMax: 1 });
  sender.send('sent');
  sender.send('waiting');
  await sender.world.time.advance(0);
  sender.app.close();
  await sender.world.time.advance(0);
  for (const [id, outcome] of [
    ['sent', 'unknown'],
    ['waiting', 'not sent'],
  ] as const) {
    const { error } = sender.result(id);
    assert.ok(error instanceof ClosedError && error.outcome === outcome, id);
  }
});

// ---- refused for now

test('what is refused for now is sent again after a while, until it is acked', async () => {
  const sender = await Sender.online();
  sender.answer = refuseForNow;
  sender.send('a');
  await sender.world.time.advance(20_000);
  const tries = sender.world.peer.messageIds().length;
  assert.ok(tries >= 4 && tries < 20, `${tries} tries in 20 s`);
  assert.equal(sender.result('a').isSettled, false);
  sender.answer = ack;
  await sender.world.time.advance(30_000);
  assert.deepEqual(sender.acked(), ['a']);
  assert.deepEqual([...new Set(sender.world.peer.messageIds())], ['a']);
});

test('when time is up, the refusal for now is what is told; the message may have arrived', async () => {
  const sender = await Sender.online();
  sender.answer = refuseForNow;
  sender.send('a');
  await sender.world.time.advance(MINUTE_MS);
  const { error, at } = sender.result('a');
  assert.ok(error instanceof RefusedError);
  assert.deepEqual([error.retry, error.outcome, at], [true, 'unknown', MINUTE_MS]);
});

test('what was refused for now may have arrived, also when it is called off or refused for good later', async () => {
  const sender = await Sender.online();
  sender.answer = refuseForNow;
  const abort = new AbortController();
  sender.send('a', { signal: abort.signal });
  sender.send('b');
  await sender.world.time.advance(0);
  abort.abort();
  sender.answer = (peer, { msgId }) => peer.send(cmd.message, msgId, { code: 200, msg: 'no' });
  await sender.world.time.advance(30_000);
  const errors = ['a', 'b'].map((id) => sender.result(id).error as AbortedError | RefusedError);
  assert.deepEqual(
    errors.map(({ name, outcome }) => [name, outcome]),
    [
      ['AbortError', 'unknown'],
      ['RefusedError', 'unknown'],
    ],
  );
});

test('a refusal says that the outcome is unknown when an earlier connection broke before its answer', async () => {
  for (const retry of [true, false]) {
    const sender = await Sender.online();
    sender.send('a');
    await sender.world.time.advance(0);
    sender.answer = (peer, { msgId }) => peer.send(cmd.message, msgId, { code: 200, msg: 'no', retry });
    await sender.reconnect();
    await sender.world.time.advance(MINUTE_MS);
    const { error } = sender.result('a');
    assert.ok(error instanceof RefusedError);
    assert.equal(error.outcome, 'unknown');
  }
});

test('messages to a receiver that are refused for now keep their order, and other receivers do not wait', async () => {
  const sender = await Sender.online();
  let isFull = true;
  const taken: string[] = [];
  sender.answer = (peer, frame) => {
    const { to } = jsonOf(frame) as { to: string };
    if (isFull && to === 'lamp') refuseForNow(peer, frame);
    else {
      taken.push(frame.msgId);
      ack(peer, frame);
    }
  };
  for (const id of ['a', 'b', 'c']) sender.send(id);
  await sender.world.time.advance(0);
  sender.send('d');
  sender.send('bob-1', { to: 'bob' });
  await sender.world.time.advance(10_000);
  // One of them is tried for all.
  assert.deepEqual([...new Set(sender.world.peer.messageIds())], ['a', 'b', 'c', 'bob-1']);
  assert.ok(sender.world.peer.messageIds().filter((id) => id === 'b').length === 1);
  assert.deepEqual(taken, ['bob-1']);
  isFull = false;
  await sender.world.time.advance(30_000);
  assert.deepEqual(taken, ['bob-1', 'a', 'b', 'c', 'd']);
  assert.deepEqual(sender.acked().length, 5);
});

test('when the message that is tried for all is given up, the next one takes its place', async () => {
  const sender = await Sender.online();
  sender.answer = refuseForNow;
  const abort = new AbortController();
  sender.send('a', { signal: abort.signal });
  sender.send('b');
  await sender.world.time.advance(5000);
  abort.abort();
  sender.answer = ack;
  await sender.world.time.advance(31_000);
  assert.deepEqual(sender.acked(), ['b']);
});

test('a new connection tries all again at once', async () => {
  const sender = await Sender.online();
  sender.answer = refuseForNow;
  sender.send('a');
  sender.send('b');
  await sender.world.time.advance(20_000);
  sender.answer = ack;
  await sender.reconnect();
  assert.deepEqual(sender.acked(), ['a', 'b']);
  assert.deepEqual(sender.world.peer.messageIds(), ['a', 'b']);
});

// ---- back-pressure

test('no more than 256 messages are outstanding; the others wait and go out in order', async () => {
  const sender = await Sender.online();
  const ids = Array.from({ length: 600 }, (_, n) => `m-${n}`);
  for (const id of ids) sender.send(id);
  await sender.world.time.advance(0);
  assert.deepEqual(sender.world.peer.messageIds(), ids.slice(0, 256));
  for (const id of ['m-3', 'm-0']) sender.world.peer.send(cmd.message, id);
  await sender.world.time.advance(0);
  assert.deepEqual(sender.world.peer.messageIds(), ids.slice(0, 258));
  sender.answer = ack;
  await sender.reconnect();
  assert.deepEqual(sender.acked().length, 600);
  // All that was outstanding again, then the rest.
  const expected = ids.filter((id) => id !== 'm-0' && id !== 'm-3');
  assert.deepEqual(sender.world.peer.messageIds(), expected);
});

test('no more than 2 MiB are outstanding, but one message always may be', async () => {
  const sender = await Sender.online({ outstandingBytesMax: 1000 });
  for (const id of ['a', 'b', 'c']) sender.send(id, { msg: 'x'.repeat(2000) });
  await sender.world.time.advance(0);
  assert.deepEqual(sender.world.peer.messageIds(), ['a']);
  sender.world.peer.send(cmd.message, 'a');
  await sender.world.time.advance(0);
  assert.deepEqual(sender.world.peer.messageIds(), ['a', 'b']);

  const large = await Sender.online();
  for (const id of ['a', 'b', 'c']) large.send(id, { msg: 'x'.repeat(1_000_000) });
  await large.world.time.advance(0);
  assert.deepEqual(large.world.peer.messageIds(), ['a', 'b']);
});

test('the ack of an earlier attempt settles one that waits for room under the same msgId', async () => {
  const sender = await Sender.online({ outstandingMessagesMax: 1 });
  sender.send('a', { timeoutMs: 1000 });
  await sender.world.time.advance(1000);
  assert.equal(sender.result('a').error?.name, 'TimeoutError');
  sender.send('b');
  sender.send('a');
  sender.world.peer.send(cmd.message, 'a');
  await sender.world.time.advance(0);
  assert.deepEqual([sender.acked(), sender.world.peer.messageIds()], [['a'], ['a', 'b']]);
});

test('a large message that waits is not overtaken by a small one', async () => {
  const sender = await Sender.online({ outstandingBytesMax: 3000 });
  sender.send('a', { msg: 'x'.repeat(2000) });
  sender.send('b', { msg: 'x'.repeat(2000) });
  sender.send('c', { msg: 1 });
  await sender.world.time.advance(0);
  assert.deepEqual(sender.world.peer.messageIds(), ['a']);
});

test('beyond what may wait, in messages or bytes, a send is refused at once, and nothing of it is sent', async () => {
  const sender = await Sender.online({ outstandingMessagesMax: 1, waitingMessagesMax: 2, waitingBytesMax: 5000 });
  for (const id of ['a', 'b', 'c', 'd']) sender.send(id);
  await sender.world.time.advance(0);
  assert.ok(sender.result('d').error instanceof OverloadedError);
  assert.deepEqual([...sender.results.values()].filter(({ isSettled }) => isSettled).length, 1);
  sender.answer = ack;
  sender.world.peer.send(cmd.message, 'a');
  await sender.world.time.advance(0);
  assert.deepEqual(sender.acked(), ['a', 'b', 'c']);
  sender.answer = () => {};
  for (const id of ['e', 'f', 'g']) sender.send(id, { msg: 'x'.repeat(3000) });
  await sender.world.time.advance(0);
  assert.ok(sender.result('g').error instanceof OverloadedError);
  assert.equal(sender.result('f').isSettled, false);
});

// ---- requests

test('a device is added; a refusal is told with its code', async () => {
  const { app, world } = await Sender.online();
  const added = app.addDevice('lamp');
  await world.time.advance(0);
  const [frame] = world.peer.all(cmd.addDevice);
  assert.deepEqual(jsonOf(frame), { deviceId: 'lamp' });
  world.peer.send(cmd.addDevice, frame!.msgId, { code: 100, msg: 'ok' });
  await added;
  const refused = assert.rejects(app.addDevice('lamp'), { name: 'RefusedError', code: 2001, outcome: 'refused' });
  await world.time.advance(0);
  world.peer.send(cmd.addDevice, world.peer.got.at(-1)!.msgId, { code: 2001, msg: 'the device is already added' });
  await refused;
  const timedOut = assert.rejects(app.removeDevice('lamp', { timeoutMs: 100 }), { name: 'TimeoutError' });
  await world.time.advance(100);
  await timedOut;
});

test('a request is asked again on a new connection; that it is so already is then what was wanted', async () => {
  for (const [call, number, code] of [
    ['addDevice', cmd.addDevice, 2001],
    ['removeDevice', cmd.removeDevice, 2002],
  ] as const) {
    const sender = await Sender.online();
    const done = sender.app[call]('lamp');
    await sender.world.time.advance(0);
    assert.equal(sender.world.peer.all(number).length, 1);
    await sender.reconnect();
    const [again] = sender.world.peer.all(number);
    sender.world.peer.send(number, again!.msgId, { code, msg: 'already so' });
    await done;
  }
});
