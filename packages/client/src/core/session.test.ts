import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cmd, encodeFrame } from '@hawser/protocol';
import { AppClient } from './app.ts';
import { DeviceClient } from './device.ts';
import {
  AbortedError,
  ClosedError,
  ConflictError,
  ConnectionError,
  DispatcherError,
  ProtocolError,
  RefusedError,
  StateError,
  TimeoutError,
} from './errors.ts';
import type { SessionOptions } from './options.ts';
import type { State } from './state.ts';
import { jsonOf, politely, World } from './world.ts';

const MINUTE_MS = 60_000;

function phases(client: AppClient | DeviceClient): string[] {
  const seen: string[] = [];
  client.onState((state) => {
    seen.push(state.phase === 'offline' ? `offline: ${state.why}` : state.phase);
  });
  return seen;
}

/** A device that is online at time 0. */
async function online(options: Partial<SessionOptions> = {}): Promise<{ world: World; device: DeviceClient }> {
  const world = new World();
  const device = new DeviceClient(world.ports(), options);
  const done = device.authenticate('lamp');
  await world.time.advance(0);
  await done;
  return { world, device };
}

/** How a promise has settled by now. */
function watch(promise: Promise<unknown>): { error: Error | undefined; isSettled: boolean } {
  const result = { error: undefined as Error | undefined, isSettled: false };
  promise.then(
    () => {
      result.isSettled = true;
    },
    (error: Error) => {
      result.isSettled = true;
      result.error = error;
    },
  );
  return result;
}

// ---- logging in

test('a device asks the dispatcher, connects there, authenticates, and fetches what is stored at once', async () => {
  const world = new World();
  world.locate = () => Promise.resolve({ host: '10.0.0.7', port: 1234 });
  const device = new DeviceClient(world.ports(), {});
  const seen = phases(device);
  const done = device.authenticate('lamp', { version: '1.2', abilities: ['light'] });
  await world.time.advance(0);
  await done;
  assert.deepEqual(world.asked, [{ id: 'lamp', at: 0 }]);
  assert.deepEqual(world.peer.address, { host: '10.0.0.7', port: 1234 });
  const [login, fetch, ...others] = world.peer.got;
  assert.equal(login?.cmd, cmd.authenticate);
  assert.deepEqual(jsonOf(login), { version: '1.2', id: 'lamp', abilities: ['light'], nack: true });
  assert.deepEqual([fetch?.cmd, fetch?.data.length, others.length], [cmd.fetch, 0, 0]);
  assert.deepEqual(seen, ['locating', 'connecting', 'connected', 'logging in', 'online']);
  assert.deepEqual(device.state, { phase: 'online', name: 'lamp', address: { host: '10.0.0.7', port: 1234 } });
});

test('an app registers and logs in on one connection, with the MD5 of the password, and asks to be told of refusals for now', async () => {
  const world = new World();
  world.onFrame = (peer, frame) => {
    if (frame.cmd === cmd.register) peer.send(cmd.register, frame.msgId, { code: 100, msg: 'ok' });
    else politely(peer, frame);
  };
  const app = new AppClient(world.ports(), {});
  const registered = app.register('ann', 'secret');
  await world.time.advance(0);
  await registered;
  const loggedIn = app.login('ann', 'secret');
  await world.time.advance(0);
  await loggedIn;
  assert.equal(world.peers.length, 1);
  const password = '5ebe2294ecd0e0f08eab7690d2a6ee69';
  assert.deepEqual(jsonOf(world.peer.all(cmd.register)[0]), { username: 'ann', password });
  assert.deepEqual(jsonOf(world.peer.all(cmd.login)[0]), { username: 'ann', password, nack: true });
});

test('a login that is called before the registration is answered comes after it', async () => {
  const world = new World();
  world.onFrame = (peer, frame) => {
    if (frame.cmd === cmd.register) {
      world.time.after(500, () => peer.send(cmd.register, frame.msgId, { code: 1001, msg: 'the name is taken' }));
    } else politely(peer, frame);
  };
  const app = new AppClient(world.ports(), {});
  const registered = assert.rejects(app.register('ann', 'secret'), { name: 'RefusedError', code: 1001, retry: false });
  const loggedIn = app.login('ann', 'secret');
  await world.time.advance(1000);
  await Promise.all([registered, loggedIn]);
  assert.deepEqual(
    world.peer.got.map((frame) => frame.cmd),
    [cmd.register, cmd.login, cmd.fetch],
  );
});

