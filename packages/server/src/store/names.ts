import { encodeText, isName, serverLimits } from '@hawser/protocol';
import { addedDevice, isNews, isUnused, provisionedDevice, seenDevice } from '../core/device-record.ts';
import type { DeviceRecord, Entry, NameRecord, Provision, Store } from '../core/ports.ts';
import { type Aside, outcomeOf, standInFor } from './aside.ts';
import { Locks } from './locks.ts';
import type { Owners } from './owners.ts';
import { Reader } from './reader.ts';
import {
  checked,
  contentOf,
  decodeName,
  encodeName,
  inboxPrefix,
  metaKey,
  nameKey,
  pairKey,
  range,
  type StoredName,
  space,
  textOf,
} from './record.ts';
import { allOf, firstOf } from './scan.ts';
import type { LevelDb, Operation, Writer } from './writer.ts';

type PairKind = 'b' | 'r';

/** Peers by what their records say; `damaged` ones by a record that says nothing. */
interface Pairs {
  readonly peers: string[];
  readonly damaged: string[];
}

/**
 * Users, devices and their bindings on LevelDB. Changes to one name go one at a time. A damaged record is set aside
 * and never served: a name stays taken (`standInFor`), a binding is taken from its other half or is lost.
 */
export class Names {
  readonly #db: LevelDb;
  readonly #reader: Reader;
  readonly #writer: Writer;
  readonly #aside: Aside;
  readonly #owners: Owners;
  readonly #locks = new Locks();
  /** The note that no device has a secret is taken away. */
  #hasSecrets = false;

  constructor(db: LevelDb, writer: Writer, aside: Aside, owners: Owners) {
    this.#db = db;
    this.#reader = new Reader(db);
    this.#writer = writer;
    this.#aside = aside;
    this.#owners = owners;
  }

  /** Lets no further change in; resolves when those under way are done. */
  close(): Promise<void> {
    return this.#locks.close();
  }

  async name(name: string): Promise<StoredName | undefined> {
    const value = await this.#reader.get(nameKey(name));
    if (value === undefined) return undefined;
    return decodeName(nameKey(name), value) ?? this.#locks.hold([name], () => this.#known(name));
  }

  /** The same for several, in one read. */
  async names(names: readonly string[]): Promise<readonly (StoredName | undefined)[]> {
    const keys = names.map(nameKey);
    const values = await this.#db.getMany(keys);
    const records: (StoredName | undefined)[] = [];
    for (const [i, key] of keys.entries()) {
      const value = values[i];
      // One that is damaged is read by itself, and dealt with there.
      records.push(value && (decodeName(key, value) ?? (await this.name(names[i]!))));
    }
    return records;
  }

  /** The same, for who holds the name's lock: a damaged record is replaced. */
  async #known(name: string): Promise<StoredName | undefined> {
    const key = nameKey(name);
    const value = await this.#reader.get(key);
    if (value === undefined) return undefined;
    const record = decodeName(key, value);
    if (record !== undefined) return record;
    const standIn = await standInFor(this.#db, name);
    await this.#writer.write([this.#aside.keep(key, value, outcomeOf(standIn)), putName(name, standIn)]);
    return standIn;
  }

