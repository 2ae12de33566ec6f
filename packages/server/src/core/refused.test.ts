// Of several nodes one, whose store is away or full: what it refuses for now is sent again, on another node that knows nothing of it.
import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { serverLimits } from '@hawser/protocol';
import { StoreAway } from './ports.ts';
import { Bench } from './testing/bench.ts';
import type { BenchClient } from './testing/client.ts';
import { FakeCluster } from './testing/cluster.ts';

let bench: Bench;
let cluster: FakeCluster;
let ann: BenchClient;
let bob: BenchClient;

beforeEach(async () => {
  cluster = new FakeCluster();
  bench = await Bench.open({ cluster, inboxMessagesMax: 4 });
  [bob, ann] = [await bench.app('bob'), await bench.app('ann', { nack: true })];
  // The first message of a session goes through the store.
  ann.post('bob', 'first');
  await bench.pass(serverLimits.backlogAfterMs);
  bob.ack('first');
  await bench.settle();
  assert.deepEqual([bench.phase('bob'), ann.acks], ['live', ['first']]);
});

function takeOver(name: string): void {
  cluster.hear('other', { type: 'takeOver', name, token: ++cluster.token });
}

const handed = () => cluster.sentOf('handed')[0];
const pushed = (): string[] => bob.pushes.map(({ msgid }) => msgid);

/** Is pushed, cannot be stored, and is refused. */
async function refuse(): Promise<void> {
  bench.store.fail('append', new StoreAway('for a test'));
  ann.post('bob', 'm');
  await bench.pass(serverLimits.persistAfterMs + 10);
  assert.deepEqual(pushed(), ['first', 'm']);
  assert.deepEqual(ann.refusals.get('m'), {
    code: 200,
    msg: 'the message could not be stored, try again later',
    retry: true,
  });
  bench.store.mend('append');
}

/** The same, and its sender goes to another node. */
async function refuseAndLeave(): Promise<void> {
  await refuse();
  takeOver('ann');
  await bench.settle();
  assert.ok(ann.isEnded && handed());
}

/** What another node that has stored something is told: the number of a stream. */
async function stream(): Promise<number> {
  cluster.hear('other', { type: 'nudge', to: 'bob', position: 0, news: 1 });
  await bench.pass(serverLimits.backlogAfterMs);
  const granted = cluster.sentOf('caughtUp').at(-1);
  assert.ok(granted);
  return granted.stream;
}

async function forward(number: number): Promise<void> {
  const message = { from: 'ann', to: 'bob', msgId: 'm', msg: Buffer.from('"m"'), wall: 0, ran: 0, ttl: 0 };
  cluster.hear('other', { type: 'forward', stream: number, seq: 0, finishedTo: 0, isSettled: true, ...message });
  await bench.settle();
}

const isAcked = (number: number): boolean =>
  cluster.sentOf('acked').some(({ stream, seqs }) => stream === number && seqs.includes(0));

test('what was acked here when its sender had gone is not pushed again when it comes from another node', async () => {
  await refuseAndLeave();
  bob.ack('m');
  await bench.settle();
  const number = await stream();
  await forward(number);
  assert.deepEqual(pushed(), ['first', 'm']);
  assert.ok(isAcked(number));
});

test('nor is what found the inbox full', async () => {
  for (const msgId of ['one', 'two']) ann.post('bob', msgId);
  await bench.pass(serverLimits.persistAfterMs + 10);
  ann.post('bob', 'm');
  await bench.pass(serverLimits.persistAfterMs + 10);
  assert.deepEqual([...ann.refusals.keys()], ['m']);
  takeOver('ann');
  await bench.settle();
  bob.ack('one', 'two', 'm');
  await bench.settle();
  const number = await stream();
  await forward(number);
  assert.deepEqual(pushed(), ['first', 'one', 'two', 'm']);
  assert.ok(isAcked(number));
});

