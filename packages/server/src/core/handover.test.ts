import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { serverLimits } from '@hawser/protocol';
import type { Delivery } from './delivery.ts';
import { Directory } from './directory.ts';
import { Handover } from './handover.ts';
import type { Memory, Packet } from './packets.ts';
import { type Claim, type Cluster, ClusterAway } from './ports.ts';
import type { Session } from './session.ts';
import { VirtualTime } from './testing/time.ts';

const { handoverAgainAfterMs, handoverTimeoutMs } = serverLimits;
const NOTHING: Memory = { settled: new Int32Array(0), hadUnder: 0, unsure: [], finished: [] };

/** A session as far as a name is concerned. */
class Newcomer {
  isClosed = false;
  readonly acks: string[] = [];
  supersede(): void {
    this.isClosed = true;
    directory.release('ann', this as unknown as Session);
  }
  ack({ msgId }: { readonly msgId: string }): void {
    this.acks.push(msgId);
  }
}

let time: VirtualTime;
let directory: Directory;
let handover: Handover;
/** Claims not answered yet, and all else that the cluster was told. */
let claims: { resolve: (claim: Claim) => void; reject: (error: Error) => void }[];
let sent: [node: string, packet: Packet][];
let confirmed: [token: number, previous: readonly string[]][];
let released: number[];
let inherited: Memory[];
let complete: number[];
let voids: Map<string, () => void>;
/** What `Delivery.leave` waits for. */
let isQuiet: PromiseWithResolvers<Memory>;

beforeEach(() => {
  time = new VirtualTime();
  directory = new Directory();
  claims = [];
  sent = [];
  confirmed = [];
  released = [];
  inherited = [];
  complete = [];
  voids = new Map();
  isQuiet = Promise.withResolvers();
  const cluster = {
    self: 'c',
    claim: () => new Promise<Claim>((resolve, reject) => claims.push({ resolve, reject })),
    confirm: (_: string, token: number, previous: readonly string[]) => confirmed.push([token, previous]),
    release: (_: string, token: number) => released.push(token),
    onVoid: (node: string, call: () => void) => {
      voids.set(node, call);
      return () => voids.delete(node);
    },
    send: (node: string, packet: Packet) => sent.push([node, packet]),
  };
  const delivery = {
    leave: () => isQuiet.promise,
    inherit: (_: string, memory: Memory) => inherited.push(memory),
    hasAll: (_: string, token: number) => complete.push(token),
  };
  handover = new Handover(cluster as unknown as Cluster, time, directory, delivery as unknown as Delivery);
});

function claim(): { newcomer: Newcomer; outcome: Promise<boolean | Error> } {
  const newcomer = new Newcomer();
  const session = newcomer as unknown as Session;
  const take = () => directory.claim('ann', session)?.supersede();
  return { newcomer, outcome: handover.claim('ann', session, take).catch((error: Error) => error) };
}

const asked = (): string[] => sent.flatMap(([node, packet]) => (packet.type === 'takeOver' ? [node] : []));

test('a name that nobody had is served at once', async () => {
  const { outcome } = claim();
  claims[0]?.resolve({ token: 1, previous: [] });
  assert.equal(await outcome, true);
  assert.deepEqual(sent, []);
});

test('a session is served when each node that had the name has let go of it, and knows what they knew', async () => {
  const { newcomer, outcome } = claim();
  claims[0]?.resolve({ token: 5, previous: ['a', 'b'] });
  await time.settle();
  assert.deepEqual(asked(), ['a', 'b']);
  const memory: Memory = { ...NOTHING, settled: Int32Array.of(1, 2, 3), unsure: ['m'] };
  handover.handed('a', { type: 'handed', name: 'ann', token: 5, ...memory });
  let isServed = false;
  void outcome.then(() => {
    isServed = true;
  });
  await time.settle();
  assert.equal(isServed, false);
  handover.handed('b', { type: 'handed', name: 'ann', token: 4, ...NOTHING });
  await time.settle();
  assert.equal(isServed, false, 'that was the answer to another claim');
  assert.deepEqual(complete, []);
  handover.handed('b', { type: 'handed', name: 'ann', token: 5, ...NOTHING });
  assert.equal(await outcome, true);
  assert.deepEqual(inherited, [memory, NOTHING]);
  assert.deepEqual(complete, [5], 'what is settled from now on is newer than what they knew');
  assert.deepEqual(newcomer.acks, ['m']);
  assert.deepEqual(confirmed, [[5, ['a', 'b']]]);
});

test('a node that does not answer is asked again, until it has ended', async () => {
  const { outcome } = claim();
  claims[0]?.resolve({ token: 5, previous: ['a'] });
  await time.settle();
  await time.pass(handoverAgainAfterMs);
  assert.deepEqual(asked(), ['a', 'a']);
  voids.get('a')?.();
  assert.equal(await outcome, true);
  assert.deepEqual(inherited, []);
  assert.equal(voids.size, 0, 'nothing waits for that node any more');
});

