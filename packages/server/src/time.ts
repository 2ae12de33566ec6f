import type { Time, Timer } from './core/ports.ts';

/** The world's time. `ranBefore`: how long the store had been in service before this process, ms. */
export function systemTime(ranBefore: number): Time {
  const startedAt = performance.now();
  return {
    // Whole milliseconds: V8 keeps small whole numbers in the objects that have them, and boxes all others.
    now: () => Math.floor(performance.now()),
    wall: () => Date.now(),
    ran: () => Math.floor(ranBefore + performance.now() - startedAt),
    after(ms: number, call: () => void): Timer {
      const timer = setTimeout(call, ms);
      return { cancel: () => clearTimeout(timer) };
    },
    endOfTurn(call: () => void): void {
      setImmediate(call);
    },
  };
}
