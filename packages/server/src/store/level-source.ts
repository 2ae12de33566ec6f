import { existsSync } from 'node:fs';
import { decodeText, encodeText, isName } from '@hawser/protocol';
import { ClassicLevel } from 'classic-level';
import type { StoredMessage } from '../core/ports.ts';
import { standInFor } from './aside.ts';
import { decodeGone } from './inboxes.ts';
import type { Lot } from './lot.ts';
import {
  contentOf,
  decodeName,
  described,
  isInboxKey,
  metaKey,
  nameKey,
  positionOf,
  range,
  receiverOf,
  SCHEMA,
  type StoredName,
  space,
  textOf,
} from './record.ts';
import { SegmentReader } from './segment.ts';
import { StoreUnusable, whyFailed } from './unusable.ts';
import type { LevelDb } from './writer.ts';

/** A lot, and the key of the last record in it. */
export type SourceLot = Lot & { readonly last: Uint8Array };

const RECORDS_AT_ONCE = 1_000;
const BYTES_AT_ONCE = 1024 * 1024;
/** Names without a record, of a store that lost some: more than so many are beyond mending. */
const LOST_NAMES_MAX = 1_000;

export interface LevelSourceOptions {
  readonly folder: string;
  readonly recordsAtOnce?: number;
}

/**
 * A store on LevelDB that is read from its beginning to its end, and keeps what it holds. While it is open nobody else can
 * use it. A damaged record that nobody has set aside yet breaks the reading off: to leave it out is for the operator to
 * decide.
 */
export class LevelSource {
  readonly #db: LevelDb;
  readonly #folder: string;
  readonly #recordsAtOnce: number;
  /** How long the store has been in service, ms. */
  readonly ran: number;
  /** Damaged records that are set aside. */
  readonly damaged: number;
  /** Users that are locked since their records were damaged, as far as was read. */
  locked = 0;

  private constructor(db: LevelDb, options: LevelSourceOptions, ran: number, damaged: number) {
    this.#db = db;
    this.#folder = options.folder;
    this.#recordsAtOnce = options.recordsAtOnce ?? RECORDS_AT_ONCE;
    this.ran = ran;
    this.damaged = damaged;
  }

  /** Rejects with `StoreUnusable` when it cannot be read, or is of another version. */
  static async open(options: LevelSourceOptions): Promise<LevelSource> {
    const { folder } = options;
    if (!existsSync(folder)) throw new StoreUnusable(`${folder} is not there`);
    const db: LevelDb = new ClassicLevel(folder, { keyEncoding: 'view', valueEncoding: 'view' });
    try {
      await db.open({ createIfMissing: false });
      const schema = await db.get(metaKey.schema);
      refuseOtherVersion(folder, schema && decodeText(schema));
      const ran = await db.get(metaKey.ran);
      const noted = ran && contentOf(metaKey.ran, ran);
      if (noted === undefined) throw damage(folder, metaKey.ran);
      const damaged = (await db.keys(range(encodeText(space.damaged))).all()).length;
      return new LevelSource(db, options, Number(decodeText(noted)), damaged);
    } catch (error) {
      await db.close();
      if (error instanceof StoreUnusable) throw error;
      throw new StoreUnusable(whyFailed(error, folder), { cause: error });
    }
  }

  close(): Promise<void> {
    return this.#db.close();
  }

