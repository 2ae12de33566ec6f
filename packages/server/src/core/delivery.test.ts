import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { cmd, refusals, serverLimits, wireLimits } from '@hawser/protocol';
import { StoreAway } from './ports.ts';
import { Bench, type BenchOptions, series, textOf } from './testing/bench.ts';

const { persistAfterMs, redeliveryAfterMs, redeliveryAfterMsMax, refetchAfterMs, rememberedForMs } = serverLimits;
const { expiryLogMs, inboxClearEveryMs } = serverLimits;
const CHECK_MS = 1_000;
const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

const retry = (name: 'inboxFull' | 'storeAway' | 'stopping') => ({ code: 200, msg: refusals[name].msg, retry: true });

/** Ann and Nick, who send to Bob; Nick is told of temporary refusals. Bob is not there. */
async function withAway(options: BenchOptions = {}) {
  const bench = await Bench.open(options);
  await bench.away('bob');
  return { bench, ann: await bench.app('ann'), nick: await bench.app('nick', { nack: true }) };
}

/** The same, with Bob online. */
async function withOnline(options: BenchOptions = {}) {
  const { bench, ann, nick } = await withAway(options);
  return { bench, ann, nick, bob: await bench.app('bob') };
}

describe('the ack', () => {
  test('comes when the receiver has acked, and then nothing is stored', async () => {
    const { bench, ann, bob } = await withOnline();
    ann.post('bob', 'm');
    await bench.pass(persistAfterMs - 1);
    assert.deepEqual(ann.acks, []);
    bob.ack('m');
    await bench.pass(MINUTE_MS);
    assert.deepEqual(ann.acks, ['m']);
    assert.deepEqual(bench.store.commits, []);
  });

  test('comes when the message is synced, not when it is handed to the store', async () => {
    const { bench, ann } = await withAway();
    bench.store.hold('append');
    ann.post('bob', 'm');
    await bench.pass(HOUR_MS);
    assert.deepEqual([bench.store.commits, ann.acks], [[['m']], []]);
    bench.store.release('append');
    await bench.settle();
    assert.deepEqual(ann.acks, ['m']);
  });

  test('comes once, also when the receiver acks what is synced, or while it is being synced', async () => {
    const { bench, ann, bob } = await withOnline();
    ann.post('bob', 'before');
    await bench.pass(persistAfterMs);
    bob.ack('before');
    await bench.settle();
    bench.store.hold('append');
    ann.post('bob', 'meanwhile');
    await bench.pass(persistAfterMs);
    bob.ack('meanwhile');
    await bench.settle();
    assert.deepEqual(ann.acks, ['before', 'meanwhile']);
    bench.store.release('append');
    await bench.settle();
    assert.deepEqual(ann.acks, ['before', 'meanwhile']);
    assert.deepEqual(await bench.inbox('bob'), [], 'and neither is left in the inbox');
  });

  test('an ack that comes while the message waits for its commit keeps it from being written', async () => {
    const { bench, ann, bob } = await withOnline();
    bench.store.hold('append');
    ann.post('bob', 'first');
    await bench.pass(persistAfterMs);
    ann.post('bob', 'second');
    await bench.pass(persistAfterMs);
    bob.ack('second');
    bench.store.release('append');
    await bench.settle();
    assert.deepEqual(bench.store.commits, [['first']]);
    assert.deepEqual(ann.acks, ['second', 'first']);
  });

  test("goes to the sender's newest session", async () => {
    const { bench, ann, bob } = await withOnline();
    ann.post('bob', 'm');
    await bench.settle();
    const newer = await bench.app('ann');
    bob.ack('m');
    await bench.settle();
    assert.deepEqual([ann.acks, newer.acks], [[], ['m']]);
  });
});

