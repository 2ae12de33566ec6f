import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cmd, decodeText, serverLimits } from '@hawser/protocol';
import { DeviceLists } from './device-lists.ts';
import { Directory } from './directory.ts';
import { type Cluster, ClusterAway, type Store } from './ports.ts';
import type { Session } from './session.ts';
import { Bench } from './testing/bench.ts';
import { VirtualTime } from './testing/time.ts';

interface Answer {
  readonly devices: { readonly deviceId: string; readonly online?: boolean }[];
  readonly next?: string;
}

/** Devices in a store that notes how many are read at a time; a test may hold it up. */
class Shelf {
  readonly reads: number[] = [];
  held: PromiseWithResolvers<void> | undefined;
  readonly abilities: string;

  constructor(abilities = '[]') {
    this.abilities = abilities;
  }

  async names(names: readonly string[]): Promise<object[]> {
    this.reads.push(names.length);
    await this.held?.promise;
    const { abilities } = this;
    return names.map(() => ({ kind: 'device', version: '"1"', abilities, createdAt: 0, lastSeenAt: 5 }));
  }

  get store(): Store {
    return this as unknown as Store;
  }
}

/** The other nodes, as far as these tests ask for them. */
function clusterOf(locate: Cluster['locate']): Cluster {
  return { self: 'here', locate } as Partial<Cluster> as Cluster;
}

const wanted = (): boolean => true;

function parsed(body: Uint8Array | undefined): Answer {
  return JSON.parse(decodeText(body!) ?? '') as Answer;
}

function ids(count: number): string[] {
  return Array.from({ length: count }, (_, i) => `d-${String(i).padStart(4, '0')}`);
}

async function allPages(lists: DeviceLists, devices: readonly string[], time = new VirtualTime()): Promise<Answer[]> {
  const pages: Answer[] = [];
  for (let after: string | undefined; ; ) {
    const asked = lists.page(() => devices, after, wanted);
    // Long enough for any place to be free again.
    await time.pass(100);
    const page = parsed(await asked);
    pages.push(page);
    after = page.next;
    if (after === undefined) return pages;
  }
}

test('every device comes once, in order, in pages of 500 at most', async () => {
  for (const count of [0, 1, 499, 500, 501, 1000]) {
    const lists = new DeviceLists(new Shelf().store, new Directory(), undefined, new VirtualTime());
    const pages = await allPages(lists, ids(count).reverse());
    const found = pages.flatMap(({ devices }) => devices.map(({ deviceId }) => deviceId));
    assert.deepEqual(found, ids(count));
    assert.equal(pages.length, Math.max(1, Math.ceil(count / 500)), `${count} devices`);
  }
});

test('a page ends sooner when its devices have much to say, and no more is read than it may need', async () => {
  const shelf = new Shelf(JSON.stringify(['x'.repeat(8 * 1024 - 4)]));
  const time = new VirtualTime();
  const lists = new DeviceLists(shelf.store, new Directory(), undefined, time);
  const pages = await allPages(lists, ids(1000), time);
  assert.deepEqual(
    pages.flatMap(({ devices }) => devices.map(({ deviceId }) => deviceId)),
    ids(1000),
  );
  for (const page of pages.slice(0, -1)) assert.equal(page.devices.length, 15);
  assert.ok(Math.max(...shelf.reads) <= serverLimits.deviceRecordsAtOnce);
  assert.ok(shelf.reads.reduce((sum, read) => sum + read) <= 1100);
});

test('large pages come no faster than the limit, whoever asks; small ones are not held up', async () => {
  const time = new VirtualTime();
  const shelf = new Shelf(JSON.stringify(['x'.repeat(8 * 1024 - 4)]));
  const lists = new DeviceLists(shelf.store, new Directory(), undefined, time);
  let bytes = 0;
  let isOver = false;
  const loops = Array.from({ length: 20 }, async () => {
    while (!isOver) {
      const page = await lists.page(() => ids(100), undefined, wanted);
      bytes += page?.length ?? 0;
    }
  });
  await time.pass(2000);
  const most = 2 * serverLimits.deviceListBytesPerSecondMax;
  assert.ok(bytes <= most + 1024 * 1024 && bytes > most / 2, `${bytes} bytes in 2 s`);
  isOver = true;
  await time.pass(1000);
  await Promise.all(loops);

  const small = new DeviceLists(new Shelf().store, new Directory(), undefined, time);
  for (let i = 0; i < 1000; i++) await small.page(() => ids(5), undefined, wanted);
});

