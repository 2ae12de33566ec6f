import { isUnused } from '@hawser/server/core/device-record';
import { APPEND, type NameRecord, type StoredMessage } from '@hawser/server/core/ports';
import { SQLSTATE } from '@hawser/server/store/postgres/errors';
import { recordOf, rowOf } from '@hawser/server/store/postgres/names';
import { APPEND_MESSAGES_MAX, SCHEMA } from '@hawser/server/store/postgres/schema';
import type { Change, Contents } from '../contents.ts';
import { byteas, float8s, int4s, int8s, texts } from './arrays.ts';
import { type Database, failure } from './database.ts';

export type Row = Record<string, unknown>;
type Values = readonly unknown[];

export interface Statement {
  /** Locks that it takes: for its transaction, or for itself. */
  readonly locks?: (values: Values) => string[];
  /** What it does at one moment: rows, and what is to be committed. */
  readonly run: (database: Database, values: Values) => Row[] | Effect;
  readonly isSynced?: boolean;
}

export interface Effect {
  readonly rows: readonly Row[];
  readonly changes: readonly Change[];
}

const NOTHING: Row[] = [];
const inboxLock = (receiver: unknown): string => `inbox ${String(receiver)}`;
const runLock = (run: unknown): string => `run ${String(run)}`;

/** By its name, or by how its text begins: what PostgreSQL does when the adapter asks for it. */
const named: Record<string, Statement> = {
  name: { run: ({ seen }, [name]) => nameRows([[String(name), seen.names.get(String(name))]]) },
  names: { run: ({ seen }, [names]) => nameRows(texts(names).map((name) => [name, seen.names.get(name)])) },
  list: {
    run: ({ seen }, [kind, after, count]) => {
      const found = [...seen.names].filter(
        ([name, record]) => record.kind === kind && inBytes(name, String(after)) > 0,
      );
      return nameRows(found.sort(([a], [b]) => inBytes(a, b)).slice(0, Number(count)));
    },
  },
  devices: { run: ({ seen }, [name]) => peerRows(seen, String(name), 'user') },
  users: { run: ({ seen }, [name]) => peerRows(seen, String(name), 'device') },
  'hold-names': { locks: ([, names]) => (names as string[]).map((name) => `name ${name}`), run: () => NOTHING },
  'note-seen': {
    isSynced: false,
    run: ({ seen }, [names, walls, rans]) => {
      const changes: Change[] = [];
      const [wallOf, ranOf] = [float8s(walls), float8s(rans)];
      for (const [i, name] of texts(names).entries()) {
        const record = seen.names.get(name);
        if (record?.kind !== 'device') continue;
        const ran = Math.max(record.lastSeenRan ?? 0, ranOf[i]!);
        const lastSeenAt = Math.max(record.lastSeenAt, wallOf[i]!);
        changes.push({ type: 'name', name, record: { ...record, lastSeenAt, ...(ran > 0 && { lastSeenRan: ran }) } });
      }
      return { rows: NOTHING, changes };
    },
  },
  'note-ran': { run: (database, [ran]) => [{ ran: database.noteRan(Number(ran)) }] },
  append: {
    isSynced: true,
    locks: (values) => [...texts(values[6]).map(inboxLock), runLock(values[0])],
    run: append,
  },
  outcome: {
    isSynced: true,
    locks: ([run]) => [runLock(run)],
    run: ({ runs }, [run, number]) => {
      const row = runs.get(String(run));
      if (row === undefined) return NOTHING;
      if (row.appended < Number(number)) {
        row.appended = Number(number);
        row.first = null;
        return NOTHING;
      }
      const { appended, first, refused, reasons } = row;
      return appended === Number(number) && first !== null ? [{ first, refused, reasons }] : NOTHING;
    },
  },
  'make-inboxes': {
    isSynced: true,
    locks: ([receivers]) => texts(receivers).map(inboxLock),
    run: (database, [receivers]) => {
      for (const name of texts(receivers)) {
        if (!database.inboxes.has(name)) database.inboxes.set(name, database.nextInboxId());
      }
      return NOTHING;
    },
  },
  remove: {
    isSynced: false,
    locks: ([receivers]) => texts(receivers).map(inboxLock),
    run: (_, [receivers, of, positions]) => {
      const names = texts(receivers);
      const numbers = int4s(of);
      return {
        rows: NOTHING,
        changes: int8s(positions).map((position, i) => ({ type: 'delete', to: names[numbers[i]! - 1]!, position })),
      };
    },
  },
  page: {
    run: ({ seen }, [receiver, after, count, bytes]) => {
      const rows: Row[] = [];
      let before = 0;
      for (const message of seen.inboxes.get(String(receiver))?.messages.values() ?? []) {
        if (message.position <= Number(after)) continue;
        const n = rows.length + 1;
        if (n > Number(count) + 1) break;
        const isWhole = n <= Number(count) && (before < Number(bytes) || n === 1);
        rows.push(messageRow(message, isWhole));
        before += message.msg.length;
      }
      return rows;
    },
  },
  read: {
    run: ({ seen }, [receiver, positions]) =>
      int8s(positions).flatMap((position) => {
        const message = seen.inboxes.get(String(receiver))?.messages.get(position);
        return message === undefined ? [] : [messageRow(message, true)];
      }),
  },
  'has-backlog': { run: ({ seen }, [receiver]) => (seen.inboxes.has(String(receiver)) ? [{}] : NOTHING) },
  filled: {
    run: ({ seen, inboxes }, [after, wanted, count]) =>
      behind(inboxes.keys(), String(after))
        .slice(0, Number(count))
        .filter((receiver) => seen.inboxes.has(receiver))
        .slice(0, Number(wanted))
        .map((receiver) => ({ receiver })),
  },
  'last-looked-at': {
    run: ({ inboxes }, [after, count]) =>
      behind(inboxes.keys(), String(after))
        .slice(Number(count) - 1, Number(count))
        .map((receiver) => ({ receiver })),
  },
  heads: {
    run: ({ seen }, [receivers]) =>
      texts(receivers)
        .sort(inBytes)
        .flatMap((receiver) => {
          const [first] = seen.inboxes.get(receiver)?.messages.values() ?? [];
          return first === undefined ? [] : [{ receiver, ...messageRow(first, true) }];
        }),
  },
};