test('or until that takes too long: then nobody is served, and the next claim is told of it again', async () => {
  const { outcome } = claim();
  claims[0]?.resolve({ token: 5, previous: ['a'] });
  await time.pass(handoverTimeoutMs + handoverAgainAfterMs);
  assert.ok((await outcome) instanceof ClusterAway);
  assert.deepEqual(confirmed, []);
});

test('a login that has ended meanwhile says of no node that it has let go', async () => {
  const { newcomer, outcome } = claim();
  claims[0]?.resolve({ token: 5, previous: ['a'] });
  await time.settle();
  newcomer.supersede();
  handover.handed('a', { type: 'handed', name: 'ann', token: 5, ...NOTHING });
  assert.equal(await outcome, false);
  assert.deepEqual(confirmed, []);
});

test('of two logins here the newer claim has the name, in whichever order the answers come', async () => {
  const [first, second] = [claim(), claim()];
  claims[1]?.resolve({ token: 2, previous: [] });
  assert.equal(await second.outcome, true);
  claims[0]?.resolve({ token: 1, previous: [] });
  assert.equal(await first.outcome, false);
  assert.deepEqual([first.newcomer.isClosed, second.newcomer.isClosed], [true, false]);
});

test('a newer claim of another node ends the session here, also one whose claim is not answered yet', async () => {
  const early = claim();
  handover.taken('ann', 3);
  claims[0]?.resolve({ token: 2, previous: [] });
  assert.equal(await early.outcome, false);
  assert.equal(early.newcomer.isClosed, true);
  const served = claim();
  claims[1]?.resolve({ token: 4, previous: [] });
  assert.equal(await served.outcome, true);
  handover.taken('ann', 3);
  assert.equal(served.newcomer.isClosed, false, 'an older claim');
  handover.taken('ann', 5);
  assert.equal(served.newcomer.isClosed, true);
});

test('a name is handed over when all that is on its way is durable, not before', async () => {
  const { newcomer, outcome } = claim();
  claims[0]?.resolve({ token: 1, previous: [] });
  await outcome;
  void handover.handOver('a', 'ann', 2);
  await time.settle();
  assert.equal(newcomer.isClosed, true);
  assert.deepEqual(sent, []);
  isQuiet.resolve({ ...NOTHING, settled: Int32Array.of(1, 2, 3) });
  await time.settle();
  assert.deepEqual(sent, [
    ['a', { type: 'handed', name: 'ann', token: 2, ...NOTHING, settled: Int32Array.of(1, 2, 3) }],
  ]);
});

test('whoever asks for a name that a session here has by a newer claim is not answered, and asks no more once it has ended', async () => {
  const newer = claim();
  claims[0]?.resolve({ token: 3, previous: [] });
  await newer.outcome;
  await handover.handOver('a', 'ann', 2);
  assert.equal(newer.newcomer.isClosed, false);
  assert.deepEqual(sent, []);

  const older = claim();
  claims[1]?.resolve({ token: 4, previous: ['a'] });
  await time.settle();
  void handover.handOver('b', 'ann', 5);
  await time.settle();
  assert.equal(older.newcomer.isClosed, true);
  sent = [];
  await time.pass(2 * handoverAgainAfterMs);
  assert.equal(await older.outcome, false);
  assert.deepEqual(asked(), []);
});

test('a name whose session has ended is given up when all is durable, unless it has come back', async () => {
  const { newcomer, outcome } = claim();
  claims[0]?.resolve({ token: 1, previous: [] });
  await outcome;
  directory.release('ann', newcomer as unknown as Session);
  void handover.left('ann');
  await time.settle();
  assert.deepEqual(released, []);
  const again = claim();
  claims[1]?.resolve({ token: 2, previous: [] });
  await again.outcome;
  isQuiet.resolve(NOTHING);
  await time.settle();
  assert.deepEqual(released, []);
  directory.release('ann', again.newcomer as unknown as Session);
  void handover.left('ann');
  await time.settle();
  assert.deepEqual(released, [2]);
  assert.equal(handover.size, 0);
});

test('a directory that is away is told to whoever logs in', async () => {
  const { outcome } = claim();
  claims[0]?.reject(new ClusterAway('for a test'));
  assert.ok((await outcome) instanceof ClusterAway);
  assert.equal(handover.size, 0);
});

test('to end the session of a name wherever it is, the name is claimed from all other nodes and given up', async () => {
  const expelled = handover.expel('ann');
  claims[0]!.resolve({ token: 7, previous: ['a'] });
  await expelled;
  assert.deepEqual(released, [7]);
  // Node a ended its session when it was told; what it knows is asked for by whoever comes next.
  assert.deepEqual([asked(), confirmed], [[], []]);
  const failing = handover.expel('ann');
  claims[1]!.reject(new ClusterAway('away'));
  await assert.rejects(failing, ClusterAway);
});
