import assert from 'node:assert/strict';
import { test } from 'node:test';
import { serverLimits } from '@hawser/protocol';
import { Committer } from './committer.ts';
import { Message } from './message.ts';
import type { NewMessage, Store, Time } from './ports.ts';

const {
  commitsAtOnceMax,
  commitsCountedForMs,
  commitSpacingMs,
  commitSpacingBusyMs,
  commitSmallMessagesMax,
  commitSmallBytesMax,
} = serverLimits;

/** A committer on a clock that is moved by hand, with a store that syncs when it is told to. */
class Bench {
  now = 0;
  isBusy = false;
  /** Messages of each commit begun, and when it was. */
  readonly commits: { readonly msgIds: readonly string[]; readonly at: number }[] = [];
  readonly committed: string[] = [];
  readonly committer: Committer;
  #timers: { at: number; call: () => void }[] = [];
  #sync: (() => void) | undefined;
  #messages = 0;

  constructor() {
    const store = {
      append: (messages: readonly NewMessage[]) => {
        assert.equal(this.#sync, undefined, 'one call at a time');
        this.commits.push({ msgIds: messages.map(({ msgId }) => msgId), at: this.now });
        return new Promise<number[]>((resolve) => {
          this.#sync = () => resolve(messages.map((_, i) => i + 1));
        });
      },
    };
    const time = {
      now: () => this.now,
      isBusy: () => this.isBusy,
      endOfTurn: (call: () => void) => void this.#timers.push({ at: this.now, call }),
      after: (ms: number, call: () => void) => {
        const timer = { at: this.now + ms, call };
        this.#timers.push(timer);
        const cancel = () => {
          this.#timers = this.#timers.filter((other) => other !== timer);
        };
        return { cancel };
      },
    };
    this.committer = new Committer(store as unknown as Store, time as unknown as Time, {
      committed: (message) => this.committed.push(message.msgId),
      cancelled: () => {},
      failed: (_, error) => assert.fail(String(error)),
    });
  }

  add(count = 1, bytes = 1): Message[] {
    return Array.from({ length: count }, () => {
      const mailbox = { name: 'ann' } as unknown as Message['mailbox'];
      const message = new Message(mailbox, 'bob', `m${this.#messages++}`, new Uint8Array(bytes), 0, 0, 0, 0);
      this.committer.add(message);
      return message;
    });
  }

  async sync(): Promise<void> {
    const sync = this.#sync;
    this.#sync = undefined;
    sync?.();
    await new Promise((resolve) => setImmediate(resolve));
    this.pass(0);
  }

  pass(ms: number): void {
    const end = this.now + ms;
    for (;;) {
      const due = this.#timers.filter(({ at }) => at <= end).sort((one, other) => one.at - other.at)[0];
      if (due === undefined) break;
      this.#timers = this.#timers.filter((timer) => timer !== due);
      this.now = Math.max(this.now, due.at);
      due.call();
    }
    this.now = end;
  }

  /** So many commits of one message each, one after the other without a pause. */
  async commitsInTurn(count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      this.add();
      this.pass(0);
      await this.sync();
    }
  }
}

test('a message that comes alone is committed at the end of its turn, and so are a few one after the other', async () => {
  const bench = new Bench();
  for (let round = 0; round < 3; round++) {
    const begun = bench.now;
    await bench.commitsInTurn(commitsAtOnceMax);
    assert.equal(bench.commits.length, commitsAtOnceMax * (round + 1));
    assert.equal(bench.commits.at(-1)?.at, begun);
    bench.pass(commitsCountedForMs);
  }
});

test('where small commits follow one another, they wait for more to go with them, and for no longer than that', async () => {
  const bench = new Bench();
  await bench.commitsInTurn(commitsAtOnceMax);
  bench.add();
  bench.pass(1);
  bench.add(2);
  bench.pass(commitSpacingMs - 2);
  assert.equal(bench.commits.length, commitsAtOnceMax);
  bench.pass(1);
  assert.deepEqual(bench.commits.at(-1), { msgIds: ['m10', 'm11', 'm12'], at: commitSpacingMs });
  // Also what came while that one was synced.
  bench.add();
  await bench.sync();
  assert.equal(bench.commits.length, commitsAtOnceMax + 1);
  bench.pass(commitSpacingMs);
  assert.deepEqual(bench.commits.at(-1), { msgIds: ['m13'], at: 2 * commitSpacingMs });
  await bench.sync();
  assert.equal(bench.committed.length, commitsAtOnceMax + 4);
});

