import { cmd, encodeText } from '@hawser/protocol';
import { Client, nameFault } from './client.ts';
import type { WaitOptions } from './pending.ts';

export interface DeviceOptions extends WaitOptions {
  /** The version of the device's software. */
  readonly version?: string;
  /** What the device can do: any JSON values. */
  readonly abilities?: readonly unknown[];
}

/** A device's client: comes with an id, and talks to the users that have added it. */
export class DeviceClient extends Client {
  /**
   * Says who the device is, and stays online: from the first success on the client reconnects by itself. Rejects with
   * `RefusedError`, `TimeoutError` or `AbortedError`; until then it keeps trying. A device that has nobody to tell does
   * well to give `timeoutMs: Infinity`.
   */
  authenticate(id: string, options: DeviceOptions = {}): Promise<void> {
    const { version, abilities } = options;
    const data = encodeText(JSON.stringify({ version, id, abilities, nack: true }));
    return nameFault(id) ?? this.session.login({ cmd: cmd.authenticate, name: id, data }, options);
  }
}