const begins: readonly (readonly [beginning: string, Statement])[] = [
  // When a store is opened.
  [
    'SELECT name, setting FROM pg_settings',
    {
      run: () =>
        Object.entries({
          server_version_num: '150000',
          server_encoding: 'UTF8',
          fsync: 'on',
          synchronous_commit: 'on',
        }).map(([name, setting]) => ({ name, setting })),
    },
  ],
  ['SELECT pg_advisory_xact_lock(', { locks: ([, name]) => [String(name)], run: () => NOTHING }],
  ['SELECT 1 FROM pg_namespace', { run: () => [{}] }],
  ['SELECT to_regclass', { run: () => [{ found: 'meta' }] }],
  ['SELECT schema FROM meta', { run: () => [{ schema: SCHEMA }] }],
  ['SELECT extract(epoch FROM clock_timestamp())', { run: (database) => [{ clock: database.clock() }] }],
  ['SELECT 1 FROM move', { run: () => NOTHING }],
  // Runs.
  ['SELECT pg_try_advisory_lock', { run: () => [{ is_held: true }] }],
  [
    'UPDATE runs SET is_void = true WHERE NOT is_void AND run <> $1',
    {
      isSynced: true,
      run: (database, [self]) => {
        for (const run of database.runs.keys()) if (run !== self) database.makeVoid(run);
        return NOTHING;
      },
    },
  ],
  ['DELETE FROM runs WHERE is_void', { run: () => NOTHING }],
  [
    'WITH alone AS',
    {
      isSynced: true,
      locks: ([, , beginning]) => [String(beginning)],
      run: ({ runs }, [run]) => {
        if (runs.has(String(run))) return NOTHING;
        runs.set(String(run), { isVoid: false, appended: 0, first: null, refused: [], reasons: [] });
        return [{}];
      },
    },
  ],
  [
    'SELECT 1 FROM runs WHERE run = $1 AND NOT is_void FOR SHARE',
    {
      locks: ([run]) => [runLock(run)],
      run: ({ runs }, [run]) => (runs.get(String(run))?.isVoid === false ? [{}] : NOTHING),
    },
  ],
  [
    'SELECT 1 FROM runs WHERE run',
    { run: ({ runs }, [run]) => (runs.get(String(run))?.isVoid === false ? [{}] : NOTHING) },
  ],
  [
    'SELECT run FROM runs WHERE NOT is_void',
    { run: ({ runs }) => [...runs].flatMap(([run, { isVoid }]) => (isVoid ? [] : [{ run }])) },
  ],
  [
    'INSERT INTO runs (run, is_void)',
    {
      isSynced: true,
      locks: ([run]) => [runLock(run)],
      run: (database, [run]) => {
        database.makeVoid(String(run));
        return NOTHING;
      },
    },
  ],
  // Names, in transactions that hold them.
  [
    "INSERT INTO names (name, kind, created_at, password_hash) VALUES ($1, 'user'",
    {
      run: ({ seen }, [name, createdAt, passwordHash]) => {
        if (seen.names.has(String(name))) return NOTHING;
        const record = { kind: 'user', passwordHash: String(passwordHash), createdAt: Number(createdAt) } as const;
        return { rows: [{}], changes: [{ type: 'name', name: String(name), record }] };
      },
    },
  ],
  [
    'UPDATE names SET password_hash',
    {
      run: ({ seen }, [name, passwordHash]) => {
        const record = seen.names.get(String(name));
        if (record?.kind !== 'user') return NOTHING;
        const changed = { ...record, passwordHash: String(passwordHash) };
        return { rows: [{}], changes: [{ type: 'name', name: String(name), record: changed }] };
      },
    },
  ],
  [
    'INSERT INTO names\n    (name, kind, created_at, version',
    {
      run: (
        { seen },
        [name, created_at, version, abilities, last_seen_at, last_seen_ran, secret, code, provisioned],
      ) => {
        const since = seen.names.get(String(name))?.createdAt ?? created_at;
        const seenAt = { created_at: since, last_seen_at, last_seen_ran };
        const record = recordOf({ kind: 'device', version, abilities, ...seenAt, secret, code, provisioned })!;
        return { rows: NOTHING, changes: [{ type: 'name', name: String(name), record }] };
      },
    },
  ],
  [
    "DELETE FROM names WHERE name = $1 AND kind = 'device'",
    {
      run: ({ seen }, [name, wallBefore, ranBefore]) => {
        const record = seen.names.get(String(name));
        const isOld = isUnused(record, Number(wallBefore), Number(ranBefore));
        const isUsed = (seen.peers.get(String(name))?.size ?? 0) > 0 || seen.inboxes.has(String(name));
        if (!isOld || isUsed) return NOTHING;
        return { rows: [{}], changes: [{ type: 'forget', name: String(name) }] };
      },
    },
  ],
  [
    'SELECT EXISTS (SELECT FROM bindings',
    {
      run: ({ seen }, [user, device]) => [
        {
          is_bound: isBound(seen, user, device),
          devices: seen.peers.get(String(user))?.size ?? 0,
          users: seen.peers.get(String(device))?.size ?? 0,
        },
      ],
    },
  ],
  [
    'INSERT INTO bindings',
    {
      run: (_, [user, device]) => ({
        rows: NOTHING,
        changes: [{ type: 'bind', user: String(user), device: String(device) }],
      }),
    },
  ],
  [
    "INSERT INTO names (name, kind, created_at) VALUES ($1, 'device'",
    {
      run: (_, [name, createdAt]) => {
        const record = recordOf({ kind: 'device', ...NEVER_SEEN, created_at: createdAt })!;
        return { rows: NOTHING, changes: [{ type: 'name', name: String(name), record }] };
      },
    },
  ],
  [
    'DELETE FROM bindings WHERE user_name = $1 AND device = $2',
    {
      run: ({ seen }, [user, device]) => {
        if (!isBound(seen, user, device)) return NOTHING;
        return { rows: [{}], changes: [{ type: 'unbind', user: String(user), device: String(device) }] };
      },
    },
  ],
  // A name that is removed: with its bindings and its inbox, at the commit.
  [
    'DELETE FROM names WHERE name = $1 RETURNING',
    {
      run: ({ seen }, [name]) => {
        if (!seen.names.has(String(name))) return NOTHING;
        return { rows: [{}], changes: [{ type: 'forget', name: String(name) }] };
      },
    },
  ],
  ['DELETE FROM bindings WHERE user_name = $1', { run: () => NOTHING }],
  ['DELETE FROM bindings WHERE device = $1', { run: () => NOTHING }],
  [
    'DELETE FROM inboxes WHERE receiver = $1',
    {
      locks: ([receiver]) => [inboxLock(receiver)],
      run: ({ inboxes }, [receiver]) => {
        const id = inboxes.get(String(receiver));
        return id === undefined ? NOTHING : [{ id }];
      },
    },
  ],
  ['DELETE FROM messages WHERE inbox', { run: () => NOTHING }],
  ['DELETE FROM shares WHERE inbox', { run: () => NOTHING }],
];

