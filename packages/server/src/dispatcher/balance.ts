import { serverLimits } from '@hawser/protocol';

/** A server that clients may be sent to. */
export interface Candidate {
  /** Where it stands among the others, over all its runs. */
  readonly name: string;
  /** Connections that it has, or is about to have. */
  readonly load: number;
  /** Connections that it takes at most. */
  readonly loadMax: number;
}

/**
 * The one that the client with this id is sent to: consistent hashing with bounded load (Mirrokni, Thorup, Zadimoghaddam).
 *
 * Each id has an order of its own of all servers, by a hash of both; it is sent to the first that is below its bound. So a
 * server that comes takes ids only for itself, one that goes gives away only its own, and none gets more than its share of
 * all connections times `dispatcherLoadPercent`, and a few. `undefined` when all have reached what is admitted at most.
 */
export function choose<Kind extends Candidate>(id: string, candidates: readonly Kind[]): Kind | undefined {
  let load = 1;
  let loadMax = 0;
  for (const each of candidates) {
    load += each.load;
    loadMax += each.loadMax;
  }
  const idHash = hash(id);
  let first: Kind | undefined;
  let firstRank = -1;
  let emptiest: Kind | undefined;
  for (const each of candidates) {
    if (each.load >= admittedMax(each)) continue;
    if (emptiest === undefined || each.load * emptiest.loadMax < emptiest.load * each.loadMax) emptiest = each;
    if (each.load >= boundOf(each, load / loadMax)) continue;
    const rank = mixed(idHash ^ hash(each.name));
    if (rank < firstRank || (rank === firstRank && first !== undefined && first.name < each.name)) continue;
    first = each;
    firstRank = rank;
  }
  // Where some are full the others may all be beyond their bounds.
  return first ?? emptiest;
}

/** Connections beyond which it is sent nobody, given how full all are with the one that is being placed. */
export function boundOf({ loadMax }: Candidate, fullness: number): number {
  const { dispatcherLoadPercent, dispatcherLoadFree } = serverLimits;
  return Math.ceil((dispatcherLoadPercent / 100) * fullness * loadMax) + dispatcherLoadFree;
}

/** Those who know a server without asking are to find room, too. */
export function admittedMax({ loadMax }: Candidate): number {
  return Math.floor((loadMax * serverLimits.dispatcherAdmittedPercent) / 100);
}

/** FNV-1a over UTF-16 units. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let at = 0; at < text.length; at++) value = Math.imul(value ^ text.charCodeAt(at), 0x01000193);
  return value >>> 0;
}

/** The end of MurmurHash3: every bit counts for every bit. */
function mixed(value: number): number {
  let bits = value;
  bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return (bits ^ (bits >>> 16)) >>> 0;
}

/**
 * Clients that were sent to a server and may not be among its connections yet: what a server says of itself is a second
 * old, and all who were on one that died come at once. Each counts for `dispatcherHandedOutMs`.
 */
export class HandedOut {
  readonly #counts = new Map<string, number>();
  /** What was handed out in a slice of that time, the oldest first. */
  readonly #slices: { readonly since: number; readonly counts: Map<string, number> }[] = [];

  add(name: string, now: number): void {
    this.#forget(now);
    let slice = this.#slices.at(-1);
    if (slice === undefined || now - slice.since >= serverLimits.dispatcherHandedOutMs / 16) {
      slice = { since: now, counts: new Map() };
      this.#slices.push(slice);
    }
    slice.counts.set(name, (slice.counts.get(name) ?? 0) + 1);
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + 1);
  }

  count(name: string, now: number): number {
    this.#forget(now);
    return this.#counts.get(name) ?? 0;
  }

  #forget(now: number): void {
    for (;;) {
      const [oldest] = this.#slices;
      if (oldest === undefined || now - oldest.since < serverLimits.dispatcherHandedOutMs) return;
      this.#slices.shift();
      for (const [name, count] of oldest.counts) {
        const left = (this.#counts.get(name) ?? 0) - count;
        if (left > 0) this.#counts.set(name, left);
        else this.#counts.delete(name);
      }
    }
  }
}
