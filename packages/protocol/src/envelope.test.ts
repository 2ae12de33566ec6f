import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import protobuf from 'protobufjs';
import { decodeEnvelope, type Envelope, encodeFrame, FrameWriter } from './envelope.ts';
import { FRAME_HEAD_BYTES, FrameCutter } from './frame.ts';
import { wireLimits } from './limits.ts';

// fast-check prints the seed of a failure; another seed is tried with HAWSER_SEED=<number>.
fc.configureGlobal({ seed: Number(process.env.HAWSER_SEED ?? 1) });

/** Any character of Unicode, often from ASCII. (To prepare fast-check's own `unit: 'binary'` takes a second.) */
const anyCharacter = fc
  .oneof(fc.nat({ max: 0x7f }), fc.nat({ max: 0xd7ff }), fc.integer({ min: 0xe000, max: 0x10ffff }))
  .map((point) => String.fromCodePoint(point));

// The other implementation: protobufjs, from the definition that clients' authors read.
const page = readFileSync(new URL('../../../docs/protocol.md', import.meta.url), 'utf8');
const definition = /```proto\n([\s\S]*?)```/.exec(page)![1]!;
const BaseMsgPb = protobuf.parse(definition, { keepCase: true }).root.lookupType('BaseMsgPb');

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const GROUP = 3;
const GROUP_END = 4;
const FIXED32 = 5;

interface Fields {
  readonly cmd: number;
  readonly msgId: string;
  readonly isEncrypt: boolean;
  /** In hexadecimal: faster to compare, shorter to print. */
  readonly data: string;
}

function hex(bytes: Iterable<number>): string {
  return Buffer.from(bytes instanceof Uint8Array ? bytes : [...bytes]).toString('hex');
}

function fieldsOf(envelope: Envelope): Fields {
  return { ...envelope, data: hex(envelope.data) };
}

function ours(body: Uint8Array): Fields | undefined {
  const envelope = decodeEnvelope(body);
  return envelope && fieldsOf(envelope);
}

function theirs(body: Uint8Array): Fields | undefined {
  try {
    const message = BaseMsgPb.decode(body) as protobuf.Message & Envelope;
    return fieldsOf({ cmd: message.cmd, msgId: message.msgId, isEncrypt: message.isEncrypt, data: message.data });
  } catch {
    return undefined;
  }
}

/**
 * Where Hawser is stricter than protobufjs, on purpose: a group (proto3 has none; to skip one takes a stack), and a
 * varint of more than 64 bits (protobufjs drops the bits that are too many, and skips unknown varints of any length).
 */
function refusedByChoice(body: Uint8Array): boolean {
  const reader = protobuf.Reader.create(body);
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if ((tag & 7) === GROUP) return true;
    const from = reader.pos;
    reader.skipType(tag & 7);
    const bytes = reader.pos - from;
    if ((tag & 7) === VARINT && (bytes > 10 || (bytes === 10 && body[reader.pos - 1]! > 1))) return true;
  }
  return false;
}

function assertAgrees(body: Uint8Array): void {
  const mine = ours(body);
  const other = theirs(body);
  if (mine === undefined && other !== undefined) {
    assert.ok(refusedByChoice(body), `refused, though protobufjs reads it: ${hex(body)}`);
  } else assert.deepEqual(mine, other, hex(body));
}

