import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { cmd, serverLimits, wireLimits } from '@hawser/protocol';
import { StoreAway } from './ports.ts';
import { Bench, series, textOf } from './testing/bench.ts';
import type { BenchClient } from './testing/client.ts';

const { windowMessagesMax, windowBytesMax, unsentPushBytesMax, persistAfterMs, backlogAfterMs } = serverLimits;

function postAll(sender: BenchClient, to: string, ids: readonly string[]): void {
  for (const id of ids) sender.post(to, id);
}

/** Ann, who sends to Bob; Bob is not there yet. */
async function withAway() {
  const bench = await Bench.open();
  await bench.away('bob');
  return { bench, ann: await bench.app('ann') };
}

/** Ann, who sends to Bob, who is online. */
async function withOnline() {
  const { bench, ann } = await withAway();
  return { bench, ann, bob: await bench.app('bob') };
}

describe('away', () => {
  test('what comes is stored, its sender is acked, and no mailbox stays in memory', async () => {
    const { bench, ann } = await withAway();
    const before = bench.core.delivery.stats.mailboxes;
    postAll(ann, 'bob', series('m', 3));
    await bench.settle();
    assert.deepEqual(ann.acks, series('m', 3));
    assert.deepEqual(await bench.inbox('bob'), series('m', 3));
    assert.equal(bench.core.delivery.stats.mailboxes, before);
  });

  test('a mailbox stays while something of it is on its way to the store', async () => {
    const { bench, ann } = await withAway();
    const before = bench.core.delivery.stats.mailboxes;
    bench.store.hold('append');
    ann.post('bob', 'm');
    await bench.settle();
    assert.equal(bench.core.delivery.stats.mailboxes, before + 1);
    bench.store.release('append');
    await bench.settle();
    assert.equal(bench.core.delivery.stats.mailboxes, before);
  });

  test('to live: a login with nothing stored', async () => {
    const { bench } = await withOnline();
    assert.equal(bench.phase('bob'), 'live');
  });

  test('to behind: a login with something stored', async () => {
    const { bench, ann } = await withAway();
    ann.post('bob', 'm');
    const bob = await bench.app('bob');
    assert.equal(bench.phase('bob'), 'behind');
    assert.deepEqual(bob.pushedIds, []);
  });

  test('to behind: a login while something is on its way to the store', async () => {
    const { bench, ann } = await withAway();
    bench.store.hold('append');
    ann.post('bob', 'm');
    await bench.settle();
    const bob = await bench.app('bob');
    assert.equal(bench.phase('bob'), 'behind');
    bench.store.release('append');
    bob.fetch();
    await bench.settle();
    assert.deepEqual(bob.pushedIds, ['m']);
    assert.equal(bench.phase('bob'), 'live');
  });

  test('while a login is under way, what comes goes to the store', async () => {
    const { bench, ann } = await withAway();
    bench.store.hold('hasBacklog');
    const coming = bench.connect();
    coming.request(100, { username: 'bob', password: '5f4dcc3b5aa765d61d8327deb882cf99' });
    await bench.settle();
    ann.post('bob', 'm');
    await bench.settle();
    assert.deepEqual(ann.acks, ['m']);
    assert.deepEqual(coming.pushedIds, []);
    bench.store.release('hasBacklog');
    await bench.pass(backlogAfterMs);
    assert.deepEqual(coming.pushedIds, ['m']);
  });
});