test('wrong credentials are final: no further attempt, and the client can log in anew', async () => {
  const world = new World();
  world.onFrame = (peer, frame) => {
    if (frame.cmd === cmd.login) peer.send(frame.cmd, frame.msgId, { code: 1002, msg: 'wrong user name or password' });
  };
  const app = new AppClient(world.ports(), {});
  const login = assert.rejects(app.login('ann', 'wrong'), { name: 'RefusedError', code: 1002, outcome: 'refused' });
  const send = watch(app.send('bob', 1));
  await world.time.advance(10 * MINUTE_MS);
  await login;
  assert.equal(world.peers.length, 1);
  assert.ok(app.state.phase === 'offline' && app.state.why === 'refused');
  assert.ok(send.error instanceof ClosedError && send.error.outcome === 'not sent');
  assert.ok(send.error.cause instanceof RefusedError);
  world.onFrame = politely;
  const second = app.login('ann', 'right');
  await world.time.advance(0);
  await second;
  assert.equal(app.state.phase, 'online');
});

test('a login that is refused for now is tried again; one that is refused otherwise is not', async () => {
  const world = new World();
  const answers = [
    { code: 200, msg: 'too busy, try again later', retry: true },
    { code: 200, msg: 'credentials must be encrypted' },
  ];
  world.onFrame = (peer, frame) => {
    if (frame.cmd === cmd.login) peer.send(frame.cmd, frame.msgId, answers.shift());
  };
  const app = new AppClient(world.ports(), {});
  const login = assert.rejects(app.login('ann', 'x'), { name: 'RefusedError', code: 200, message: /encrypted/ });
  await world.time.advance(5000);
  await login;
  assert.equal(world.peers.length, 2);
});

test('a login keeps trying while there is no server (1000), asks anew each time, and times out with the reason', async () => {
  const world = new World();
  world.locate = () => Promise.reject(new DispatcherError('no server is available', 1000));
  const device = new DeviceClient(world.ports(), {});
  const login = device.authenticate('lamp', { timeoutMs: 20_000 });
  const rejected = assert.rejects(login, (error: Error) => {
    assert.ok(error instanceof TimeoutError && error.outcome === 'not sent');
    return error.cause instanceof DispatcherError && error.cause.code === 1000;
  });
  await world.time.advance(19_999);
  assert.ok(world.asked.length >= 4, `${world.asked.length} questions`);
  await world.time.advance(1);
  await rejected;
  assert.ok(device.state.phase === 'offline' && device.state.why === 'gave up');
  const before = world.asked.length;
  await world.time.advance(10 * MINUTE_MS);
  assert.equal(world.asked.length, before);
});

test('a server that comes up is found: 1000 ends, and the login succeeds', async () => {
  const world = new World();
  world.locate = () => Promise.reject(new DispatcherError('no server is available', 1000));
  const device = new DeviceClient(world.ports(), {});
  const login = device.authenticate('lamp', { timeoutMs: Number.POSITIVE_INFINITY });
  await world.time.advance(10 * MINUTE_MS);
  assert.equal(world.peers.length, 0);
  world.locate = () => Promise.resolve({ host: 'server', port: 1 });
  await world.time.advance(MINUTE_MS);
  await login;
  assert.equal(device.state.phase, 'online');
});