describe('temporary refusals', () => {
  test('a full inbox: no answer, or a retry notice; once there is room the same msgId is taken', async () => {
    const { bench, ann, nick } = await withAway({ inboxMessagesMax: 4 });
    for (const client of [ann, nick]) {
      for (const id of series('m', 3)) client.post('bob', `${client === ann ? 'a' : 'n'}${id}`);
      await bench.settle();
    }
    assert.deepEqual(await bench.inbox('bob'), ['am-0', 'am-1', 'nm-0', 'nm-1'], 'half of it from each');
    assert.deepEqual([ann.acks.length, nick.acks.length], [2, 2]);
    assert.deepEqual([...ann.refusals], []);
    assert.deepEqual([...nick.refusals], [['nm-2', retry('inboxFull')]]);
    assert.equal(bench.core.counters.refused.inboxFull, 2);
    const bob = await bench.app('bob');
    bob.fetch();
    await bench.settle();
    bob.ack(...bob.pushedIds);
    ann.post('bob', 'am-2');
    await bench.settle();
    bob.ack('am-2');
    await bench.settle();
    assert.deepEqual(ann.acks.at(-1), 'am-2');
  });

  test('a full inbox is looked through for what has outlived its ttl, at most once a minute', async () => {
    const { bench, ann } = await withAway({ inboxMessagesMax: 4 });
    const refused = async (msgId: string): Promise<boolean> => {
      ann.post('bob', msgId);
      await bench.settle();
      return ann.acks.at(-1) !== msgId;
    };
    ann.post('bob', 'stale', 1, { ttl: 1 });
    ann.post('bob', 'lasting');
    await bench.settle();
    assert.equal(await refused('early'), true);
    await bench.pass(1000);
    assert.equal(await refused('late'), true, 'it was looked through a second ago');
    await bench.pass(inboxClearEveryMs);
    assert.equal(await refused('late'), true, 'it is looked through when it is found full');
    assert.deepEqual(await bench.inbox('bob'), ['lasting']);
    assert.equal(bench.core.counters.expiredByTtl, 1);
    assert.equal(await refused('late'), false);
    assert.deepEqual(await bench.inbox('bob'), ['lasting', 'late']);
  });

  test('the store is away: no answer, or a retry notice; nothing acked, and taken when it is back', async () => {
    const { bench, ann, nick } = await withAway();
    bench.store.fail('append', new StoreAway('for a test'));
    ann.post('bob', 'a');
    nick.post('bob', 'n');
    await bench.settle();
    assert.deepEqual([ann.acks, [...ann.refusals], nick.acks], [[], [], []]);
    assert.deepEqual([...nick.refusals], [['n', retry('storeAway')]]);
    assert.equal(bench.core.counters.refused.storeAway, 2);
    bench.store.mend('append');
    ann.post('bob', 'a');
    nick.post('bob', 'n');
    await bench.settle();
    assert.deepEqual([ann.acks, nick.acks], [['a'], ['n']]);
    assert.deepEqual(await bench.inbox('bob'), ['a', 'n']);
  });

  test('the store is away while it is asked who a receiver is: the same', async () => {
    const { bench, ann, nick } = await withAway();
    bench.store.fail('name', new StoreAway('for a test'));
    ann.post('somebody', 'a');
    nick.post('somebody', 'n');
    await bench.settle();
    assert.deepEqual([ann.acks, [...ann.refusals]], [[], []]);
    assert.deepEqual([...nick.refusals], [['n', retry('storeAway')]]);
  });

  test('the store is away while the receiver is online: what it acks is acked all the same', async () => {
    const { bench, ann, nick, bob } = await withOnline();
    bench.store.fail('append', new StoreAway('for a test'));
    ann.post('bob', 'a');
    nick.post('bob', 'n');
    await bench.pass(persistAfterMs);
    assert.deepEqual([...nick.refusals], [['n', retry('storeAway')]]);
    bob.ack('a', 'n');
    await bench.settle();
    assert.deepEqual([ann.acks, nick.acks], [['a'], ['n']]);
  });

  test('stopping: new messages get no answer, or a retry notice; what was pushed and not acked is stored first', async () => {
    const { bench, ann, nick, bob } = await withOnline();
    bench.store.hold('append');
    ann.post('bob', 'pushed');
    await bench.settle();
    const stopped = bench.core.stop();
    ann.post('bob', 'a');
    nick.post('bob', 'n');
    await bench.settle();
    assert.deepEqual([ann.acks, [...ann.refusals]], [[], []]);
    assert.deepEqual([...nick.refusals], [['n', retry('stopping')]]);
    assert.equal(bench.core.counters.refused.stopping, 2);
    bench.store.release('append');
    await bench.settle();
    await stopped;
    assert.deepEqual(ann.acks, ['pushed']);
    assert.ok(ann.isEnded && bob.isEnded);
    assert.deepEqual(bob.pushedIds, ['pushed']);
  });

  test('a permanent refusal is told to everybody, and is no retry notice', async () => {
    const { bench, ann, nick } = await withAway();
    for (const client of [ann, nick]) {
      client.post('nobody', 'm');
      await bench.settle();
      assert.deepEqual(client.refusals.get('m'), { code: 200, msg: refusals.notAllowed.msg });
    }
  });
});