function varint(value: number | bigint): number[] {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  for (; rest >= 0x80n; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  return [...bytes, Number(rest)];
}

/** The same number in more bytes than it needs. */
function padded(value: number, bytes: number): number[] {
  const shortest = varint(value);
  const zeros = new Array<number>(bytes - shortest.length).fill(0x80);
  return [...shortest.slice(0, -1), shortest.at(-1)! | 0x80, ...zeros].map((byte, i) =>
    i === bytes - 1 ? byte & 0x7f : byte,
  );
}

function tag(field: number, wireType: number): number[] {
  return varint(field * 8 + wireType);
}

function bytesField(field: number, value: Iterable<number>): number[] {
  const bytes = [...value];
  return [...tag(field, BYTES), ...varint(bytes.length), ...bytes];
}

function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

const DEFAULTS: Fields = { cmd: 0, msgId: '', isEncrypt: false, data: '' };

function assertReads(bytes: readonly number[], expected: Partial<Fields>): void {
  const body = Uint8Array.from(bytes);
  assert.deepEqual(ours(body), { ...DEFAULTS, ...expected });
  assert.deepEqual(theirs(body), { ...DEFAULTS, ...expected }, 'protobufjs reads it otherwise');
}

function assertRefused(bytes: readonly number[]): void {
  assert.equal(decodeEnvelope(Uint8Array.from(bytes)), undefined, hex(bytes));
}

const anyCmd = fc.oneof(
  fc.constantFrom(0, 1, 2, 3, 100, 127, 128, 200, 201, 16_383, 16_384, -1, 2 ** 31 - 1, -(2 ** 31)),
  fc.integer(),
);
const anyMsgId = fc.oneof(
  fc.string({ unit: anyCharacter }),
  fc.uuid(),
  // Around the lengths at which the length of the length changes.
  fc.constantFrom(42, 63, 64, 127, 128, 129, 5461, 16_383, 16_384).map((length) => 'x'.repeat(length)),
  fc.constantFrom(42, 43, 63, 64, 127, 128, 8192).map((length) => 'é'.repeat(length)),
  fc.constantFrom(31, 32, 42, 43, 4096).map((length) => '😀'.repeat(length)),
  fc.string({ unit: anyCharacter, minLength: 100, maxLength: 200 }),
);
const anyData = fc.oneof(
  fc.uint8Array({ maxLength: 40 }),
  fc.constantFrom(0, 1, 127, 128, 16_383, 16_384, 70_000).map((length) => new Uint8Array(length).fill(0x5a)),
);

test('any frame written is read by protobufjs as it was meant, and is what protobufjs writes', () => {
  fc.assert(
    fc.property(anyCmd, anyMsgId, fc.boolean(), anyData, (cmd, msgId, isEncrypt, data) => {
      const frame = encodeFrame(cmd, msgId, isEncrypt, data);
      const body = frame.subarray(FRAME_HEAD_BYTES);
      assert.equal(new DataView(frame.buffer).getUint32(0), body.length);
      assert.deepEqual(theirs(body), { cmd, msgId, isEncrypt, data: hex(data) });
      assert.equal(Buffer.compare(body, BaseMsgPb.encode({ cmd, msgId, isEncrypt, data }).finish()), 0);
    }),
    { numRuns: 1500 },
  );
});

test('any body written by protobufjs is read as it was meant', () => {
  fc.assert(
    fc.property(anyCmd, anyMsgId, fc.boolean(), anyData, (cmd, msgId, isEncrypt, data) => {
      const body = BaseMsgPb.encode({ cmd, msgId, isEncrypt, data }).finish();
      assert.deepEqual(ours(body), { cmd, msgId, isEncrypt, data: hex(data) });
    }),
    { numRuns: 1500 },
  );
});

test('the worked frames of docs/protocol.md are read and written byte for byte', () => {
  const hexLine = /^((?:[0-9a-f]{2} ?)+)(?: {2,}.*)?$/;
  const frames = [...page.matchAll(/```\w*\n([\s\S]*?)\n```/g)]
    .map((block) => block[1]!.split('\n').map((line) => hexLine.exec(line)?.[1]?.replaceAll(' ', '')))
    .filter((lines) => lines.every((line) => line !== undefined))
    .map((lines) => Uint8Array.from(Buffer.from(lines.join(''), 'hex')));
  assert.ok(frames.length >= 8, `${frames.length} worked frames found`);
  for (const frame of frames) {
    const cutter = new FrameCutter();
    cutter.push(frame);
    const body = cutter.next(wireLimits.frameBytesMax);
    assert.ok(body instanceof Uint8Array && !cutter.hasInput, 'one whole frame');
    assertAgrees(body);
    const { cmd, msgId, isEncrypt, data } = decodeEnvelope(body)!;
    assert.deepEqual(encodeFrame(cmd, msgId, isEncrypt, data), frame);
  }
});

test('an empty body is a heartbeat, and a heartbeat is four zero bytes', () => {
  assertReads([], {});
  assert.deepEqual([...encodeFrame(0, '', false, new Uint8Array(0))], [0, 0, 0, 0]);
});

test('defaults that are spelled out are read as such', () => {
  assertReads([...tag(1, VARINT), 0, ...bytesField(2, []), ...tag(3, VARINT), 0, ...bytesField(4, [])], {});
});

test('a negative cmd takes ten bytes, and is read also from the five that hold its 32 bits', () => {
  for (const cmd of [-1, -2, -128, -(2 ** 31), -(2 ** 31) + 1, -(2 ** 28), -123_456_789]) {
    assertReads([...tag(1, VARINT), ...varint(cmd)], { cmd });
    assertReads([...tag(1, VARINT), ...varint(BigInt.asUintN(32, BigInt(cmd)))], { cmd });
    assert.equal(encodeFrame(cmd, '', false, new Uint8Array(0)).length, FRAME_HEAD_BYTES + 11);
  }
});

test('of a cmd beyond 32 bits the low 32 count', () => {
  assertReads([...tag(1, VARINT), ...varint(2n ** 32n + 200n)], { cmd: 200 });
  assertReads([...tag(1, VARINT), ...varint(2n ** 63n + 2n ** 31n)], { cmd: -(2 ** 31) });
  assertReads([...tag(1, VARINT), ...varint(2n ** 35n)], { cmd: 0 });
});

test('isEncrypt is true for any varint that is not zero, however high its bit', () => {
  for (let bit = 0n; bit < 64n; bit++) {
    assertReads([...tag(3, VARINT), ...varint(1n << bit)], { isEncrypt: true });
  }
  assertReads([...tag(3, VARINT), ...padded(0, 10)], {});
});

test('numbers may take more bytes than they need', () => {
  for (let bytes = 1; bytes <= 10; bytes++) assertReads([...tag(1, VARINT), ...padded(7, bytes)], { cmd: 7 });
  for (let bytes = 1; bytes <= 5; bytes++) {
    assertReads([...padded(0x08, bytes), 5], { cmd: 5 });
    assertReads([...tag(2, BYTES), ...padded(1, bytes), 0x61], { msgId: 'a' });
  }
});

test('a varint of eleven bytes, or of more than 64 bits, is refused', () => {
  for (const field of [1, 3, 5, 1000]) {
    assertRefused([...tag(field, VARINT), ...padded(1, 11)]);
    assertRefused([...tag(field, VARINT), ...new Array<number>(10).fill(0xff), 0]);
    assertRefused([...tag(field, VARINT), ...new Array<number>(9).fill(0xff), 2]);
    assertRefused([...tag(field, VARINT), ...new Array<number>(9).fill(0xff), 0x7f]);
  }
});

test('a tag of more than 32 bits or five bytes is refused', () => {
  assertRefused([...padded(0x08, 6), 1]);
  assertRefused([0x88, 0x80, 0x80, 0x80, 0x10, 1]);
  assertRefused([0x88, 0x80, 0x80, 0x80, 0x70, 1]);
  assertAgrees(Uint8Array.of(0x88, 0x80, 0x80, 0x80, 0x10, 1));
});

test('a length of more than 32 bits or five bytes is refused, not read modulo 2^32', () => {
  for (const field of [2, 4, 9]) {
    for (const length of [2n ** 32n, 2n ** 32n + 1n, 2n ** 34n + 1n, 2n ** 31n, 2n ** 32n - 1n, 2n ** 63n]) {
      const bytes = [...tag(field, BYTES), ...varint(length), 0x61];
      assertRefused(bytes);
      assertAgrees(Uint8Array.from(bytes));
    }
    assertRefused([...tag(field, BYTES), ...padded(1, 6), 0x61]);
  }
});

test('a msgId may be of any length and any text', () => {
  for (const msgId of [
    'é',
    '消息',
    '😀',
    '\u0000',
    '\ufeff',
    '\ufeffa',
    'x'.repeat(127),
    'x'.repeat(128),
    'é'.repeat(70_000),
  ]) {
    assertReads(bytesField(2, utf8(msgId)), { msgId });
  }
});

test('a msgId that is not UTF-8 is refused, an unknown field or data that is not is fine', () => {
  const invalid = [
    [0x80],
    [0xff],
    [0x61, 0xc3],
    [0xc0, 0x80],
    [0xe0, 0x9f, 0xbf],
    [0xed, 0xa0, 0x80],
    [0xed, 0xa0, 0xbd, 0xed, 0xb8, 0x80],
    [0xf0, 0x8f, 0xbf, 0xbf],
    [0xf4, 0x90, 0x80, 0x80],
    [0xf0, 0x9f, 0x98],
  ];
  for (const bytes of invalid) {
    assertRefused(bytesField(2, bytes));
    assertRefused([...bytesField(2, bytes), ...bytesField(2, [0x61])]);
    assertAgrees(Uint8Array.from(bytesField(2, bytes)));
    assertReads(bytesField(5, bytes), {});
    assertReads(bytesField(4, bytes), { data: hex(bytes) });
  }
});

test('fields may come in any order', () => {
  const parts = [
    [...tag(1, VARINT), ...varint(200)],
    bytesField(2, utf8('m-1')),
    [...tag(3, VARINT), 1],
    bytesField(4, [1, 2, 3]),
  ];
  const expected = { cmd: 200, msgId: 'm-1', isEncrypt: true, data: '010203' };
  for (const a of parts) {
    for (const b of parts) {
      for (const c of parts) {
        for (const d of parts) {
          if (new Set([a, b, c, d]).size === 4) assertReads([...a, ...b, ...c, ...d], expected);
        }
      }
    }
  }
});

test('of repeated fields the last wins, also when it holds the default', () => {
  const first = [...tag(1, VARINT), 5, ...bytesField(2, utf8('a')), ...tag(3, VARINT), 1, ...bytesField(4, [1])];
  assertReads([...first, ...tag(1, VARINT), 6, ...bytesField(2, utf8('b')), ...bytesField(4, [2, 3])], {
    cmd: 6,
    msgId: 'b',
    isEncrypt: true,
    data: '0203',
  });
  assertReads([...first, ...tag(1, VARINT), 0, ...bytesField(2, []), ...tag(3, VARINT), 0, ...bytesField(4, [])], {});
});

test('unknown fields are skipped, whatever their wire type and number', () => {
  for (const field of [5, 15, 16, 2047, 2048, 19_000, 2 ** 29 - 1]) {
    for (const unknown of [
      [...tag(field, VARINT), ...varint(-1)],
      [...tag(field, FIXED64), 1, 2, 3, 4, 5, 6, 7, 8],
      bytesField(field, [8, 9]),
      bytesField(field, []),
      [...tag(field, FIXED32), 1, 2, 3, 4],
    ]) {
      assertReads([...unknown, ...tag(1, VARINT), 3, ...unknown, ...bytesField(2, utf8('a')), ...unknown], {
        cmd: 3,
        msgId: 'a',
      });
    }
  }
});

test('a known field with another wire type is skipped like an unknown one', () => {
  const eight = [8, 7, 6, 5, 4, 3, 2, 1];
  for (const field of [1, 2, 3, 4]) {
    assertReads([...tag(field, FIXED64), ...eight], {});
    assertReads([...tag(field, FIXED32), ...eight.slice(4)], {});
  }
  assertReads([...bytesField(1, [5]), ...bytesField(3, [1])], {});
  assertReads([...tag(2, VARINT), 5, ...tag(4, VARINT), 9], {});
});

test('groups are refused, also empty ones and those of unknown fields', () => {
  for (const field of [1, 2, 3, 4, 5, 100]) {
    assertRefused([...tag(field, GROUP), ...tag(field, GROUP_END)]);
    assertRefused([...tag(field, GROUP), ...tag(1, VARINT), 1, ...tag(field, GROUP_END)]);
    assertRefused([...tag(1, VARINT), 1, ...tag(field, GROUP)]);
    assertRefused(tag(field, GROUP_END));
  }
  assertRefused(new Array<number>(100_000).fill(tag(5, GROUP)[0]!));
});

test('the wire types 6 and 7, and the field number 0, are refused', () => {
  for (const field of [1, 2, 4, 5]) {
    assertRefused([...tag(field, 6), 0, 0]);
    assertRefused([...tag(field, 7), 0, 0]);
  }
  for (const wireType of [0, 1, 2, 3, 4, 5, 6, 7]) assertRefused([...tag(0, wireType), 0, 0, 0, 0, 0, 0, 0, 0]);
  assertRefused([...padded(0, 5), 0]);
});

test('a body cut off anywhere is refused, unless the cut falls between two fields', () => {
  const parts = [
    [...tag(1, VARINT), ...varint(-200)],
    bytesField(2, utf8('né-😀'.repeat(20))),
    [...tag(3, VARINT), ...padded(1, 3)],
    [...tag(1000, FIXED64), 1, 2, 3, 4, 5, 6, 7, 8],
    [...tag(6, FIXED32), 1, 2, 3, 4],
    bytesField(7, new Array<number>(200).fill(1)),
    bytesField(4, new Array<number>(300).fill(2)),
  ];
  const body = Uint8Array.from(parts.flat());
  const edges = new Set(parts.map((_, i) => parts.slice(0, i).flat().length).concat(body.length));
  for (let length = 0; length <= body.length; length++) {
    const cut = body.subarray(0, length);
    assert.equal(decodeEnvelope(cut) !== undefined, edges.has(length), `cut to ${length}`);
    assertAgrees(cut);
    // Nothing behind a view is read either.
    assert.deepEqual(ours(cut), ours(cut.slice()));
  }
});

test('a declared length is believed only as far as there are bytes', () => {
  for (const field of [2, 4, 5]) {
    assertRefused([...tag(field, BYTES), 1]);
    assertRefused([...tag(field, BYTES), 4, 1, 2, 3]);
    assertRefused([...tag(field, BYTES), 0xff, 0xff, 0xff, 0xff, 0x07, 1, 2, 3]);
    assertRefused(tag(field, BYTES));
  }
});

test('data is a view into the body, not a copy', () => {
  const body = Uint8Array.from(bytesField(4, [1, 2, 3]));
  const { data } = decodeEnvelope(body)!;
  assert.equal(data.buffer, body.buffer);
  body[2] = 9;
  assert.deepEqual([...data], [9, 2, 3]);
});

const anyField = fc.oneof(
  fc
    .tuple(fc.constantFrom(1, 3), fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n }))
    .map(([field, value]) => [...tag(field, VARINT), ...varint(value)]),
  fc.tuple(fc.constantFrom(2, 4, 5), fc.uint8Array({ maxLength: 6 })).map(([field, value]) => bytesField(field, value)),
  fc.tuple(fc.constant(2), fc.string({ unit: anyCharacter })).map(([field, value]) => bytesField(field, utf8(value))),
  fc
    .tuple(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 0, max: 7 }), fc.uint8Array({ maxLength: 9 }))
    .map(([field, wireType, rest]) => [...tag(field, wireType), ...rest]),
);
const telling = fc.constantFrom(0x00, 0x01, 0x08, 0x0a, 0x12, 0x18, 0x1a, 0x22, 0x0b, 0x0c, 0x7f, 0x80, 0x82, 0xff);
const anyByte = fc.oneof(telling, fc.nat({ max: 255 }));

