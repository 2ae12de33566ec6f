import { serverLimits } from '@hawser/protocol';
import type { Inbox } from './inbox.ts';
import type { SegmentReader } from './segment.ts';

/** A segment that was read, and how far it has been served. */
export interface ReadSegment {
  readonly first: number;
  readonly reader: SegmentReader;
}

interface Kept {
  /** The position behind which it begins; none while it is being read. */
  readonly after: number | undefined;
  readonly segments: readonly ReadSegment[];
  readonly bytes: number;
  readonly atMs: number;
}

/**
 * What was read of inboxes beyond the page that it was read for: the next page begins with it. Without this a segment would be
 * read, and its checksum computed, for each page that takes a part of it. What finds no room is not kept: if it took the
 * place of others, and many read at once, each would find its own gone when it comes back. Only those that have not come
 * back for some time make room.
 */
export class Ahead {
  readonly #now: () => number;
  /** In the order in which they were kept. */
  readonly #kept = new Map<Inbox, Kept>();
  #bytes = 0;
  #isShut = false;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Bytes that are kept, or that room is held for. */
  get bytes(): number {
    return this.#bytes;
  }

  /** While it is shut nothing is kept. */
  set isShut(isShut: boolean) {
    this.#isShut = isShut;
    if (!isShut) return;
    this.#kept.clear();
    this.#bytes = 0;
  }

  /**
   * Whether more may be read of an inbox than a page needs: then the room is held until something is kept of it, or it is
   * forgotten. Only half of all room is for this: what is left of the segments that a page did need saves more.
   */
  reserve(inbox: Inbox): boolean {
    const { readAheadInboxBytesMax, readAheadBytesMax } = serverLimits;
    return this.#put(inbox, undefined, [], readAheadInboxBytesMax, readAheadBytesMax / 2);
  }

  keep(inbox: Inbox, after: number, segments: readonly ReadSegment[]): void {
    let bytes = 0;
    let count = 0;
    for (const { reader } of segments) {
      if (bytes + reader.bytes > serverLimits.readAheadInboxBytesMax) break;
      bytes += reader.bytes;
      count++;
    }
    if (count === 0) this.forget(inbox);
    else this.#put(inbox, after, segments.slice(0, count), bytes, serverLimits.readAheadBytesMax);
  }

  #put(
    inbox: Inbox,
    after: number | undefined,
    segments: readonly ReadSegment[],
    bytes: number,
    allBytesMax: number,
  ): boolean {
    this.forget(inbox);
    if (this.#isShut) return false;
    const atMs = this.#now();
    for (const [oldest, kept] of this.#kept) {
      if (this.#bytes + bytes <= allBytesMax || atMs - kept.atMs < serverLimits.readAheadKeptMs) break;
      this.forget(oldest);
    }
    if (this.#bytes + bytes > allBytesMax) return false;
    this.#kept.set(inbox, { after, segments, bytes, atMs });
    this.#bytes += bytes;
    return true;
  }

  /** Takes out what lies behind this position, if that was read. */
  take(inbox: Inbox, after: number): readonly ReadSegment[] | undefined {
    const kept = this.#kept.get(inbox);
    if (kept?.after !== after) return undefined;
    this.forget(inbox);
    return kept.segments;
  }

  forget(inbox: Inbox): void {
    const kept = this.#kept.get(inbox);
    if (kept === undefined) return;
    this.#bytes -= kept.bytes;
    this.#kept.delete(inbox);
  }
}