describe('any other failure of a write', () => {
  test('nothing of it is acked, and the server is told that it cannot go on', async () => {
    const { bench, ann } = await withAway();
    const error = new Error('the disk is full');
    bench.store.fail('append', error);
    ann.post('bob', 'm');
    await bench.settle();
    assert.deepEqual(ann.acks, []);
    assert.deepEqual(bench.fatal, [error]);
  });
});

describe('who may write to whom', () => {
  test('a device that is known from the store alone may be written to only by those who have added it', async () => {
    const { bench, ann } = await withAway();
    ann.request(cmd.addDevice, { deviceId: 'lamp' });
    await bench.settle();
    await bench.restart('stop');
    const owner = await bench.app('ann');
    const other = await bench.app('cal');
    for (const client of [owner, other]) client.post('lamp', 'm');
    await bench.settle();
    assert.deepEqual([owner.acks, other.acks], [['m'], []]);
    assert.deepEqual(other.refusals.get('m'), { code: 200, msg: refusals.notAllowed.msg });
  });

  test('is decided when the message is accepted: what was is delivered, also after a removal', async () => {
    const { bench, ann } = await withAway();
    ann.request(cmd.addDevice, { deviceId: 'lamp' });
    await bench.settle();
    ann.post('lamp', 'before');
    await bench.settle();
    ann.request(cmd.removeDevice, { deviceId: 'lamp' });
    await bench.settle();
    ann.post('lamp', 'after');
    await bench.settle();
    assert.deepEqual([ann.acks, [...ann.refusals.keys()]], [['before'], ['after']]);
    const lamp = bench.connect();
    lamp.request(cmd.authenticate, { id: 'lamp' });
    await bench.settle();
    lamp.fetch();
    await bench.settle();
    assert.deepEqual(lamp.pushedIds, ['before']);
  });
});

