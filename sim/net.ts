import type { Random } from './random.ts';
import type { Scheduler } from './scheduler.ts';

const LATENCY_MS_MAX = 200;

/** What lies between a node and a service. Nothing goes in a direction that is cut; TCP sends it again later. */
export class Way {
  /** Until when nothing arrives: at the service, and from it. */
  cutThereTo = 0;
  cutBackTo = 0;
  #lateTo = 0;

  cut(direction: 'both' | 'there' | 'back', until: number): void {
    if (direction !== 'back') this.cutThereTo = Math.max(this.cutThereTo, until);
    if (direction !== 'there') this.cutBackTo = Math.max(this.cutBackTo, until);
    this.#lateTo = Math.max(this.#lateTo, until + LATENCY_MS_MAX);
  }

  /** Something that was sent while it was cut may be on its way yet, also where that is mended. */
  isLate(now: number): boolean {
    return now < this.#lateTo;
  }

  heal(): void {
    this.cutThereTo = 0;
    this.cutBackTo = 0;
  }
}

/** One direction of a connection: what is sent arrives in order, some time later, or never. */
class Direction {
  readonly #scheduler: Scheduler;
  readonly #latencyMs: () => number;
  readonly #cutTo: () => number;
  readonly #queue: (() => void)[] = [];
  isBroken = false;

  constructor(scheduler: Scheduler, latencyMs: () => number, cutTo: () => number) {
    this.#scheduler = scheduler;
    this.#latencyMs = latencyMs;
    this.#cutTo = cutTo;
  }

  send(call: () => void): void {
    this.#queue.push(call);
    this.#scheduler.after(this.#latencyMs(), () => this.#arrive());
  }

  #arrive(): void {
    if (this.isBroken) return;
    const waitMs = this.#cutTo() - this.#scheduler.now;
    if (waitMs > 0) this.#scheduler.after(waitMs + this.#latencyMs(), () => this.#arrive());
    else this.#queue.shift()?.();
  }
}

/** One TCP connection to a service. */
export class Pipe {
  readonly #there: Direction;
  readonly #back: Direction;

  constructor(scheduler: Scheduler, random: Random, way: Way) {
    const latencyMs = (): number => random.magnitude(0.05, random.chance(0.01) ? LATENCY_MS_MAX : 2);
    this.#there = new Direction(scheduler, latencyMs, () => way.cutThereTo);
    this.#back = new Direction(scheduler, latencyMs, () => way.cutBackTo);
  }

  there(call: () => void): void {
    this.#there.send(call);
  }

  back(call: () => void): void {
    this.#back.send(call);
  }

  /** The node hangs up: nothing comes back any more; what was sent may arrive, and behind it that it is over. */
  hangUp(over: () => void): void {
    this.#back.isBroken = true;
    this.there(over);
  }

  /** The service has ended, and its machine says so: what was sent to it goes nowhere. */
  reset(told: () => void): void {
    this.#there.isBroken = true;
    this.back(told);
  }
}
