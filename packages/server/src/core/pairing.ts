import { type RefusalName, serverLimits } from '@hawser/protocol';
import { Guesses } from './code-guesses.ts';
import type { Digests, NameRecord, Time } from './ports.ts';

/**
 * Who may add a device. One that has a pairing code needs it in either.
 *
 * - `open`: one without a code may be added by anybody, also before it is known.
 * - `code`: only one that has a code may be added.
 */
export const pairingModes = ['open', 'code'] as const;
export type PairingMode = (typeof pairingModes)[number];

/** The digest of the code that was found to be right, if the device has one. */
export interface Paired {
  readonly code: string | undefined;
}

/** Decides whether a user may add a device, and how often one may be wrong about its code. */
export class Pairing {
  readonly #mode: PairingMode;
  readonly #digests: Digests;
  readonly #time: Time;
  readonly #ofUser: Guesses;
  readonly #forDevice: Guesses;

  constructor(mode: PairingMode, digests: Digests, time: Time) {
    this.#mode = mode;
    this.#digests = digests;
    this.#time = time;
    const { codeGuessCounters, codeGuessesAtOnceMax, codeGuessEveryMs } = serverLimits;
    const { codeGuessesOfUserMax, codeGuessOfUserEveryMs } = serverLimits;
    const hash = (name: string) => digests.hash(name);
    this.#ofUser = new Guesses(hash, codeGuessCounters, codeGuessesOfUserMax, codeGuessOfUserEveryMs);
    this.#forDevice = new Guesses(hash, codeGuessCounters, codeGuessesAtOnceMax, codeGuessEveryMs);
  }

  /** Whether it is told without a look at the record: a device may be added by this, if it has no code. */
  needsNothing(code: string | undefined): boolean {
    return this.#mode === 'open' && code === undefined;
  }

  judge(user: string, device: string, record: NameRecord | undefined, code: string | undefined): Paired | RefusalName {
    const known = record?.kind === 'device' ? record.code : undefined;
    if (this.#mode === 'open' && known === undefined) return { code: undefined };
    // Whoever shows no code guesses nothing.
    if (code === undefined) return 'wrongCode';
    const now = this.#time.now();
    const kept = this.#ofUser.isUnused(user, now) ? 0 : serverLimits.codeGuessesKept;
    if (!this.#ofUser.take(user, now)) return 'tooManyCodes';
    if (!this.#forDevice.take(device, now, kept)) {
      this.#ofUser.giveBack(user);
      return 'tooManyCodes';
    }
    // In the same time for a device that is not known, or has none.
    if (!this.#digests.matches(code, known)) return 'wrongCode';
    this.#ofUser.giveBack(user);
    this.#forDevice.giveBack(device);
    return { code: known };
  }
}