describe('the same msgId again', () => {
  test('joins the first also while that is on its way to the store: one ack, and one place in the inbox', async () => {
    const { bench, ann } = await withAway();
    bench.store.hold('append');
    ann.post('bob', 'm');
    await bench.settle();
    ann.post('bob', 'm');
    bench.store.release('append');
    await bench.settle();
    assert.deepEqual([ann.acks, await bench.inbox('bob')], [['m'], ['m']]);
    assert.equal(bench.store.commits.length, 1);
  });

  test('joins the first while that is pending, is acked again when it is settled, and is pushed once', async () => {
    const { bench, ann, bob } = await withOnline();
    ann.post('bob', 'm');
    ann.post('bob', 'm');
    await bench.settle();
    assert.deepEqual(ann.acks, []);
    bob.ack('m');
    await bench.settle();
    assert.deepEqual(ann.acks, ['m']);
    ann.post('bob', 'm');
    await bench.pass(MINUTE_MS);
    assert.deepEqual(ann.acks, ['m', 'm']);
    assert.deepEqual(bob.pushedIds, ['m']);
    assert.equal(bench.core.counters.joined, 1);
  });

  test('with another receiver or another content is refused, pending or settled', async () => {
    const { bench, ann, bob } = await withOnline();
    const used = { code: 200, msg: refusals.msgIdReused.msg };
    ann.post('bob', 'm', 1);
    await bench.settle();
    for (const state of ['pending', 'settled']) {
      ann.refusals.clear();
      ann.post('bob', 'm', 2);
      await bench.settle();
      assert.deepEqual([...ann.refusals], [['m', used]], state);
      ann.refusals.clear();
      ann.post('ann', 'm', 1);
      await bench.settle();
      assert.deepEqual([...ann.refusals], [['m', used]], state);
      bob.ack('m');
      await bench.settle();
    }
    assert.deepEqual(
      bob.pushes.map(({ msg }) => msg),
      [1],
    );
    assert.deepEqual(ann.pushes, []);
  });

  test('is remembered for 10 minutes, also when nothing else is sent, and not for 21', async () => {
    const { bench, ann, bob } = await withOnline();
    ann.post('bob', 'm');
    await bench.settle();
    bob.ack('m');
    await bench.pass(rememberedForMs);
    ann.post('bob', 'm');
    await bench.settle();
    assert.deepEqual(bob.pushedIds, ['m']);
    await bench.pass(2 * rememberedForMs + MINUTE_MS);
    ann.post('bob', 'm');
    await bench.settle();
    assert.deepEqual(bob.pushedIds, ['m', 'm']);
    assert.equal(bench.core.delivery.stats.rememberedIds, 1);
  });

  test('is forgotten over a restart, unless the first still lies in the inbox', async () => {
    const { bench, ann } = await withAway();
    ann.post('bob', 'lies');
    ann.post('bob', 'fetched');
    const bob = await bench.app('bob');
    bob.fetch();
    await bench.settle();
    bob.ack('fetched');
    await bench.restart('stop');
    const again = await bench.app('ann');
    again.post('bob', 'lies');
    again.post('bob', 'fetched');
    again.post('bob', 'lies', 'other');
    await bench.settle();
    assert.deepEqual(again.acks.toSorted(), ['fetched', 'lies']);
    assert.deepEqual(await bench.inbox('bob'), ['lies', 'fetched']);
  });

  test('of a sender whose id was forgotten is not pushed twice to a session that has not acked the first', async () => {
    const { bench, ann, bob } = await withOnline({ persistAfterMs: DAY_MS });
    ann.post('bob', 'm');
    await bench.settle();
    bench.core.delivery.forgetSender('ann');
    const newer = await bench.app('ann');
    newer.post('bob', 'm');
    newer.post('bob', 'other');
    await bench.settle();
    assert.deepEqual(bob.pushedIds, ['m', 'other']);
    bob.ack('m');
    await bench.settle();
    assert.deepEqual(newer.acks, ['m']);
  });
});

