import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import { serverLimits } from '@hawser/protocol';
import { Message } from './message.ts';
import { Sender } from './sender.ts';
import { Bench, series } from './testing/bench.ts';

const {
  rememberedIdsPerSender,
  rememberedForMs,
  rememberedIdsMax,
  senderPendingMessagesMax: pendingMax,
  senderPendingBytesMax,
} = serverLimits;

let bench: Bench;
let sender: Sender;

beforeEach(async () => {
  bench = await Bench.open();
  sender = new Sender('ann');
});

function messageOf(msgId: string, bytes = 2): Message {
  return new Message(bench.core.delivery.mailbox('bob'), 'ann', msgId, new Uint8Array(bytes), 7, 0, 0, 0);
}

function expectMessage(msgId: string, bytes?: number): Message {
  const message = messageOf(msgId, bytes);
  sender.expect(message);
  return message;
}

function settle(message: Message): number {
  return sender.settle(message, bench.time.now());
}

function sendAndSettle(ids: readonly string[]): void {
  for (const id of ids) settle(expectMessage(id));
}

test('an id leads to its message while that is on its way, then to the hash of its content', () => {
  const message = expectMessage('m');
  assert.equal(sender.find('m'), message);
  settle(message);
  assert.equal(sender.find('m'), message.hash);
  assert.equal(sender.pendingMessages, 0);
});

test('an id that was refused is forgotten, and may come again', () => {
  sender.drop(expectMessage('m'));
  assert.equal(sender.find('m'), undefined);
  assert.deepEqual([sender.ids, sender.pendingMessages, sender.pendingBytes], [0, 0, 0]);
});

test('the last 1,000 ids are remembered, and never more than 2,000', () => {
  const ids = series('m', 3 * rememberedIdsPerSender + 1);
  for (const [i, id] of ids.entries()) {
    sendAndSettle([id]);
    const oldest = Math.max(0, i + 1 - rememberedIdsPerSender);
    assert.notEqual(sender.find(ids[oldest]!), undefined, `${ids[oldest]} behind ${id}`);
    assert.ok(sender.ids <= 2 * rememberedIdsPerSender);
  }
  assert.equal(sender.find(ids[0]!), undefined);
});

test('an id is remembered for 10 minutes at least and 20 at most', async () => {
  sendAndSettle(['m']);
  await bench.pass(rememberedForMs - 1);
  sender.age(bench.time.now());
  assert.notEqual(sender.find('m'), undefined);
  await bench.pass(1);
  sender.age(bench.time.now());
  assert.notEqual(sender.find('m'), undefined, 'it is of the older generation now');
  await bench.pass(rememberedForMs);
  assert.equal(sender.age(bench.time.now()), 1);
  assert.equal(sender.find('m'), undefined);
  assert.equal(sender.isIdle, true);
});

test('a message on its way is never forgotten', async () => {
  const message = expectMessage('on its way');
  sendAndSettle(series('m', 5 * rememberedIdsPerSender));
  for (let i = 0; i < 3; i++) {
    await bench.pass(rememberedForMs);
    sender.age(bench.time.now());
  }
  sender.forget();
  assert.equal(sender.find('on its way'), message);
  assert.equal(sender.ids, 1);
  settle(message);
  assert.equal(sender.find('on its way'), message.hash);
});

test('what `settle` says of the number of ids is true', () => {
  let ids = 0;
  for (const id of series('m', 3 * rememberedIdsPerSender)) {
    const message = expectMessage(id);
    ids++;
    if (ids % 3 > 0) ids += settle(message);
    assert.equal(ids, sender.ids);
  }
});

describe('fullness', () => {
  for (const [what, fill, half] of [
    ['1,000 messages', pendingMax, pendingMax / 2],
    ['4 MiB', 4, 2],
  ] as const) {
    const bytes = what === '4 MiB' ? senderPendingBytesMax / 4 : 2;
    test(`${what} on their way are too many, and half of that is few enough to go on`, () => {
      const messages = series('m', fill).map((id, i) => {
        assert.equal(sender.isFull, false, `${i}`);
        return expectMessage(id, bytes);
      });
      assert.equal(sender.isFull, true);
      for (const message of messages.slice(0, half - 1)) settle(message);
      assert.equal(sender.hasRoom, false);
      sender.drop(messages.at(-1)!);
      assert.equal(sender.hasRoom, true);
    });
  }
});

test('beyond 500,000 ids of all senders, senders lose their settled ids in turn', async () => {
  // Each sender of this many ids makes one generation.
  const perSender = rememberedIdsPerSender - 1;
  const { delivery } = bench.core;
  const session = bench.connect().session;
  const msg = new Uint8Array(2);
  const names = series('s', Math.ceil(rememberedIdsMax / perSender) + 5);
  for (const name of names) {
    const one = delivery.sender(name, session);
    // To as many receivers: the store in memory is slow with large inboxes.
    for (const id of series('m', perSender)) delivery.accept(one, id, false, `${name} ${id}`, msg, 0);
    await bench.settle();
    assert.ok(delivery.stats.rememberedIds <= rememberedIdsMax, `${delivery.stats.rememberedIds}`);
  }
  assert.equal(delivery.sender(names[0]!, session).find('m-0'), undefined);
  assert.notEqual(delivery.sender(names.at(-1)!, session).find('m-0'), undefined);
});

test('of a name that goes from node to node the last 1,000 ids are remembered, whatever the others still know', () => {
  const nodes = Array.from({ length: 3 }, () => new Sender('ann'));
  let token = 0;
  let sent = 0;
  // More than are kept of what is handed over; then a crowd of nodes that all know much of it.
  for (const at of [0, 1, 2, 0, 1, 2, 0, 0]) {
    const present = nodes[at]!;
    token++;
    for (const other of nodes) {
      if (other !== present) present.inherit(other.settledIds(), other.hadUnder, bench.time.now());
    }
    present.hadUnder = token;
    const oldest = Math.max(0, sent - rememberedIdsPerSender);
    for (let i = oldest; i < sent; i++) assert.ok(present.isSettled(`m${i}`), `m${i} of ${sent}`);
    for (let i = 0; i < 900; i++, sent++) {
      const message = messageOf(`m${sent}`);
      present.expect(message);
      present.settle(message, bench.time.now());
    }
  }
});
