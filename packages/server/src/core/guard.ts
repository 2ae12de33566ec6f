import { isName, serverLimits } from '@hawser/protocol';
import type { AbuseLimits } from './abuse-limits.ts';
import { addressKey } from './address.ts';
import { Buckets } from './buckets.ts';
import type { Counters } from './counters.ts';
import type { Time } from './ports.ts';
import { Shares } from './shares.ts';

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
/** What cannot be a name, as long as it may be, counts as one that is nobody's: it would be remembered. */
const NO_NAME = '';

/** An attempt to prove who one is, which counts as failed until it is said to be otherwise. */
export interface Attempt {
  /** It may be made after this. */
  readonly waitMs: number;
  /** The proof was right: it costs nothing, and this address is known for this name. */
  right(): void;
  /** It was not made, or nothing can be concluded: it costs nothing. */
  undone(): void;
}

/**
 * Holds up those who try passwords and other proofs, register, or add devices, faster than people do.
 *
 * A failed proof costs a token of its pair of address and name, of the address, and of the name. The name's count only for
 * addresses that have failed on it more often than is forgiven, and where a name has proved itself lately only the pair's
 * count: guesses from elsewhere never hold up the owner. Nobody is locked out: tokens come back, and until then an attempt waits.
 */
export class Guard {
  readonly #time: Time;
  readonly #counters: Counters;
  readonly #pairs: Buckets;
  readonly #forgiven: Buckets;
  readonly #addresses: Buckets;
  readonly #names: Buckets;
  /** Pairs that have proved themselves, the latest last. */
  readonly #known = new Set<string>();
  #delayed = 0;
  readonly #registrations: Buckets;
  readonly #registrationsInAll: Shares;
  readonly #bindings: Buckets;
  readonly #dispatches: Buckets;
  readonly #dispatchesInAll: Shares;
  readonly #newNames: Buckets;

