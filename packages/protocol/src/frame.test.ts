import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { FRAME_HEAD_BYTES, FrameCutter, writeFrameHead } from './frame.ts';
import { wireLimits } from './limits.ts';

// fast-check prints the seed of a failure; another seed is tried with HAWSER_SEED=<number>.
fc.configureGlobal({ seed: Number(process.env.HAWSER_SEED ?? 1) });

const LIMIT = wireLimits.frameBytesMax;
const KIB = 1024;

/** A body whose bytes differ from their neighbours and from those of bodies of other lengths. */
function bodyOf(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 7 + length) & 0xff);
}

function head(length: number): Uint8Array {
  const bytes = new Uint8Array(FRAME_HEAD_BYTES);
  writeFrameHead(bytes, 0, length);
  return bytes;
}

function join(...parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(parts));
}

function streamOf(bodies: readonly Uint8Array[]): Uint8Array {
  return join(...bodies.flatMap((body) => [head(body.length), body]));
}

/** Pushes each chunk and takes all its bodies; the chunk is then overwritten, as a socket's buffer would be. */
function cut(cutter: FrameCutter, chunks: readonly Uint8Array[], limit = LIMIT): Uint8Array[] {
  const bodies: Uint8Array[] = [];
  for (const view of chunks) {
    const chunk = view.slice();
    cutter.push(chunk);
    for (;;) {
      const body = cutter.next(limit);
      if (body === undefined) break;
      assert.notEqual(body, 'too long');
      bodies.push(Uint8Array.from(body as Uint8Array));
    }
    assert.equal(cutter.hasInput, false);
    chunk.fill(0xee);
  }
  return bodies;
}

function splitAt(stream: Uint8Array, points: readonly number[]): Uint8Array[] {
  const edges = [0, ...points, stream.length];
  return edges.slice(1).map((to, i) => stream.subarray(edges[i], to));
}

function assertBodies(actual: readonly Uint8Array[], expected: readonly Uint8Array[]): void {
  assert.deepEqual(
    actual.map((body) => body.length),
    expected.map((body) => body.length),
  );
  actual.forEach((body, i) => {
    assert.equal(Buffer.compare(body, expected[i]!), 0, `body ${i} has other bytes`);
  });
}

test('a stream of frames gives the same bodies wherever it is split in two', () => {
  const bodies = [0, 1, 3, 4, 5, 300, 0, 0, 5000, 2].map(bodyOf);
  const stream = streamOf(bodies);
  for (let at = 0; at <= stream.length; at++) {
    const cutter = new FrameCutter();
    assertBodies(cut(cutter, splitAt(stream, [at])), bodies);
    assert.equal(cutter.midFrame, false);
  }
});

test('a stream of frames gives the same bodies wherever it is split in three', () => {
  const bodies = [3, 0, 1, 6, 2].map(bodyOf);
  const stream = streamOf(bodies);
  for (let first = 0; first <= stream.length; first++) {
    for (let second = first; second <= stream.length; second++) {
      assertBodies(cut(new FrameCutter(), splitAt(stream, [first, second])), bodies);
    }
  }
});

test('a stream of frames that comes byte by byte gives the same bodies', () => {
  const bodies = [0, 1, 10_000, 0, 4096, 4097].map(bodyOf);
  const stream = streamOf(bodies);
  const cutter = new FrameCutter();
  assertBodies(
    cut(
      cutter,
      Array.from(stream, (byte) => Uint8Array.of(byte)),
    ),
    bodies,
  );
  assert.equal(cutter.midFrame, false);
});

test('any frames in any chunks come out as they went in', () => {
  const length = fc.oneof(fc.nat({ max: 12 }), fc.nat({ max: 300 }), fc.integer({ min: 4090, max: 40_000 }));
  const chunk = fc.oneof(fc.nat({ max: 5 }), fc.nat({ max: 300 }), fc.integer({ min: 1000, max: 20_000 }));
  fc.assert(
    fc.property(fc.array(length, { maxLength: 12 }), fc.array(chunk, { maxLength: 60 }), (lengths, steps) => {
      const bodies = lengths.map(bodyOf);
      const stream = streamOf(bodies);
      const points: number[] = [];
      let at = 0;
      for (const step of steps) {
        at += step;
        if (at > stream.length) break;
        points.push(at);
      }
      const cutter = new FrameCutter();
      assertBodies(cut(cutter, splitAt(stream, points)), bodies);
      assert.equal(cutter.midFrame, false);
    }),
    { numRuns: 200 },
  );
});

