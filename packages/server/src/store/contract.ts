import { describe, test } from 'node:test';
import { devicesContract } from './contract-devices.ts';
import type { Adapter, Check } from './contract-harness.ts';
import { inboxContract } from './contract-inbox.ts';
import { namesContract } from './contract-names.ts';
import { randomContract } from './contract-random.ts';

export type { Adapter, Harness } from './contract-harness.ts';

export interface ContractOptions {
  /** Tests at the same time. Each has a store of its own and mostly waits for the disk. */
  readonly concurrency?: number;
  readonly skip?: string | false;
}

/** What the Store port promises, for every adapter to be held to. */
export function storeContract(
  name: string,
  adapter: Adapter,
  { concurrency = 8, skip = false }: ContractOptions = {},
): void {
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
  describe(`${name} keeps the Store contract`, { concurrency, skip }, () => {
    describe('names', { concurrency }, () => namesContract(check));
    describe('devices', { concurrency }, () => devicesContract(check));
    describe('inboxes', { concurrency }, () => inboxContract(check));
    describe('random steps', { concurrency }, () => randomContract(check));
  });
}
