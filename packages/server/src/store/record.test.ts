import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isName } from '@hawser/protocol';
import fc from 'fast-check';
import type { NameRecord } from '../core/ports.ts';
import {
  decodeName,
  described,
  encodeName,
  inboxKey,
  inboxPrefix,
  nameKey,
  pairKey,
  positionOf,
  range,
  receiverOf,
} from './record.ts';

// fast-check prints the seed of a failure; another seed is tried with HAWSER_SEED=<number>.
fc.configureGlobal({ seed: Number(process.env.HAWSER_SEED ?? 1) });

const name = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 }).filter(isName);
const position = fc.maxSafeNat();
const kind = fc.constantFrom('m', 'd');

function compare(one: Uint8Array, other: Uint8Array): number {
  return Math.sign(Buffer.compare(one, other));
}

function lies(key: Uint8Array, { gte, lt }: { gte: Uint8Array; lt: Uint8Array }): boolean {
  return compare(key, gte) >= 0 && compare(key, lt) < 0;
}

test('receiver and position come back from a key of an inbox, wherever its bytes lie', () => {
  fc.assert(
    fc.property(kind, name, position, fc.nat(9), (kind, receiver, at, offset) => {
      const key = inboxKey(kind, receiver, at);
      const buffer = new Uint8Array(key.length + offset + 3);
      buffer.set(key, offset);
      const view = buffer.subarray(offset, offset + key.length);
      assert.equal(positionOf(view), at);
      assert.equal(receiverOf(view), receiver);
    }),
  );
});

test('keys of one inbox sort by position', () => {
  fc.assert(
    fc.property(name, position, position, (receiver, one, other) => {
      const order = compare(inboxKey('m', receiver, one), inboxKey('m', receiver, other));
      assert.equal(order, Math.sign(one - other));
    }),
  );
});

test('keys of inboxes sort by the bytes of the names, and lie in the range of their own inbox only', () => {
  fc.assert(
    fc.property(name, name, position, position, fc.boolean(), (one, more, at, otherAt, isLonger) => {
      const other = isLonger ? one + more : more;
      fc.pre(isName(other) && other !== one);
      const order = compare(Buffer.from(one), Buffer.from(other));
      assert.equal(compare(inboxKey('m', one, at), inboxKey('m', other, otherAt)), order);
      assert.equal(lies(inboxKey('m', one, at), range(inboxPrefix('m', one))), true);
      assert.equal(lies(inboxKey('m', one, at), range(inboxPrefix('m', other))), false);
      assert.equal(lies(inboxKey('d', one, at), range(inboxPrefix('m', one))), false);
      assert.equal(compare(nameKey(one), nameKey(other)), order);
    }),
  );
});

test('a binding lies in the range of its first name only', () => {
  fc.assert(
    fc.property(name, name, name, (one, more, peer) => {
      const other = one + more;
      fc.pre(isName(other));
      assert.equal(lies(pairKey('b', one, peer), range(pairKey('b', one, ''))), true);
      assert.equal(lies(pairKey('b', other, peer), range(pairKey('b', one, ''))), false);
      assert.equal(lies(pairKey('b', one, peer), range(pairKey('b', other, ''))), false);
      assert.equal(lies(pairKey('r', one, peer), range(pairKey('b', one, ''))), false);
    }),
  );
});

test('a name\u2019s record comes back as it was', () => {
  const text = fc.string({ unit: 'grapheme' });
  const wall = fc.double({ min: 0, noNaN: true }).filter(Number.isFinite);
  const user = fc.record({ kind: fc.constant('user' as const), passwordHash: text, createdAt: wall });
  const device = fc.record({
    kind: fc.constant('device' as const),
    version: fc.option(text, { nil: undefined }),
    abilities: fc.option(text, { nil: undefined }),
    createdAt: wall,
    lastSeenAt: wall,
  });
  fc.assert(
    fc.property(fc.oneof(user, device), (record: NameRecord) => {
      const back = decodeName(nameKey('ann'), encodeName(nameKey('ann'), record));
      for (const [field, value] of Object.entries(record)) {
        // JSON has no -0.
        const found = (back as unknown as Record<string, unknown>)[field];
        assert.ok(found === value, `${field}: ${String(found)} for ${String(value)}`);
      }
    }),
  );
});

test('a record of which any bit has turned, or that lies under another key, is damaged', () => {
  const record: NameRecord = { kind: 'user', passwordHash: 'hash', createdAt: 1 };
  const value = encodeName(nameKey('ann'), record);
  for (let bit = 0; bit < value.length * 8; bit++) {
    const damaged = value.slice();
    damaged[bit >> 3]! ^= 1 << (bit & 7);
    assert.equal(decodeName(nameKey('ann'), damaged), undefined, `bit ${bit}`);
  }
  assert.equal(decodeName(nameKey('anm'), value), undefined);
  for (let length = 0; length < value.length; length++) {
    assert.equal(decodeName(nameKey('ann'), value.subarray(0, length)), undefined, `${length} bytes`);
  }
  assert.deepEqual(decodeName(nameKey('ann'), value), record);
});

test('what a damaged record was of is told by its key', () => {
  for (const [key, record, name] of [
    [nameKey('ann'), 'name', 'ann'],
    [pairKey('b', 'ann', 'lamp'), 'binding', 'ann and lamp'],
    [pairKey('r', 'lamp', 'ann'), 'binding', 'lamp and ann'],
    [inboxKey('m', 'ann', 77), 'messages', 'ann'],
    [inboxKey('d', 'ann', 77), 'note of removed messages', 'ann'],
  ] as const) {
    const found = described(key);
    assert.deepEqual([found.record, found.name], [record, name]);
  }
});