test('a dispatcher, a connection, a key and a login that nothing comes of are each given up in time', async () => {
  const world = new World();
  const device = new DeviceClient(world.ports(), { reconnectBaseMs: 1, reconnectMsMax: 1 });
  const errors: string[] = [];
  device.onState((state) => {
    if (state.phase === 'waiting') errors.push(`${state.error.name}: ${state.error.message}`);
  });
  world.locate = () => new Promise(() => {});
  const login = device.authenticate('lamp', { timeoutMs: Number.POSITIVE_INFINITY });
  await world.time.advance(14_999);
  world.locate = () => Promise.resolve({ host: 'server', port: 1 });
  world.onConnect = () => {};
  await world.time.advance(15_000);
  assert.equal(world.peers.length, 1);
  world.onConnect = (peer) => peer.open();
  world.onFrame = () => {};
  await world.time.advance(15_000);
  assert.equal(world.peer.all(cmd.authenticate).length, 1);
  await world.time.advance(30_000);
  assert.deepEqual(errors, [
    'ConnectionError: no server was found within 15000 ms',
    'ConnectionError: not connected within 15000 ms',
    'ConnectionError: the login was not answered within 30000 ms',
  ]);
  assert.equal(world.peers[1]?.closedBy, 'destroy');
  world.onFrame = politely;
  await world.time.advance(31_000);
  await login;
});

test('an aborted login ends all attempts', async () => {
  const world = new World();
  world.onConnect = () => {};
  const device = new DeviceClient(world.ports(), {});
  const abort = new AbortController();
  const login = device.authenticate('lamp', { signal: abort.signal });
  await world.time.advance(10);
  abort.abort(new Error('enough'));
  await assert.rejects(login, (error: Error) => {
    assert.equal(error.name, 'AbortError');
    return error instanceof AbortedError && (error.cause as Error).message === 'enough';
  });
  await world.time.advance(10 * MINUTE_MS);
  assert.equal(world.peers.length, 1);
  assert.equal(world.peer.closedBy, 'end');
});

test('calls that make no sense are refused', async () => {
  const { world, device } = await online();
  await assert.rejects(device.authenticate('lamp'), StateError);
  device.close();
  await assert.rejects(device.authenticate('lamp'), StateError);
  await assert.rejects(device.send('ann', 1), StateError);
  const app = new AppClient(world.ports(), {});
  await assert.rejects(app.send('ann', 1), StateError);
  await assert.rejects(app.addDevice('lamp'), StateError);
  await assert.rejects(app.login('', 'x'), { name: 'InvalidError' });
  await assert.rejects(app.login('a\n', 'x'), { name: 'InvalidError' });
  await assert.rejects(app.login('é'.repeat(65), 'x'), { name: 'InvalidError' });
  assert.throws(() => new AppClient(world.ports(), { heartbeatMs: 0 }), TypeError);
});

// ---- heartbeats

test('a heartbeat goes out after 30 s without reading or writing, and not before', async () => {
  const { world, device } = await online();
  await world.time.advance(29_999);
  assert.equal(world.peer.all(cmd.heartbeat).length, 0);
  await world.time.advance(1);
  assert.equal(world.peer.all(cmd.heartbeat).length, 1);
  // Its answer has just been read.
  await world.time.advance(20_000);
  world.peer.push({ from: 'ann', msg: 1, msgid: 'm-1' });
  await world.time.advance(29_999);
  assert.equal(world.peer.all(cmd.heartbeat).length, 1);
  // An ack is written, and not answered.
  device.onMessage(() => {});
  await world.time.advance(29_999);
  assert.equal(world.peer.all(cmd.heartbeat).length, 1);
  await world.time.advance(1);
  assert.equal(world.peer.all(cmd.heartbeat).length, 2);
});

test('after 4 heartbeats without an answer the client reconnects, through the dispatcher', async () => {
  const { world, device } = await online();
  world.onFrame = () => {};
  await world.time.advance(149_999);
  assert.equal(world.peer.all(cmd.heartbeat).length, 4);
  assert.equal(world.peers.length, 1);
  world.onFrame = politely;
  world.locate = () => Promise.resolve({ host: 'another', port: 2 });
  await world.time.advance(1001);
  assert.equal(world.peers[0]?.closedBy, 'destroy');
  assert.deepEqual(
    world.asked.map(({ id }) => id),
    ['lamp', 'lamp'],
  );
  assert.deepEqual(device.state, { phase: 'online', name: 'lamp', address: { host: 'another', port: 2 } });
});

