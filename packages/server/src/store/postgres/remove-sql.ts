export const REMOVE_FUNCTIONS = `
-- Deletes messages of inboxes that the caller has locked: that of a_positions[i] lies in a_ids[a_of[i]].
CREATE FUNCTION take_out(a_ids bigint[], a_of integer[], a_positions bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  WITH gone AS (
    DELETE FROM messages m USING unnest(a_of, a_positions) AS g (n, position)
    WHERE m.inbox = a_ids[g.n] AND m.position = g.position
    RETURNING m.inbox, m.sender, octet_length(m.msg) AS size
  ), shared AS (
    UPDATE shares s SET messages = s.messages - g.messages, bytes = s.bytes - g.bytes
    FROM (SELECT inbox, sender, count(*) AS messages, sum(size) AS bytes FROM gone GROUP BY inbox, sender) g
    WHERE s.inbox = g.inbox AND s.sender = g.sender
  )
  UPDATE inboxes b SET messages = b.messages - g.messages, bytes = b.bytes - g.bytes
  FROM (SELECT inbox, count(*) AS messages, sum(size) AS bytes FROM gone GROUP BY inbox) g
  WHERE b.id = g.inbox;

  -- In an inbox that is empty nobody has a share.
  WITH emptied AS (
    UPDATE inboxes SET has_shares = false WHERE id = ANY (a_ids) AND has_shares AND messages = 0 RETURNING id
  )
  DELETE FROM shares s USING emptied e WHERE s.inbox = e.id;
END $$;

-- The same by receivers, each named once. Not synced: a crash may bring the messages back.
CREATE FUNCTION remove_messages(a_receivers text[], a_of integer[], a_positions bigint[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  ids bigint[];
BEGIN
  PERFORM set_config('synchronous_commit', 'off', true);
  PERFORM 1 FROM inboxes WHERE receiver = ANY (a_receivers) ORDER BY receiver FOR UPDATE;
  SELECT array_agg(b.id ORDER BY r.n) INTO ids
  FROM unnest(a_receivers) WITH ORDINALITY AS r (receiver, n) LEFT JOIN inboxes b ON b.receiver = r.receiver;
  PERFORM take_out(ids, a_of, a_positions);
END $$;

-- When devices were last seen. Not synced.
CREATE FUNCTION note_seen(a_names text[], a_walls double precision[], a_rans double precision[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM set_config('synchronous_commit', 'off', true);
  PERFORM 1 FROM names WHERE name = ANY (a_names) ORDER BY name FOR UPDATE;
  UPDATE names d SET last_seen_at = greatest(d.last_seen_at, s.wall),
    last_seen_ran = nullif(greatest(coalesce(d.last_seen_ran, 0), s.ran), 0)
  FROM unnest(a_names, a_walls, a_rans) AS s (name, wall, ran)
  WHERE d.name = s.name AND d.kind = 'device' AND (d.last_seen_at < s.wall OR coalesce(d.last_seen_ran, 0) < s.ran);
END $$;
`;
