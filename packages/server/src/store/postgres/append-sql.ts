import { SQLSTATE } from './errors.ts';

export const APPEND_FUNCTIONS = `
-- Decides message by message what append() could not decide for a whole inbox, in order. Counts all that was placed.
CREATE FUNCTION place_rest(
  a_base bigint, a_ids bigint[], a_fits boolean[],
  a_messages_max double precision, a_bytes_max double precision, a_share double precision,
  a_to integer[], a_from text[], a_msg_id bytea[], a_msg bytea[], a_wall double precision[], a_ran double precision[],
  a_ttl integer[], OUT refused integer[], OUT reasons integer[]
) LANGUAGE plpgsql AS $$
DECLARE
  m record;
  box integer;
  held_messages integer;
  held_bytes bigint;
  had_shares boolean;
  share_of text;
  share_messages integer;
  share_bytes bigint;
  is_same boolean;
  size integer;
BEGIN
  refused := '{}';
  reasons := '{}';
  UPDATE inboxes b SET messages = b.messages + p.messages, bytes = b.bytes + p.bytes
  FROM (
    SELECT p.inbox, count(*) AS messages, sum(octet_length(p.msg)) AS bytes
    FROM messages p WHERE p.inbox = ANY (a_ids) AND p.position > a_base AND p.position <= a_base + cardinality(a_to)
    GROUP BY p.inbox
  ) p WHERE b.id = p.inbox;

  FOR m IN
    SELECT i.* FROM unnest(a_to, a_from, a_msg_id, a_msg, a_wall, a_ran, a_ttl)
      WITH ORDINALITY AS i (r, sender, msg_id, msg, wall, ran, ttl, n)
    WHERE NOT a_fits[i.r]
      OR NOT EXISTS (SELECT FROM messages p WHERE p.inbox = a_ids[i.r] AND p.position = a_base + i.n)
    ORDER BY i.r, i.n
  LOOP
    SELECT s.msg = m.msg INTO is_same FROM messages s
    WHERE s.inbox = a_ids[m.r] AND s.sender = m.sender AND s.msg_id = m.msg_id;
    IF FOUND THEN
      refused := refused || m.n::integer;
      reasons := reasons || CASE WHEN is_same THEN -1 ELSE -2 END;
      CONTINUE;
    END IF;

    -- Its inbox is rather full: what is in it is counted by sender.
    IF box IS DISTINCT FROM m.r THEN
      IF box IS NOT NULL THEN
        PERFORM save_fill(a_ids[box], held_messages, held_bytes, share_of, share_messages, share_bytes);
      END IF;
      box := m.r;
      share_of := NULL;
      share_messages := 0;
      SELECT b.messages, b.bytes, b.has_shares INTO held_messages, held_bytes, had_shares
      FROM inboxes b WHERE b.id = a_ids[box];
      IF NOT had_shares THEN
        INSERT INTO shares SELECT c.inbox, c.sender, count(*), sum(octet_length(c.msg))
        FROM messages c WHERE c.inbox = a_ids[box] GROUP BY c.inbox, c.sender;
      END IF;
    END IF;
    IF share_of IS DISTINCT FROM m.sender THEN
      PERFORM save_fill(a_ids[box], held_messages, held_bytes, share_of, share_messages, share_bytes);
      share_of := m.sender;
      SELECT s.messages, s.bytes INTO share_messages, share_bytes
      FROM shares s WHERE s.inbox = a_ids[box] AND s.sender = m.sender;
      IF NOT FOUND THEN
        share_messages := 0;
        share_bytes := 0;
      END IF;
    END IF;

    size := octet_length(m.msg);
    -- An empty inbox takes any one message, and with it any sender's first that the inbox has room for.
    IF held_messages > 0 AND (
      held_messages >= a_messages_max OR held_bytes + size > a_bytes_max
      OR share_messages > 0 AND (
        share_messages >= greatest(1, a_messages_max / a_share) OR share_bytes + size > a_bytes_max / a_share
      )
    ) THEN
      refused := refused || m.n::integer;
      reasons := reasons || -3;
      CONTINUE;
    END IF;
    INSERT INTO messages VALUES (a_ids[box], a_base + m.n, m.sender, m.msg_id, m.msg, m.wall, m.ran, m.ttl);
    held_messages := held_messages + 1;
    held_bytes := held_bytes + size;
    share_messages := share_messages + 1;
    share_bytes := share_bytes + size;
  END LOOP;
  IF box IS NOT NULL THEN
    PERFORM save_fill(a_ids[box], held_messages, held_bytes, share_of, share_messages, share_bytes);
  END IF;
END $$;

CREATE FUNCTION save_fill(
  a_id bigint, a_messages integer, a_bytes bigint, a_sender text, a_share_messages integer, a_share_bytes bigint
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  UPDATE inboxes SET messages = a_messages, bytes = a_bytes, has_shares = true WHERE id = a_id;
  IF a_share_messages > 0 THEN
    INSERT INTO shares VALUES (a_id, a_sender, a_share_messages, a_share_bytes)
    ON CONFLICT (inbox, sender) DO UPDATE SET messages = excluded.messages, bytes = excluded.bytes;
  END IF;
END $$;

-- Stores messages, all or none. Message i goes to a_receivers[a_to[i]], each of which is named once and gets a_counts and
-- a_sizes in all; its position is first + i - 1, but for those in refused, which have a reason instead. No row: not all
-- receivers have an inbox yet, and nothing was done. Messages in a_gone are deleted first.
--
-- Each statement in here sees what was committed before it began. So the locks come first: behind them nobody else
-- changes these inboxes, and a position that is drawn then is greater than all that anybody can see in them.
CREATE FUNCTION append(
  a_run text, a_number bigint, a_until double precision,
  a_messages_max double precision, a_bytes_max double precision, a_share double precision,
  a_receivers text[], a_counts integer[], a_sizes bigint[], a_gone_of integer[], a_gone bigint[],
  a_to integer[], a_from text[], a_msg_id bytea[], a_msg bytea[], a_wall double precision[], a_ran double precision[],
  a_ttl integer[]
) RETURNS TABLE (first bigint, refused integer[], reasons integer[]) LANGUAGE plpgsql AS $$
DECLARE
  ids bigint[];
  fits boolean[];
  base bigint;
  placed integer;
BEGIN
  SELECT array_agg(l.id ORDER BY l.n) INTO ids FROM (
    SELECT b.id, r.n FROM unnest(a_receivers) WITH ORDINALITY AS r (receiver, n)
    JOIN inboxes b ON b.receiver = r.receiver ORDER BY b.receiver FOR UPDATE OF b
  ) l;
  IF cardinality(ids) IS DISTINCT FROM cardinality(a_receivers) THEN RETURN; END IF;
  IF cardinality(a_gone) > 0 THEN PERFORM take_out(ids, a_gone_of, a_gone); END IF;

  -- Where all of the batch fits into what a single sender may have, nothing needs to be looked at one by one.
  SELECT array_agg(
    NOT b.has_shares AND b.messages + c.messages <= a_messages_max / a_share AND b.bytes + c.bytes <= a_bytes_max / a_share
    ORDER BY c.n
  ) INTO fits
  FROM unnest(ids, a_counts, a_sizes) WITH ORDINALITY AS c (id, messages, bytes, n) JOIN inboxes b ON b.id = c.id;

  base := nextval('positions') - 1;
  INSERT INTO messages
  SELECT ids[m.r], base + m.n, m.sender, m.msg_id, m.msg, m.wall, m.ran, m.ttl
  FROM unnest(a_to, a_from, a_msg_id, a_msg, a_wall, a_ran, a_ttl)
    WITH ORDINALITY AS m (r, sender, msg_id, msg, wall, ran, ttl, n)
  WHERE fits[m.r]
  ON CONFLICT (inbox, sender, msg_id) DO NOTHING;
  GET DIAGNOSTICS placed = ROW_COUNT;
  first := base + 1;
  IF placed = cardinality(a_to) THEN
    UPDATE inboxes b SET messages = b.messages + c.messages, bytes = b.bytes + c.bytes
    FROM unnest(ids, a_counts, a_sizes) AS c (id, messages, bytes) WHERE b.id = c.id;
  ELSE
    SELECT p.refused, p.reasons INTO refused, reasons FROM place_rest(
      base, ids, fits, a_messages_max, a_bytes_max, a_share, a_to, a_from, a_msg_id, a_msg, a_wall, a_ran, a_ttl
    ) p;
  END IF;

  -- Last, so that whoever makes a run void, or asks what came of an append, waits for no more than this.
  UPDATE runs r SET appended = a_number, first = base + 1, refused = append.refused, reasons = append.reasons
  WHERE r.run = a_run AND NOT r.is_void AND r.appended < a_number;
  IF NOT FOUND THEN
    IF EXISTS (SELECT FROM runs r WHERE r.run = a_run AND NOT r.is_void) THEN
      RAISE EXCEPTION 'append % was given up', a_number USING ERRCODE = '${SQLSTATE.tooLate}';
    END IF;
    RAISE EXCEPTION 'run % is void', a_run USING ERRCODE = '${SQLSTATE.fenced}';
  END IF;
  IF extract(epoch FROM clock_timestamp()) * 1000 > a_until THEN
    RAISE EXCEPTION 'append % comes too late', a_number USING ERRCODE = '${SQLSTATE.tooLate}';
  END IF;
  RETURN NEXT;
END $$;

-- What came of an append whose answer was lost: its results, or no row. Then it was not stored and never will be.
CREATE FUNCTION outcome(a_run text, a_number bigint)
RETURNS TABLE (first bigint, refused integer[], reasons integer[]) LANGUAGE plpgsql AS $$
BEGIN
  -- Waits for it where it is about to be committed; where it is not so far yet, it will find its number used.
  UPDATE runs r SET appended = a_number, first = NULL WHERE r.run = a_run AND r.appended < a_number;
  IF FOUND THEN RETURN; END IF;
  RETURN QUERY SELECT r.first, r.refused, r.reasons FROM runs r
  WHERE r.run = a_run AND r.appended = a_number AND r.first IS NOT NULL;
END $$;
`;