describe('redelivery', () => {
  test('a push is repeated after 60 s, then after twice as long each time, and from 10 minutes on every 10', async () => {
    const { bench, ann, bob } = await withOnline();
    ann.post('bob', 'm');
    await bench.settle();
    const pushedAt = [bench.time.now()];
    const untilMs = bench.time.now() + 2 * HOUR_MS;
    while (pushedAt.length < 8 && bench.time.now() < untilMs) {
      await bench.pass(CHECK_MS);
      if (bob.pushes.length > pushedAt.length) pushedAt.push(bench.time.now());
    }
    const waits = pushedAt.slice(1).map((at, i) => at - pushedAt[i]!);
    const expected = [1, 2, 4, 8, 10, 10, 10].map((minutes) => minutes * redeliveryAfterMs);
    for (const [i, waitMs] of waits.entries()) {
      assert.ok(waitMs >= expected[i]! && waitMs <= expected[i]! + CHECK_MS, `${waits}`);
    }
    assert.equal(waits.length, expected.length);
    assert.equal(expected.at(-1), redeliveryAfterMsMax);
    assert.equal(bench.core.counters.redelivered, 7);
    bob.ack('m');
    await bench.pass(HOUR_MS);
    assert.equal(bob.pushes.length, 8);
  });

  test('it follows later ones, and is the same message', async () => {
    const { bench, ann, bob } = await withOnline();
    ann.post('bob', 'first', { on: true });
    ann.post('bob', 'second');
    await bench.settle();
    bob.ack('second');
    await bench.pass(redeliveryAfterMs + CHECK_MS);
    assert.deepEqual(bob.pushedIds, ['first', 'second', 'first']);
    assert.deepEqual(bob.pushes[2], bob.pushes[0]);
  });

  test('nothing is repeated to a receiver that does not take what it is sent', async () => {
    const { bench, ann, bob } = await withOnline();
    ann.post('bob', 'm');
    await bench.settle();
    bob.stopReading();
    bob.unsentBytes = serverLimits.unsentPushBytesMax + 1;
    await bench.pass(10 * MINUTE_MS);
    assert.deepEqual(bob.pushedIds, ['m']);
  });

  test('202 pushes again what was pushed 5 s ago, and nothing that was pushed later', async () => {
    const { bench, ann, bob } = await withOnline();
    ann.post('bob', 'old');
    await bench.pass(1);
    ann.post('bob', 'young');
    await bench.pass(refetchAfterMs - 1);
    bob.fetch();
    bob.fetch();
    await bench.settle();
    assert.deepEqual(bob.pushedIds, ['old', 'young', 'old']);
  });
});

describe('a crash', () => {
  test('a message that was not acked may be lost; one that was acked is there', async () => {
    const { bench, ann } = await withAway();
    ann.post('bob', 'synced');
    await bench.settle();
    bench.store.hold('append');
    ann.post('bob', 'unsynced');
    await bench.settle();
    assert.deepEqual(ann.acks, ['synced']);
    await bench.restart('crash');
    assert.deepEqual(await bench.inbox('bob'), ['synced']);
  });

  test('a push whose removal did not reach the disk comes once more', async () => {
    const { bench, ann } = await withAway();
    ann.post('bob', 'm');
    const bob = await bench.app('bob');
    bob.fetch();
    await bench.settle();
    bob.ack('m');
    await bench.restart('crash');
    const again = await bench.app('bob');
    again.fetch();
    await bench.settle();
    assert.deepEqual(again.pushedIds, ['m']);
  });

  test('order lasts: what is stored before comes before what is sent after', async () => {
    const { bench, ann, bob } = await withOnline();
    for (const id of series('before', 3)) ann.post('bob', id);
    await bench.pass(persistAfterMs);
    await bench.restart('crash');
    const sender = await bench.app('ann');
    const again = await bench.app('bob');
    for (const id of series('after', 3)) sender.post('bob', id);
    again.fetch();
    await bench.settle();
    assert.deepEqual(bob.pushedIds, series('before', 3));
    assert.deepEqual(again.pushedIds, [...series('before', 3), ...series('after', 3)]);
  });
});