test('bodies put together and then damaged are read, or refused, as protobufjs does', () => {
  const damage = fc.record({ at: fc.nat(), remove: fc.nat({ max: 2 }), insert: fc.array(anyByte, { maxLength: 3 }) });
  let accepted = 0;
  let refused = 0;
  fc.assert(
    fc.property(fc.array(anyField, { maxLength: 5 }), fc.array(damage, { maxLength: 3 }), (parts, damages) => {
      const body = parts.flat();
      for (const { at, remove, insert } of damages) body.splice(at % (body.length + 1), remove, ...insert);
      assertAgrees(Uint8Array.from(body));
      if (decodeEnvelope(Uint8Array.from(body)) === undefined) refused++;
      else accepted++;
    }),
    { numRuns: 12_000 },
  );
  assert.ok(accepted > 1000 && refused > 1000, `${accepted} accepted, ${refused} refused`);
});

test('random bytes are read, or refused, as protobufjs does', () => {
  fc.assert(
    fc.property(fc.array(anyByte, { maxLength: 24 }), (bytes) => assertAgrees(Uint8Array.from(bytes))),
    { numRuns: 12_000 },
  );
});

test('what is accepted is written again as the same envelope', () => {
  fc.assert(
    fc.property(fc.array(anyField, { maxLength: 5 }), (parts) => {
      const envelope = decodeEnvelope(Uint8Array.from(parts.flat()));
      fc.pre(envelope !== undefined);
      const frame = encodeFrame(envelope.cmd, envelope.msgId, envelope.isEncrypt, envelope.data);
      assert.deepEqual(ours(frame.subarray(FRAME_HEAD_BYTES)), fieldsOf(envelope));
    }),
    { numRuns: 2000 },
  );
});