  constructor(limits: AbuseLimits, time: Time, counters: Counters) {
    this.#time = time;
    this.#counters = counters;
    const { bucketsMax } = limits;
    const { loginForgivenMax, loginForgivenRefillMs } = serverLimits;
    this.#forgiven = new Buckets(loginForgivenMax, loginForgivenRefillMs, bucketsMax);
    const { loginPairFailuresMax, loginPairRefillMs, loginAccountFailuresMax, loginAccountRefillMs } = serverLimits;
    this.#pairs = new Buckets(loginPairFailuresMax, loginPairRefillMs, bucketsMax);
    this.#names = new Buckets(loginAccountFailuresMax, loginAccountRefillMs, bucketsMax);
    const addressRefillMs = HOUR_MS / limits.loginFailuresPerAddressPerHourMax;
    this.#addresses = new Buckets(serverLimits.loginAddressFailuresMax, addressRefillMs, bucketsMax);
    const { registrationsPerAddressPerHourMax, registrationsPerHourMax } = limits;
    this.#registrations = new Buckets(
      registrationsPerAddressPerHourMax,
      HOUR_MS / registrationsPerAddressPerHourMax,
      bucketsMax,
    );
    this.#registrationsInAll = new Shares(registrationsPerHourMax, HOUR_MS / registrationsPerHourMax, bucketsMax);
    const { bindingsAtOnceMax, bindingsPerSecondMax } = serverLimits;
    this.#bindings = new Buckets(bindingsAtOnceMax, 1000 / bindingsPerSecondMax, bucketsMax);
    const { dispatchesPerAddressPerSecondMax, dispatchesPerSecondMax } = limits;
    this.#dispatches = new Buckets(
      2 * dispatchesPerAddressPerSecondMax,
      1000 / dispatchesPerAddressPerSecondMax,
      bucketsMax,
    );
    this.#dispatchesInAll = new Shares(2 * dispatchesPerSecondMax, 1000 / dispatchesPerSecondMax, bucketsMax);
    const { connectionsPerAddressMax, newNamesPerAddressPerMinuteMax } = limits;
    this.#newNames = new Buckets(connectionsPerAddressMax, MINUTE_MS / newNamesPerAddressPerMinuteMax, bucketsMax);
  }

  // ---- proofs

  /**
   * Before a proof of being `claimed` from `address` is looked at; `busy` when too many wait already. Await `whenDue` before it is,
   * and say what came of it.
   */
  begin(address: string, claimed: string): Attempt | 'busy' {
    const now = this.#time.now();
    const key = addressKey(address);
    const name = isName(claimed) ? claimed : NO_NAME;
    const pair = `${key} ${name}`;
    const isKnown = this.#known.has(pair);
    let waitMs = this.#pairs.waitMs(pair, now);
    if (!isKnown) {
      waitMs = Math.max(waitMs, this.#addresses.waitMs(key, now));
      if (this.#forgiven.waitMs(pair, now) > 0) waitMs = Math.max(waitMs, this.#names.waitMs(name, now));
    }
    const isTooMuch =
      waitMs > serverLimits.loginDelayMsMax || (waitMs > 0 && this.#delayed >= serverLimits.loginsDelayedMax);
    if (isTooMuch) {
      this.#counters.limited.loginsRefused++;
      return 'busy';
    }
    const charged: readonly (readonly [Buckets, string])[] = isKnown
      ? [[this.#pairs, pair]]
      : [
          [this.#pairs, pair],
          [this.#forgiven, pair],
          [this.#addresses, key],
          [this.#names, name],
        ];
    for (const [buckets, of] of charged) buckets.charge(of, now);
    const undone = (): void => {
      for (const [buckets, of] of charged) buckets.refund(of, this.#time.now());
    };
    return {
      waitMs,
      undone,
      right: () => {
        undone();
        this.#know(pair);
      },
    };
  }

  /** Resolves when the attempt may be made; `undefined` when that is now. */
  whenDue({ waitMs }: Attempt): Promise<void> | undefined {
    if (waitMs === 0) return undefined;
    this.#counters.limited.loginsDelayed++;
    this.#delayed++;
    return new Promise((resolve) => {
      this.#time.after(waitMs, () => {
        this.#delayed--;
        resolve();
      });
    });
  }

  #know(pair: string): void {
    this.#known.delete(pair);
    this.#known.add(pair);
    if (this.#known.size <= serverLimits.knownLoginsMax) return;
    for (const oldest of this.#known) {
      this.#known.delete(oldest);
      return;
    }
  }

  /** Attempts that wait. */
  get delayed(): number {
    return this.#delayed;
  }

  // ---- others

  /** Whether somebody of this address may try to register. */
  mayRegister(address: string): boolean {
    const now = this.#time.now();
    const key = addressKey(address);
    if (this.#registrations.take(key, now) && this.#registrationsInAll.take(key, now)) return true;
    this.#counters.limited.registrations++;
    return false;
  }

  /**
   * Whether a device that nobody knows yet may become known by way of this address. Where that cost a token for nothing,
   * `nameWasKnown` gives it back.
   */
  mayMakeKnown(address: string): boolean {
    return this.#newNames.take(addressKey(address), this.#time.now());
  }

  nameWasKnown(address: string): void {
    this.#newNames.refund(addressKey(address), this.#time.now());
  }

  /** Resolves when this user may add or remove another device; `undefined` when that is now. */
  whenMayBind(user: string): Promise<void> | undefined {
    const now = this.#time.now();
    const waitMs = this.#bindings.waitMs(user, now);
    this.#bindings.charge(user, now);
    if (waitMs === 0) return undefined;
    this.#counters.limited.bindingsDelayed++;
    return new Promise((resolve) => {
      this.#time.after(waitMs, resolve);
    });
  }

  /** Whether this address may ask the dispatcher for a server. */
  mayDispatch(address: string): boolean {
    const now = this.#time.now();
    const key = addressKey(address);
    if (this.#dispatches.take(key, now) && this.#dispatchesInAll.take(key, now)) return true;
    this.#counters.limited.dispatches++;
    return false;
  }
}