test('a frame of length zero has an empty body', () => {
  assertBodies(cut(new FrameCutter(), [new Uint8Array(12)]), [bodyOf(0), bodyOf(0), bodyOf(0)]);
});

test('a body of exactly the limit passes, whole or in pieces', () => {
  const body = bodyOf(LIMIT);
  const stream = streamOf([body, bodyOf(1)]);
  assertBodies(cut(new FrameCutter(), [stream]), [body, bodyOf(1)]);
  assertBodies(cut(new FrameCutter(), splitAt(stream, [2, 5, 70_000, LIMIT + 3, LIMIT + 4])), [body, bodyOf(1)]);
});

test('a length beyond the limit is too long, however its bytes are split', () => {
  const tls = Uint8Array.of(0x16, 0x03, 0x01, 0x02);
  const http = new TextEncoder().encode('GET /?id=alice HTTP/1.1\r\nHost: example\r\n\r\n');
  const heads = [head(LIMIT + 1), head(2 ** 31), head(2 ** 31 + 1), head(2 ** 32 - 1), http, tls];
  for (const bytes of heads) {
    for (let at = 0; at < FRAME_HEAD_BYTES; at++) {
      const cutter = new FrameCutter();
      assertBodies(cut(cutter, [bytes.subarray(0, at)]), []);
      cutter.push(bytes.subarray(at));
      assert.equal(cutter.next(LIMIT), 'too long');
    }
  }
});

test('a length of 2^31 and more is unsigned: even a limit of 2^31 - 1 refuses it', () => {
  for (const length of [2 ** 31, 2 ** 32 - 1]) {
    for (const at of [0, 1, 2, 3]) {
      const cutter = new FrameCutter();
      assertBodies(cut(cutter, [head(length).subarray(0, at)]), []);
      cutter.push(head(length).subarray(at));
      assert.equal(cutter.next(2 ** 31 - 1), 'too long');
    }
  }
});

test('the bodies before a length beyond the limit are still taken', () => {
  const cutter = new FrameCutter();
  cutter.push(join(streamOf([bodyOf(3)]), head(LIMIT + 1)));
  assert.deepEqual(cutter.next(LIMIT), bodyOf(3));
  assert.equal(cutter.next(LIMIT), 'too long');
});

test('a limit of zero lets only empty bodies pass', () => {
  const cutter = new FrameCutter();
  cutter.push(streamOf([bodyOf(0), bodyOf(1)]));
  assert.deepEqual(cutter.next(0), bodyOf(0));
  assert.equal(cutter.next(0), 'too long');
});

test('the limit may change between frames, also within one chunk', () => {
  const cutter = new FrameCutter();
  cutter.push(streamOf([bodyOf(10), bodyOf(100), bodyOf(50), bodyOf(11)]));
  assert.deepEqual(cutter.next(10), bodyOf(10));
  assert.deepEqual(cutter.next(100), bodyOf(100));
  assert.deepEqual(cutter.next(50), bodyOf(50));
  assert.equal(cutter.next(10), 'too long');
});

test('a length is measured against the limit of the moment when its fourth byte is read', () => {
  const stream = streamOf([bodyOf(100)]);
  const raised = new FrameCutter();
  raised.push(stream.subarray(0, 3));
  assert.equal(raised.next(10), undefined);
  raised.push(stream.subarray(3));
  assert.deepEqual(raised.next(100), bodyOf(100));
  const lowered = new FrameCutter();
  lowered.push(stream.subarray(0, 5));
  assert.equal(lowered.next(100), undefined);
  lowered.push(stream.subarray(5));
  assert.deepEqual(lowered.next(10), bodyOf(100), 'a body under way is not measured again');
});