test('a lone surrogate in a msgId is written as U+FFFD, in a frame that stays whole', () => {
  for (const count of [1, 41, 42, 43, 50]) {
    const frame = encodeFrame(200, '\ud800'.repeat(count), false, Uint8Array.of(1));
    assert.deepEqual(ours(frame.subarray(FRAME_HEAD_BYTES)), {
      cmd: 200,
      msgId: '\ufffd'.repeat(count),
      isEncrypt: false,
      data: '01',
    });
  }
});

test('several frames collect in one buffer, in order, while it grows', () => {
  const writer = new FrameWriter();
  const expected: Fields[] = [];
  const sizes = [0, 1, 100, 4000, 0, 5000, 3, 20_000, 0, 100_000, 7];
  sizes.forEach((size, i) => {
    const data = new Uint8Array(size).fill(i + 1);
    const msgId = 'é'.repeat(i * 9);
    writer.frame(i, msgId, i % 2 === 1, data);
    expected.push({ cmd: i, msgId, isEncrypt: i % 2 === 1, data: hex(data) });
  });
  assert.deepEqual(readFrames(writer), expected);
});

function readFrames(writer: FrameWriter): Fields[] {
  const cutter = new FrameCutter();
  cutter.push(writer.bytes.slice(0, writer.length));
  const frames: Fields[] = [];
  for (
    let body = cutter.next(wireLimits.frameBytesMax);
    body !== undefined;
    body = cutter.next(wireLimits.frameBytesMax)
  ) {
    frames.push(ours(body as Uint8Array)!);
  }
  assert.equal(cutter.midFrame, false);
  return frames;
}

