import { setTimeout as sleep } from 'node:timers/promises';
import type { Device } from '@hawser/client';
import { valueIn } from './json.ts';
import type { DeviceOptions } from './options.ts';
import type { Outgoing } from './outgoing.ts';

/**
 * Sends a message at once, and again every so often. The devices of a fleet begin at times spread over the interval.
 * Resolves after the last of `times`, when all is acked or known not to be.
 */
export async function repeat(
  devices: ReadonlyMap<string, Device>,
  text: string,
  options: DeviceOptions,
  outgoing: Outgoing,
  signal: AbortSignal,
): Promise<void> {
  const value = valueIn(text);
  const intervalMs = options.every ?? 0;
  const times = options.times ?? (options.every === undefined ? 1 : Number.POSITIVE_INFINITY);
  const count = devices.size;
  await Promise.all(
    [...devices].map(async ([id, device], index) => {
      let dueMs = performance.now() + (intervalMs * index) / count;
      for (let time = 1; time <= times && devices.get(id) === device; time++) {
        await sleep(Math.max(0, dueMs - performance.now()), undefined, { signal });
        await outgoing.room();
        for (const to of options.sendTo) {
          const by = count > 1 ? { by: id } : {};
          void outgoing.send(device, value, text.length, { ...by, to, label: `message ${time}` });
        }
        // A machine that slept does not make up for it.
        dueMs = Math.max(dueMs + intervalMs, performance.now());
      }
    }),
  );
  await outgoing.settled();
}