test('anything received sets the count of unanswered heartbeats to zero', async () => {
  const { world } = await online();
  world.onFrame = () => {};
  for (let round = 0; round < 5; round++) {
    await world.time.advance(125_000);
    world.peer.push({ from: 'ann', msg: round, msgid: `m-${round}` });
  }
  assert.equal(world.peers.length, 1);
  // Half a frame is something, too.
  await world.time.advance(125_000);
  world.peer.sendRaw(Uint8Array.of(0, 0));
  await world.time.advance(125_000);
  assert.equal(world.peers.length, 1);
  await world.time.advance(25_000);
  assert.equal(world.peers[0]?.closedBy, 'destroy');
});

test('while an ack is awaited a dead connection is found after 50 s, though writing goes on', async () => {
  const { world, device } = await online();
  world.onFrame = () => {};
  const sent = watch(device.send('ann', 'first'));
  for (let second = 0; second < 49; second++) {
    await world.time.advance(1000);
    device.send('ann', second).catch(() => {});
  }
  assert.equal(world.peer.all(cmd.heartbeat).length, 4);
  assert.equal(world.peers.length, 1);
  await world.time.advance(1000);
  assert.equal(world.peers[0]?.closedBy, 'destroy');
  world.onFrame = (peer, frame) =>
    frame.cmd === cmd.message ? peer.send(cmd.message, frame.msgId) : politely(peer, frame);
  await world.time.advance(1500);
  assert.deepEqual(sent, { isSettled: true, error: undefined });
});

test('the time without reading, while an answer is awaited, counts from when that was asked for', async () => {
  const { world, device } = await online();
  world.onFrame = () => {};
  await world.time.advance(25_000);
  device.send('ann', 1).catch(() => {});
  await world.time.advance(9_999);
  assert.equal(world.peer.all(cmd.heartbeat).length, 0);
  await world.time.advance(1);
  assert.equal(world.peer.all(cmd.heartbeat).length, 1);
});

// ---- the end

test('a conflict (103) closes the client, tells its user, and nothing reconnects', async () => {
  const { world, device } = await online();
  const sent = watch(device.send('ann', 1));
  await world.time.advance(10);
  world.peer.send(cmd.conflict, '');
  await world.time.advance(0);
  assert.equal(world.peer.closedBy, 'end');
  const { state } = device;
  assert.ok(state.phase === 'offline' && state.why === 'conflict' && state.error instanceof ConflictError);
  assert.ok(sent.error instanceof ClosedError && sent.error.outcome === 'unknown');
  assert.ok(sent.error.cause instanceof ConflictError);
  await world.time.advance(10 * MINUTE_MS);
  assert.equal(world.peers.length, 1);
});

test('wrong credentials at a reconnect are final; any other refusal there is not', async () => {
  const { world, device } = await online();
  let answer: object = { code: 200, msg: 'an error in the server' };
  world.onFrame = (peer, frame) => peer.send(frame.cmd, frame.msgId, answer);
  world.peer.close();
  await world.time.advance(10 * MINUTE_MS);
  assert.ok(world.peers.length > 5);
  answer = { code: 1002, msg: 'wrong user name or password' };
  await world.time.advance(2 * MINUTE_MS);
  assert.ok(device.state.phase === 'offline' && device.state.why === 'refused');
});

test('a logout says so, then closes; a close flushes acks; neither reconnects', async () => {
  const { world, device } = await online();
  device.onMessage(() => {});
  world.peer.push({ from: 'ann', msg: 1, msgid: 'm-1' });
  device.logout();
  assert.deepEqual(
    world.peer.got.slice(-2).map((frame) => frame.cmd),
    [cmd.push, cmd.logout],
  );
  assert.equal(world.peer.closedBy, 'end');
  const again = device.authenticate('lamp');
  await world.time.advance(0);
  await again;
  world.peer.push({ from: 'ann', msg: 2, msgid: 'm-2' });
  device.close();
  assert.deepEqual(world.peer.acks(), [['m-2']]);
  await world.time.advance(10 * MINUTE_MS);
  assert.equal(world.peers.length, 2);
  assert.ok(device.state.phase === 'offline' && device.state.why === 'closed');
});