const NEVER_SEEN = {
  version: null,
  abilities: null,
  last_seen_at: 0,
  last_seen_ran: null,
  secret: null,
  code: null,
  provisioned: false,
};

const found = new Map<string, Statement>();

/** Throws for what the adapter has not asked before: the model is to be told what that does. */
export function statementOf(name: string | undefined, text: string): Statement {
  const known = name === undefined ? found.get(text) : named[name];
  if (known !== undefined) return known;
  const statement = begins.find(([beginning]) => text.startsWith(beginning))?.[1];
  if (statement === undefined) throw new Error(`a statement of which there is no model: ${name ?? text}`);
  found.set(text, statement);
  return statement;
}

// ---- appends

function append(database: Database, values: Values): Row[] | Effect {
  const [run, number, until, messagesMax, bytesMax, share, receivers, , , goneOf, gone] = values;
  const [to, from, msgIds, msgs, walls, rans, ttls] = values.slice(11);
  const names = texts(receivers);
  if (names.some((name) => !database.inboxes.has(name))) return NOTHING;
  const row = database.runs.get(String(run));
  if (row === undefined || row.isVoid) throw failure(SQLSTATE.fenced, `run ${run} is void`);
  if (row.appended >= Number(number)) throw failure(SQLSTATE.tooLate, `append ${number} was given up`);
  if (database.clock() > Number(until)) throw failure(SQLSTATE.tooLate, `append ${number} comes too late`);

  const goneNumbers = int4s(goneOf);
  const changes: Change[] = int8s(gone).map((position, i) => ({
    type: 'delete',
    to: names[goneNumbers[i]! - 1]!,
    position,
  }));
  const inboxes = new Map(names.map((name) => [name, new Inbox(database, name, changes)]));
  const base = database.disk.position;
  database.disk.position += APPEND_MESSAGES_MAX;
  const columns = {
    from: texts(from),
    msgId: byteas(msgIds),
    msg: byteas(msgs),
    wall: float8s(walls),
    ran: float8s(rans),
    ttl: int4s(ttls),
  };
  const refused: number[] = [];
  const reasons: number[] = [];
  const limits = { messagesMax: Number(messagesMax), bytesMax: Number(bytesMax), share: Number(share) };
  for (const [i, receiver] of int4s(to).entries()) {
    const name = names[receiver - 1]!;
    const message = {
      to: name,
      from: columns.from[i]!,
      msgId: columns.msgId[i]!.toString(),
      msg: columns.msg[i]!,
      wall: columns.wall[i]!,
      ran: columns.ran[i]!,
      ttl: columns.ttl[i]!,
      position: base + i + 1,
    };
    const reason = inboxes.get(name)!.place(message, limits);
    if (reason === 0) changes.push({ type: 'put', message });
    else {
      refused.push(i + 1);
      reasons.push(reason);
    }
  }
  Object.assign(row, { appended: Number(number), first: base + 1, refused, reasons });
  return { rows: [{ first: base + 1, refused, reasons }], changes };
}

