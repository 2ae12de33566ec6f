import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { serverLimits } from '@hawser/protocol';
import { Committer } from './committer.ts';
import { Message } from './message.ts';
import { APPEND } from './ports.ts';
import { Bench, series } from './testing/bench.ts';

const { commitMessagesMax, commitBytesMax } = serverLimits;

let bench: Bench;
let committer: Committer;
/** What the committer said, in order. */
let said: string[];

beforeEach(async () => {
  bench = await Bench.open({ inboxMessagesMax: 10_000 });
  said = [];
  committer = new Committer(bench.store, bench.time, {
    committed: ({ msgId }, result) => said.push(`${msgId} ${result > 0 ? 'stored' : result}`),
    cancelled: ({ msgId }) => said.push(`${msgId} cancelled`),
    failed: (messages) => said.push(`${messages.map(({ msgId }) => msgId)} failed`),
  });
});

function add(msgId: string, bytes = 2, fill = 0): Message {
  const msg = new Uint8Array(bytes).fill(fill);
  const message = new Message(bench.core.delivery.mailbox('bob'), 'ann', msgId, msg, 0, 0, 0, 0);
  committer.add(message);
  return message;
}

test('what one turn brings is one call of the store', async () => {
  for (const id of series('m', 3)) add(id);
  assert.deepEqual(bench.store.commits, []);
  await bench.settle();
  assert.deepEqual(bench.store.commits, [series('m', 3)]);
  assert.deepEqual(said, ['m-0 stored', 'm-1 stored', 'm-2 stored']);
});

test('there is one call at a time; what comes meanwhile is the next one, in order', async () => {
  bench.store.hold('append');
  add('first');
  await bench.settle();
  for (const id of series('m', 3)) add(id);
  await bench.settle();
  assert.deepEqual(bench.store.commits, [['first']]);
  bench.store.release('append');
  await bench.settle();
  assert.deepEqual(bench.store.commits, [['first'], series('m', 3)]);
});

test('what is acked while it waits is not written; what is acked while it is written is', async () => {
  bench.store.hold('append');
  const written = add('written');
  await bench.settle();
  const waiting = add('waiting');
  add('other');
  written.acked = true;
  waiting.acked = true;
  bench.store.release('append');
  await bench.settle();
  assert.deepEqual(bench.store.commits, [['written'], ['other']]);
  assert.deepEqual(said, ['written stored', 'waiting cancelled', 'other stored']);
});

test('a call has 2,000 messages at most', async () => {
  const ids = series('m', commitMessagesMax + 1);
  for (const id of ids) add(id);
  await bench.settle();
  assert.deepEqual(
    bench.store.commits.map((commit) => commit.length),
    [commitMessagesMax, 1],
  );
  assert.deepEqual(bench.store.commits.flat(), ids);
});

test('a call has 4 MiB at most, or one larger message', async () => {
  add('half', commitBytesMax / 2);
  add('whole', commitBytesMax / 2);
  add('byte', 1);
  add('larger', commitBytesMax + 1);
  add('last', 1);
  await bench.settle();
  assert.deepEqual(bench.store.commits, [['half', 'whole'], ['byte'], ['larger'], ['last']]);
});

test('what the store says of each message is passed on', async () => {
  add('m', 2, 1);
  add('m', 2, 1);
  add('m', 2, 2);
  await bench.settle();
  assert.deepEqual(said, ['m stored', `m ${APPEND.duplicate}`, `m ${APPEND.conflict}`]);
});

test('a call that fails is told for all that was in it, and the next one is made', async () => {
  bench.store.hold('append');
  bench.store.fail('append', new Error('for a test'));
  add('m-0');
  add('m-1');
  await bench.settle();
  add('next');
  bench.store.release('append');
  await bench.settle();
  assert.deepEqual(said, ['m-0,m-1 failed', 'next failed']);
  bench.store.mend('append');
  add('good');
  await bench.settle();
  assert.equal(said.at(-1), 'good stored');
});

test('it is idle when nothing waits and nothing is being written', async () => {
  bench.store.hold('append');
  add('first');
  await bench.settle();
  add('second');
  let isIdle = false;
  const idle = committer.whenIdle().then(() => {
    isIdle = true;
  });
  await bench.settle();
  assert.equal(isIdle, false);
  bench.store.release('append');
  await bench.settle();
  await idle;
  assert.deepEqual(said, ['first stored', 'second stored']);
  await committer.whenIdle();
});