test('a frame fits wherever the buffer ends', () => {
  for (let room = 3900; room <= 4096; room++) {
    const writer = new FrameWriter();
    const data = new Uint8Array(room).fill(1);
    writer.frame(-1, '', false, data);
    writer.frame(-1, '消'.repeat(43), true, Uint8Array.of(1, 2, 3));
    assert.deepEqual(readFrames(writer), [
      { cmd: -1, msgId: '', isEncrypt: false, data: hex(data) },
      { cmd: -1, msgId: '消'.repeat(43), isEncrypt: true, data: '010203' },
    ]);
  }
});

test('a writer that was cleared is used again, with the room that it has', () => {
  const writer = new FrameWriter();
  writer.frame(200, 'first', true, new Uint8Array(100_000).fill(0xff));
  const room = writer.bytes;
  for (let i = 0; i < 3; i++) {
    writer.clear();
    assert.equal(writer.length, 0);
    writer.frame(0, '', false, new Uint8Array(0));
    writer.frame(i, `again ${i}`, false, Uint8Array.of(i));
    assert.deepEqual(readFrames(writer), [DEFAULTS, { cmd: i, msgId: `again ${i}`, isEncrypt: false, data: hex([i]) }]);
    assert.equal(writer.bytes, room);
  }
});

test('frames that are encoded already are added as they are, among others', () => {
  const writer = new FrameWriter();
  const encoded = encodeFrame(7, 'raw', true, new Uint8Array(10_000).fill(2));
  const expected: Fields[] = [];
  for (let i = 0; i < 5; i++) {
    writer.raw(encoded);
    writer.frame(i, 'own', false, Uint8Array.of(i));
    expected.push({ cmd: 7, msgId: 'raw', isEncrypt: true, data: '02'.repeat(10_000) });
    expected.push({ cmd: i, msgId: 'own', isEncrypt: false, data: hex([i]) });
  }
  writer.raw(new Uint8Array(0));
  assert.deepEqual(readFrames(writer), expected);
});