describe('behind', () => {
  test('the backlog comes on 202, in order, and then the mailbox is live', async () => {
    const { bench, ann } = await withAway();
    postAll(ann, 'bob', series('m', 5));
    const bob = await bench.app('bob');
    bob.fetch();
    await bench.settle();
    assert.deepEqual(bob.pushedIds, series('m', 5));
    assert.equal(bench.phase('bob'), 'live');
  });

  test('the backlog comes a second after login when no 202 does, and not before', async () => {
    const { bench, ann } = await withAway();
    ann.post('bob', 'm');
    const bob = await bench.app('bob');
    await bench.pass(backlogAfterMs - 1);
    assert.deepEqual(bob.pushedIds, []);
    await bench.pass(1);
    assert.deepEqual(bob.pushedIds, ['m']);
  });

  test('what comes meanwhile goes to the store and is pushed behind the backlog', async () => {
    const { bench, ann } = await withAway();
    ann.post('bob', 'old');
    const bob = await bench.app('bob');
    ann.post('bob', 'new');
    await bench.settle();
    assert.deepEqual(await bench.inbox('bob'), ['old', 'new']);
    bob.fetch();
    await bench.settle();
    assert.deepEqual(bob.pushedIds, ['old', 'new']);
  });

  test('a backlog larger than the window comes as the window empties, whole and in order', async () => {
    const { bench, ann } = await withAway();
    const ids = series('m', windowMessagesMax * 2);
    postAll(ann, 'bob', ids);
    const bob = await bench.app('bob');
    bob.fetch();
    await bench.settle();
    assert.deepEqual(bob.pushedIds, ids.slice(0, windowMessagesMax));
    bob.ack(...bob.pushedIds);
    await bench.settle();
    assert.deepEqual(bob.pushedIds, ids);
  });

  test('to away: what was pushed and not acked is pushed to the next session, what was acked is not', async () => {
    const { bench, ann } = await withAway();
    postAll(ann, 'bob', series('m', 3));
    const first = await bench.app('bob');
    first.fetch();
    await bench.settle();
    first.ack('m-1');
    await bench.settle();
    first.vanish();
    assert.equal(bench.phase('bob'), 'away');
    const second = await bench.app('bob');
    second.fetch();
    await bench.settle();
    assert.deepEqual(second.pushedIds, ['m-0', 'm-2']);
  });

  test('a page that cannot be read is read a second later', async () => {
    const { bench, ann } = await withAway();
    ann.post('bob', 'm');
    const bob = await bench.app('bob');
    bench.store.fail('page', new StoreAway('for a test'));
    bob.fetch();
    await bench.settle();
    assert.deepEqual(
      bench.warnings.map(({ text }) => text),
      ['the store is away'],
    );
    bench.store.mend('page');
    await bench.pass(backlogAfterMs);
    assert.deepEqual(bob.pushedIds, ['m']);
  });
});

describe('joining', () => {
  /** Bob has read his inbox to its end, and `stuck` is still on its way to it. */
  async function withJoining() {
    const { bench, ann } = await withAway();
    ann.post('bob', 'old');
    const bob = await bench.app('bob');
    bench.store.hold('append');
    ann.post('bob', 'stuck');
    await bench.settle();
    bob.fetch();
    await bench.settle();
    assert.equal(bench.phase('bob'), 'joining');
    assert.deepEqual(bob.pushedIds, ['old']);
    return { bench, ann, bob };
  }

  test('to live: once what was on its way is stored it is pushed, and behind it what came meanwhile', async () => {
    const { bench, ann, bob } = await withJoining();
    ann.post('bob', 'joiner');
    await bench.settle();
    assert.deepEqual(bob.pushedIds, ['old'], 'nothing overtakes');
    bench.store.release('append');
    await bench.settle();
    assert.deepEqual(bob.pushedIds, ['old', 'stuck', 'joiner']);
    assert.equal(bench.phase('bob'), 'live');
    bob.ack('joiner');
    await bench.settle();
    assert.deepEqual(await bench.inbox('bob'), ['old', 'stuck'], 'the joiner was never stored');
  });

  test('to behind: a message that has waited in memory for 25 ms goes to the store', async () => {
    const { bench, ann, bob } = await withJoining();
    ann.post('bob', 'joiner');
    await bench.pass(persistAfterMs - 1);
    assert.equal(bench.phase('bob'), 'joining');
    await bench.pass(1);
    assert.equal(bench.phase('bob'), 'behind');
    bench.store.release('append');
    await bench.settle();
    assert.deepEqual(bob.pushedIds, ['old', 'stuck', 'joiner']);
    assert.deepEqual(await bench.inbox('bob'), ['old', 'stuck', 'joiner']);
  });

  test('to behind: no more wait in memory than a window holds', async () => {
    const { bench, ann, bob } = await withJoining();
    const ids = series('joiner', windowMessagesMax + 1);
    postAll(ann, 'bob', ids.slice(0, -1));
    await bench.settle();
    assert.equal(bench.phase('bob'), 'joining');
    ann.post('bob', ids.at(-1)!);
    await bench.settle();
    assert.equal(bench.phase('bob'), 'behind');
    bench.store.release('append');
    await bench.settle();
    bob.ack(...bob.pushedIds);
    await bench.settle();
    assert.deepEqual(bob.pushedIds, ['old', 'stuck', ...ids]);
  });

  test('to away: what waited is stored, in order', async () => {
    const { bench, ann, bob } = await withJoining();
    postAll(ann, 'bob', series('joiner', 2));
    await bench.settle();
    bob.vanish();
    bench.store.release('append');
    await bench.settle();
    assert.deepEqual(await bench.inbox('bob'), ['old', 'stuck', ...series('joiner', 2)]);
    assert.deepEqual(ann.acks, ['old', 'stuck', ...series('joiner', 2)]);
  });
});

