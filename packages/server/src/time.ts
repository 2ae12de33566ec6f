import { serverLimits } from '@hawser/protocol';
import type { Time, Timer } from './core/ports.ts';

/**
 * The world's time. `ran`: how long the store has been in service, ms: before this process, or as a store that many nodes
 * share has it now.
 */
export function systemTime(ran: number | (() => number)): Time {
  const startedAt = performance.now();
  const ranNow = typeof ran === 'function' ? ran : (): number => ran + performance.now() - startedAt;
  return {
    // Whole milliseconds: V8 keeps small whole numbers in the objects that have them, and boxes all others.
    now: () => Math.floor(performance.now()),
    wall: () => Date.now(),
    ran: () => Math.floor(ranNow()),
    after(ms: number, call: () => void): Timer {
      const timer = setTimeout(call, ms);
      return { cancel: () => clearTimeout(timer) };
    },
    endOfTurn(call: () => void): void {
      setImmediate(call);
    },
    isBusy: loopLoad(),
  };
}

/** Whether the event loop was busy between two looks at it. */
function loopLoad(): () => boolean {
  let seen = performance.eventLoopUtilization();
  let seenAt = performance.now();
  let isBusy = false;
  return () => {
    const now = performance.now();
    if (now - seenAt < serverLimits.loopBusyCheckMs) return isBusy;
    const current = performance.eventLoopUtilization();
    isBusy = 100 * performance.eventLoopUtilization(current, seen).utilization >= serverLimits.loopBusyPercent;
    seen = current;
    seenAt = now;
    return isBusy;
  };
}
