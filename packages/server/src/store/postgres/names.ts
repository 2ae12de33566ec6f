import { serverLimits } from '@hawser/protocol';
import { isNews, isUnused, provisionedDevice, seenDevice } from '../../core/device-record.ts';
import type { DeviceRecord, Entry, NameRecord, Provision, Store } from '../../core/ports.ts';
import { Locks } from '../locks.ts';
import { texts } from './arrays.ts';
import type { Connections, Query, Row } from './connections.ts';
import { OthersStand } from './errors.ts';
import type { LastSeen } from './last-seen.ts';
import type { Run } from './run.ts';

type Says = Pick<DeviceRecord, 'version' | 'abilities'>;

export const COLUMNS = `name, kind, created_at, password_hash,
  version, abilities, last_seen_at, last_seen_ran, secret, code, provisioned`;

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
  readonly #lastSeen: LastSeen;
  readonly #run: Run;

  constructor(connections: Connections, lastSeen: LastSeen, run: Run) {
    this.#run = run;
    this.#connections = connections;
    this.#query = connections.query;
    this.#lastSeen = lastSeen;
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
  deviceSeen(name: string, says: Says, wall: number, entry?: Entry): ReturnType<Store['deviceSeen']> {
    return this.#locks.hold([name], async () => {
      const known = await this.name(name);
      const seen = seenDevice(known, says, wall, entry);
      if (typeof seen === 'object' && !isNews(known, seen)) {
        this.#lastSeen.note(name, wall, entry?.ran);
        return 'known';
      }
      return this.#connections.change([name], (query) => this.#see(query, name, says, wall, entry));
    });
  }

  async #see(
    query: Query,
    name: string,
    says: Says,
    wall: number,
    entry: Entry | undefined,
  ): ReturnType<Store['deviceSeen']> {
    const known = recordOf((await query(NAME, [name]))[0]);
    const seen = seenDevice(known, says, wall, entry);
    if (typeof seen === 'string') return seen;
    await writeDevice(query, name, seen);
    return known === undefined ? 'new' : 'known';
  }

  provision(name: string, provision: Provision, wall: number, which: 'new' | 'known'): ReturnType<Store['provision']> {
    return this.#change([name], async (query) => {
      const record = provisionedDevice(recordOf((await query(NAME, [name]))[0]), provision, wall, which);
      if (typeof record === 'string') return record;
      await writeDevice(query, name, record);
      return 'done';
    });
  }

  dropUnused(
    name: string,
    wallBefore: number,
    ranBefore: number,
    others?: readonly string[],
  ): Promise<boolean | 'others'> {
    return this.#locks.hold([name], async () => {
      if (!isUnused(await this.name(name), wallBefore, ranBefore)) return false;
      // That it has just come may not be written yet.
      await this.#lastSeen.write();
      return this.#takeOut(name, others, async (query) => {
        const gone = await query(
          `DELETE FROM names WHERE name = $1 AND kind = 'device' AND secret IS NULL AND NOT provisioned
             AND greatest(created_at, last_seen_at) < $2 AND coalesce(last_seen_ran, 0) < $3
             AND NOT EXISTS (SELECT FROM bindings WHERE device = $1)
             AND NOT EXISTS (SELECT FROM inboxes WHERE receiver = $1 AND messages > 0)
           RETURNING 1`,
          [name, wallBefore, ranBefore],
        );
        return gone.length > 0;
      });
    });
  }

  bind(user: string, device: string, wall: number, code?: string): ReturnType<Store['bind']> {
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
      if (known?.code !== code) return 'changed';
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

  /** The name goes when this run stands, and no others but these; all of it or nothing. */
  async #takeOut(
    name: string,
    others: readonly string[] | undefined,
    work: (query: Query) => Promise<boolean>,
  ): Promise<boolean | 'others'> {
    try {
      return await this.#connections.change([name], async (query) => {
        const isTakenOut = await work(query);
        // Behind the locks of the inbox, as an append has them.
        if (isTakenOut && others !== undefined) await this.#run.sees(query, others);
        return isTakenOut;
      });
    } catch (error) {
      if (error instanceof OthersStand) return 'others';
      throw error;
    }
  }

  remove(name: string, others?: readonly string[]): Promise<boolean | 'others'> {
    return this.#locks.hold([name], () => this.#takeOut(name, others, (query) => this.#remove(query, name)));
  }

  async #remove(query: Query, name: string): Promise<boolean> {
    const gone = await query('DELETE FROM names WHERE name = $1 RETURNING 1', [name]);
    if (gone.length === 0) return false;
    await query('DELETE FROM bindings WHERE user_name = $1', [name]);
    await query('DELETE FROM bindings WHERE device = $1', [name]);
    const [inbox] = await query('DELETE FROM inboxes WHERE receiver = $1 RETURNING id', [name]);
    if (inbox === undefined) return true;
    await query('DELETE FROM messages WHERE inbox = $1', [inbox.id]);
    await query('DELETE FROM shares WHERE inbox = $1', [inbox.id]);
    return true;
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

const WRITE_DEVICE = `INSERT INTO names
    (name, kind, created_at, version, abilities, last_seen_at, last_seen_ran, secret, code, provisioned)
  VALUES ($1, 'device', $2, $3, $4, $5, $6, $7, $8, $9)
  ON CONFLICT (name) DO UPDATE SET version = $3, abilities = $4, last_seen_at = $5, last_seen_ran = $6,
    secret = $7, code = $8, provisioned = $9`;

async function writeDevice(query: Query, name: string, record: DeviceRecord): Promise<void> {
  const { createdAt, version, abilities, lastSeenAt, lastSeenRan, secret, code, provisioned } = record;
  const seen = [version ?? null, abilities ?? null, lastSeenAt, lastSeenRan ?? null];
  await query(WRITE_DEVICE, [name, createdAt, ...seen, secret ?? null, code ?? null, provisioned === true]);
}

/** The columns of a record, as `recordOf` reads them: a field that has none does not pass the compiler. */
export function rowOf(name: string, record: NameRecord): Row {
  if (record.kind === 'user') {
    const { kind, passwordHash, createdAt, ...others } = record;
    noField(others);
    return { name, kind, created_at: createdAt, password_hash: passwordHash, last_seen_at: 0, provisioned: false };
  }
  const { kind, createdAt, version, abilities, lastSeenAt, lastSeenRan, secret, code, provisioned, ...others } = record;
  noField(others);
  const seen = { last_seen_at: lastSeenAt, last_seen_ran: lastSeenRan };
  return {
    name,
    kind,
    created_at: createdAt,
    version,
    abilities,
    ...seen,
    secret,
    code,
    provisioned: provisioned === true,
  };
}

function noField(_: Record<never, never> & { readonly [field: string]: never }): void {}

export function recordOf(row: Row | undefined): NameRecord | undefined {
  if (row === undefined) return undefined;
  const createdAt = Number(row.created_at);
  if (row.kind === 'user') return { kind: 'user', passwordHash: String(row.password_hash), createdAt };
  return {
    kind: 'device',
    version: textOf(row.version),
    abilities: textOf(row.abilities),
    createdAt,
    lastSeenAt: Number(row.last_seen_at),
    ...(row.last_seen_ran !== null && { lastSeenRan: Number(row.last_seen_ran) }),
    ...(row.secret !== null && { secret: String(row.secret) }),
    ...(row.code !== null && { code: String(row.code) }),
    ...(row.provisioned === true && { provisioned: true }),
  };
}

function textOf(value: unknown): string | undefined {
  return value === null ? undefined : String(value);
}