  /** The same, for a name about to be given to somebody: one whose record is lost is found by what it left behind. */
  async #knownOrLost(name: string): Promise<StoredName | undefined> {
    const record = await this.#known(name);
    if (record !== undefined || !(await this.#leftSomething(name))) return record;
    const standIn = await standInFor(this.#db, name);
    this.#aside.missing(name, standIn);
    await this.#writer.write([putName(name, standIn)]);
    return standIn;
  }

  async #leftSomething(name: string): Promise<boolean> {
    if (!this.#owners.mayOwn(name)) return false;
    for (const prefix of [pairKey('b', name, ''), pairKey('r', name, ''), inboxPrefix('m', name)]) {
      if ((await firstOf(this.#db.keys({ ...range(prefix), limit: 1 }))) !== undefined) return true;
    }
    return false;
  }

  createUser(name: string, passwordHash: string, wall: number): Promise<'created' | 'exists'> {
    return this.#locks.hold([name], async () => {
      if ((await this.#knownOrLost(name)) !== undefined) return 'exists';
      await this.#writer.write([putName(name, { kind: 'user', passwordHash, createdAt: wall })]);
      return 'created';
    });
  }

  /** Opens a locked name too. */
  setPassword(name: string, passwordHash: string): Promise<boolean> {
    return this.#locks.hold([name], async () => {
      const record = await this.#known(name);
      if (record?.kind !== 'user') return false;
      await this.#writer.write([putName(name, { kind: 'user', passwordHash, createdAt: record.createdAt })]);
      return true;
    });
  }

  deviceSeen(
    name: string,
    says: Pick<DeviceRecord, 'version' | 'abilities'>,
    wall: number,
    entry?: Entry,
  ): ReturnType<Store['deviceSeen']> {
    return this.#locks.hold([name], async () => {
      const known = await this.#knownOrLost(name);
      const seen = seenDevice(known, says, wall, entry);
      if (typeof seen === 'string') return seen;
      if (isNews(known, seen)) await this.#writeDevice(name, seen);
      else this.#writer.writeLazily([putName(name, seen)]);
      return known === undefined ? 'new' : 'known';
    });
  }

  provision(name: string, provision: Provision, wall: number, which: 'new' | 'known'): ReturnType<Store['provision']> {
    return this.#locks.hold([name], async () => {
      const known = await this.#knownOrLost(name);
      // Of a locked name the kind is lost: the operator says that it is a device.
      const isLost = known?.locked === true;
      const device = isLost ? addedDevice(known.createdAt) : known;
      const record = provisionedDevice(device, provision, wall, which);
      if (typeof record === 'string') return record;
      await this.#writeDevice(name, record);
      return 'done';
    });
  }

  /** The first secret or code takes with it the note that there is none. */
  async #writeDevice(name: string, record: DeviceRecord): Promise<void> {
    const isFirst = !this.#hasSecrets && (record.secret !== undefined || record.code !== undefined);
    const note: Operation[] = isFirst ? [{ type: 'del', key: metaKey.noSecrets }] : [];
    await this.#writer.write([...note, putName(name, record)]);
    this.#hasSecrets ||= isFirst;
  }

  dropUnused(name: string, wallBefore: number, ranBefore: number): Promise<boolean> {
    return this.#locks.hold([name], async () => {
      const isSo = async (): Promise<boolean> =>
        isUnused(await this.#known(name), wallBefore, ranBefore) && !(await this.#leftSomething(name));
      if (!(await isSo())) return false;
      // That it has just come may not be written yet.
      await this.#writer.flush();
      if (!(await isSo())) return false;
      await this.#writer.write([{ type: 'del', key: nameKey(name) }]);
      return true;
    });
  }

  bind(user: string, device: string, wall: number, code?: string): ReturnType<Store['bind']> {
    return this.#locks.hold([user, device], async () => {
      const known = await this.#knownOrLost(device);
      if (known?.kind === 'user') return 'is a user';
      await this.#mendPair('b', user, device);
      const [{ peers: devices }, { peers: users }] = await Promise.all([
        this.#pairs('b', user),
        this.#pairs('r', device),
      ]);
      if (devices.includes(device)) return 'already';
      if (known?.code !== code) return 'changed';
      if (devices.length >= serverLimits.devicesPerUserMax) return 'user full';
      if (users.length >= serverLimits.usersPerDeviceMax) return 'device full';
      const operations = [putPair('b', user, device), putPair('r', device, user)];
      if (known === undefined) operations.push(putName(device, addedDevice(wall)));
      await this.#writer.write(operations);
      return 'bound';
    });
  }

  unbind(user: string, device: string): Promise<boolean> {
    return this.#locks.hold([user, device], async () => {
      await this.#mendPair('b', user, device);
      if (!(await this.#db.has(pairKey('b', user, device)))) return false;
      await this.#writer.write([
        { type: 'del', key: pairKey('b', user, device) },
        { type: 'del', key: pairKey('r', device, user) },
      ]);
      return true;
    });
  }

  async peers(name: string, kind: 'user' | 'device'): Promise<readonly string[]> {
    const pair = kind === 'user' ? 'b' : 'r';
    for (;;) {
      const { peers, damaged } = await this.#pairs(pair, name);
      if (damaged.length === 0) return peers;
      for (const peer of damaged) await this.#locks.hold([name, peer], () => this.#mendPair(pair, name, peer));
    }
  }

  async #pairs(kind: PairKind, first: string): Promise<Pairs> {
    const prefix = pairKey(kind, first, '');
    const pairs: Pairs = { peers: [], damaged: [] };
    for (const [key, value] of await allOf(this.#db.iterator(range(prefix)))) {
      const peer = textOf(key)?.slice(first.length + 1);
      if (peer === undefined) await this.#writer.write(this.#dropPair(key, value));
      else if (contentOf(key, value) === undefined) pairs.damaged.push(peer);
      else pairs.peers.push(peer);
    }
    return pairs;
  }

  /** Each binding is stored from both sides: what is damaged is taken from the other one, or is lost. */
  async #mendPair(kind: PairKind, first: string, second: string): Promise<void> {
    const other = kind === 'b' ? 'r' : 'b';
    const sides = [pairKey(kind, first, second), pairKey(other, second, first)];
    const values = await this.#db.getMany(sides);
    const isGood = sides.map((key, i) => values[i] !== undefined && contentOf(key, values[i]) !== undefined);
    const operations: Operation[] = [];
    for (const [i, key] of sides.entries()) {
      const value = values[i];
      if (value === undefined || isGood[i]) continue;
      if (isGood[1 - i]) {
        const outcome = 'the binding is there by its other half';
        operations.push(this.#aside.keep(key, value, outcome), { type: 'put', key, value: checked(key, EMPTY) });
      } else operations.push(...this.#dropPair(key, value));
    }
    if (operations.length > 0) await this.#writer.write(operations);
  }

  #dropPair(key: Uint8Array, value: Uint8Array): Operation[] {
    return [this.#aside.keep(key, value, 'the binding is lost'), { type: 'del', key }];
  }

  /** Forgets a name and its bindings, and with them what `more` names, all at once. */
  remove(name: string, more: () => Promise<Operation[]>): Promise<boolean> {
    return this.#locks.hold([name], async () => {
      if ((await this.#known(name)) === undefined) return false;
      const operations: Operation[] = [{ type: 'del', key: nameKey(name) }];
      for (const [kind, other] of [['b', 'r'] as const, ['r', 'b'] as const]) {
        const { peers, damaged } = await this.#pairs(kind, name);
        for (const peer of [...peers, ...damaged]) {
          operations.push({ type: 'del', key: pairKey(kind, name, peer) });
          operations.push({ type: 'del', key: pairKey(other, peer, name) });
        }
      }
      operations.push(...(await more()));
      await this.#writer.write(operations);
      return true;
    });
  }

  async list(
    kind: 'user' | 'device',
    after: string,
    count: number,
  ): Promise<readonly (readonly [string, StoredName])[]> {
    const found: [string, StoredName][] = [];
    const { lt } = range(encodeText(space.name));
    for await (const [key, value] of this.#db.iterator({ gt: nameKey(after), lt })) {
      const name = textOf(key);
      // What is under a key that no name has can only be damaged.
      if (name === undefined || !isName(name)) await this.#writer.write(this.#dropName(key, value));
      else {
        const record = decodeName(key, value) ?? (await this.name(name));
        if (record?.kind === kind) found.push([name, record]);
      }
      if (found.length === count) break;
    }
    return found;
  }

  #dropName(key: Uint8Array, value: Uint8Array): Operation[] {
    return [this.#aside.keep(key, value, 'no name has this key'), { type: 'del', key }];
  }
}

function putName(name: string, record: NameRecord): Operation {
  const key = nameKey(name);
  return { type: 'put', key, value: encodeName(key, record) };
}

function putPair(kind: PairKind, first: string, second: string): Operation {
  const key = pairKey(kind, first, second);
  return { type: 'put', key, value: checked(key, EMPTY) };
}

const EMPTY = new Uint8Array(0);