test('midFrame holds from the first byte of a frame until its last', () => {
  const stream = streamOf([bodyOf(3)]);
  const cutter = new FrameCutter();
  assert.equal(cutter.midFrame, false);
  for (let i = 0; i < stream.length; i++) {
    cutter.push(stream.subarray(i, i + 1));
    const body = cutter.next(LIMIT);
    const last = i === stream.length - 1;
    assert.equal(body !== undefined, last);
    assert.equal(cutter.midFrame, !last);
  }
  assert.equal(cutter.next(LIMIT), undefined);
  assert.equal(cutter.midFrame, false);
});

test('midFrame is false after whole frames that came in one chunk', () => {
  const cutter = new FrameCutter();
  cutter.push(streamOf([bodyOf(3), bodyOf(0)]));
  assert.deepEqual(cutter.next(LIMIT), bodyOf(3));
  assert.equal(cutter.midFrame, false);
  assert.deepEqual(cutter.next(LIMIT), bodyOf(0));
  assert.equal(cutter.midFrame, false);
});

test('hasInput tells whether bytes wait that are not part of a body taken', () => {
  const cutter = new FrameCutter();
  assert.equal(cutter.hasInput, false);
  cutter.push(new Uint8Array(0));
  assert.equal(cutter.hasInput, false);
  cutter.push(join(streamOf([bodyOf(2), bodyOf(0)]), head(9).subarray(0, 2)));
  assert.equal(cutter.hasInput, true);
  cutter.next(LIMIT);
  assert.equal(cutter.hasInput, true);
  cutter.next(LIMIT);
  assert.equal(cutter.hasInput, true, 'half a head is still to be taken');
  assert.equal(cutter.next(LIMIT), undefined);
  assert.equal(cutter.hasInput, false);
  assert.equal(cutter.midFrame, true);
});

test('next gives nothing, again and again, when nothing was pushed', () => {
  const cutter = new FrameCutter();
  for (let i = 0; i < 3; i++) assert.equal(cutter.next(LIMIT), undefined);
  cutter.push(streamOf([bodyOf(4)]));
  assert.deepEqual(cutter.next(LIMIT), bodyOf(4));
  for (let i = 0; i < 3; i++) assert.equal(cutter.next(LIMIT), undefined);
});

test('a push before the last chunk was taken is an error', () => {
  const cutter = new FrameCutter();
  cutter.push(streamOf([bodyOf(1), bodyOf(1)]));
  cutter.next(LIMIT);
  assert.throws(() => cutter.push(Uint8Array.of(0)), /still to be taken/);
});

test('a body that came whole is a view into the chunk, one that came in pieces is not', () => {
  const chunk = streamOf([bodyOf(8)]);
  const cutter = new FrameCutter();
  cutter.push(chunk);
  assert.equal((cutter.next(LIMIT) as Uint8Array).buffer, chunk.buffer);
  cutter.push(chunk.slice(0, 6));
  cutter.next(LIMIT);
  const rest = chunk.slice(6);
  cutter.push(rest);
  const body = cutter.next(LIMIT) as Uint8Array;
  rest.fill(0);
  assert.deepEqual(body, bodyOf(8));
});

test('a body in pieces gets a buffer of its own, not one that an earlier body had', () => {
  const cutter = new FrameCutter();
  const stream = streamOf([bodyOf(8), bodyOf(9)]);
  cutter.push(stream.subarray(0, 6));
  cutter.next(LIMIT);
  cutter.push(stream.subarray(6, 20));
  const first = cutter.next(LIMIT) as Uint8Array;
  cutter.next(LIMIT);
  cutter.push(stream.subarray(20));
  assert.deepEqual(cutter.next(LIMIT), bodyOf(9));
  assert.deepEqual(first, bodyOf(8));
});

