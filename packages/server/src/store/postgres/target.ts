import { serverLimits } from '@hawser/protocol';
import type { Client } from 'pg';
import { APPEND, type NameRecord, type StoredMessage } from '../../core/ports.ts';
import { Census, type Contents, type Lot } from '../lot.ts';
import { StoreUnusable } from '../unusable.ts';
import { Appender } from './appender.ts';
import { texts } from './arrays.ts';
import { Connections, type Row, run } from './connections.ts';
import { storeError } from './errors.ts';
import { examine, migrate } from './migrate.ts';
import { COLUMNS, recordOf, rowOf } from './names.ts';
import { Removals } from './removals.ts';
import { Run } from './run.ts';
import { whyNot } from './why-not.ts';

const WRITE_NAMES = {
  name: 'write-names',
  text: 'INSERT INTO names SELECT * FROM json_populate_recordset(NULL::names, $1) ON CONFLICT (name) DO NOTHING',
} as const;
const WRITE_BINDINGS = {
  name: 'write-bindings',
  text: 'INSERT INTO bindings (user_name, device) SELECT * FROM unnest($1::text[], $2::text[]) ON CONFLICT DO NOTHING',
} as const;
const HAS_DATA = `SELECT EXISTS (SELECT FROM names) OR EXISTS (SELECT FROM bindings) OR EXISTS (SELECT FROM messages) AS has_data`;
/** Long ago: whoever serves next counts on from just there, and not from when it was noted. */
const FINISH = `WITH moved AS (UPDATE service SET ran = $1, noted_at = clock_timestamp() - interval '1 day')
  UPDATE move SET finished_at = clock_timestamp()`;

/** Contents stay in the database: it says what their digests are. */
const MESSAGES = `SELECT b.receiver, m.sender, m.msg_id, m.wall, m.ran, m.ttl,
    encode(sha256(m.msg), 'hex') AS sha256, octet_length(m.msg) AS size
  FROM inboxes b JOIN messages m ON m.inbox = b.id ORDER BY b.receiver, m.position`;
const ROWS_AT_ONCE = 1_000;

/** How a move into a database stands when it is begun. */
export type Standing =
  | { readonly state: 'under way'; readonly after: Uint8Array | undefined; readonly records: number }
  | { readonly state: 'finished'; readonly at: Date };

/**
 * A database that all of another store is moved into. Each lot is whole in it or not there, and is known when it is written
 * again, so that a move that was broken off anywhere can go on. While it is open no server can begin to serve from it.
 */
export class PostgresTarget {
  readonly #connections: Connections;
  readonly #appender: Appender;

  private constructor(connections: Connections, appender: Appender) {
    this.#connections = connections;
    this.#appender = appender;
  }

  /** Rejects with `StoreUnusable` when the database cannot be used, or a server uses it. */
  static async open({ url, schema = 'hawser' }: { url: string; schema?: string }): Promise<PostgresTarget> {
    const times = {
      connectMs: serverLimits.postgresConnectMs,
      statementMs: serverLimits.postgresStatementMs,
      appendMs: serverLimits.postgresAppendMs,
    };
    const ignore = (): void => {};
    const log = { debug: ignore, info: ignore, warn: ignore, error: ignore };
    const connections = new Connections({ url, schema, log, times });
    try {
      const client = await connections.connect(0);
      try {
        await examine(client);
        await migrate(client, schema);
      } finally {
        await client.end();
      }
      // They fit: they were within bounds where they come from.
      const limits = { messagesMax: 2 ** 53, bytesMax: 2 ** 53, senderShare: 1 };
      const removals = new Removals(connections, ignore);
      const appender = new Appender(
        connections,
        new Run(undefined, schema, connections.clock),
        removals,
        limits,
        times,
      );
      await appender.begin();
      return new PostgresTarget(connections, appender);
    } catch (error) {
      connections.drop();
      throw unusable(error);
    }
  }

  async close(): Promise<void> {
    await this.#appender.close();
    await this.#connections.close();
  }