test('while the server is busy, small commits keep a longer distance from the first on', async () => {
  const bench = new Bench();
  bench.isBusy = true;
  await bench.commitsInTurn(1);
  assert.deepEqual(bench.commits.at(-1), { msgIds: ['m0'], at: 0 });
  bench.add();
  bench.pass(commitSpacingBusyMs - 1);
  bench.add();
  assert.equal(bench.commits.length, 1);
  bench.pass(1);
  assert.deepEqual(bench.commits.at(-1), { msgIds: ['m1', 'm2'], at: commitSpacingBusyMs });
  await bench.sync();
  bench.add(commitSmallMessagesMax);
  bench.pass(0);
  assert.equal(bench.commits.at(-1)?.at, commitSpacingBusyMs);
  await bench.sync();
  bench.isBusy = false;
  await bench.commitsInTurn(commitsAtOnceMax);
  assert.equal(bench.commits.at(-1)?.at, commitSpacingBusyMs);
});

test('a commit of many messages does not wait, nor does one that is waiting and has become large', async () => {
  const bench = new Bench();
  await bench.commitsInTurn(commitsAtOnceMax);
  bench.add(commitSmallMessagesMax);
  bench.pass(0);
  assert.equal(bench.commits.at(-1)?.msgIds.length, commitSmallMessagesMax);
  await bench.sync();
  bench.add(commitSmallMessagesMax - 1);
  bench.pass(1);
  assert.equal(bench.commits.length, commitsAtOnceMax + 1);
  bench.add(1);
  bench.pass(0);
  assert.deepEqual([bench.commits.at(-1)?.msgIds.length, bench.commits.at(-1)?.at], [commitSmallMessagesMax, 1]);
  await bench.sync();
  bench.add(1, commitSmallBytesMax);
  bench.pass(0);
  assert.equal(bench.commits.at(-1)?.msgIds.length, 1);
  await bench.sync();
  // Taken again from the count: one byte is small.
  bench.add();
  bench.pass(commitSpacingMs - 1);
  assert.equal(bench.commits.at(-1)?.at, 1);
  bench.pass(1);
  assert.equal(bench.commits.at(-1)?.at, 1 + commitSpacingMs);
});

test('whoever waits until all is committed does not wait for more', async () => {
  const bench = new Bench();
  await bench.commitsInTurn(commitsAtOnceMax);
  bench.add();
  bench.pass(1);
  let isIdle = false;
  const idle = bench.committer.whenIdle().then(() => {
    isIdle = true;
  });
  bench.pass(0);
  assert.deepEqual(bench.commits.at(-1), { msgIds: ['m10'], at: 1 });
  assert.equal(isIdle, false);
  await bench.sync();
  await idle;
  await bench.committer.whenIdle();
});

test('what is acked while a commit waits is not written', async () => {
  const bench = new Bench();
  await bench.commitsInTurn(commitsAtOnceMax);
  const [first] = bench.add(2);
  bench.pass(1);
  first!.acked = true;
  bench.pass(commitSpacingMs);
  assert.deepEqual(bench.commits.at(-1)?.msgIds, ['m11']);
  const again = bench.add();
  again[0]!.acked = true;
  await bench.sync();
  bench.pass(commitSpacingMs);
  await bench.committer.whenIdle();
  assert.equal(bench.commits.length, commitsAtOnceMax + 1);
});

test('a commit for which a receiver waits is not held up for the server being busy, the next one is again', async () => {
  const bench = new Bench();
  bench.isBusy = true;
  await bench.commitsInTurn(1);
  bench.add();
  bench.pass(1);
  bench.committer.hurry();
  bench.pass(0);
  assert.deepEqual(bench.commits.at(-1), { msgIds: ['m1'], at: 1 });
  await bench.sync();
  bench.add();
  bench.pass(commitSpacingBusyMs - 1);
  assert.equal(bench.commits.length, 2);
  bench.pass(1);
  assert.deepEqual(bench.commits.at(-1), { msgIds: ['m2'], at: 1 + commitSpacingBusyMs });
});

test('commits for which receivers wait, one after the other, keep the distance that small ones keep', async () => {
  const bench = new Bench();
  bench.isBusy = true;
  for (let i = 0; i < commitsAtOnceMax; i++) {
    bench.add();
    bench.committer.hurry();
    bench.pass(0);
    await bench.sync();
  }
  assert.equal(bench.commits.length, commitsAtOnceMax);
  bench.add();
  bench.committer.hurry();
  bench.pass(commitSpacingMs - 1);
  bench.committer.hurry();
  assert.equal(bench.commits.length, commitsAtOnceMax);
  bench.pass(1);
  assert.deepEqual(bench.commits.at(-1), { msgIds: [`m${commitsAtOnceMax}`], at: commitSpacingMs });
});
