export const MOVE_TABLE = `
-- All that another store held is being moved here, or was: one row, or none. Until it is finished nobody may serve this.
CREATE TABLE move (
  is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
  -- What that store held, as text.
  source text NOT NULL,
  -- The last of it that is here for sure, and how much there was up to that.
  after bytea,
  records bigint NOT NULL DEFAULT 0,
  begun_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  finished_at timestamptz
);
`;
