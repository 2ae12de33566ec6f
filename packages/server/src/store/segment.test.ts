import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isMsgId, isName } from '@hawser/protocol';
import fc from 'fast-check';
import type { StoredMessage } from '../core/ports.ts';
import { newMessage, plain } from './contract-harness.ts';
import { inboxKey } from './record.ts';
import { SEGMENT_BYTES_MAX, SEGMENT_MESSAGES_MAX, SegmentReader, SegmentWriter } from './segment.ts';

// fast-check prints the seed of a failure; another seed is tried with HAWSER_SEED=<number>.
fc.configureGlobal({ seed: Number(process.env.HAWSER_SEED ?? 1) });

const text = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 130 });
const message = fc.record({
  from: text.filter(isName),
  msgId: text.filter(isMsgId),
  msg: fc.uint8Array({ maxLength: 3000 }),
  wall: fc.double({ noNaN: true }),
  ran: fc.double({ noNaN: true }),
  ttl: fc.nat(0xffffffff),
  gap: fc.integer({ min: 1, max: 1_000_000 }),
});

function messagesOf(reader: SegmentReader | undefined): StoredMessage[] {
  const messages: StoredMessage[] = [];
  while (reader?.next()) {
    const read = reader.message();
    assert.deepEqual(
      [reader.position, reader.from, reader.msgId, reader.size],
      [read.position, read.from, read.msgId, read.msg.length],
    );
    messages.push(read);
  }
  return messages;
}

test('messages come back from a segment as they were, from a writer used again and again', () => {
  const writer = new SegmentWriter();
  fc.assert(
    fc.property(
      fc.array(message, { minLength: 1, maxLength: 20 }),
      fc.maxSafeNat(),
      fc.nat(9),
      (all, first, offset) => {
        let position = Math.min(first, 2 ** 52);
        const stored = all.map(({ gap, ...rest }, i): StoredMessage => {
          if (i > 0) position += gap;
          return { ...rest, to: '名', position };
        });
        for (const one of stored) writer.add(one, one.position);
        assert.equal(writer.count, stored.length);
        const segment = writer.take('名');
        assert.equal(segment.first, stored[0]!.position);
        assert.equal(writer.count, 0);
        const moved = new Uint8Array(segment.value.length + offset);
        moved.set(segment.value, offset);
        const reader = SegmentReader.open('名', segment.key, moved.subarray(offset));
        assert.equal(reader?.count, stored.length);
        assert.deepEqual(plain(messagesOf(reader)), plain(stored));
      },
    ),
  );
});

test('a segment with any bit turned, or cut short, is not read', () => {
  const writer = new SegmentWriter();
  writer.add(newMessage('ann', 'sender', 'm'), 5);
  writer.add(newMessage('ann', 'sender', 'n'), 6);
  const { key, value } = writer.take('ann');
  assert.notEqual(SegmentReader.open('ann', key, value), undefined);
  for (let bit = 0; bit < value.length * 8; bit++) {
    const damaged = value.slice();
    damaged[bit >> 3]! ^= 1 << (bit & 7);
    assert.equal(SegmentReader.open('ann', key, damaged), undefined, `bit ${bit}`);
  }
  for (let length = 0; length < value.length; length++) {
    assert.equal(SegmentReader.open('ann', key, value.subarray(0, length)), undefined, `${length} bytes`);
  }
});

test('a segment under any other key than its own is not read', () => {
  const writer = new SegmentWriter();
  writer.add(newMessage('ann', 'sender', 'm'), 5);
  const { key, value } = writer.take('ann');
  for (let bit = 0; bit < key.length * 8; bit++) {
    const other = key.slice();
    other[bit >> 3]! ^= 1 << (bit & 7);
    assert.equal(SegmentReader.open('ann', other, value), undefined, `bit ${bit}`);
  }
  for (const other of [inboxKey('m', 'bob', 5), inboxKey('m', 'ann', 6), inboxKey('m', 'anna', 5)]) {
    assert.equal(SegmentReader.open('ann', other, value), undefined);
  }
});

test('a segment is full by messages or by bytes, and takes any one message', () => {
  const writer = new SegmentWriter();
  for (let i = 1; i < SEGMENT_MESSAGES_MAX; i++) writer.add(newMessage('a', 's', `${i}`), i);
  assert.equal(writer.isFull, false);
  writer.add(newMessage('a', 's', 'last'), SEGMENT_MESSAGES_MAX);
  assert.equal(writer.isFull, true);
  const { key, value } = writer.take('a');
  assert.equal(messagesOf(SegmentReader.open('a', key, value)).length, SEGMENT_MESSAGES_MAX);
  assert.equal(writer.isFull, false);
  const huge = { ...newMessage('a', 's', 'huge'), msg: new Uint8Array(SEGMENT_BYTES_MAX * 9).fill(7) };
  writer.add(huge, 1);
  assert.equal(writer.isFull, true);
  const taken = writer.take('a');
  assert.deepEqual(
    plain(messagesOf(SegmentReader.open('a', taken.key, taken.value))),
    plain([{ ...huge, position: 1 }]),
  );
});
