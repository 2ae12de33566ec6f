import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { serverLimits } from '@hawser/protocol';
import type { LetGo, Packet, Removing } from './packets.ts';
import { type Cluster, ClusterAway, StoreAway } from './ports.ts';
import { Removal, type TakeOut } from './removal.ts';
import { VirtualTime } from './testing/time.ts';

const { handoverAgainAfterMs, removalTimeoutMs, removalAgainMs } = serverLimits;

let time: VirtualTime;
let removal: Removal;
let others: string[];
let sent: [node: string, packet: Packet][];
let voids: Map<string, () => void>;
/** Names that are withheld for others, and what is to be called when they are let go of. */
let withheld: Map<string, () => void>;
let isIdle: boolean;
/** Whether the store has the name. */
let isThere: boolean;
/** Whether what is known of a name is to be forgotten, by removals that are over. */
let gone: (boolean | undefined)[];

beforeEach(() => {
  time = new VirtualTime();
  others = ['a', 'b'];
  sent = [];
  voids = new Map();
  withheld = new Map();
  isIdle = true;
  isThere = false;
  gone = [];
  const cluster = {
    self: 'c',
    others: async () => others,
    onVoid: (node: string, call: () => void) => {
      voids.set(node, call);
      return () => voids.delete(node);
    },
    send: (node: string, packet: Packet) => sent.push([node, packet]),
  };
  const ignore = (): void => {};
  removal = new Removal({
    cluster: cluster as unknown as Cluster,
    time,
    log: { debug: ignore, info: ignore, warn: ignore, error: ignore },
    withholding: {
      isIdle: () => isIdle,
      isThere: async () => isThere,
      withhold: async (name, letGo, isGone) => {
        withheld.set(name, letGo);
        gone.push(await isGone);
        withheld.delete(name);
      },
    },
  });
});

function run(takeOut: TakeOut, onlyIdle = false): { outcome: Promise<boolean | Error>; isOver: () => boolean } {
  let isOver = false;
  const outcome = removal
    .run('ann', onlyIdle, takeOut)
    .catch((error: Error) => error)
    .finally(() => {
      isOver = true;
    });
  return { outcome, isOver: () => isOver };
}

const of = (type: Packet['type']): string[] => sent.flatMap(([node, packet]) => (packet.type === type ? [node] : []));
const answer = (node: string, isDone = true, number = 1): void =>
  removal.letGo(node, { type: 'letGo', name: 'ann', removal: number, isDone });

test('a name is taken out when every other node has let go of it, and then all are told', async () => {
  const asked: (readonly string[])[] = [];
  const { outcome } = run(async (nodes) => {
    asked.push(nodes);
    return true;
  });
  await time.settle();
  assert.deepEqual(of('removing'), ['a', 'b']);
  answer('a');
  await time.settle();
  assert.deepEqual(asked, []);
  assert.deepEqual(of('removed'), []);
  answer('b');
  assert.equal(await outcome, true);
  assert.deepEqual(asked, [['a', 'b']]);
  assert.deepEqual(of('removed'), ['a', 'b']);
});

test('who does not answer is asked again, until it is void', async () => {
  const { outcome } = run(async () => true);
  await time.settle();
  answer('a');
  await time.pass(handoverAgainAfterMs);
  assert.deepEqual(of('removing'), ['a', 'b', 'b']);
  voids.get('b')?.();
  assert.equal(await outcome, true);
});

test('or until that takes too long: then nothing is taken out', async () => {
  const { outcome } = run(() => Promise.reject(new Error('taken out')));
  await time.settle();
  answer('a');
  await time.pass(removalTimeoutMs + handoverAgainAfterMs);
  assert.ok((await outcome) instanceof ClusterAway);
  const isGone = sent.flatMap(([, packet]) => (packet.type === 'removed' ? [packet.isGone] : []));
  assert.deepEqual(isGone, [false, false]);
});

test('a node that begins meanwhile is asked, too, before the name is taken out', async () => {
  const asked: (readonly string[])[] = [];
  const { outcome } = run(async (nodes) => {
    asked.push(nodes);
    return nodes.includes('d') ? true : 'others';
  });
  await time.settle();
  others = ['b', 'd'];
  answer('a');
  answer('b');
  await time.settle();
  assert.deepEqual(of('removing'), ['a', 'b', 'd']);
  answer('d');
  assert.equal(await outcome, true);
  assert.deepEqual(asked, [
    ['a', 'b'],
    ['a', 'b', 'd'],
  ]);
});

test('while nobody knows whether it was taken out it is tried again, and it was when it is not there any more', async () => {
  others = [];
  let calls = 0;
  const { outcome, isOver } = run(async () => {
    if (++calls === 1) throw new StoreAway('the answer is lost');
    return false;
  });
  await time.settle();
  assert.equal(isOver(), false);
  await time.pass(removalAgainMs);
  assert.equal(await outcome, true);
});

test('and it was not where it is there, being of use by now', async () => {
  others = [];
  isThere = true;
  let calls = 0;
  const { outcome } = run(async () => {
    if (++calls === 1) throw new StoreAway('the database is away');
    return false;
  }, true);
  await time.pass(removalAgainMs);
  assert.equal(await outcome, false);
});

test('a name that is to go only where nobody has it stays when a node has', async () => {
  const { outcome } = run(() => Promise.reject(new Error('taken out')), true);
  await time.settle();
  answer('a');
  answer('b', false);
  assert.equal(await outcome, false);
  assert.deepEqual(of('removed'), ['a', 'b']);
});

// ---- as one of the others

const removing: Removing = { type: 'removing', name: 'ann', removal: 7, onlyIdle: false };
const said = (): LetGo[] => sent.flatMap(([, packet]) => (packet.type === 'letGo' ? [packet] : []));

test('a node that is asked withholds the name, says when it has let go, and again until it is over', async () => {
  removal.asked('a', removing);
  removal.asked('a', removing);
  assert.deepEqual([...withheld.keys()], ['ann']);
  assert.deepEqual(said(), []);
  withheld.get('ann')?.();
  assert.equal(said().length, 1);
  await time.pass(removalAgainMs);
  assert.equal(said().length, 2, 'it may have been lost');
  removal.over('a', { type: 'removed', name: 'ann', removal: 6, isGone: true });
  await time.settle();
  assert.equal(withheld.size, 1, 'that was another');
  removal.over('a', { type: 'removed', name: 'ann', removal: 7, isGone: false });
  await time.pass(removalAgainMs);
  assert.equal(withheld.size, 0);
  assert.deepEqual(gone, [false]);
  assert.equal(said().length, 2);
  assert.equal(removal.size, 0);
});

test('or until the node that removes is void', async () => {
  removal.asked('a', removing);
  voids.get('a')?.();
  await time.settle();
  assert.equal(withheld.size, 0);
  assert.deepEqual(gone, [undefined], 'nobody knows');
});

test('a node that has something of the name keeps it, when it is to go only where nobody has it', async () => {
  isIdle = false;
  removal.asked('a', { ...removing, onlyIdle: true });
  assert.deepEqual(said(), [{ type: 'letGo', name: 'ann', removal: 7, isDone: false }]);
  assert.equal(withheld.size, 0);
});

test('whoever says that it has let go when nobody asks any more hears that it is over', () => {
  answer('a', true, 99);
  assert.deepEqual(sent, [['a', { type: 'removed', name: 'ann', removal: 99, isGone: undefined }]]);
});
