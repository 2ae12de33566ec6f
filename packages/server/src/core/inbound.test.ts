import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cmd, encodeFrame, serverLimits, wireLimits } from '@hawser/protocol';
import { InboundFrames } from './inbound.ts';

const cipher = {
  encrypt: (bytes: Uint8Array, from: number, to: number) => bytes.slice(from, to),
  decrypt: (data: Uint8Array) => data,
  decryptAll: (pieces: readonly Uint8Array[]) => [...pieces],
};

test('frames come out in order, wherever they are cut and however much is pushed before they are taken', () => {
  const frames = Array.from({ length: 600 }, (_, i) =>
    encodeFrame(cmd.message, `${1000 + i}`, false, new Uint8Array(3)),
  );
  const frameBytes = frames[0]!.length;
  // As many as are cut ahead at once, too.
  for (const chunkBytes of [1, 3, 7, 1000, 64 * frameBytes]) {
    for (const pushedAtOnce of [1, 2, 5]) {
      const inbound = new InboundFrames();
      const bytes = Buffer.concat(frames);
      const taken: string[] = [];
      let pushed = 0;
      for (let at = 0; at < bytes.length; at += chunkBytes) {
        inbound.push(bytes.subarray(at, at + chunkBytes));
        // A command that waits: a few are taken, and more comes.
        if (++pushed % pushedAtOnce === 0) takeSome(inbound, taken, 2);
      }
      takeSome(inbound, taken, Number.POSITIVE_INFINITY);
      assert.deepEqual(
        taken,
        frames.map((_, i) => `${1000 + i}`),
      );
    }
  }
});

test('is silent with as many heartbeats as are read of a client that waits; with more, however they came, it is not', () => {
  const most = serverLimits.keptBytesFree;
  const isSilent = (...chunks: number[]): boolean => {
    const inbound = new InboundFrames();
    for (const bytes of chunks) inbound.push(new Uint8Array(bytes));
    return inbound.isSilent;
  };
  assert.deepEqual([isSilent(), isSilent(most), isSilent(4, most - 4), isSilent(4, 4, most - 8)], Array(4).fill(true));
  assert.deepEqual([isSilent(most + 4), isSilent(4, most), isSilent(4, 64 * 1024, 4)], Array(3).fill(false));
});

function takeSome(inbound: InboundFrames, taken: string[], most: number): void {
  for (let count = 0; count < most; count++) {
    const request = inbound.next(wireLimits.frameBytesMax, cipher, true);
    if (request === undefined) return;
    assert.ok(typeof request === 'object');
    taken.push(request.msgId);
  }
}
