import type { Time, Timer } from '@hawser/server/core/ports';
import type { Process } from './process.ts';
import type { Random } from './random.ts';
import type { Scheduler } from './scheduler.ts';

/** The wall clock of a machine: it jumps. */
export class WallClock {
  readonly #scheduler: Scheduler;
  #offset = 1_790_000_000_000;

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
  }

  now(): number {
    return Math.floor(this.#scheduler.now + this.#offset);
  }

  jump(ms: number): void {
    this.#offset += ms;
  }
}

/** Timers of Node come up to a millisecond early by the monotonic clock, and some late. */
const TIMER_EARLY_MS = 0.6;
const TIMER_LATE_MS = 2;
/** Longest from a turn's first callback to its `setImmediate`. */
const TURN_MS = 0.3;
/** Of so many spells of so long the event loop is busy in one. */
const BUSY_SPELL_MS = 700;
const BUSY_EVERY = 3;

/** Time as one run of the server sees it; nothing of it happens once the process has ended. */
export class ServerTime implements Time {
  readonly #scheduler: Scheduler;
  readonly #random: Random;
  readonly #wall: WallClock;
  readonly #startedAt: number;
  readonly #ran: () => number;
  readonly #process: Process;
  #immediates: (() => void)[] = [];

  constructor(scheduler: Scheduler, process: Process, random: Random, wall: WallClock, ran: number | (() => number)) {
    this.#scheduler = scheduler;
    this.#process = process;
    this.#random = random;
    this.#wall = wall;
    // The monotonic clock counts from the start of the process, before the store was opened.
    this.#startedAt = scheduler.now - random.between(20, 500);
    const openedAt = scheduler.now;
    this.#ran = typeof ran === 'function' ? ran : () => ran + scheduler.now - openedAt;
  }

  now(): number {
    return this.#scheduler.now - this.#startedAt;
  }

  wall(): number {
    return this.#wall.now();
  }

  ran(): number {
    return this.#ran();
  }

  after(ms: number, call: () => void): Timer {
    const late = Math.max(0, ms + this.#random.between(-TIMER_EARLY_MS, TIMER_LATE_MS));
    let isCancelled = false;
    const event = this.#scheduler.after(late, () => {
      this.#process.run(() => {
        if (!isCancelled) call();
      });
    });
    return {
      cancel: () => {
        isCancelled = true;
        event.call = undefined;
      },
    };
  }

  isBusy(): boolean {
    return Math.floor(this.#scheduler.now / BUSY_SPELL_MS) % BUSY_EVERY === 0;
  }

  endOfTurn(call: () => void): void {
    if (this.#immediates.push(call) > 1) return;
    this.#process.after(this.#random.between(0, TURN_MS), () => this.#endTurn());
  }

  #endTurn(): void {
    const immediates = this.#immediates;
    this.#immediates = [];
    for (const call of immediates) if (!this.#process.isOver) call();
  }
}

/** The time of a process, for what goes by it below the core. */
export function processClock(scheduler: Scheduler, process: Process) {
  const startedAt = scheduler.now;
  const after = (ms: number, call: () => void): Timer => {
    let isCancelled = false;
    const event = scheduler.after(Math.max(0, ms), () => {
      process.run(() => {
        if (!isCancelled) call();
      });
    });
    return {
      cancel: () => {
        isCancelled = true;
        event.call = undefined;
      },
    };
  };
  return { now: () => scheduler.now - startedAt, after, afterIdle: after };
}