test('what is no frame, or too long, or cannot be decrypted, ends the connection and a new one is made', async () => {
  const wrong = [
    Uint8Array.of(0, 0, 0, 1, 0xff),
    Uint8Array.of(0, 0x10, 0, 1),
    encodeFrame(cmd.push, '', true, new Uint8Array(16)),
  ];
  for (const bytes of wrong) {
    const { world, device } = await online();
    const errors: Error[] = [];
    device.onState((state) => {
      if (state.phase === 'waiting') errors.push(state.error);
    });
    world.peer.sendRaw(bytes);
    await world.time.advance(1001);
    assert.ok(errors[0] instanceof ProtocolError);
    assert.equal(device.state.phase, 'online');
  }
});

test('a transport that throws is a failed attempt like any other', async () => {
  const world = new World();
  world.onConnect = (peer) => peer.close();
  const ports = world.ports();
  let throws = true;
  const device = new DeviceClient(
    {
      ...ports,
      transport: {
        agreesOnKey: false,
        connect: (address, events) => {
          if (throws) throw new RangeError('no such port');
          return ports.transport.connect(address, events);
        },
      },
    },
    {},
  );
  const login = device.authenticate('lamp');
  await world.time.advance(20_000);
  assert.equal(device.state.phase === 'waiting' && (device.state.error.cause as Error).message, 'no such port');
  throws = false;
  world.onConnect = (peer) => peer.open();
  await world.time.advance(30_000);
  await login;
});

test('an old connection that speaks up late has no effect', async () => {
  const { world, device } = await online();
  world.onFrame = () => {};
  const old = world.peer;
  await world.time.advance(150_000);
  world.onFrame = politely;
  await world.time.advance(1001);
  assert.equal(world.peers.length, 2);
  old.closedBy = undefined;
  old.send(cmd.conflict, '');
  old.push({ from: 'ann', msg: 1, msgid: 'm-1' });
  old.close(new Error('reset'));
  await world.time.advance(MINUTE_MS);
  assert.equal(device.state.phase, 'online');
  assert.equal(world.peers.length, 2);
});

test('a registration whose connection breaks is not sent again: what came of it is not known', async () => {
  const world = new World();
  world.onFrame = (peer) => peer.close();
  const app = new AppClient(world.ports(), {});
  const registered = assert.rejects(app.register('ann', 'x'), (error: Error) => {
    assert.ok(error.cause instanceof ConnectionError);
    return error instanceof ClosedError && error.outcome === 'unknown';
  });
  await world.time.advance(MINUTE_MS);
  await registered;
  assert.equal(world.peers.length, 1);
  assert.deepEqual(app.state, { phase: 'offline', why: 'new' });
});

test('an observer may close the client in any state: nothing is left over', async () => {
  for (const phase of ['locating', 'connecting', 'connected', 'logging in', 'online', 'waiting']) {
    const world = new World();
    const device = new DeviceClient(world.ports(), {});
    if (phase === 'waiting') world.onConnect = (peer) => peer.close();
    device.onState((state) => {
      if (state.phase === phase) device.close();
    });
    device.authenticate('lamp').catch(() => {});
    await world.time.advance(10 * MINUTE_MS);
    assert.ok(device.state.phase === 'offline' && device.state.why === 'closed', phase);
    assert.ok(world.peers.length <= 1 && world.asked.length === 1, phase);
    assert.ok(
      world.peers.every(({ closedBy }) => closedBy !== undefined),
      phase,
    );
  }
});

test('a login during a registration does not undo the deadline of the question to the dispatcher', async () => {
  const world = new World();
  world.locate = () => new Promise(() => {});
  const app = new AppClient(world.ports(), { timeoutMs: Number.POSITIVE_INFINITY });
  app.register('ann', 'x').catch(() => {});
  app.login('ann', 'x').catch(() => {});
  await world.time.advance(10 * MINUTE_MS);
  assert.ok(world.asked.length > 5, `${world.asked.length} questions`);
});

test('an observer that throws is reported, and does no harm', async () => {
  const world = new World();
  const device = new DeviceClient(world.ports(), {});
  const states: State[] = [];
  device.onState(() => {
    throw new Error('no');
  });
  const off = device.onState((state) => states.push(state));
  const done = device.authenticate('lamp');
  await world.time.advance(0);
  await done;
  assert.equal(world.reports.length, states.length);
  off();
  device.close();
  assert.equal(states.at(-1)?.phase, 'online');
});