  /**
   * Begins the move of a store that `source` tells from all others, or finds it as it stands. Rejects with `StoreUnusable`
   * when the database holds anything else.
   */
  async begin(source: string): Promise<Standing> {
    return await asUnusable(async () => {
      const [known] = await this.#connections.query('SELECT source, after, records, finished_at FROM move');
      if (known === undefined) {
        const [found] = await this.#connections.query(HAS_DATA);
        if (found?.has_data === true) throw new StoreUnusable('the database has data already');
        await this.#connections.query('INSERT INTO move (source) VALUES ($1)', [source]);
        return { state: 'under way', after: undefined, records: 0 };
      }
      if (known.source !== source) throw new StoreUnusable(refusal(known));
      if (known.finished_at !== null) return { state: 'finished', at: known.finished_at as Date };
      return {
        state: 'under way',
        after: (known.after as Uint8Array | null) ?? undefined,
        records: Number(known.records),
      };
    });
  }

  async write(lot: Lot): Promise<void> {
    await asUnusable(async () => {
      if (lot.kind === 'names') await this.#writeNames(lot.names);
      else if (lot.kind === 'bindings') await this.#writeBindings(lot.bindings);
      else await this.#writeMessages(lot.messages);
    });
  }

  /** All up to this key, so many records, has been written. */
  async note(after: Uint8Array, records: number): Promise<void> {
    await asUnusable(() =>
      this.#connections.query('UPDATE move SET after = $1, records = $2', [Buffer.from(after), records]),
    );
  }

  async #writeNames(names: readonly (readonly [string, NameRecord])[]): Promise<void> {
    const rows = names.map(([name, record]) => rowOf(name, record));
    await this.#connections.query(WRITE_NAMES, [JSON.stringify(rows)]);
  }

  async #writeBindings(bindings: readonly (readonly [string, string])[]): Promise<void> {
    const sides = [0, 1].map((side) => texts(bindings.map((binding) => binding[side]!)));
    await this.#connections.query(WRITE_BINDINGS, sides);
  }

  async #writeMessages(messages: readonly StoredMessage[]): Promise<void> {
    const results = await this.#appender.append(messages);
    const refused = results.findIndex((result) => result < 0 && result !== APPEND.duplicate);
    if (refused >= 0) throw new StoreUnusable(`it does not take the message ${messages[refused]!.msgId}`);
  }

  /** What is in the database, read back row by row; `onRecord` is told how many so far. */
  async contents(onRecord: (records: number) => void): Promise<Contents> {
    return await asUnusable(async () => {
      const client = await this.#connections.connect(0);
      try {
        await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
        const census = new Census();
        const each = async (text: string, take: (row: Row) => void): Promise<void> => {
          for await (const rows of read(client, text)) {
            for (const row of rows) take(row);
            onRecord(census.records);
          }
        };
        await each(`SELECT ${COLUMNS} FROM names ORDER BY name`, (row) =>
          census.name(String(row.name), recordOf(row)!),
        );
        await each('SELECT user_name, device FROM bindings ORDER BY user_name, device', (row) =>
          census.binding(String(row.user_name), String(row.device)),
        );
        await each(MESSAGES, (row) =>
          census.message({
            to: String(row.receiver),
            from: String(row.sender),
            msgId: (row.msg_id as Buffer).toString(),
            wall: Number(row.wall),
            ran: Number(row.ran),
            ttl: Number(row.ttl),
            sha256: String(row.sha256),
            size: Number(row.size),
          }),
        );
        return census.contents();
      } finally {
        await client.end();
      }
    });
  }

  /** All is here, and was checked: from now on it may be served. */
  async finish(ran: number): Promise<void> {
    await asUnusable(() => this.#connections.query(FINISH, [ran]));
  }
}

/** Rows of a query, some at once, however many there are. */
async function* read(client: Client, text: string): AsyncGenerator<readonly Row[]> {
  await client.query(`DECLARE moved NO SCROLL CURSOR FOR ${text}`);
  for (;;) {
    const rows = await run(client, `FETCH ${ROWS_AT_ONCE} FROM moved`, []);
    if (rows.length === 0) break;
    yield rows;
  }
  await client.query('CLOSE moved');
}

function refusal({ finished_at }: Row): string {
  if (finished_at instanceof Date) {
    return `another store, or this one as it was then, was moved into it on ${finished_at.toISOString()}`;
  }
  return (
    'the move of another store, or of this one before it changed, was broken off there: ' +
    'finish that one, or drop the schema hawser to begin anew'
  );
}

async function asUnusable<Result>(work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    throw unusable(error);
  }
}

/** Whatever the database fails with is for the operator, who can do it again. */
function unusable(error: unknown): StoreUnusable {
  return error instanceof StoreUnusable ? error : new StoreUnusable(whyNot(storeError(error)), { cause: error });
}
