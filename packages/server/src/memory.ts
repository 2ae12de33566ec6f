import { totalmem } from 'node:os';
import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { serverLimits } from '@hawser/protocol';

/** How much of what it may use the process uses, in percent: the worse of its heap and its memory as a whole. */
export function memoryPercent(): number {
  const { used_heap_size: heapUsed, heap_size_limit: heapMax } = getHeapStatistics();
  // The limit of the control group when there is one.
  const allowed = Math.min(process.constrainedMemory() || Number.POSITIVE_INFINITY, totalmem());
  return 100 * Math.max(heapUsed / heapMax, process.memoryUsage.rss() / allowed);
}

/**
 * Lets the heap of this process grow by no more than `heapGrowthPercent` of what is alive before it is collected. V8
 * would let it grow fourfold where it has much memory: hundreds of megabytes of garbage that nobody else can use.
 */
export function boundGarbage(): void {
  setFlagsFromString(`--heap-growing-percent=${serverLimits.heapGrowthPercent}`);
}

/** Opens and shuts a gate as memory runs short and comes back; returns what stops it. */
export function watchMemory(
  onChange: (isShort: boolean) => void,
  percent: () => number = memoryPercent,
  everyMs: number = serverLimits.memoryCheckMs,
): () => void {
  let isShort = false;
  const timer = setInterval(() => {
    const used = percent();
    const next = isShort ? used > serverLimits.memoryPercentResume : used > serverLimits.memoryPercentPause;
    if (next === isShort) return;
    isShort = next;
    onChange(isShort);
  }, everyMs);
  return () => clearInterval(timer);
}
