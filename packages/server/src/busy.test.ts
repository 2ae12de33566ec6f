import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cmd, decodeEnvelope, decodeText, encodeFrame, encodeText, FrameCutter, serverLimits } from '@hawser/protocol';
import { NodeCipher } from '@hawser/protocol/cipher-node';
import { Core } from './core/core.ts';
import { Busy, type Log, type Wire } from './core/ports.ts';
import { systemDigests } from './digests.ts';
import { MemoryStore } from './store/memory.ts';
import { systemTime } from './time.ts';

const silent = (): void => {};
const log: Log = { debug: silent, info: silent, warn: silent, error: silent };

/** A server whose password threads have a full queue. */
async function busyCore(): Promise<Core> {
  const store = new MemoryStore(queueMicrotask);
  await store.createUser('ann', 'hash', 0);
  const busy = (): Promise<never> => Promise.reject(new Busy());
  return Core.open(
    {
      time: systemTime(0),
      log,
      store,
      passwords: { hash: busy, verify: busy },
      digests: systemDigests(),
      rsa: { generate: () => Promise.resolve({ publicDer: new Uint8Array(8), decrypt: busy }) },
      createCipher: (key) => new NodeCipher(key),
      onFatal: (error) => assert.fail(String(error)),
    },
    { ...serverLimits, allowPlainLogin: true, devices: 'tofu', pairing: 'open' },
  );
}

/** The answer to the first request on a connection. */
function answerTo(core: Core, number: number, body: object): Promise<unknown> {
  return new Promise((resolve) => {
    const cutter = new FrameCutter();
    const wire: Wire = {
      address: '127.0.0.1',
      secure: true,
      unsentBytes: 0,
      wroteAt: 0,
      pause: silent,
      resume: silent,
      end: silent,
      destroy: silent,
      write(bytes) {
        cutter.push(bytes);
        for (let frame = cutter.next(1e6); frame !== undefined; frame = cutter.next(1e6)) {
          const answer = frame === 'too long' ? undefined : decodeEnvelope(frame);
          if (answer?.msgId === 'x') resolve(JSON.parse(decodeText(answer.data) ?? ''));
        }
      },
    };
    core.connect(wire).receive(encodeFrame(number, 'x', false, encodeText(JSON.stringify(body))));
  });
}

test('a login refused for now says so to a client that asked to be told, and to no other', async () => {
  const core = await busyCore();
  const credentials = { username: 'ann', password: 'abc' };
  const plain = { code: 200, msg: 'too busy, try again later' };
  assert.deepEqual(await answerTo(core, cmd.login, { ...credentials, nack: true }), { ...plain, retry: true });
  assert.deepEqual(await answerTo(core, cmd.login, credentials), plain);
  assert.deepEqual(await answerTo(core, cmd.register, { ...credentials, username: 'bob' }), plain);
  await core.stop();
});
