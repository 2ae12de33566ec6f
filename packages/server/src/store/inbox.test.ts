import assert from 'node:assert/strict';
import { test } from 'node:test';
import { serverLimits } from '@hawser/protocol';
import fc from 'fast-check';
import { Inbox } from './inbox.ts';

// fast-check prints the seed of a failure; another seed is tried with HAWSER_SEED=<number>.
fc.configureGlobal({ seed: Number(process.env.HAWSER_SEED ?? 1) });

const LIMITS = { messagesMax: 8, bytesMax: 1000, senderShare: 2 };

interface Known {
  readonly from: string;
  readonly msgId: string;
  readonly bytes: number;
  readonly position: number;
}

/** An inbox that holds messages in segments, and the same in a Map. */
class Both {
  readonly inbox: Inbox;
  readonly model = new Map<number, Known>();
  readonly segments = new Map<number, number[]>();
  #position = 0;

  constructor(seed: number) {
    this.inbox = new Inbox(seed);
  }

  add(messages: readonly Omit<Known, 'position'>[]): void {
    const positions: number[] = [];
    for (const { from, msgId, bytes } of messages) {
      // With gaps, as other inboxes take positions too.
      this.#position += 1 + (bytes % 3);
      this.inbox.add(from, msgId, bytes, this.#position);
      this.model.set(this.#position, { from, msgId, bytes, position: this.#position });
      positions.push(this.#position);
    }
    this.inbox.beginSegment(positions[0]!);
    this.inbox.show(positions.length);
    this.segments.set(positions[0]!, positions);
  }

  remove({ from, msgId, bytes, position }: Known): void {
    const [first, positions] = [...this.segments].find(([, all]) => all.includes(position))!;
    assert.equal(this.inbox.remove(from, msgId, bytes, position), first);
    this.model.delete(position);
    if (!positions.some((other) => this.model.has(other))) this.segments.delete(first);
    assert.equal(this.inbox.remove(from, msgId, bytes, position), undefined);
  }

  check(): void {
    const { inbox, model } = this;
    assert.equal(inbox.messages, model.size);
    assert.equal(
      inbox.bytes,
      [...model.values()].reduce((sum, { bytes }) => sum + bytes, 0),
    );
    for (const { from, msgId, position } of model.values()) {
      const same = [...model.values()].filter((other) => other.from === from && other.msgId === msgId);
      const candidates = inbox.candidates({ from, msgId });
      assert.ok(candidates.includes(position));
      assert.equal(new Set(candidates).size, candidates.length);
      for (const other of same) assert.ok(candidates.includes(other.position));
      for (const candidate of candidates) assert.ok(model.has(candidate));
    }
    const firsts = [...this.segments.keys()];
    const listed: number[] = [];
    for (let next = inbox.segmentsFrom(0, 3); next.length > 0; next = inbox.segmentsBehind(listed.at(-1)!, 3)) {
      listed.push(...next);
    }
    assert.deepEqual(listed, firsts);
    for (const [first, positions] of this.segments) {
      assert.equal(inbox.hasSegment(first), true);
      const gone = positions.filter((position) => !model.has(position));
      assert.deepEqual([...(inbox.gone(first) ?? [])].sort(byNumber), gone);
      for (const position of positions) {
        assert.equal(inbox.segmentHolding(position), first);
        assert.equal(inbox.segmentsFrom(position, 1)[0], first);
      }
    }
  }
}

function byNumber(one: number, other: number): number {
  return one - other;
}

/** Few senders and ids, so that the same ones come again and again. */
const message = fc.record({
  from: fc.constantFrom('a', 'b', 'ab'),
  msgId: fc.constantFrom('', 'b', 'bb', 'c'),
  bytes: fc.nat(50),
});
const step = fc.oneof(
  fc.record({ add: fc.array(message, { minLength: 1, maxLength: 12 }) }),
  fc.record({ remove: fc.array(fc.nat(), { minLength: 1, maxLength: 12 }) }),
);

test('it knows what a Map knows, whatever comes and goes', () => {
  fc.assert(
    fc.property(fc.nat(), fc.array(step, { maxLength: 60 }), (seed, steps) => {
      const both = new Both(seed);
      for (const next of steps) {
        if ('add' in next) both.add(next.add);
        else {
          for (const at of next.remove) {
            const known = [...both.model.values()];
            if (known.length > 0) both.remove(known[at % known.length]!);
          }
        }
        both.check();
      }
    }),
    { numRuns: 150 },
  );
});

test('many messages under one id are all found, and each is removed alone', () => {
  const inbox = new Inbox(7);
  const positions = Array.from({ length: 5_000 }, (_, i) => i + 1);
  for (const position of positions) {
    inbox.add('a', 'same', 1, position);
    inbox.beginSegment(position);
    inbox.show(1);
  }
  assert.deepEqual(inbox.candidates({ from: 'a', msgId: 'same' }).sort(byNumber), positions);
  for (const position of positions) if (position % 2 === 0) inbox.remove('a', 'same', 1, position);
  const odd = positions.filter((position) => position % 2 === 1);
  assert.deepEqual(inbox.candidates({ from: 'a', msgId: 'same' }).sort(byNumber), odd);
  assert.equal(inbox.messages, odd.length);
});

test('an inbox through which messages stream for ever stays as it is', () => {
  const inbox = new Inbox(7);
  for (let position = 1; position <= 50_000; position++) {
    inbox.add('a', `m${position}`, 10, position);
    inbox.beginSegment(position);
    inbox.show(1);
    const old = position - 5;
    if (old > 0) assert.equal(inbox.remove('a', `m${old}`, 10, old), old);
  }
  assert.deepEqual([inbox.messages, inbox.bytes], [5, 50]);
  assert.deepEqual(inbox.segmentsFrom(0, 100), [49_996, 49_997, 49_998, 49_999, 50_000]);
  assert.deepEqual(inbox.candidates({ from: 'a', msgId: 'm49995' }), []);
});

test('positions beyond 32 bits are kept', () => {
  const inbox = new Inbox(7);
  const position = 2 ** 40 + 1;
  inbox.add('a', 'm', 1, position);
  inbox.beginSegment(position);
  inbox.show(1);
  assert.deepEqual(inbox.candidates({ from: 'a', msgId: 'm' }), [position]);
  assert.deepEqual(inbox.segmentsFrom(2 ** 33, 1), [position]);
  assert.equal(inbox.remove('a', 'm', 1, position), position);
});

test('a segment is added with what is gone of it already, and dropped when it cannot be read', () => {
  const inbox = new Inbox(7);
  inbox.addGone(10);
  inbox.addGone(11);
  inbox.add('a', 'm', 1, 12);
  inbox.beginSegment(10);
  inbox.show(3);
  inbox.add('a', 'n', 1, 20);
  inbox.beginSegment(20);
  inbox.show(1);
  assert.deepEqual([...inbox.gone(10)!], [10, 11]);
  assert.equal(inbox.remove('a', 'm', 1, 12), 10);
  assert.equal(inbox.hasSegment(10), false);
  assert.equal(inbox.gone(10), undefined);
  inbox.dropSegment(20);
  inbox.dropSegment(20);
  assert.deepEqual(inbox.segmentsFrom(0, 10), []);
});

test('of segments with large records no more are listed at once than may be read at once, but one at least', () => {
  const inbox = new Inbox(7);
  const { inboxReadBytesMax: most, inboxRecordBytesFree: free } = serverLimits;
  const add = (position: number, recordBytes: number): void => {
    inbox.add('a', `m${position}`, 1, position);
    inbox.beginSegment(position);
    inbox.setRecordBytes(position, recordBytes);
    inbox.show(1);
  };
  const remove = (position: number): void => {
    assert.equal(inbox.remove('a', `m${position}`, 1, position), position);
    inbox.unnote(position);
  };
  for (let position = 1; position <= 20; position++) add(position, free);
  add(21, most - free - 1);
  add(22, free + 1);
  add(23, free + 1);
  add(24, most + 1);
  add(25, free);
  const listed = Array.from({ length: 22 }, (_, i) => i + 1);
  assert.deepEqual(inbox.segmentsFrom(0, 100), listed);
  assert.deepEqual(inbox.segmentsFrom(0, 5), [1, 2, 3, 4, 5]);
  assert.deepEqual(inbox.segmentsBehind(22, 100), [23]);
  assert.deepEqual(inbox.segmentsBehind(23, 100), [24]);
  assert.deepEqual(inbox.segmentsBehind(24, 100), [25]);
  const { memoryBytes } = inbox;
  // What is no more does not count, and takes no memory.
  remove(21);
  inbox.dropSegment(22);
  assert.deepEqual(inbox.segmentsFrom(0, 100), [...listed.slice(0, 20), 23]);
  remove(23);
  remove(24);
  assert.equal(inbox.memoryBytes, memoryBytes - 150 - 4 * 40);
});

test('nobody can choose ids that are mistaken for one another', () => {
  // Characters that differ in their highest bit only: what that changes must reach every bit of the fingerprint.
  const count = 30_000;
  const msgIds = Array.from({ length: count }, (_, i) =>
    Array.from({ length: 16 }, (_, bit) => ((i >> bit) & 1 ? '\u8061' : 'a')).join(''),
  );
  for (const seed of [1, 0x7fffffff, 0xdeadbeef]) {
    const inbox = new Inbox(seed);
    for (const [i, msgId] of msgIds.entries()) inbox.add('a', msgId, 1, i + 1);
    let mistaken = 0;
    for (const msgId of msgIds) mistaken += inbox.candidates({ from: 'a', msgId }).length - 1;
    // By chance alone about 0.2.
    assert.ok(mistaken <= 10, `${mistaken} mistaken of ${count}, seed ${seed}`);
  }
});

test('where the sender ends and the msgId begins matters', () => {
  const inbox = new Inbox(7);
  inbox.add('a', 'bc', 1, 1);
  inbox.add('ab', 'x', 1, 2);
  assert.deepEqual(inbox.candidates({ from: 'ab', msgId: 'c' }), []);
  assert.deepEqual(inbox.candidates({ from: 'nobody', msgId: 'bc' }), []);
});

test('an empty inbox has room for anything, and no other for more than its limits', () => {
  const inbox = new Inbox(7);
  assert.equal(inbox.hasRoom('a', 5000, LIMITS), true);
  inbox.add('a', 'm', 400, 1);
  assert.equal(inbox.hasRoom('a', 100, LIMITS), true);
  assert.equal(inbox.hasRoom('a', 101, LIMITS), false);
  assert.equal(inbox.hasRoom('b', 600, LIMITS), true);
  assert.equal(inbox.hasRoom('b', 601, LIMITS), false);
  for (let i = 2; i <= 4; i++) inbox.add('a', `m${i}`, 0, i);
  assert.equal(inbox.hasRoom('a', 0, LIMITS), false);
  for (let i = 5; i <= 8; i++) {
    assert.equal(inbox.hasRoom(`b${i}`, 0, LIMITS), true);
    inbox.add(`b${i}`, 'm', 0, i);
  }
  assert.equal(inbox.hasRoom('c', 0, LIMITS), false);
});
