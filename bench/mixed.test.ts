import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Mixed } from './mixed.ts';
import { Pair } from './pair.ts';

const PAYLOAD_SIZE = 100;

function sentPairs(): Pair[] {
  const pairs = [7, 11].map((_, index) => new Pair(index, null, `device-${index}`, 'user', PAYLOAD_SIZE, 9, 9));
  for (const pair of pairs) for (let i = 0; i < 3; i++) pair.next(1);
  return pairs;
}

/** What the server pushes of the pair's message. */
function element(pair: Pair, index: number, number: number): Record<string, string> {
  pair.numberHead(number);
  const digits = String(number).padStart(12, '0');
  const { msg } = JSON.parse(pair.plain.toString('utf8', 0, pair.plain.length - pair.plain.at(-1)!));
  const msgid = /[0-9a-f]{8}-0be4-4c11-8a5e-/.exec(pair.head.toString('latin1'))![0] + digits;
  return { from: `device-${index}`, to: 'user', msg: msg.slice(0, -12) + digits, msgid };
}

test('a push of several pairs is booked with each of them and acked in its order', () => {
  const pairs = sentPairs();
  const mixed = new Mixed(pairs);
  const elements = [element(pairs[1]!, 1, 0), element(pairs[0]!, 0, 0), element(pairs[1]!, 1, 1)];
  const target = Buffer.alloc(1000);
  const end = mixed.receive(JSON.stringify(elements), target, 5);
  assert.deepEqual(
    JSON.parse(target.toString('latin1', 5, end)),
    elements.map(({ msgid }) => ({ msgid })),
  );
  assert.deepEqual([mixed.received, pairs[0]!.delivered, pairs[1]!.delivered], [3, 1, 2]);
  mixed.receive(JSON.stringify([elements[0]]), target, 0);
  assert.equal(pairs[1]!.duplicates, 1);
});

test('an element that was not sent so is found', () => {
  const pairs = sentPairs();
  const mixed = new Mixed(pairs);
  const right = element(pairs[0]!, 0, 1);
  const other = element(pairs[1]!, 1, 1);
  for (const wrong of [
    { ...right, from: 'device-1' },
    { ...right, to: 'other' },
    { ...right, msg: other.msg!.replace('t', 'T') },
    { ...right, msgid: other.msgid },
    { ...right, msgid: right.msgid!.slice(0, -1) },
    { ...right, msgid: 'x' },
    element(pairs[0]!, 0, 3),
  ]) {
    assert.equal(mixed.receive(JSON.stringify([wrong]), Buffer.alloc(1000), 0), -1, JSON.stringify(wrong));
  }
  assert.equal(mixed.received, 0);
});