  /** All that there is behind a key of a lot: names, bindings, messages, each in the order of their bytes. */
  async *lots(after?: Uint8Array): AsyncGenerator<SourceLot> {
    const steps = [
      [space.name, (from?: Uint8Array) => this.#names(from)],
      [space.binding, (from?: Uint8Array) => this.#bindings(from)],
      [space.segment, (from?: Uint8Array) => this.#messages(from)],
    ] as const;
    const kind = after && String.fromCharCode(after[0]!);
    const first = Math.max(
      0,
      steps.findIndex(([each]) => each === kind),
    );
    try {
      for (const [i, [, step]] of steps.slice(first).entries()) yield* step(i === 0 ? after : undefined);
    } catch (error) {
      if (error instanceof StoreUnusable) throw error;
      throw new StoreUnusable(whyFailed(error, this.#folder), { cause: error });
    }
  }

  /** Records of one kind behind a key, some at once. */
  async *#records(kind: string, after: Uint8Array | undefined): AsyncGenerator<[Uint8Array, Uint8Array][]> {
    const { gte, lt } = range(encodeText(kind));
    const from = after === undefined ? { gte } : { gt: after };
    const iterator = this.#db.iterator({ ...from, lt, highWaterMarkBytes: BYTES_AT_ONCE });
    try {
      for (;;) {
        const records = await iterator.nextv(this.#recordsAtOnce);
        if (records.length === 0) return;
        yield records;
      }
    } finally {
      await iterator.close();
    }
  }

  async *#names(after: Uint8Array | undefined): AsyncGenerator<SourceLot> {
    let lost = (await this.#lostNames()).filter((key) => after === undefined || Buffer.compare(key, after) > 0);
    for await (const records of this.#records(space.name, after)) {
      const last = records.at(-1)![0];
      const names = records.map(([key, value]) => [this.#nameOf(key), this.#recordOf(key, value)] as const);
      const between = lost.filter((key) => Buffer.compare(key, last) < 0);
      if (between.length > 0) {
        lost = lost.slice(between.length);
        names.push(...(await this.#standIns(between)));
        names.sort(([one], [other]) => Buffer.compare(nameKey(one), nameKey(other)));
      }
      yield { kind: 'names', names, last };
    }
    if (lost.length > 0) yield { kind: 'names', names: await this.#standIns(lost), last: lost.at(-1)! };
  }

  #nameOf(key: Uint8Array): string {
    const name = textOf(key);
    if (name === undefined || !isName(name)) throw damage(this.#folder, key);
    return name;
  }

  #recordOf(key: Uint8Array, value: Uint8Array): StoredName {
    const record = decodeName(key, value);
    if (record === undefined) throw damage(this.#folder, key);
    if (record.locked) this.locked++;
    return record;
  }

  /** What the server would take such a name for, so that it is not given to somebody else. */
  async #standIns(keys: readonly Uint8Array[]): Promise<(readonly [string, StoredName])[]> {
    const names: (readonly [string, StoredName])[] = [];
    for (const key of keys) {
      const name = this.#nameOf(key);
      const record = await standInFor(this.#db, name);
      if (record.locked) this.locked++;
      names.push([name, record]);
    }
    return names;
  }

  /** Keys of names that have messages or bindings, and no record. */
  async #lostNames(): Promise<Uint8Array[]> {
    const lost = new Map<string, Uint8Array>();
    for (const kind of [space.segment, space.binding, space.reverse]) {
      const names = this.#db.keys(range(encodeText(space.name)));
      try {
        let name = await names.next();
        for await (const owner of this.#owners(kind)) {
          const key = nameKey(owner);
          while (name !== undefined && Buffer.compare(name, key) < 0) name = await names.next();
          if (name === undefined || Buffer.compare(name, key) !== 0) lost.set(owner, key);
          if (lost.size > LOST_NAMES_MAX) {
            throw new StoreUnusable(`${this.#folder} is damaged: many names have no record: restore a backup`);
          }
        }
      } finally {
        await names.close();
      }
    }
    return [...lost.values()].sort(Buffer.compare);
  }

  /** Who has something of a kind, in the order of bytes. */
  async *#owners(kind: string): AsyncGenerator<string> {
    let last: string | undefined;
    for await (const key of this.#db.keys(range(encodeText(kind)))) {
      const owner = kind === space.segment ? this.#receiverOf(key) : this.#pairOf(key)[0];
      if (owner !== last) yield owner;
      last = owner;
    }
  }

  #receiverOf(key: Uint8Array): string {
    if (!isInboxKey(key)) throw damage(this.#folder, key);
    return receiverOf(key);
  }

  #pairOf(key: Uint8Array): readonly [string, string] {
    const [first = '', second = '', ...more] = textOf(key)?.split('\0') ?? [];
    if (!isName(first) || !isName(second) || more.length > 0) throw damage(this.#folder, key);
    return [first, second];
  }

  async *#bindings(after: Uint8Array | undefined): AsyncGenerator<SourceLot> {
    for await (const records of this.#records(space.binding, after)) {
      const bindings = records.map(([key, value]) => {
        if (contentOf(key, value) === undefined) throw damage(this.#folder, key);
        return this.#pairOf(key);
      });
      yield { kind: 'bindings', bindings, last: records.at(-1)![0] };
    }
  }

  /** Lots end with a segment: they have some more messages than were asked for, at most a segment's. */
  async *#messages(after: Uint8Array | undefined): AsyncGenerator<SourceLot> {
    let messages: StoredMessage[] = [];
    let bytes = 0;
    let last: Uint8Array | undefined;
    for await (const records of this.#records(space.segment, after)) {
      const gone = await this.#db.getMany(records.map(([key]) => removedKey(key)));
      for (const [i, [key, value]] of records.entries()) {
        for (const message of this.#segment(key, value, gone[i])) {
          messages.push(message);
          bytes += message.msg.length;
        }
        last = key;
        if (messages.length < this.#recordsAtOnce && bytes < BYTES_AT_ONCE) continue;
        yield { kind: 'messages', messages, last };
        messages = [];
        bytes = 0;
      }
    }
    if (last !== undefined && messages.length > 0) yield { kind: 'messages', messages, last };
  }

  /** What is left of a segment. */
  *#segment(key: Uint8Array, value: Uint8Array, removed: Uint8Array | undefined): Generator<StoredMessage> {
    const reader = SegmentReader.open(this.#receiverOf(key), key, value);
    if (reader === undefined) throw damage(this.#folder, key);
    const gone = removed && decodeGone(removedKey(key), positionOf(key), removed);
    if (removed !== undefined && gone === undefined) throw damage(this.#folder, key);
    while (reader.next()) if (!gone?.has(reader.position)) yield reader.message();
  }
}

/** The key under which is noted what is gone of the segment under `key`. */
function removedKey(key: Uint8Array): Uint8Array {
  // A copy, which slice() of a Buffer is not.
  const removed = Uint8Array.from(key);
  removed[0] = space.removed.charCodeAt(0);
  return removed;
}

function refuseOtherVersion(folder: string, schema: string | undefined): void {
  if (schema === String(SCHEMA)) return;
  const version = Number.parseInt(schema ?? '', 10);
  if (version <= SCHEMA) {
    throw new StoreUnusable(`${folder} is of an older version: "hawser user list" on it brings it to this one`);
  }
  throw new StoreUnusable(
    `${folder} is of a newer version of Hawser, or damaged: it says that its format is ${schema}`,
  );
}

function damage(folder: string, key: Uint8Array): StoreUnusable {
  const { record, name } = described(key);
  return new StoreUnusable(
    `${folder} has a damaged record (${record} ${name}): run "hawser user list", "hawser device list" and ` +
      `"hawser inbox list" on it, which set such records aside, and see "hawser damaged list"`,
  );
}
