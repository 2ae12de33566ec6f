import type { Client } from 'pg';
import { StoreUnusable } from '../unusable.ts';
import { LOCK_CLASS, run } from './connections.ts';
import { MIGRATIONS, SCHEMA } from './schema.ts';

/** PostgreSQL 13. */
const OLDEST_VERSION = 130_000;

/** Refuses a server that would not keep what is stored. */
export async function examine(client: Client): Promise<void> {
  const rows = await run(client, `SELECT name, setting FROM pg_settings WHERE name = ANY ($1)`, [
    ['server_version_num', 'server_encoding', 'fsync', 'synchronous_commit'],
  ]);
  const setting = new Map(rows.map(({ name, setting }) => [String(name), String(setting)]));
  if (Number(setting.get('server_version_num')) < OLDEST_VERSION) {
    throw new StoreUnusable('the server is older than PostgreSQL 13');
  }
  const encoding = setting.get('server_encoding');
  if (encoding !== 'UTF8') throw new StoreUnusable(`the database has the encoding ${encoding}: it must have UTF8`);
  if (setting.get('fsync') !== 'on') {
    throw new StoreUnusable('fsync is off: what was acked would be lost when the machine loses its power');
  }
  if (setting.get('synchronous_commit') !== 'on') {
    throw new StoreUnusable('synchronous_commit is not on, though this connection asked for it');
  }
}

/**
 * Brings the schema to the present version, making it when it is not there: all or nothing, one node at a time. Rejects
 * with `StoreUnusable` when it is of a newer version.
 */
export async function migrate(client: Client, schema: string): Promise<void> {
  const quoted = client.escapeIdentifier(schema);
  await client.query('BEGIN');
  try {
    await run(client, 'SELECT pg_advisory_xact_lock($1::integer, hashtext($2))', [LOCK_CLASS, `migrate ${schema}`]);
    const [known] = await run(client, 'SELECT 1 FROM pg_namespace WHERE nspname = $1', [schema]);
    if (known === undefined) await client.query(`CREATE SCHEMA ${quoted}`);
    const version = await versionOf(client, schema);
    if (version > SCHEMA) {
      throw new StoreUnusable(
        `it was written by a newer version of Hawser (format ${version}, this one knows ${SCHEMA}): start that one`,
      );
    }
    for (const migration of MIGRATIONS.slice(version)) await client.query(migration);
    if (version === 0) await client.query(`INSERT INTO meta VALUES (${SCHEMA})`);
    else if (version < SCHEMA) await client.query(`UPDATE meta SET schema = ${SCHEMA}`);
    await client.query('COMMIT');
  } catch (error) {
    await client.query('ROLLBACK').catch(() => {});
    throw error;
  }
}

async function versionOf(client: Client, schema: string): Promise<number> {
  const [table] = await run(client, 'SELECT to_regclass($1) AS found', [`${client.escapeIdentifier(schema)}.meta`]);
  if (table?.found === null) return 0;
  const [row] = await run(client, 'SELECT schema FROM meta', []);
  if (row === undefined) throw new StoreUnusable(`the schema ${schema} is not Hawser's, or damaged`);
  return Number(row.schema);
}