describe('age', () => {
  const inboxAgeMsMax = 30 * DAY_MS;

  /** What comes when Bob fetches after a message has lain in his inbox. */
  async function afterwards(wait: (bench: Bench) => Promise<void> | void, ttl?: number) {
    const { bench, ann } = await withAway({ inboxAgeMsMax });
    ann.post('bob', 'm', 1, ttl === undefined ? {} : { ttl });
    await bench.settle();
    assert.deepEqual(ann.acks, ['m']);
    await wait(bench);
    const bob = await bench.app('bob');
    bob.fetch();
    await bench.settle();
    assert.deepEqual(bench.fatal, []);
    return { bench, ids: bob.pushedIds };
  }

  test('a message is dropped at 30 days and not before, which is counted and logged', async () => {
    const justBefore = await afterwards((bench) => {
      bench.time.wallAheadMs += inboxAgeMsMax - 1;
      bench.time.ranBeforeMs += inboxAgeMsMax - 1;
    });
    assert.deepEqual(justBefore.ids, ['m']);
    const { bench, ids } = await afterwards((bench) => {
      bench.time.wallAheadMs += inboxAgeMsMax;
      bench.time.ranBeforeMs += inboxAgeMsMax;
    });
    assert.deepEqual(ids, []);
    assert.equal(bench.core.counters.expiredByAge, 1);
    await bench.pass(expiryLogMs);
    assert.deepEqual(bench.warnings.at(-1)?.fields, { receiver: 'bob', age: 1, ttl: 0 });
    assert.deepEqual(await bench.inbox('bob'), []);
  });

  for (const clock of ['wallAheadMs', 'ranBeforeMs'] as const) {
    test(`a jump of one clock alone drops nothing by age (${clock}), and drops what has a ttl`, async () => {
      const jump = (bench: Bench): void => {
        bench.time[clock] += 10 * inboxAgeMsMax;
      };
      assert.deepEqual((await afterwards(jump)).ids, ['m']);
      const { bench, ids } = await afterwards(jump, wireLimits.ttlSecondsMax);
      assert.deepEqual(ids, []);
      assert.equal(bench.core.counters.expiredByTtl, 1);
    });
  }

  test('a wall clock that is set back drops nothing, and a ttl still runs out', async () => {
    const back = (bench: Bench): void => {
      bench.time.wallAheadMs -= 365 * DAY_MS;
    };
    assert.deepEqual((await afterwards(back, 60)).ids, ['m']);
    const { ids } = await afterwards((bench) => {
      back(bench);
      bench.time.ranBeforeMs += 60_000;
    }, 60);
    assert.deepEqual(ids, []);
  });

  test('a ttl runs out at its second and not before', async () => {
    assert.deepEqual((await afterwards((bench) => bench.pass(59_999), 60)).ids, ['m']);
    assert.deepEqual((await afterwards((bench) => bench.pass(60_000), 60)).ids, []);
  });

  test('a ttl runs out also between two pushes on one connection, and then its place in the window is kept', async () => {
    const { bench, ann, bob } = await withOnline();
    ann.post('bob', 'm', 1, { ttl: 30 });
    await bench.pass(10 * MINUTE_MS);
    assert.deepEqual(bob.pushedIds, ['m']);
    assert.equal(bench.core.counters.expiredByTtl, 1);
    assert.deepEqual(await bench.inbox('bob'), []);
    // A late ack of it is of nothing else.
    const cal = await bench.app('cal');
    cal.post('bob', 'm', 2);
    await bench.settle();
    assert.deepEqual(bob.pushes.length, 1);
    bob.ack('m');
    await bench.settle();
    assert.deepEqual(bob.pushes.at(-1)?.msg, 2);
    assert.deepEqual(cal.acks, []);
  });

  test('inboxes that nobody reads are swept: what is past its age goes, and is counted and logged', async () => {
    const { bench, ann } = await withAway({ inboxAgeMsMax });
    for (const id of series('old', 3)) ann.post('bob', id);
    await bench.settle();
    bench.time.wallAheadMs += DAY_MS;
    bench.time.ranBeforeMs += DAY_MS;
    ann.post('bob', 'young');
    await bench.settle();
    bench.time.wallAheadMs += inboxAgeMsMax - DAY_MS;
    bench.time.ranBeforeMs += inboxAgeMsMax - DAY_MS;
    const swept = bench.core.delivery.sweepInboxes();
    await bench.settle();
    await swept;
    assert.deepEqual(await bench.inbox('bob'), ['young']);
    assert.equal(bench.core.counters.expiredByAge, 3);
    await bench.pass(expiryLogMs);
    assert.deepEqual(bench.warnings.at(-1)?.fields, { receiver: 'bob', age: 3, ttl: 0 });
  });
});