describe('live', () => {
  test('what a turn brings is pushed in one frame, and stored only when it is not acked in time', async () => {
    const { bench, ann, bob } = await withOnline();
    postAll(ann, 'bob', series('m', 3));
    await bench.settle();
    assert.deepEqual([bob.pushedIds, bob.pushFrames], [series('m', 3), [3]]);
    bob.ack('m-0', 'm-2');
    await bench.pass(persistAfterMs);
    assert.deepEqual(bench.store.commits, [['m-1']]);
  });

  test('to behind and back: 256 unacked pushes fill the window, and the next message waits in the store', async () => {
    const { bench, ann, bob } = await withOnline();
    const ids = series('m', windowMessagesMax);
    postAll(ann, 'bob', ids);
    await bench.settle();
    assert.equal(bench.phase('bob'), 'live');
    assert.equal(bob.pushes.length, windowMessagesMax);
    ann.post('bob', 'more');
    await bench.settle();
    assert.equal(bench.phase('bob'), 'behind');
    assert.equal(bob.pushes.length, windowMessagesMax);
    assert.deepEqual(ann.acks, [...ids, 'more'], 'all of it is stored');
    bob.ack(...ids);
    await bench.settle();
    assert.deepEqual(bob.pushedIds, [...ids, 'more']);
    assert.equal(bench.phase('bob'), 'live');
  });

  test('to behind: 256 KiB of unacked pushes fill the window, and one byte more does not fit', async () => {
    const { bench, ann, bob } = await withOnline();
    ann.post('bob', 'large', textOf(windowBytesMax - 10));
    ann.post('bob', 'fits', textOf(10));
    await bench.settle();
    assert.deepEqual([bench.phase('bob'), bob.pushedIds], ['live', ['large', 'fits']]);
    ann.post('bob', 'byte', 1);
    await bench.settle();
    assert.deepEqual([bench.phase('bob'), bob.pushedIds], ['behind', ['large', 'fits']]);
    bob.ack('large');
    await bench.settle();
    assert.deepEqual(bob.pushedIds, ['large', 'fits', 'byte']);
  });

  test('a frame takes no further message once it has 64 KiB', async () => {
    const { bench, ann, bob } = await withOnline();
    for (const id of series('m', 5)) ann.post('bob', id, textOf(wireLimits.pushBatchBytesMax / 2));
    await bench.settle();
    assert.deepEqual([bob.pushedIds, bob.pushFrames], [series('m', 5), [1, 1, 1, 1, 1]]);
    bob.ack(...series('m', 5));
    for (const id of series('n', 5)) ann.post('bob', id, textOf(wireLimits.pushBatchBytesMax / 2 - 200));
    await bench.settle();
    assert.deepEqual(bob.pushFrames.slice(5), [2, 2, 1]);
  });

  test('a message larger than the window goes alone', async () => {
    const { bench, ann, bob } = await withOnline();
    ann.post('bob', 'larger', textOf(windowBytesMax + 1));
    await bench.settle();
    assert.deepEqual([bench.phase('bob'), bob.pushedIds], ['live', ['larger']]);
    assert.deepEqual(bench.store.commits, [], 'at once, and not by way of the store');
    ann.post('bob', 'next');
    await bench.settle();
    assert.deepEqual([bench.phase('bob'), bob.pushedIds], ['behind', ['larger']]);
    bob.ack('larger');
    await bench.settle();
    assert.deepEqual(bob.pushedIds, ['larger', 'next']);
  });

  test('to behind: nothing is pushed beyond 256 KiB that the receiver has not taken, until it takes it', async () => {
    const { bench, ann, bob } = await withOnline();
    bob.stopReading();
    bob.unsentBytes = unsentPushBytesMax;
    ann.post('bob', 'at the bound');
    await bench.settle();
    assert.deepEqual([bench.phase('bob'), bob.pushedIds], ['live', ['at the bound']]);
    ann.post('bob', 'beyond');
    await bench.settle();
    assert.deepEqual([bench.phase('bob'), bob.pushedIds], ['behind', ['at the bound']]);
    assert.deepEqual(ann.acks, ['at the bound', 'beyond'], 'both are stored');
    bob.readOn();
    await bench.settle();
    assert.deepEqual(bob.pushedIds, ['at the bound', 'beyond']);
    assert.equal(bench.phase('bob'), 'live');
  });

  test('to away: what was not acked is stored at once, in the order accepted', async () => {
    const { bench, ann, bob } = await withOnline();
    postAll(ann, 'bob', series('m', 4));
    await bench.settle();
    bob.ack('m-1');
    bob.vanish();
    await bench.settle();
    assert.deepEqual(await bench.inbox('bob'), ['m-0', 'm-2', 'm-3']);
    assert.deepEqual(ann.acks, ['m-1', 'm-0', 'm-2', 'm-3']);
  });

  test('takeover: the newer session gets what the older one did not ack, in order, and the older nothing more', async () => {
    const { bench, ann, bob } = await withOnline();
    postAll(ann, 'bob', series('m', 3));
    await bench.settle();
    const newer = await bench.app('bob');
    assert.equal(bob.isEnded, true);
    bob.ack('m-0');
    ann.post('bob', 'later');
    newer.fetch();
    await bench.settle();
    assert.deepEqual(newer.pushedIds, [...series('m', 3), 'later']);
    assert.deepEqual(bob.pushedIds, series('m', 3));
  });

  test('takeover: an ack of the same turn is written ahead of cmd 103, behind which a client reads nothing', async () => {
    const { bench, ann, bob } = await withOnline();
    ann.post('bob', 'm');
    await bench.settle();
    const verified = Promise.withResolvers<boolean>();
    bench.passwords.verify = () => verified.promise;
    bench.connect().request(cmd.login, { username: 'ann', password: '1' });
    await bench.settle();
    const written: number[][] = [];
    const write = ann.write.bind(ann);
    const answers = ann.answers.length;
    ann.write = (bytes) => {
      write(bytes);
      written.push([ann.acks.length, ann.answers.length - answers]);
    };
    bob.ack('m');
    verified.resolve(true);
    // The login goes on before the turn has ended.
    for (let i = 0; i < 20; i++) await Promise.resolve();
    assert.deepEqual(written, [
      [1, 0],
      [1, 1],
    ]);
    assert.equal(ann.answers.at(-1)?.cmd, cmd.conflict);
  });
});

