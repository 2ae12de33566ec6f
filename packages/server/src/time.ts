import type { Time, Timer } from './core/ports.ts';

/** The world's time. `ranBefore`: how long the store had been in service before this process, ms. */
export function systemTime(ranBefore: number): Time {
  const startedAt = performance.now();
  return {
    now: () => performance.now(),
    wall: () => Date.now(),
    ran: () => ranBefore + performance.now() - startedAt,
    after(ms: number, call: () => void): Timer {
      const timer = setTimeout(call, ms);
      return { cancel: () => clearTimeout(timer) };
    },
    endOfTurn(call: () => void): void {
      setImmediate(call);
    },
  };
}
