// Cmd 2 on virtual time, where no ciphertext is a good one: how many are looked at. All else is in test/rules/encryption.test.ts.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cmd, encodeFrame, refusals, wireLimits } from '@hawser/protocol';
import { Bench } from './testing/bench.ts';

const BYTES = wireLimits.rsaModulusBits / 8;

test('of one address so many key exchanges a second are looked at; others are told to come again, other addresses not', async () => {
  const bench = await Bench.open({ limits: { handshakesPerAddressPerSecondMax: 10 } });
  /** What so many connections of this address are answered, by how many. */
  const exchange = async (address: string, count: number): Promise<Record<string, number>> => {
    const told: Record<string, number> = {};
    const clients = Array.from({ length: count }, () => bench.connect(address));
    for (const client of clients) client.sendBytes(encodeFrame(cmd.clientKey, 'k', false, new Uint8Array(BYTES)));
    await bench.settle();
    for (const client of clients) {
      const { code, msg } = client.answers[0]!.body as { code: number; msg: string };
      assert.equal(code, 200);
      told[msg] = (told[msg] ?? 0) + 1;
      client.vanish();
    }
    return told;
  };
  const [wrong, busy] = [refusals.unusableKey.msg, refusals.busy.msg];
  assert.deepEqual(await exchange('203.0.113.9', 50), { [wrong]: 20, [busy]: 30 });
  assert.deepEqual(await exchange('198.51.100.7', 20), { [wrong]: 20 });
  await bench.pass(1_000);
  assert.deepEqual(await exchange('203.0.113.9', 50), { [wrong]: 10, [busy]: 40 });
  assert.equal(bench.core.counters.limited.keyExchangesPerAddress, 70);
});
