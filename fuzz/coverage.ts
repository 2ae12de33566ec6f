import { Session } from 'node:inspector';

interface Take {
  readonly result: readonly {
    readonly url: string;
    readonly functions: readonly {
      readonly ranges: readonly { readonly startOffset: number; readonly endOffset: number; readonly count: number }[];
    }[];
  }[];
}

/**
 * What was reached of the product's sources, by V8's own counters of blocks: they cost a run next to nothing, and a look
 * at them some tenths of a millisecond.
 */
export class Coverage {
  readonly #sources: RegExp;
  readonly #session = new Session();
  /** For each file, one byte for each character of it: 1 where it was reached. */
  readonly #reached = new Map<string, Uint8Array>();
  readonly #fresh = new Map<string, Set<number>>();

  constructor(sources: RegExp) {
    this.#sources = sources;
    this.#session.connect();
    this.#session.post('Profiler.enable');
    this.#session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
  }

  /** Whether anything was reached since the last look that never was before. */
  look(): boolean {
    this.#fresh.clear();
    this.#take((url, at, room) => {
      if (room[at] === 1) return;
      room[at] = 1;
      const fresh = this.#fresh.get(url) ?? new Set();
      this.#fresh.set(url, fresh.add(at));
    });
    return this.#fresh.size > 0;
  }

  /** Whether something has been reached since that was new in the last look, and that nobody has claimed yet. */
  sees(): boolean {
    let isSeen = false;
    this.#take((url, at) => {
      if (this.#fresh.get(url)?.has(at) === true) isSeen = true;
    });
    return isSeen;
  }

  /** The same, and claims it. */
  claim(): boolean {
    let isClaimed = false;
    this.#take((url, at) => {
      if (this.#fresh.get(url)?.delete(at) === true) isClaimed = true;
    });
    return isClaimed;
  }

  /** Whether all that was new in the last look has been claimed. */
  get isClaimed(): boolean {
    for (const fresh of this.#fresh.values()) if (fresh.size > 0) return false;
    return true;
  }

  #take(reached: (url: string, at: number, room: Uint8Array) => void): void {
    let take: Take | undefined;
    this.#session.post('Profiler.takePreciseCoverage', (error, result) => {
      if (error === null) take = result as Take;
    });
    for (const { url, functions } of take?.result ?? []) {
      if (!this.#sources.test(url)) continue;
      for (const { ranges } of functions) {
        // A function, then the blocks in it, outer ones first; one that is as its surroundings is not told of.
        const [whole] = ranges;
        if (whole === undefined || whole.count === 0) continue;
        const base = whole.startOffset;
        const now = new Uint8Array(whole.endOffset - base);
        for (const { startOffset, endOffset, count } of ranges) {
          now.fill(count > 0 ? 1 : 0, startOffset - base, endOffset - base);
        }
        const room = this.#room(url, whole.endOffset);
        for (let i = 0; i < now.length; i++) if (now[i] === 1) reached(url, base + i, room);
      }
    }
  }

  #room(url: string, bytes: number): Uint8Array {
    const reached = this.#reached.get(url);
    if (reached !== undefined && reached.length >= bytes) return reached;
    const larger = new Uint8Array(bytes);
    if (reached !== undefined) larger.set(reached);
    this.#reached.set(url, larger);
    return larger;
  }

  /** How many characters of the sources were reached. */
  get size(): number {
    let size = 0;
    for (const reached of this.#reached.values()) for (const each of reached) size += each;
    return size;
  }

  close(): void {
    this.#session.post('Profiler.stopPreciseCoverage');
    this.#session.post('Profiler.disable');
    this.#session.disconnect();
  }
}
