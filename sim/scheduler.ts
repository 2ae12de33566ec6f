/** Something that will happen. */
export interface Event {
  readonly at: number;
  readonly order: number;
  /** Taken away when it is cancelled. */
  call: (() => void) | undefined;
}

/**
 * Promise callbacks run between events, as between the callbacks of a real event loop. They are all run by waiting
 * this many turns of the microtask queue; it is first in, first out, so a longer chain would still be deterministic.
 */
const MICROTASK_TURNS = 24;
const DONE = Promise.resolve();

/** Simulated time in milliseconds, and everything that is to happen, in order. Nothing else moves time. */
export class Scheduler {
  now = 0;
  events = 0;
  /** Promise callbacks may be waiting: run them before the next event. */
  settled = false;
  /** Run promise callbacks after every event. */
  alwaysSettles = false;
  readonly #heap: Event[] = [];
  #order = 0;

  after(ms: number, call: () => void): Event {
    return this.at(this.now + ms, call);
  }

  at(time: number, call: () => void): Event {
    const event: Event = { at: time < this.now ? this.now : time, order: this.#order++, call };
    this.#push(event);
    return event;
  }

  /** A promise for what `work` makes at that time; it rejects when `work` throws. */
  promise<Result>(ms: number, work: () => Result): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.after(ms, () => {
        this.settled = true;
        try {
          resolve(work());
        } catch (error) {
          reject(error);
        }
      });
    });
  }

  /** Lets everything happen until `time`, or until `isDone`. */
  async run(time: number, isDone: () => boolean): Promise<void> {
    for (;;) {
      const event = this.#heap[0];
      if (event === undefined || event.at > time) {
        this.now = time;
        return;
      }
      this.#pop();
      if (event.call === undefined) continue;
      this.now = event.at;
      this.events++;
      event.call();
      if (this.settled || this.alwaysSettles) {
        this.settled = false;
        for (let i = 0; i < MICROTASK_TURNS; i++) await DONE;
      }
      if (isDone()) return;
    }
  }

  // ---- a binary heap

  #push(event: Event): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const above = (at - 1) >> 1;
      const parent = heap[above]!;
      if (!isBefore(event, parent)) break;
      heap[at] = parent;
      at = above;
    }
    heap[at] = event;
  }

  #pop(): void {
    const heap = this.#heap;
    const event = heap.pop()!;
    const length = heap.length;
    if (length === 0) return;
    let at = 0;
    for (;;) {
      let below = 2 * at + 1;
      if (below >= length) break;
      if (below + 1 < length && isBefore(heap[below + 1]!, heap[below]!)) below++;
      if (!isBefore(heap[below]!, event)) break;
      heap[at] = heap[below]!;
      at = below;
    }
    heap[at] = event;
  }
}

function isBefore(a: Event, b: Event): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}
