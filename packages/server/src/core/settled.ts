import { serverLimits } from '@hawser/protocol';
import { digest } from './digest.ts';
import type { Message } from './message.ts';

/** As many ids as in so many full generations are kept when another node's are added. */
const INHERITED_GENERATIONS = 4;
/** Words of one id: 64 bits of it, and the hash of its content. */
const ID_WORDS = 3;
const FIRST_IDS = 8;
/** Slots of the index for each id that there is room for. */
const SLOTS_PER_ID = 2;

/** A set of ids, each with the hash of its content, in one typed array: 20 to 40 bytes an id, and no objects. */
class Ids {
  #room = FIRST_IDS;
  /** The ids in the order they came, then the index by open addressing: places of ids, each plus one. */
  #words = new Int32Array(FIRST_IDS * (ID_WORDS + SLOTS_PER_ID));
  size = 0;

  /** The hash of the content of an id; `undefined` when it is not there. */
  find(high: number, low: number): number | undefined {
    const at = this.#at(high, low);
    return at < 0 ? undefined : this.#words[at + 2]!;
  }

  /** Adds an id, or gives it another hash. */
  put(high: number, low: number, hash: number): void {
    const at = this.#at(high, low);
    if (at >= 0) this.#words[at + 2] = hash;
    else {
      if (this.size === this.#room) this.#grow();
      this.#add(high, low, hash);
    }
  }

  #add(high: number, low: number, hash: number): void {
    const words = this.#words;
    const at = this.size * ID_WORDS;
    words[at] = high;
    words[at + 1] = low;
    words[at + 2] = hash;
    const mask = this.#room * SLOTS_PER_ID - 1;
    const index = this.#room * ID_WORDS;
    let slot = slotOf(high, low) & mask;
    while (words[index + slot] !== 0) slot = (slot + 1) & mask;
    words[index + slot] = ++this.size;
  }

  #at(high: number, low: number): number {
    const words = this.#words;
    const mask = this.#room * SLOTS_PER_ID - 1;
    const index = this.#room * ID_WORDS;
    for (let slot = slotOf(high, low) & mask; ; slot = (slot + 1) & mask) {
      const at = (words[index + slot]! - 1) * ID_WORDS;
      if (at < 0 || (words[at] === high && words[at + 1] === low)) return at;
    }
  }

  #grow(): void {
    const { ids } = this;
    this.#room *= 2;
    this.#words = new Int32Array(this.#room * (ID_WORDS + SLOTS_PER_ID));
    this.size = 0;
    for (let at = 0; at < ids.length; at += ID_WORDS) this.#add(ids[at]!, ids[at + 1]!, ids[at + 2]!);
  }

  /** A view. */
  get ids(): Int32Array {
    return this.#words.subarray(0, this.size * ID_WORDS);
  }

  /** Keeps its room. */
  clear(): void {
    this.#words.fill(0, this.#room * ID_WORDS);
    this.size = 0;
  }
}

/** Of all senders that have had nothing acked. */
const NO_IDS = new Ids();

/** So many ids, of those given the last ones; each as it came last, and in that order. */
function newestOf(words: Int32Array, most: number): Ids {
  const found = new Ids();
  for (let at = words.length - ID_WORDS; at >= 0 && found.size < most; at -= ID_WORDS) {
    const [high, low] = [words[at]!, words[at + 1]!];
    if (found.find(high, low) === undefined) found.put(high, low, words[at + 2]!);
  }
  const { ids } = found;
  const ordered = new Ids();
  for (let at = ids.length - ID_WORDS; at >= 0; at -= ID_WORDS) ordered.put(ids[at]!, ids[at + 1]!, ids[at + 2]!);
  return ordered;
}

function slotOf(high: number, low: number): number {
  return low ^ (high >>> 16);
}

/**
 * The ids of one sender's messages that were acked, each with the hash of its content, to recognise a resend.
 *
 * They lie in two generations. When the newer one has `rememberedIdsPerSender` ids or is `rememberedForMs` old, it becomes
 * the older, and what was the older is dropped whole: between one and two times as much is remembered as the protocol
 * asks, and forgetting costs nothing per id. Nothing of it is an object that grows old, which V8 would have to collect.
 */
export class SettledIds {
  #newer = NO_IDS;
  #older = NO_IDS;
  #newerSince = 0;

  get size(): number {
    return this.#newer.size + this.#older.size;
  }

  /** The hash of the content under this id; `undefined` when it is not known. */
  find(msgId: string): number | undefined {
    if (this.size === 0) return undefined;
    digest.of(msgId);
    const { high, low } = digest;
    return this.#newer.find(high, low) ?? this.#older.find(high, low);
  }

  /** Returns by how much the number of ids changed. */
  add({ idHigh, idLow, hash }: Pick<Message, 'idHigh' | 'idLow' | 'hash'>, now: number): number {
    const before = this.size;
    if (this.#newer.size >= serverLimits.rememberedIdsPerSender) this.#retire(now);
    else if (this.#newer.size === 0) this.#newerSince = now;
    if (this.#newer === NO_IDS) this.#newer = new Ids();
    this.#newer.put(idHigh, idLow, hash);
    return this.size - before;
  }

  /** The newer generation becomes the older, whose room is used again. */
  #retire(now: number): void {
    const dropped = this.#older;
    if (dropped !== NO_IDS) dropped.clear();
    this.#older = this.#newer;
    this.#newer = dropped;
    this.#newerSince = now;
  }

  /** Retires generations past their age; returns how many ids were forgotten. */
  age(now: number): number {
    if (this.size === 0 || now - this.#newerSince < serverLimits.rememberedForMs) return 0;
    const forgotten = this.#older.size;
    this.#older = this.#newer;
    this.#newer = NO_IDS;
    this.#newerSince = now;
    return forgotten;
  }

  /** Forgets all; returns how many. */
  forget(): number {
    const forgotten = this.size;
    this.#newer = NO_IDS;
    this.#older = NO_IDS;
    return forgotten;
  }

  // ---- from node to node

  /** All of them, oldest first, for `inherit` on another node. */
  export(): Int32Array {
    const all = new Int32Array(this.size * ID_WORDS);
    all.set(this.#older.ids);
    all.set(this.#newer.ids, this.#older.ids.length);
    return all;
  }

  /**
   * Remembers ids that another node knew; returns by how much the number of ids changed. They are all kept until so many
   * more have come, or their time is up, but not without end: those go first that were settled first.
   *
   * @param areNewer the other node had the name after this one
   */
  inherit(settled: Int32Array, areNewer: boolean, now: number): number {
    const before = this.size;
    if (before === 0) this.#newerSince = now;
    const own = this.export();
    const words = new Int32Array(own.length + settled.length);
    words.set(areNewer ? own : settled);
    words.set(areNewer ? settled : own, areNewer ? own.length : settled.length);
    this.#older = newestOf(words, INHERITED_GENERATIONS * serverLimits.rememberedIdsPerSender);
    this.#newer = NO_IDS;
    return this.size - before;
  }
}
