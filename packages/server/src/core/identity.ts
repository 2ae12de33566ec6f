import type { RefusalName } from '@hawser/protocol';
import { hasCome } from './device-record.ts';
import { type DeviceRecord, type Digests, type Entry, LOCKED, type NameRecord } from './ports.ts';

/**
 * Which devices may come. An id that has a secret needs it in each of these.
 *
 * - `open`: any id; none is bound to a secret by itself.
 * - `tofu`, trust on first use: any id; a secret that comes with its very first authentication binds it.
 * - `provisioned`: ids that the operator has given a secret.
 */
export const devicesModes = ['open', 'tofu', 'provisioned'] as const;
export type DevicesMode = (typeof devicesModes)[number];

/** What a device shows of itself. */
export interface Shown {
  readonly secret: string | undefined;
  /** The pairing code that it gives itself. */
  readonly code: string | undefined;
  /** Whether it has proved to be this id before, by a certificate of its connection: as good as its secret. */
  readonly isCertified: boolean;
}

/** Decides whether a device is let in. The store then sees that what this rests on is still so (`Store.deviceSeen`). */
export class Identity {
  readonly #mode: DevicesMode;
  readonly #digests: Digests;

  constructor(mode: DevicesMode, digests: Digests) {
    this.#mode = mode;
    this.#digests = digests;
  }

  /** Whether it is told without a look at the record: a device that shows nothing new, if it has no secret. */
  needsNothing({ secret, code }: Shown): boolean {
    return this.#mode !== 'provisioned' && secret === undefined && code === undefined;
  }

  judge(record: NameRecord | undefined, shown: Shown): Entry | RefusalName {
    if (record?.kind === 'user') return 'nameIsUser';
    const refusal = this.#whyRefused(record, shown);
    if (refusal !== undefined) return refusal;
    const { secret, code } = shown;
    const binds = this.#mode === 'tofu' && secret !== undefined && record?.secret === undefined && !hasCome(record);
    const hasNewCode = code !== undefined && !this.#digests.matches(code, record?.code);
    return {
      secret: record?.secret,
      newSecret: binds ? this.#digests.digest(secret) : undefined,
      newCode: hasNewCode ? this.#digests.digest(code) : undefined,
    };
  }

  #whyRefused(record: DeviceRecord | undefined, { secret, isCertified }: Shown): RefusalName | undefined {
    const bound = record?.secret;
    // What the operator has revoked no certificate brings back.
    if (bound === LOCKED) return 'wrongSecret';
    if (isCertified) return undefined;
    if (this.#mode === 'provisioned' && (record?.provisioned !== true || bound === undefined)) return 'wrongSecret';
    if (bound !== undefined) {
      return secret !== undefined && this.#digests.matches(secret, bound) ? undefined : 'wrongSecret';
    }
    // A stranger could otherwise claim a device that is known.
    return this.#mode === 'tofu' && secret !== undefined && hasCome(record) ? 'secretTooLate' : undefined;
  }
}
