import { totalmem } from 'node:os';
import { constants, type PerformanceEntry, PerformanceObserver } from 'node:perf_hooks';
import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { serverLimits } from '@hawser/protocol';

/** How much of what it may use the process uses, in percent: the worse of its heap and its memory as a whole. */
export function memoryPercent(): number {
  const { used_heap_size: heapUsed, heap_size_limit: heapMax } = getHeapStatistics();
  return 100 * Math.max(heapUsed / heapMax, process.memoryUsage.rss() / memoryBytesMax());
}

/** What the process may use: the limit of its control group when there is one. */
function memoryBytesMax(): number {
  return Math.min(process.constrainedMemory() || Number.POSITIVE_INFINITY, totalmem());
}

/** What may be known of inboxes: more where there is much memory, for without it each of them is read whole again. */
export function inboxesKnownBytesMax(
  memoryBytes: number = memoryBytesMax(),
  heapBytesMax: number = getHeapStatistics().heap_size_limit,
): number {
  const { inboxesKnownShare, inboxesKnownHeapShare } = serverLimits;
  const share = Math.min(memoryBytes / inboxesKnownShare, heapBytesMax / inboxesKnownHeapShare);
  return Math.max(serverLimits.inboxesKnownBytesMax, share);
}

/** By how much of what is alive the heap may grow before it is collected, in percent. */
export function heapGrowthPercent(liveBytes: number): number {
  const percent = Math.round((100 * serverLimits.heapGarbageBytes) / liveBytes);
  return Math.min(serverLimits.heapGrowthPercentMost, Math.max(serverLimits.heapGrowthPercentLeast, percent));
}

/**
 * Lets this process gather about `heapGarbageBytes` of garbage before it is collected; returns what ends that. V8 would
 * let the heap grow fourfold where it has much memory: hundreds of megabytes that nobody else can use. A fixed share of
 * what is alive would collect a small heap all the time. What is left once nothing much happens goes, too, and sooner than
 * the 8 s or more that V8 would wait.
 */
export function boundGarbage(): () => void {
  setFlagsFromString(`--memory-reducer-delay-ms=${serverLimits.garbageRestsMs}`);
  const bound = (): void => {
    setFlagsFromString(`--heap-growing-percent=${heapGrowthPercent(getHeapStatistics().used_heap_size)}`);
  };
  bound();
  const observer = new PerformanceObserver((list) => {
    if (list.getEntries().some(isMajor)) bound();
  });
  observer.observe({ entryTypes: ['gc'] });
  return () => observer.disconnect();
}

/**
 * Has the young generation collected after so many bytes on the wire, unless that has just happened. V8 counts buffers, four
 * bytes of them for each on the wire, as it counts what has grown old: without this, messages of a kilobyte have the whole
 * heap looked through ten times a second, though hardly a buffer lives for longer than a turn.
 */
export class BufferGarbage {
  readonly #collect: () => void;
  readonly #observer: PerformanceObserver;
  #wireBytes = 0;
  #collectedAt = 0;

  constructor(collect: () => void = minorCollection()) {
    this.#collect = collect;
    this.#observer = new PerformanceObserver(() => this.collected());
    this.#observer.observe({ entryTypes: ['gc'] });
  }

  /** @param wireBytes received and sent since start */
  turnEnded(wireBytes: number): void {
    this.#wireBytes = wireBytes;
    if (wireBytes - this.#collectedAt < serverLimits.wireBytesPerCollection) return;
    this.collected();
    this.#collect();
  }

  /** There was a collection, of whatever kind. */
  collected(): void {
    this.#collectedAt = this.#wireBytes;
  }

  stop(): void {
    this.#observer.disconnect();
  }
}

/** What V8 offers under a flag; where it does not, its own times are as good as it gets. */
function minorCollection(): () => void {
  setFlagsFromString('--expose-gc');
  const gc: unknown = runInNewContext('typeof gc === "function" ? gc : undefined');
  return typeof gc === 'function' ? () => void gc({ type: 'minor' }) : () => {};
}

function isMajor(entry: PerformanceEntry & { readonly detail?: unknown }): boolean {
  return (entry.detail as { readonly kind?: number }).kind === constants.NODE_PERFORMANCE_GC_MAJOR;
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