test('few pages are made at once, in the order asked for; what nobody waits for any more is not made', async () => {
  const shelf = new Shelf();
  const lists = new DeviceLists(shelf.store, new Directory(), undefined, new VirtualTime());
  shelf.held = Promise.withResolvers();
  const done: number[] = [];
  const pages = Array.from({ length: 20 }, (_, i) =>
    lists
      .page(
        () => ids(1),
        undefined,
        () => i !== 7,
      )
      .then((body) => body && done.push(i)),
  );
  await Promise.resolve();
  assert.equal(shelf.reads.length, serverLimits.deviceListsAtOnceMax);
  assert.equal(lists.waiting, 20 - serverLimits.deviceListsAtOnceMax);
  shelf.held.resolve();
  await Promise.all(pages);
  assert.deepEqual(
    done,
    Array.from({ length: 20 }, (_, i) => i).filter((i) => i !== 7),
  );
  assert.equal(shelf.reads.length, 19);
});

test('a read that fails gives its place to the next', async () => {
  let isBroken = true;
  const shelf = new Shelf();
  const store = { names: (names: string[]) => (isBroken ? Promise.reject(new Error('away')) : shelf.names(names)) };
  const lists = new DeviceLists(store as unknown as Store, new Directory(), undefined, new VirtualTime());
  for (let i = 0; i < 10; i++)
    await assert.rejects(
      lists.page(() => ids(1), undefined, wanted),
      { message: 'away' },
    );
  isBroken = false;
  assert.equal(parsed(await lists.page(() => ids(1), undefined, wanted)).devices.length, 1);
});

test('in a cluster who is here is online, and the others are asked for', async () => {
  const directory = new Directory();
  directory.claim('d-0000', {} as Session);
  const asked: string[] = [];
  const nodes: Record<string, string | undefined> = { 'd-0001': 'there', 'd-0002': 'here' };
  const cluster = clusterOf((name) => {
    asked.push(name);
    return Promise.resolve(nodes[name]);
  });
  const lists = new DeviceLists(new Shelf().store, directory, cluster, new VirtualTime());
  const { devices } = parsed(await lists.page(() => ids(4), undefined, wanted));
  // What this node holds without a session has just left.
  assert.deepEqual(
    devices.map(({ online }) => online),
    [true, true, false, false],
  );
  assert.deepEqual(asked, ['d-0001', 'd-0002', 'd-0003']);
});

test('while the cluster cannot tell, the answer leaves out who is online, and soon stops to ask', async () => {
  let asked = 0;
  const cluster = clusterOf(() => {
    asked++;
    return Promise.reject(new ClusterAway('for a test'));
  });
  const directory = new Directory();
  directory.claim('d-0400', {} as Session);
  const lists = new DeviceLists(new Shelf().store, directory, cluster, new VirtualTime());
  const { devices } = parsed(await lists.page(() => ids(500), undefined, wanted));
  assert.deepEqual(
    devices.filter(({ online }) => online !== undefined).map(({ deviceId }) => deviceId),
    ['d-0400'],
  );
  assert.ok(asked <= serverLimits.deviceRecordsAtOnce, `${asked} asked`);
});

test('a cluster that does not answer is waited for no longer than the limit, in all', async () => {
  const time = new VirtualTime();
  const cluster = clusterOf(() => new Promise(() => {}));
  const lists = new DeviceLists(new Shelf().store, new Directory(), cluster, time);
  const answers: Answer[] = [];
  void lists.page(() => ids(500), undefined, wanted).then((body) => answers.push(parsed(body)));
  await time.pass(serverLimits.locateTimeoutMs - 1);
  assert.equal(answers.length, 0);
  await time.pass(1);
  assert.equal(answers[0]?.devices.length, 500);
  assert.ok(answers[0].devices.every((device) => !('online' in device)));
});

test('the commands behind it on a connection wait for it; a store that fails is an exception', async () => {
  const bench = await Bench.open();
  const app = await bench.app('ann');
  app.request(cmd.addDevice, { deviceId: 'lamp' }, 'add');
  await bench.settle();
  bench.store.hold('names');
  app.request(cmd.devices, undefined, 'list');
  app.request(cmd.removeDevice, { deviceId: 'lamp' }, 'remove');
  await bench.settle();
  assert.equal(app.answers.at(-1)?.msgId, 'add');
  bench.store.release('names');
  await bench.settle();
  assert.deepEqual(
    app.answers.slice(-2).map(({ msgId }) => msgId),
    ['list', 'remove'],
  );
  assert.deepEqual((app.answers.at(-2)!.body as Answer).devices, [{ deviceId: 'lamp', online: false, lastSeen: 0 }]);
  app.request(cmd.addDevice, { deviceId: 'lamp' }, 'again');
  bench.store.fail('names', new Error('for a test'));
  app.request(cmd.devices, undefined, 'failed');
  await bench.settle();
  assert.deepEqual(app.answers.at(-1), {
    cmd: cmd.devices,
    msgId: 'failed',
    body: { code: 200, msg: 'an error in the server' },
  });
});
