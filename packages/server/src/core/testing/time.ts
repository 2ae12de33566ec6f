import { setImmediate } from 'node:timers/promises';
import type { Time, Timer } from '../ports.ts';

interface Alarm {
  readonly at: number;
  readonly call: () => void;
}

/** Time that goes on only when a test says so. */
export class VirtualTime implements Time {
  #now = 1_000;
  /** What the wall clock shows beyond `now`; a test may make it jump. */
  wallAheadMs = 1_700_000_000_000;
  /** How long the store had been in service before this run. */
  ranBeforeMs = 0;
  /** Whether the event loop hardly rests. */
  busy = false;
  readonly #alarms = new Set<Alarm>();
  #turn: (() => void)[] = [];

  now(): number {
    return this.#now;
  }

  wall(): number {
    return this.#now + this.wallAheadMs;
  }

  ran(): number {
    return this.#now + this.ranBeforeMs;
  }

  after(ms: number, call: () => void): Timer {
    const alarm = { at: this.#now + ms, call };
    this.#alarms.add(alarm);
    return { cancel: () => this.#alarms.delete(alarm) };
  }

  endOfTurn(call: () => void): void {
    this.#turn.push(call);
  }

  isBusy(): boolean {
    return this.busy;
  }

  /** The process has ended: nothing that was due happens. */
  forget(): void {
    this.#alarms.clear();
    this.#turn = [];
  }

  /** Ends turns until nothing is left to do at this time. */
  async settle(): Promise<void> {
    do {
      const turn = this.#turn;
      this.#turn = [];
      for (const call of turn) call();
      // Promises settle before it.
      await setImmediate();
    } while (this.#turn.length > 0);
  }

  /** Lets this much time pass, with everything that is due in it. */
  async pass(ms: number): Promise<void> {
    await this.settle();
    const end = this.#now + ms;
    for (;;) {
      const next = this.#nextUntil(end);
      if (next === undefined) break;
      this.#alarms.delete(next);
      this.#now = Math.max(this.#now, next.at);
      next.call();
      await this.settle();
    }
    this.#now = end;
    await this.settle();
  }

  #nextUntil(end: number): Alarm | undefined {
    let next: Alarm | undefined;
    for (const alarm of this.#alarms) if (alarm.at <= end && (next === undefined || alarm.at < next.at)) next = alarm;
    return next;
  }
}
