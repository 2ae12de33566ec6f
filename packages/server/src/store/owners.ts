import { encodeText, serverLimits } from '@hawser/protocol';
import type { Log } from '../core/ports.ts';
import { range, space } from './record.ts';
import type { LevelDb, Operation, Writer } from './writer.ts';

const OWNED = [space.binding, space.reverse, space.segment] as const;
const OWNED_BYTES: readonly number[] = OWNED.map((kind) => kind.charCodeAt(0));
const NUL = 0;
type Snapshot = ReturnType<LevelDb['snapshot']>;

/** Bits of a name in the filter: with ten bits of the filter to a name one stranger in 85 passes for an owner. */
const BITS_PER_NAME = 4;
const KEYS_AT_ONCE = 500;
const NOTHING = new Uint8Array(0);
/** No name is empty. */
const NOBODY = NOTHING;

/**
 * Who may have bindings or messages, in a filter of fixed size (Bloom, "Space/time trade-offs in hash coding", CACM 13 (7),
 * 1970): it is sure of who has none. So a name that nobody ever had need not be looked for in three places, each of them a
 * change of thread, before it is given away.
 *
 * Made when `lookups` were made without it, from all keys of the store, beside other work. Names are never taken out.
 */
export class Owners {
  readonly #db: LevelDb;
  readonly #writer: Writer;
  readonly #log: Pick<Log, 'warn'>;
  readonly #lookups: number;
  readonly #bits: number;
  #filter: Uint8Array | undefined;
  #asked = 0;
  #isWhole = false;
  #isStopped = false;
  #making: Promise<void> | undefined;

  constructor(
    db: LevelDb,
    writer: Writer,
    log: Pick<Log, 'warn'>,
    lookups: number = serverLimits.ownersLookupsMax,
    bytes: number = serverLimits.ownersFilterBytes,
  ) {
    this.#db = db;
    this.#writer = writer;
    this.#log = log;
    this.#lookups = lookups;
    this.#bits = bytes * 8;
  }

  /** False for a name that surely has nothing. */
  mayOwn(name: string): boolean {
    if (this.#isWhole) return this.#has(encodeText(name));
    if (++this.#asked > this.#lookups) this.#making ??= this.#make();
    return true;
  }

  /** Resolves when nothing is read for it any more. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#making;
  }

  /** These are about to be written. */
  note(operations: readonly Operation[]): void {
    if (this.#filter === undefined) return;
    for (const { type, key } of operations) {
      if (type === 'put' && OWNED_BYTES.includes(key[0]!)) this.#add(ownerIn(key));
    }
  }

  async #make(): Promise<void> {
    try {
      this.#filter = new Uint8Array(this.#bits / 8);
      this.#writer.watch((operations) => this.note(operations));
      // Behind what was on its way before it was watched, which must be there to be read.
      await this.#writer.write([]);
      await using snapshot = this.#db.snapshot();
      for (const kind of OWNED) {
        // One damaged key can hide others, but not the same ones from both sides.
        const [up, down] = [await this.#read(kind, snapshot, false), await this.#read(kind, snapshot, true)];
        if (this.#isStopped) return;
        if (up !== down) throw new Error(`read upwards ${up} names own something, downwards ${down}`);
      }
      this.#isWhole = true;
    } catch (error) {
      this.#filter = undefined;
      this.#writer.watch(() => {});
      this.#log.warn({ err: error }, 'no filter of owners could be made: each new name is looked for');
    }
  }

  /** Returns how many owners there are. */
  async #read(kind: string, snapshot: Snapshot, reverse: boolean): Promise<number> {
    const keys = this.#db.keys({ ...range(encodeText(kind)), reverse, snapshot });
    let count = 0;
    let last: Uint8Array = NOBODY;
    try {
      while (!this.#isStopped) {
        const some = await keys.nextv(KEYS_AT_ONCE);
        if (some.length === 0) break;
        for (const key of some) {
          const owner = ownerIn(key);
          if (Buffer.compare(owner, last) === 0) continue;
          last = owner;
          count++;
          this.#add(owner);
        }
        // One that has very much is passed over.
        if (some.length > 1 && Buffer.compare(ownerIn(some[0]!), last) === 0) {
          keys.seek(Buffer.concat([encodeText(kind), last, reverse ? NOTHING : Uint8Array.of(NUL + 1)]));
        }
      }
      return count;
    } finally {
      await keys.close();
    }
  }

  #add(name: Uint8Array): void {
    const filter = this.#filter!;
    hash.of(name);
    for (let i = 0; i < BITS_PER_NAME; i++) {
      const bit = hash.bit(i, this.#bits);
      filter[bit >>> 3]! |= 1 << (bit & 7);
    }
  }

  #has(name: Uint8Array): boolean {
    const filter = this.#filter!;
    hash.of(name);
    for (let i = 0; i < BITS_PER_NAME; i++) {
      const bit = hash.bit(i, this.#bits);
      if ((filter[bit >>> 3]! & (1 << (bit & 7))) === 0) return false;
    }
    return true;
  }
}

/** The name at the beginning of a key of something owned; names hold no NUL. */
function ownerIn(key: Uint8Array): Uint8Array {
  const end = key.indexOf(NUL, 1);
  return key.subarray(1, end === -1 ? key.length : end);
}

/** As many hashes of a name as are asked for, of two (Kirsch and Mitzenmacher, "Less hashing, same performance", 2006). */
const hash = {
  one: 0,
  other: 0,
  of(name: Uint8Array): void {
    let one = 0x811c9dc5 | 0;
    let other = 0x2545f491 | 0;
    for (let i = 0; i < name.length; i++) {
      one = Math.imul(one ^ name[i]!, 0x01000193);
      other = Math.imul(other ^ name[i]!, 0x5bd1e995);
      other ^= other >>> 15;
    }
    this.one = one;
    // An odd step comes to every bit of a filter whose size is a power of two.
    this.other = other | 1;
  },
  bit(i: number, bits: number): number {
    return ((this.one + Math.imul(i, this.other)) >>> 0) % bits;
  },
};