test('a writer lets go of a buffer that grew too large, and keeps one that did not', () => {
  const writer = new FrameWriter();
  writer.frame(1, '', false, new Uint8Array(100_000));
  const large = writer.bytes;
  writer.clear();
  writer.shrink(large.length);
  assert.equal(writer.bytes, large);
  writer.shrink(large.length - 1);
  assert.ok(writer.bytes.length <= 4096);
  writer.frame(2, 'small', false, Uint8Array.of(1));
  assert.deepEqual(readFrames(writer), [{ cmd: 2, msgId: 'small', isEncrypt: false, data: '01' }]);
});

test('any frames through one writer come out as they went in', () => {
  const frame = fc.record(
    {
      cmd: anyCmd,
      msgId: anyMsgId,
      isEncrypt: fc.boolean(),
      data: anyData,
    },
    { noNullPrototype: true },
  );
  fc.assert(
    fc.property(fc.array(fc.array(frame, { maxLength: 5 }), { maxLength: 3 }), (batches) => {
      const writer = new FrameWriter();
      for (const batch of batches) {
        writer.clear();
        for (const { cmd, msgId, isEncrypt, data } of batch) {
          writer.frame(cmd, msgId, isEncrypt, data);
        }
        assert.deepEqual(readFrames(writer), batch.map(fieldsOf));
      }
    }),
    { numRuns: 100 },
  );
});
