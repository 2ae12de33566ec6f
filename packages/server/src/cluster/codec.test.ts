import assert from 'node:assert/strict';
import { test } from 'node:test';
import { wireLimits } from '@hawser/protocol';
import fc from 'fast-check';
import type { Packet } from '../core/packets.ts';
import { type Batch, readBatch, writeBatchHead, writePacket } from './codec.ts';
import { Writer } from './writer.ts';

// fast-check prints the seed of a failure; another seed is tried with HAWSER_SEED=<number>.
fc.configureGlobal({ seed: Number(process.env.HAWSER_SEED ?? 1) });

/** Records as literals make them. */
function plain<Model>(model: { [Key in keyof Model]: fc.Arbitrary<Model[Key]> }): fc.Arbitrary<Model> {
  return fc.record(model, { noNullPrototype: true }) as fc.Arbitrary<Model>;
}

const uint = fc.oneof(fc.nat(300), fc.maxSafeNat());
const name = fc.oneof(
  fc.string({ unit: 'grapheme', maxLength: 128 }).filter((text) => Buffer.byteLength(text) <= wireLimits.nameBytesMax),
  fc.constantFrom('ann', 'bob', 'lamp-1', 'lamp-2', 'lamp-3', 'lamp-4'),
);
const float = fc.double({ noNaN: true, noDefaultInfinity: true });
const finished = plain({ from: name, msgId: name, hash: uint, ago: uint });
const type = <Type extends Packet['type']>(value: Type) => fc.constant(value);

const packet: fc.Arbitrary<Packet> = fc.oneof(
  plain({
    ...{
      type: type('forward'),
      to: name,
      stream: uint,
      seq: uint,
      finishedTo: uint,
      isSettled: fc.boolean(),
      from: name,
      msgId: name,
    },
    ...{ msg: fc.uint8Array({ maxLength: 2000 }), wall: float, ran: float, ttl: float },
  }),
  plain({ type: type('acked'), to: name, stream: uint, seqs: fc.array(uint) }),
  plain({ type: type('refused'), to: name, stream: uint, seq: uint }),
  plain({ type: type('nudge'), to: name, position: uint, news: uint }),
  plain({ type: type('absent'), to: name }),
  plain({ type: type('caughtUp'), to: name, news: uint, stream: uint }),
  plain({ type: type('takeOver'), name, token: uint }),
  plain({
    ...{ type: type('handed'), name, token: uint, settled: fc.int32Array({ maxLength: 30 }), hadUnder: uint },
    ...{ unsure: fc.array(name), finished: fc.array(finished) },
  }),
  plain({ type: type('removing'), name, removal: uint, onlyIdle: fc.boolean() }),
  plain({ type: type('letGo'), name, removal: uint, isDone: fc.boolean() }),
  plain({ type: type('removed'), name, removal: uint, isGone: fc.option(fc.boolean(), { nil: undefined }) }),
);
const batch: fc.Arbitrary<Batch> = plain({
  from: name,
  number: uint,
  packets: fc.array(packet, { maxLength: 20 }),
});

function write({ from, number, packets }: Batch): Buffer {
  const writer = new Writer();
  writeBatchHead(writer, from, number);
  for (const each of packets) writePacket(writer, each);
  return writer.take();
}

test('a batch is read as it was written, also from the middle of other bytes', () => {
  fc.assert(
    fc.property(batch, (value) => {
      const bytes = write(value);
      assert.deepEqual(readBatch(bytes), value);
      const around = Buffer.concat([Buffer.from('xyz'), bytes, Buffer.from('xyz')]);
      assert.deepEqual(readBatch(around.subarray(3, 3 + bytes.length)), value);
    }),
  );
});

test('a writer that is used again begins anew', () => {
  const writer = new Writer();
  for (let i = 0; i < 3; i++) {
    writeBatchHead(writer, 'a', i);
    for (let packets = 0; packets < 5000; packets++) writePacket(writer, { type: 'absent', to: `name-${packets}` });
    assert.equal(readBatch(writer.take())?.packets.length, 5000);
  }
});

