import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Adapter, Harness } from './contract.ts';
import { storeContract } from './contract.ts';
import { inboxOf, newMessage, newMessages, randomFrom, remove } from './contract-harness.ts';
import { type Defer, MemoryStore } from './memory.ts';

/** Takes waiting steps in a random order, the same one for the same seed. */
function shuffled(seed: number): Defer {
  const random = randomFrom(seed);
  const steps: (() => void)[] = [];
  const takeOne = (): void => {
    const [step] = steps.splice(Math.floor(random() * steps.length), 1);
    step?.();
  };
  return (call) => {
    steps.push(call);
    setImmediate(takeOne);
  };
}

let seed = 1;

const adapter: Adapter = {
  async open(limits) {
    let store = new MemoryStore(shuffled(seed++), limits);
    return {
      get store() {
        return store;
      },
      async reopen() {
        await store.close();
        store = store.reopen();
      },
      async crash() {
        store.crash();
        store = store.reopen();
      },
      close: () => store.close(),
    };
  },
};

storeContract('MemoryStore', adapter);

/** A store whose steps the test takes by hand, by their place in the queue. */
function byHand(): { harness: Harness; steps: (() => void)[]; take: (...which: number[]) => Promise<void> } {
  const steps: (() => void)[] = [];
  const store = new MemoryStore((call) => steps.push(call));
  const harness = { store, reopen: () => store.close(), crash: () => store.close(), close: () => store.close() };
  const take = async (...which: number[]): Promise<void> => {
    for (const i of which) {
      const [step] = steps.splice(i, 1);
      step?.();
      await Promise.resolve();
    }
  };
  return { harness, steps, take };
}

test('nothing happens before its step', async () => {
  const { harness, steps, take } = byHand();
  let result: string | undefined;
  const creating = harness.store.createUser('ann', 'hash', 1).then((created) => {
    result = created;
  });
  await Promise.resolve();
  assert.equal(steps.length, 1);
  await take(0);
  assert.equal(result, undefined);
  assert.equal(steps.length, 1);
  await take(0);
  await creating;
  assert.equal(result, 'created');
});

test('changes take effect in the order made, in whatever order their steps are taken', async () => {
  const { harness, steps, take } = byHand();
  const { store } = harness;
  const calls = Promise.all([
    store.createUser('ann', 'hash', 1),
    store.removeName('ann'),
    store.createUser('ann', 'hash', 2),
  ]);
  await take(2, 0, 0);
  while (steps.length > 0) await take(steps.length - 1);
  assert.deepEqual(await calls, ['created', true, 'created']);
});

test('a crash before the first step loses the call, after it only the answer', async () => {
  for (const isTaken of [false, true]) {
    const steps: (() => void)[] = [];
    const store = new MemoryStore((call) => steps.push(call));
    let isAnswered = false;
    const appending = store.append(newMessages(2, 'ann')).then(() => {
      isAnswered = true;
    });
    appending.catch(() => undefined);
    await Promise.resolve();
    if (isTaken) steps.shift()?.();
    store.crash();
    for (const step of steps.splice(0)) step();
    await new Promise(setImmediate);
    assert.equal(isAnswered, false);
    const again = store.reopen();
    const page = again.page('ann', 0, 10, 1000);
    while (steps.length > 0) steps.shift()?.();
    assert.equal((await page).messages.length, isTaken ? 2 : 0);
  }
});

test('a removal is seen at once, and undone by a crash before its step', async () => {
  const steps: (() => void)[] = [];
  const run = async <Result>(call: Promise<Result>): Promise<Result> => {
    await Promise.resolve();
    while (steps.length > 0) steps.shift()?.();
    return call;
  };
  const store = new MemoryStore((call) => steps.push(call));
  const message = newMessage('ann', 'sender', 'm');
  const [position] = await run(store.append([message]));
  const waiting: (() => void)[] = [];
  store.remove({ ...message, position: position!, size: message.msg.length });
  waiting.push(...steps.splice(0));
  assert.equal(await run(store.hasBacklog('ann')), false);
  store.crash();
  for (const step of waiting) step();
  const again = store.reopen();
  assert.equal(await run(again.hasBacklog('ann')), true);
  again.remove({ ...message, position: position!, size: message.msg.length });
  await run(Promise.resolve());
  again.crash();
  assert.equal(await run(again.reopen().hasBacklog('ann')), false);
});

test('a store that is open is not opened a second time on its disk', () => {
  const store = new MemoryStore((call) => call());
  assert.throws(() => store.reopen());
});

test('it works with steps taken on the spot', async () => {
  const store = new MemoryStore((call) => call());
  const harness = { store, reopen: () => store.close(), crash: () => store.close(), close: () => store.close() };
  const [position] = await store.append([newMessage('ann', 'sender', 'm')]);
  const messages = await inboxOf(harness, 'ann');
  assert.equal(messages[0]?.position, position);
  remove(harness, messages);
  assert.deepEqual(await inboxOf(harness, 'ann'), []);
});