/** An inbox while an append is at work on it. */
class Inbox {
  readonly #held = new Map<string, StoredMessage>();
  #bytes = 0;

  constructor({ seen }: Database, name: string, changes: readonly Change[]) {
    const gone = new Set(
      changes.flatMap((change) => (change.type === 'delete' && change.to === name ? [change.position] : [])),
    );
    for (const message of seen.inboxes.get(name)?.messages.values() ?? []) {
      if (!gone.has(message.position)) this.#put(message);
    }
  }

  #put(message: StoredMessage): void {
    this.#held.set(`${message.from}\n${message.msgId}`, message);
    this.#bytes += message.msg.length;
  }

  /** 0 when it was placed. */
  place(message: StoredMessage, limits: { messagesMax: number; bytesMax: number; share: number }): number {
    const same = this.#held.get(`${message.from}\n${message.msgId}`);
    if (same !== undefined) return Buffer.compare(same.msg, message.msg) === 0 ? APPEND.duplicate : APPEND.conflict;
    if (!this.#hasRoom(message, limits)) return APPEND.full;
    this.#put(message);
    return 0;
  }

  #hasRoom(
    { from, msg }: StoredMessage,
    { messagesMax, bytesMax, share }: { messagesMax: number; bytesMax: number; share: number },
  ): boolean {
    const bytes = this.#bytes + msg.length;
    if (this.#held.size === 0 || (this.#held.size < messagesMax / share && bytes <= bytesMax / share)) return true;
    if (this.#held.size >= messagesMax || bytes > bytesMax) return false;
    const own = [...this.#held.values()].filter((message) => message.from === from);
    if (own.length === 0) return true;
    const ownBytes = own.reduce((sum, message) => sum + message.msg.length, msg.length);
    return own.length < Math.max(1, messagesMax / share) && ownBytes <= bytesMax / share;
  }
}

/** Contents have a binding from both sides alike. */
function isBound(seen: Contents, user: unknown, device: unknown): boolean {
  return seen.areBound(String(user), String(device)) && seen.names.get(String(device))?.kind === 'device';
}

// ---- rows

function nameRows(names: readonly (readonly [string, NameRecord | undefined])[]): Row[] {
  return names.flatMap(([name, record]) => {
    if (record === undefined) return [];
    const row = rowOf(name, record);
    return [Object.fromEntries(Object.entries(row).map(([column, value]) => [column, value ?? null]))];
  });
}

function peerRows(seen: Contents, name: string, side: 'user' | 'device'): Row[] {
  const isOther = (seen.names.get(name)?.kind ?? side) !== side;
  return isOther ? [] : Array.from(seen.peers.get(name) ?? [], (peer) => ({ peer }));
}

function messageRow(message: StoredMessage, isWhole: boolean): Row {
  const { position, from, msgId, wall, ran, ttl, msg } = message;
  return { position, sender: from, msg_id: Buffer.from(msgId), wall, ran, ttl, msg: isWhole ? msg : null };
}

function inBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

function behind(receivers: Iterable<string>, after: string): string[] {
  return [...receivers].filter((receiver) => inBytes(receiver, after) > 0).sort(inBytes);
}
