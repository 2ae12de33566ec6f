import { APPEND_FUNCTIONS } from './append-sql.ts';
import { MOVE_TABLE } from './move-sql.ts';
import { REMOVE_FUNCTIONS } from './remove-sql.ts';

/**
 * Parts of the table of messages, by hash of the inbox. Each has indexes of its own, which stay small, and vacuum takes them
 * one by one, several at once. A statement locks all that it might touch, so that many more would cost every statement.
 */
const PARTITIONS = 16;

/**
 * A position is a place in an append, behind a number that the append draws: all positions of an append are drawn at once.
 * At 1,000 appends a second this lasts for 139 years within the whole numbers that JavaScript has.
 */
export const APPEND_MESSAGES_MAX = 2048;

const TABLES = `
CREATE TABLE meta (schema integer NOT NULL);

-- How long the store has been in service, ms: one row.
CREATE TABLE service (
  is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
  ran double precision NOT NULL DEFAULT 0,
  noted_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO service DEFAULT VALUES;

-- Runs of nodes. What a run that is void appends is rolled back. The last append of each is known by its number.
CREATE TABLE runs (
  run text COLLATE "C" PRIMARY KEY,
  began_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  is_void boolean NOT NULL DEFAULT false,
  appended bigint NOT NULL DEFAULT 0,
  first bigint,
  refused integer[],
  reasons integer[]
) WITH (fillfactor = 50);

-- Users and devices: one name space.
CREATE TABLE names (
  name text COLLATE "C" PRIMARY KEY,
  kind text NOT NULL CHECK (kind IN ('user', 'device')),
  created_at double precision NOT NULL,
  password_hash text,
  version text,
  abilities text,
  last_seen_at double precision NOT NULL DEFAULT 0,
  last_seen_ran double precision,
  -- Digests of what a device proves itself by, and of what is needed to add it.
  secret text,
  code text,
  provisioned boolean NOT NULL DEFAULT false
) WITH (fillfactor = 80);
CREATE INDEX names_by_kind ON names (kind, name);

CREATE TABLE bindings (
  user_name text COLLATE "C" NOT NULL,
  device text COLLATE "C" NOT NULL,
  PRIMARY KEY (user_name, device)
);
CREATE INDEX bindings_by_device ON bindings (device, user_name);

-- Receivers, and what their inboxes hold. Whoever changes an inbox has locked its row; several are locked by receiver.
CREATE TABLE inboxes (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  receiver text COLLATE "C" NOT NULL UNIQUE,
  messages integer NOT NULL DEFAULT 0,
  bytes bigint NOT NULL DEFAULT 0,
  -- There are rows of it in shares.
  has_shares boolean NOT NULL DEFAULT false
) WITH (fillfactor = 50);

-- What each sender has in an inbox: only of those that were rather full and have not been empty since.
CREATE TABLE shares (
  inbox bigint NOT NULL,
  sender text COLLATE "C" NOT NULL,
  messages integer NOT NULL,
  bytes bigint NOT NULL,
  PRIMARY KEY (inbox, sender)
) WITH (fillfactor = 50);

CREATE TABLE messages (
  inbox bigint NOT NULL,
  position bigint NOT NULL,
  sender text COLLATE "C" NOT NULL,
  msg_id bytea NOT NULL,
  msg bytea NOT NULL,
  wall double precision NOT NULL,
  ran double precision NOT NULL,
  ttl integer NOT NULL,
  PRIMARY KEY (inbox, position),
  UNIQUE (inbox, sender, msg_id)
) PARTITION BY HASH (inbox);
-- To compress JSON of a few KiB costs more than it saves.
ALTER TABLE messages ALTER COLUMN msg SET STORAGE EXTERNAL;
${Array.from({ length: PARTITIONS }, (_, i) => `CREATE TABLE messages_${i} PARTITION OF messages FOR VALUES WITH (MODULUS ${PARTITIONS}, REMAINDER ${i});`).join('\n')}

CREATE SEQUENCE positions AS bigint INCREMENT BY ${APPEND_MESSAGES_MAX} MAXVALUE ${Number.MAX_SAFE_INTEGER - APPEND_MESSAGES_MAX};
`;

/** What brings an empty schema to version 1, that to version 2, and so on. */
export const MIGRATIONS: readonly string[] = [TABLES + REMOVE_FUNCTIONS + APPEND_FUNCTIONS, MOVE_TABLE];

export const SCHEMA = MIGRATIONS.length;