/** Bytes of array buffers held by `cutters` cutters, each of which was pushed these chunks. */
function bytesHeld(cutters: number, chunks: readonly Uint8Array[]): number {
  const held: FrameCutter[] = [];
  const before = process.memoryUsage().arrayBuffers;
  for (let i = 0; i < cutters; i++) {
    const cutter = new FrameCutter();
    for (const chunk of chunks) {
      cutter.push(chunk);
      assert.equal(cutter.next(LIMIT), undefined);
    }
    held.push(cutter);
  }
  assert.equal(held.length, cutters);
  return process.memoryUsage().arrayBuffers - before;
}

test('a declared mebibyte of which one byte has come takes some kilobytes', () => {
  const bytes = bytesHeld(500, [join(head(LIMIT), Uint8Array.of(1))]);
  assert.ok(bytes < 500 * 5 * KIB, `${bytes} bytes for 500 frames`);
});

test('a length alone takes no more, also when its own bytes came one by one', () => {
  const bytes = bytesHeld(
    500,
    Array.from(head(LIMIT), (byte) => Uint8Array.of(byte)),
  );
  assert.ok(bytes < 500 * 5 * KIB, `${bytes} bytes for 500 frames`);
});

test('a body in pieces never has much more room than twice what came', () => {
  collectGarbage();
  const piece = new Uint8Array(KIB);
  const bytes = bytesHeld(100, [head(LIMIT), ...Array.from({ length: 100 }, () => piece)]);
  // What was outgrown may not be collected yet: less than once more the same.
  assert.ok(bytes < 100 * 2 * 2 * 101 * KIB, `${bytes} bytes for 100 frames`);
});

function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
}

test('a chunk that is used up is let go of', async () => {
  const cutter = new FrameCutter();
  const chunks = [
    [streamOf([bodyOf(100), bodyOf(100)])],
    [streamOf([bodyOf(100)]), head(3).subarray(0, 2)],
    [head(3).subarray(2), Uint8Array.of(1)],
  ].map((parts) => new WeakRef(pushCopy(cutter, join(...parts))));
  // A WeakRef holds its target until the task in which it was made has ended.
  await new Promise((resolve) => setTimeout(resolve));
  collectGarbage();
  assert.deepEqual(
    chunks.map((ref) => ref.deref() === undefined),
    [true, true, true],
  );
  assert.equal(cutter.midFrame, true);
});

function pushCopy(cutter: FrameCutter, bytes: Uint8Array): ArrayBufferLike {
  const chunk = new Uint8Array(bytes);
  cutter.push(chunk);
  while (cutter.next(LIMIT) !== undefined);
  return chunk.buffer;
}

test('writeFrameHead writes four bytes, big-endian, and gives the offset behind them', () => {
  const bytes = new Uint8Array(8).fill(0xaa);
  assert.equal(writeFrameHead(bytes, 2, 0x01020304), 6);
  assert.deepEqual([...bytes], [0xaa, 0xaa, 1, 2, 3, 4, 0xaa, 0xaa]);
  writeFrameHead(bytes, 0, 2 ** 32 - 1);
  assert.deepEqual([...bytes.subarray(0, 5)], [0xff, 0xff, 0xff, 0xff, 3]);
  writeFrameHead(bytes, 0, 0);
  assert.deepEqual([...bytes.subarray(0, 4)], [0, 0, 0, 0]);
});

test('is silent while all that waits is frames without a body', () => {
  const cutter = new FrameCutter();
  const push = (...bytes: number[]): boolean => {
    cutter.push(Uint8Array.from(bytes));
    return cutter.isSilent;
  };
  const takeAll = (): void => {
    while (cutter.next(100) !== undefined);
  };
  assert.ok(cutter.isSilent);
  assert.ok(push(0, 0, 0, 0, 0, 0, 0, 0));
  takeAll();
  assert.ok(!push(0, 0, 0, 0, 0, 0, 0, 1));
  takeAll();
  assert.ok(!cutter.isSilent, 'a frame has begun');
  assert.ok(!push(0));
  takeAll();
  assert.ok(cutter.isSilent);
  push(0, 0, 0);
  takeAll();
  assert.ok(!cutter.isSilent, 'a length has begun');
});
