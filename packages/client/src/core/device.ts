import { cmd, encodeText, isPairingCode, isSecret, wireLimits } from '@hawser/protocol';
import { Client, nameFault } from './client.ts';
import { InvalidError } from './errors.ts';
import type { WaitOptions } from './pending.ts';

export interface DeviceOptions extends WaitOptions {
  /** The version of the device's software. */
  readonly version?: string;
  /** What the device can do: any JSON values. */
  readonly abilities?: readonly unknown[];
  /**
   * What only this device knows, 1 to 128 bytes: from `hawser device add`, or made by the device before it first comes, of
   * 128 random bits or more, and kept. An id that has a secret is let in with it alone.
   */
  readonly secret?: string;
  /** The code, 4 to 64 bytes, that a person must know to add this device from now on. */
  readonly code?: string;
}

/** A device's client: comes with an id, and talks to the users that have added it. */
export class DeviceClient extends Client {
  /**
   * Says who the device is, and stays online: from the first success on the client reconnects by itself. Rejects with
   * `RefusedError`, `TimeoutError` or `AbortedError`; until then it keeps trying. A device that has nobody to tell does
   * well to give `timeoutMs: Infinity`.
   */
  authenticate(id: string, options: DeviceOptions = {}): Promise<void> {
    const { version, abilities, secret, code } = options;
    const data = encodeText(JSON.stringify({ version, id, abilities, secret, code, nack: true }));
    return (
      nameFault(id) ?? secretFault(options) ?? this.session.login({ cmd: cmd.authenticate, name: id, data }, options)
    );
  }
}

function secretFault({ secret, code }: DeviceOptions): Promise<never> | undefined {
  if (secret !== undefined && !isSecret(secret)) {
    return Promise.reject(new InvalidError(`a secret has 1 to ${wireLimits.secretBytesMax} bytes`));
  }
  if (code === undefined || isPairingCode(code)) return undefined;
  const { codeBytesMin, codeBytesMax } = wireLimits;
  return Promise.reject(new InvalidError(`a pairing code has ${codeBytesMin} to ${codeBytesMax} bytes`));
}
