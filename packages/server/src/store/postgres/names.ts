import { serverLimits } from '@hawser/protocol';
import type { DeviceRecord, NameRecord, Store } from '../../core/ports.ts';
import { Locks } from '../locks.ts';
import { texts } from './arrays.ts';
import type { Connections, Query, Row } from './connections.ts';

const COLUMNS = 'name, kind, created_at, password_hash, version, abilities, last_seen_at';

const NAME = { name: 'name', text: `SELECT ${COLUMNS} FROM names WHERE name = $1` } as const;
const NAMES = { name: 'names', text: `SELECT ${COLUMNS} FROM names WHERE name = ANY ($1::text[])` } as const;
const LIST = {
  name: 'list',
  text: `SELECT ${COLUMNS} FROM names WHERE kind = $1 AND name > $2 ORDER BY name LIMIT $3::bigint`,
} as const;
const PEERS = {
  user: { name: 'devices', text: 'SELECT device AS peer FROM bindings WHERE user_name = $1' },
  device: { name: 'users', text: 'SELECT user_name AS peer FROM bindings WHERE device = $1' },
} as const;

/**
 * Users, devices and their bindings. Changes of one name go one at a time: on this node in the order made, among nodes by
 * a lock of the name that the transaction takes first.
 */
export class Names {
  readonly #connections: Connections;
  readonly #query: Query;
  readonly #locks = new Locks();
  readonly #noteSeen: (name: string, wall: number) => void;

  /** @param noteSeen notes in a while when a device was last seen */
  constructor(connections: Connections, noteSeen: (name: string, wall: number) => void) {
    this.#connections = connections;
    this.#query = connections.query;
    this.#noteSeen = noteSeen;
  }

  /** Lets no further change in; resolves when those under way are done. */
  close(): Promise<void> {
    return this.#locks.close();
  }

  #change<Result>(names: readonly string[], work: (query: Query) => Promise<Result>): Promise<Result> {
    return this.#locks.hold(names, () => this.#connections.change(names, work));
  }

  async name(name: string): Promise<NameRecord | undefined> {
    return recordOf((await this.#query(NAME, [name]))[0]);
  }

  async names(names: readonly string[]): Promise<readonly (NameRecord | undefined)[]> {
    if (names.length === 0) return [];
    const rows = await this.#query(NAMES, [texts(names)]);
    const found = new Map(rows.map((row) => [row.name, recordOf(row)]));
    return names.map((name) => found.get(name));
  }

  createUser(name: string, passwordHash: string, wall: number): Promise<'created' | 'exists'> {
    return this.#change([name], async (query) => {
      const made = await query(
        `INSERT INTO names (name, kind, created_at, password_hash) VALUES ($1, 'user', $2, $3)
         ON CONFLICT (name) DO NOTHING RETURNING 1`,
        [name, wall, passwordHash],
      );
      return made.length > 0 ? 'created' : 'exists';
    });
  }

  setPassword(name: string, passwordHash: string): Promise<boolean> {
    return this.#change([name], async (query) => {
      const changed = await query(`UPDATE names SET password_hash = $2 WHERE name = $1 AND kind = 'user' RETURNING 1`, [
        name,
        passwordHash,
      ]);
      return changed.length > 0;
    });
  }

  /** Where only the time is new it is noted later, and may be lost. */
  deviceSeen(
    name: string,
    says: Pick<DeviceRecord, 'version' | 'abilities'>,
    wall: number,
  ): ReturnType<Store['deviceSeen']> {
    return this.#locks.hold([name], async () => {
      const known = await this.name(name);
      if (known?.kind === 'user') return 'is a user';
      if (known !== undefined && known.version === says.version && known.abilities === says.abilities) {
        this.#noteSeen(name, wall);
        return 'known';
      }
      return this.#connections.change([name], (query) => this.#see(query, name, says, wall));
    });
  }

  async #see(
    query: Query,
    name: string,
    { version, abilities }: Pick<DeviceRecord, 'version' | 'abilities'>,
    wall: number,
  ): ReturnType<Store['deviceSeen']> {
    const known = recordOf((await query(NAME, [name]))[0]);
    if (known?.kind === 'user') return 'is a user';
    const says = [name, wall, version ?? null, abilities ?? null];
    if (known === undefined) {
      await query(
        `INSERT INTO names (name, kind, created_at, last_seen_at, version, abilities)
         VALUES ($1, 'device', $2, $2, $3, $4)`,
        says,
      );
      return 'new';
    }
    await query('UPDATE names SET last_seen_at = $2, version = $3, abilities = $4 WHERE name = $1', says);
    return 'known';
  }

  bind(user: string, device: string, wall: number): ReturnType<Store['bind']> {
    return this.#change([user, device], async (query) => {
      const known = recordOf((await query(NAME, [device]))[0]);
      if (known?.kind === 'user') return 'is a user';
      const [found] = await query(
        `SELECT EXISTS (SELECT FROM bindings WHERE user_name = $1 AND device = $2) AS is_bound,
           (SELECT count(*) FROM bindings WHERE user_name = $1) AS devices,
           (SELECT count(*) FROM bindings WHERE device = $2) AS users`,
        [user, device],
      );
      if (found?.is_bound === true) return 'already';
      if (Number(found?.devices) >= serverLimits.devicesPerUserMax) return 'user full';
      if (Number(found?.users) >= serverLimits.usersPerDeviceMax) return 'device full';
      await query('INSERT INTO bindings (user_name, device) VALUES ($1, $2)', [user, device]);
      if (known === undefined) {
        await query(`INSERT INTO names (name, kind, created_at) VALUES ($1, 'device', $2)`, [device, wall]);
      }
      return 'bound';
    });
  }

  unbind(user: string, device: string): Promise<boolean> {
    return this.#change([user, device], async (query) => {
      const gone = await query('DELETE FROM bindings WHERE user_name = $1 AND device = $2 RETURNING 1', [user, device]);
      return gone.length > 0;
    });
  }

  async peers(name: string, kind: 'user' | 'device'): Promise<readonly string[]> {
    return (await this.#query(PEERS[kind], [name])).map((row) => String(row.peer));
  }

  remove(name: string): Promise<boolean> {
    return this.#change([name], async (query) => {
      const gone = await query('DELETE FROM names WHERE name = $1 RETURNING 1', [name]);
      if (gone.length === 0) return false;
      await query('DELETE FROM bindings WHERE user_name = $1', [name]);
      await query('DELETE FROM bindings WHERE device = $1', [name]);
      const [inbox] = await query('DELETE FROM inboxes WHERE receiver = $1 RETURNING id', [name]);
      if (inbox === undefined) return true;
      await query('DELETE FROM messages WHERE inbox = $1', [inbox.id]);
      await query('DELETE FROM shares WHERE inbox = $1', [inbox.id]);
      return true;
    });
  }

  async list(
    kind: 'user' | 'device',
    after: string,
    count: number,
  ): Promise<readonly (readonly [string, NameRecord])[]> {
    const rows = await this.#query(LIST, [kind, after, count]);
    return rows.map((row) => [String(row.name), recordOf(row)!]);
  }
}

function recordOf(row: Row | undefined): NameRecord | undefined {
  if (row === undefined) return undefined;
  const createdAt = Number(row.created_at);
  if (row.kind === 'user') return { kind: 'user', passwordHash: String(row.password_hash), createdAt };
  return {
    kind: 'device',
    version: textOf(row.version),
    abilities: textOf(row.abilities),
    createdAt,
    lastSeenAt: Number(row.last_seen_at),
  };
}

function textOf(value: unknown): string | undefined {
  return value === null ? undefined : String(value);
}
