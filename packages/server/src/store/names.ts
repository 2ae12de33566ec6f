import { decodeText, encodeText, serverLimits } from '@hawser/protocol';
import type { DeviceRecord, NameRecord } from '../core/ports.ts';
import { Locks } from './locks.ts';
import { decodeName, encodeName, nameKey, pairKey, range, space } from './record.ts';
import type { LevelDb, Operation, Writer } from './writer.ts';

/** Users, devices and their bindings on LevelDB. Changes to one name go one at a time. */
export class Names {
  readonly #db: LevelDb;
  readonly #writer: Writer;
  readonly #locks = new Locks();

  constructor(db: LevelDb, writer: Writer) {
    this.#db = db;
    this.#writer = writer;
  }

  /** Lets no further change in; resolves when those under way are done. */
  close(): Promise<void> {
    return this.#locks.close();
  }

  async name(name: string): Promise<NameRecord | undefined> {
    const value = await this.#db.get(nameKey(name));
    return value && decodeName(value);
  }

  #putName(name: string, record: NameRecord): Operation {
    return { type: 'put', key: nameKey(name), value: encodeName(record) };
  }

  createUser(name: string, passwordHash: string, wall: number): Promise<'created' | 'exists'> {
    return this.#locks.hold([name], async () => {
      if ((await this.name(name)) !== undefined) return 'exists';
      await this.#writer.write([this.#putName(name, { kind: 'user', passwordHash, createdAt: wall })]);
      return 'created';
    });
  }

  setPassword(name: string, passwordHash: string): Promise<boolean> {
    return this.#locks.hold([name], async () => {
      const record = await this.name(name);
      if (record?.kind !== 'user') return false;
      await this.#writer.write([this.#putName(name, { ...record, passwordHash })]);
      return true;
    });
  }

  deviceSeen(
    name: string,
    says: Pick<DeviceRecord, 'version' | 'abilities'>,
    wall: number,
  ): Promise<'new' | 'known' | 'is a user'> {
    return this.#locks.hold([name], async () => {
      const known = await this.name(name);
      if (known?.kind === 'user') return 'is a user';
      const { version, abilities } = says;
      const createdAt = known?.createdAt ?? wall;
      const seen = [this.#putName(name, { kind: 'device', version, abilities, createdAt, lastSeenAt: wall })];
      const isNews = known === undefined || known.version !== version || known.abilities !== abilities;
      // Only the time is new: that may be lost.
      if (isNews) await this.#writer.write(seen);
      else this.#writer.writeLazily(seen);
      return known === undefined ? 'new' : 'known';
    });
  }

  bind(
    user: string,
    device: string,
    wall: number,
  ): Promise<'bound' | 'already' | 'is a user' | 'user full' | 'device full'> {
    return this.#locks.hold([user, device], async () => {
      const known = await this.name(device);
      if (known?.kind === 'user') return 'is a user';
      const [devices, users] = await Promise.all([this.#pairs('b', user), this.#pairs('r', device)]);
      if (devices.includes(device)) return 'already';
      if (devices.length >= serverLimits.devicesPerUserMax) return 'user full';
      if (users.length >= serverLimits.usersPerDeviceMax) return 'device full';
      const operations: Operation[] = [
        { type: 'put', key: pairKey('b', user, device), value: EMPTY },
        { type: 'put', key: pairKey('r', device, user), value: EMPTY },
      ];
      if (known === undefined) operations.push(this.#putName(device, { ...newDevice, createdAt: wall }));
      await this.#writer.write(operations);
      return 'bound';
    });
  }

  unbind(user: string, device: string): Promise<boolean> {
    return this.#locks.hold([user, device], async () => {
      if (!(await this.#db.has(pairKey('b', user, device)))) return false;
      await this.#writer.write([
        { type: 'del', key: pairKey('b', user, device) },
        { type: 'del', key: pairKey('r', device, user) },
      ]);
      return true;
    });
  }

  peers(name: string, kind: 'user' | 'device'): Promise<readonly string[]> {
    return this.#pairs(kind === 'user' ? 'b' : 'r', name);
  }

  async #pairs(kind: 'b' | 'r', first: string): Promise<string[]> {
    const prefix = pairKey(kind, first, '');
    const keys = await this.#db.keys(range(prefix)).all();
    return keys.map((key) => decodeText(key, prefix.length) ?? '');
  }

  /** Forgets a name and its bindings, and with them what `more` names, all at once. */
  remove(name: string, more: () => Promise<Operation[]>): Promise<boolean> {
    return this.#locks.hold([name], async () => {
      if ((await this.name(name)) === undefined) return false;
      const operations: Operation[] = [{ type: 'del', key: nameKey(name) }];
      for (const [kind, other] of [['b', 'r'] as const, ['r', 'b'] as const]) {
        for (const peer of await this.#pairs(kind, name)) {
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
  ): Promise<readonly (readonly [string, NameRecord])[]> {
    const found: [string, NameRecord][] = [];
    const { lt } = range(encodeText(space.name));
    for await (const [key, value] of this.#db.iterator({ gt: nameKey(after), lt })) {
      const record = decodeName(value);
      if (record.kind === kind) found.push([decodeText(key, 1) ?? '', record]);
      if (found.length === count) break;
    }
    return found;
  }
}

const EMPTY = new Uint8Array(0);

const newDevice = {
  kind: 'device',
  version: undefined,
  abilities: undefined,
  createdAt: 0,
  lastSeenAt: 0,
} as const satisfies DeviceRecord;