describe('the window', () => {
  test('a session never has two outstanding pushes with one msgid: the second waits, and those of its sender behind it', async () => {
    const { bench, ann, bob } = await withOnline();
    const cal = await bench.app('cal');
    ann.post('bob', 'same', 'of ann');
    cal.post('bob', 'same', 'of cal');
    cal.post('bob', 'behind');
    ann.post('bob', 'other');
    await bench.settle();
    assert.deepEqual(bob.pushedIds, ['same', 'other']);
    bob.ack('same');
    await bench.settle();
    assert.deepEqual(
      bob.pushes.map(({ from, msgid }) => [from, msgid]),
      [
        ['ann', 'same'],
        ['ann', 'other'],
        ['cal', 'same'],
        ['cal', 'behind'],
      ],
    );
  });

  test('a large push that expires does not hold up the inbox', async () => {
    const { bench, ann, bob } = await withOnline();
    ann.post('bob', 'large', textOf(windowBytesMax + 1), { ttl: 30 });
    for (let seconds = 0; seconds < 90; seconds++) await bench.pass(1_000);
    assert.equal(bench.core.counters.expiredByTtl, 1);
    const ids = series('m', 5);
    postAll(ann, 'bob', ids);
    await bench.pass(1_000);
    assert.deepEqual(bob.pushedIds, ['large', ...ids]);
  });

  test('what is gone leaves its place to the same content only, and nobody else has its msgid meanwhile', async () => {
    const { bench, ann, bob } = await withOnline();
    const cal = await bench.app('cal');
    bench.store.hold('append');
    ann.post('bob', 'same', 'of ann', { ttl: 1 });
    await bench.pass(serverLimits.redeliveryAfterMs + 2_000);
    assert.equal(bench.core.counters.expiredByTtl, 1);
    cal.post('bob', 'same', 'of cal');
    ann.post('bob', 'same', 'of ann');
    await bench.settle();
    assert.deepEqual(
      bob.pushes.map(({ msg }) => msg),
      ['of ann', 'of ann'],
    );
    // Of the first push, as it may be.
    bob.ack('same');
    await bench.settle();
    assert.deepEqual([ann.acks, cal.acks, bob.pushes.at(-1)?.msg], [['same'], [], 'of cal']);
    bench.store.release('append');
    await bench.settle();
  });

  for (const waits of ['parked', 'in the window']) {
    test(`what the store has no more keeps its msgid taken, as its ack may be on its way: ${waits}`, async () => {
      const { bench, ann, bob } = await withOnline();
      const cal = await bench.app('cal');
      ann.post('bob', 'same', 'of ann');
      await bench.pass(waits === 'parked' ? serverLimits.stuckAfterMs + 1_000 : persistAfterMs + 10);
      assert.deepEqual(await bench.inbox('bob'), ['same']);
      const page = bench.store.page('bob', 0, 1, 1);
      await bench.settle();
      bench.store.remove({ ...(await page).messages[0]!, size: 8 });
      cal.post('bob', 'same', 'of cal');
      // Asks for what was pushed some time ago once more.
      await bench.pass(serverLimits.refetchAfterMs);
      bob.request(cmd.fetch);
      await bench.settle();
      const pushed = () => bob.pushes.map(({ from, msgid }) => [from, msgid]);
      assert.deepEqual(pushed(), [['ann', 'same']]);
      bob.ack('same');
      await bench.settle();
      assert.deepEqual(pushed().slice(1), [['cal', 'same']]);
      bob.ack('same');
      await bench.settle();
      assert.deepEqual([cal.acks, await bench.inbox('bob')], [['same'], []]);
    });
  }

  test('places that are never acked do not hold up the inbox: the others go round', async () => {
    const { bench, ann, bob } = await withOnline();
    const stuck = series('stuck', windowMessagesMax - 1);
    postAll(ann, 'bob', stuck);
    await bench.pass(serverLimits.stuckAfterMs + 1_000);
    const ids = series('passing', 5);
    postAll(ann, 'bob', ids);
    await bench.pass(1_000);
    for (const id of ids) {
      assert.equal(bob.pushedIds.at(-1), id);
      bob.ack(id);
      await bench.settle();
    }
  });

  test('an ack of what is placed in the window and not yet pushed does not count', async () => {
    const { bench, ann, bob } = await withOnline();
    ann.post('bob', 'm');
    // In the same turn, before the push is written.
    bob.ack('m');
    await bench.settle();
    assert.deepEqual([bob.pushedIds, ann.acks], [['m'], []]);
  });
});