test('names that come again are written once, also when a packet that had one is taken back', () => {
  const names = fc.array(fc.tuple(fc.nat(7), fc.boolean()), { maxLength: 60 });
  fc.assert(
    fc.property(names, (chosen) => {
      const writer = new Writer();
      writeBatchHead(writer, 'a', 1);
      const kept: string[] = [];
      for (const [which, isTakenBack] of chosen) {
        const before = writer.length;
        writePacket(writer, { type: 'absent', to: `name-${which}` });
        if (isTakenBack) writer.cut(before);
        else kept.push(`name-${which}`);
      }
      const read = readBatch(writer.take())?.packets.map((each) => (each.type === 'absent' ? each.to : ''));
      assert.deepEqual(read, kept);
    }),
  );
  const long = 'x'.repeat(100);
  const packets: Packet[] = Array.from({ length: 100 }, () => ({ type: 'absent', to: long }));
  assert.ok(write({ from: 'a', number: 1, packets }).length < 2 * long.length + 2 * packets.length);
});

test('a message that is kept keeps at most 16 KiB of others with it', () => {
  const sizes = [100, 100, 40_000, 3, 15_000, 15_000, 0, 16_384, 1];
  const packets = sizes.map((size, seq): Packet => {
    const head = {
      type: 'forward',
      to: 'b',
      stream: 1,
      seq,
      finishedTo: 0,
      isSettled: true,
      from: 'c',
      msgId: `m-${seq}`,
    } as const;
    return { ...head, msg: new Uint8Array(size).fill(seq), wall: 1, ran: 1, ttl: 0 };
  });
  const read = readBatch(write({ from: 'a', number: 1, packets }));
  assert.deepEqual(read?.packets, packets);
  for (const each of read.packets) {
    if (each.type === 'forward') assert.ok(each.msg.buffer.byteLength <= Math.max(each.msg.length, 16 * 1024));
  }
});

test('a batch that is cut short is none, unless it ends behind a packet', () => {
  fc.assert(
    fc.property(batch, fc.nat(), (value, cut) => {
      const bytes = write(value);
      const length = cut % bytes.length;
      const read = readBatch(bytes.subarray(0, length));
      if (read === undefined) return;
      assert.equal(write(read).length, length);
      assert.deepEqual(read.packets, value.packets.slice(0, read.packets.length));
    }),
  );
});

test('whatever the bytes, reading them neither throws nor makes what could not be written', () => {
  const damaged = fc.tuple(batch, fc.nat(), fc.nat(255)).map(([value, at, byte]) => {
    const bytes = write(value);
    bytes[at % bytes.length] = byte;
    return bytes;
  });
  const version = write({ from: 'a', number: 1, packets: [] })[0]!;
  const random = fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from([version, ...bytes]));
  fc.assert(
    fc.property(fc.oneof(damaged, random), (bytes) => {
      const read = readBatch(bytes);
      if (read !== undefined) assert.deepEqual(readBatch(write(read)), read);
    }),
    { numRuns: 2000 },
  );
});

test('a count of four thousand million makes no room before they are there', () => {
  const writer = new Writer();
  writeBatchHead(writer, 'a', 1);
  writer.byte(1);
  writer.name('ann');
  writer.uint(1);
  writer.uint(2 ** 32);
  const before = process.memoryUsage().heapUsed;
  assert.equal(readBatch(writer.take()), undefined);
  assert.ok(process.memoryUsage().heapUsed - before < 10_000_000);
});

test('the message of a packet shares no memory with the bytes', () => {
  const value: Batch = {
    ...{ from: 'a', number: 1 },
    packets: [
      {
        ...{ type: 'forward', to: 'b', stream: 1, seq: 0, finishedTo: 0, isSettled: true, from: 'c', msgId: 'm' },
        ...{ msg: new Uint8Array([1, 2, 3]), wall: 1, ran: 1, ttl: 0 },
      },
    ],
  };
  const bytes = write(value);
  const read = readBatch(bytes);
  bytes.fill(0);
  assert.deepEqual(read, value);
});
