import type { Time } from '../../core/ports.ts';

/** What timers and deadlines of the store go by. */
export interface Clock extends Pick<Time, 'now' | 'after'> {
  /** The same as `after`; the process does not wait for it before it ends. */
  afterIdle: Time['after'];
}

export const systemClock: Clock = {
  now: () => performance.now(),
  after(ms, call) {
    const timer = setTimeout(call, ms);
    return { cancel: () => clearTimeout(timer) };
  },
  afterIdle(ms, call) {
    const timer = setTimeout(call, ms).unref();
    return { cancel: () => clearTimeout(timer) };
  },
};

export function sleep(clock: Pick<Clock, 'after'>, ms: number): Promise<void> {
  return new Promise((resolve) => clock.after(ms, resolve));
}
