import type { Inbox } from './inbox.ts';
import type { SegmentReader } from './segment.ts';

/** A segment that was read, and how far it has been served. */
export interface ReadSegment {
  readonly first: number;
  readonly reader: SegmentReader;
}

/** Bytes kept of one inbox, and of all. */
const INBOX_BYTES_MAX = 256 * 1024;
const BYTES_MAX = 4 * 1024 * 1024;

interface Kept {
  /** The position behind which it begins. */
  readonly after: number;
  readonly segments: readonly ReadSegment[];
  readonly bytes: number;
}

/**
 * What was read of inboxes beyond the page that it was read for: the next page begins with it. Without this a segment would be
 * read, and its checksum computed, for each page that takes a part of it.
 */
export class Ahead {
  /** In the order in which they were kept. */
  readonly #kept = new Map<Inbox, Kept>();
  #bytes = 0;

  keep(inbox: Inbox, after: number, segments: readonly ReadSegment[]): void {
    this.forget(inbox);
    let bytes = 0;
    let count = 0;
    for (const { reader } of segments) {
      if (bytes + reader.bytes > INBOX_BYTES_MAX) break;
      bytes += reader.bytes;
      count++;
    }
    if (count === 0) return;
    this.#kept.set(inbox, { after, segments: segments.slice(0, count), bytes });
    this.#bytes += bytes;
    for (const oldest of this.#kept.keys()) {
      if (this.#bytes <= BYTES_MAX) break;
      this.forget(oldest);
    }
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
