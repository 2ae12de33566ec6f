import { serverLimits } from '@hawser/protocol';
import type { Time } from '../../core/ports.ts';

/** How long each side of a lease goes by it. */
export interface LeaseTimes {
  readonly leaseMs: number;
  readonly renewMs: number;
  readonly marginMs: number;
  readonly witnessHoldMs: number;
}

export const leaseTimes: LeaseTimes = {
  leaseMs: serverLimits.leaseMs,
  renewMs: serverLimits.leaseRenewMs,
  marginMs: serverLimits.leaseMarginMs,
  witnessHoldMs: serverLimits.witnessHoldMs,
};

/**
 * What this run may be sure of. Either the directory or the witness prolongs it, each from when it was asked; once it has
 * run out, or either has said that the run is void, nothing prolongs it any more: others may have been given what it held,
 * and a directory that has lost its last writes would not know.
 */
export class Lease {
  readonly #time: Time;
  #heldUntil: number;
  #isVoid = false;

  constructor(time: Time, firstMs: number) {
    this.#time = time;
    this.#heldUntil = time.now() + firstMs;
  }

  get heldUntil(): number {
    return this.#heldUntil;
  }

  get hasLapsed(): boolean {
    if (!this.#isVoid && this.#time.now() >= this.#heldUntil) this.end();
    return this.#isVoid;
  }

  prolong(until: number): void {
    if (!this.hasLapsed) this.#heldUntil = Math.max(this.#heldUntil, until);
  }

  end(): void {
    this.#isVoid = true;
    this.#heldUntil = Math.min(this.#heldUntil, this.#time.now());
  }
}
