import { describe, test } from 'node:test';
import { devicesContract } from './contract-devices.ts';
import type { Adapter, Check } from './contract-harness.ts';
import { inboxContract } from './contract-inbox.ts';
import { namesContract } from './contract-names.ts';
import { randomContract } from './contract-random.ts';

export type { Adapter, Harness } from './contract-harness.ts';

/** What the Store port promises, for every adapter to be held to. */
export function storeContract(name: string, adapter: Adapter): void {
  const check: Check = (sentence, body, limits) => {
    test(sentence, async () => {
      const harness = await adapter.open(limits);
      try {
        await body(harness);
      } finally {
        await harness.close();
      }
    });
  };
  // At the same time: each test has a store of its own and mostly waits for the disk.
  describe(`${name} keeps the Store contract`, { concurrency: 8 }, () => {
    describe('names', { concurrency: 8 }, () => namesContract(check));
    describe('devices', { concurrency: 8 }, () => devicesContract(check));
    describe('inboxes', { concurrency: 8 }, () => inboxContract(check));
    describe('random steps', { concurrency: 8 }, () => randomContract(check));
  });
}