describe('memory', () => {
  const { senderPendingMessagesMax, senderPendingBytesMax, pendingBytesMax, pendingOverheadBytes } = serverLimits;

  test('a sender with 1,000 messages neither acked nor refused is not read from until half of them are', async () => {
    const { bench, ann, nick } = await withAway();
    bench.store.hold('append');
    for (const id of series('m', senderPendingMessagesMax - 1)) ann.post('bob', id);
    assert.equal(ann.isPaused, false);
    ann.post('bob', 'last');
    // One more has arrived before it can be paused.
    ann.post('bob', 'beyond');
    assert.equal(ann.isPaused, true);
    await bench.settle();
    nick.post('bob', 'others go on');
    assert.equal(nick.isPaused, false);
    assert.equal(bench.core.counters.accepted, senderPendingMessagesMax + 1);
    bench.store.release('append');
    await bench.settle();
    assert.equal(ann.isPaused, false);
    assert.equal(ann.acks.length, senderPendingMessagesMax + 1);
  });

  test('the same for one with 4 MiB of them', async () => {
    const { bench, ann } = await withAway();
    bench.store.hold('append');
    const bytes = senderPendingBytesMax / 8;
    for (const id of series('m', 7)) ann.post('bob', id, textOf(bytes));
    ann.post('bob', 'nearly', textOf(bytes - 10));
    ann.post('bob', 'full', textOf(10));
    assert.equal(ann.isPaused, false, 'it is paused when more arrives');
    ann.post('bob', 'beyond');
    assert.equal(ann.isPaused, true);
    bench.store.release('append');
    await bench.settle();
    assert.equal(ann.isPaused, false);
    assert.equal(ann.acks.length, 10);
  });

  test('beyond 256 MiB on their way in all, each sender stops after its next message until there is room', async () => {
    const { bench, ann } = await withAway();
    bench.store.hold('append');
    const bytes = 1024 * 1024 - 8192;
    const fits = Math.ceil(pendingBytesMax / (bytes + pendingOverheadBytes));
    for (const name of series('s', fits)) {
      const sender = await bench.app(name);
      assert.equal(bench.core.delivery.hasMemory, true);
      sender.post('bob', 'm', textOf(bytes));
    }
    const { pendingBytes } = bench.core.delivery.stats;
    assert.ok(pendingBytes >= pendingBytesMax && pendingBytes < pendingBytesMax + bytes + pendingOverheadBytes);
    ann.post('bob', 'taken');
    ann.post('bob', 'waits');
    assert.equal(ann.isPaused, true);
    await bench.settle();
    assert.deepEqual(ann.acks, []);
    bench.store.release('append');
    await bench.settle();
    assert.equal(bench.core.delivery.stats.pendingBytes, 0);
    assert.equal(ann.isPaused, false);
    // The share of one sender is not reached, that of the inbox is.
    assert.deepEqual(ann.acks, ['taken', 'waits']);
  });

  test('while the process is short of memory each sender stops after its next message, and receivers are served', async () => {
    const { bench, ann, bob } = await withOnline();
    bench.core.delivery.isMemoryShort = true;
    ann.post('bob', 'taken');
    ann.post('bob', 'waits');
    await bench.settle();
    assert.equal(ann.isPaused, true);
    assert.deepEqual(bob.pushedIds, ['taken']);
    bob.ack('taken');
    await bench.pass(MINUTE_MS);
    assert.deepEqual([bob.pushedIds, bob.isPaused, ann.acks], [['taken'], false, ['taken']]);
    bench.core.delivery.isMemoryShort = false;
    await bench.settle();
    assert.equal(ann.isPaused, false);
    assert.deepEqual(bob.pushedIds, ['taken', 'waits']);
  });

  test('a client that does not take its answers is not read from beyond 512 KiB of them, until it takes them', async () => {
    const { bench, ann } = await withAway();
    ann.stopReading();
    ann.unsentBytes = serverLimits.unsentBytesPauseReading - 4;
    ann.request(cmd.heartbeat);
    await bench.settle();
    assert.deepEqual([ann.unsentBytes, ann.isPaused], [serverLimits.unsentBytesPauseReading, false]);
    ann.request(cmd.heartbeat);
    await bench.settle();
    assert.equal(ann.isPaused, true);
    ann.request(cmd.heartbeat);
    await bench.settle();
    const answered = ann.answers.length;
    ann.readOn();
    await bench.settle();
    assert.equal(ann.isPaused, false);
    assert.equal(ann.answers.length, answered + 1);
  });
});