test('nor when its sender comes back with it', async () => {
  await refuseAndLeave();
  bob.ack('m');
  ann = await bench.app('ann', { nack: true });
  ann.post('bob', 'another');
  await bench.pass(serverLimits.backlogAfterMs);
  ann.post('bob', 'm');
  await bench.pass(serverLimits.persistAfterMs + 10);
  assert.deepEqual(pushed(), ['first', 'm', 'another']);
  assert.deepEqual(ann.acks, ['another', 'm']);
});

test('what was not acked here is not stored when the receiver leaves: it comes again from its sender alone', async () => {
  await refuseAndLeave();
  bob.session.gone();
  await bench.pass(serverLimits.backlogAfterMs);
  assert.deepEqual(await bench.inbox('bob'), []);
  bob = await bench.app('bob');
  const number = await stream();
  await forward(number);
  bob.ack('m');
  await bench.settle();
  assert.deepEqual(pushed(), ['m']);
  assert.ok(isAcked(number));
});

test('what is on its way to the store again when its sender goes is known where that goes', async () => {
  await refuse();
  bench.store.hold('append');
  bob.session.gone();
  await bench.settle();
  takeOver('ann');
  await bench.settle();
  assert.equal(handed(), undefined);
  bench.store.release('append');
  await bench.settle();
  assert.deepEqual(handed()?.unsure, ['m']);
  assert.deepEqual(await bench.inbox('bob'), ['m']);
});

test('what has expired while the store went away is taken anew when its sender repeats it', async () => {
  bench.store.hold('append');
  ann.post('bob', 'm', 'm', { ttl: 1 });
  await bench.pass(serverLimits.persistAfterMs + 10);
  await bench.pass(serverLimits.redeliveryAfterMs + 2000);
  assert.equal(bench.core.counters.expiredByTtl, 1);
  bench.store.fail('append', new StoreAway('for a test'));
  bench.store.release('append');
  await bench.settle();
  bench.store.mend('append');

  const before = pushed().length;
  ann.post('bob', 'm', 'm', { ttl: 1 });
  ann.post('bob', 'next');
  await bench.settle();
  assert.deepEqual(ann.acks, ['first'], 'nobody has it yet');
  assert.deepEqual(pushed().slice(before), ['m', 'next']);
  await bench.pass(serverLimits.persistAfterMs + 10);
  assert.deepEqual(ann.acks, ['first', 'm', 'next']);
  assert.deepEqual(await bench.inbox('bob'), ['m', 'next']);
});

test('what waits behind an expired push of its msgId is there once, however often its sender comes back with it', async () => {
  bench.store.hold('append');
  ann.post('bob', 'm', 'old', { ttl: 1 });
  await bench.pass(serverLimits.redeliveryAfterMs + 2000);
  assert.equal(bench.core.counters.expiredByTtl, 1);
  bench.store.fail('append', new StoreAway('for a test'));
  bench.store.release('append');
  for (let times = 0; times < 2; times++) {
    await bench.settle();
    ann.post('bob', 'm', 'new');
    await bench.pass(serverLimits.persistAfterMs + 10);
    assert.ok(ann.refusals.has('m'));
    takeOver('ann');
    await bench.settle();
    assert.ok(ann.isEnded);
    ann = await bench.app('ann', { nack: true });
  }
  bench.store.mend('append');
  ann.post('bob', 'm', 'new');
  await bench.pass(serverLimits.persistAfterMs + 10);
  assert.deepEqual([ann.acks, await bench.inbox('bob')], [['m'], ['m']]);

  const before = bob.pushes.length;
  for (let times = 0; times < 4; times++) {
    bob.ack('m');
    await bench.settle();
  }
  assert.equal(bob.pushes.length - before, 1);
});

test('what a node that is void by now had sent does not come behind what its sender has sent by way of another', async () => {
  const number = await stream();
  cluster.voids.add('other');
  await forward(number);
  assert.deepEqual(pushed(), ['first']);
  assert.ok(!isAcked(number));
});
