import type { Page, StoredMessage } from '../../core/ports.ts';
import { int8s, texts } from './arrays.ts';
import type { Query, Row } from './connections.ts';
import type { Gone, Removals } from './removals.ts';

/** More are not asked for at once because of what was removed meanwhile. */
const PASSED_OVER_MAX = 1_000;
/** Receivers looked at by one statement for such that have something. */
const RECEIVERS_LOOKED_AT = 10_000;

const COLUMNS = 'm.position, m.sender, m.msg_id, m.wall, m.ran, m.ttl';
const INBOX_OF = '(SELECT id FROM inboxes WHERE receiver = $1)';

/** Up to `$3` messages and about `$4` bytes with their contents, and behind them at least one without, if there is one. */
const PAGE = {
  name: 'page',
  text: `SELECT ${COLUMNS}, CASE WHEN m.n <= $3 AND (m.before < $4::float8 OR m.n = 1) THEN m.msg END AS msg
    FROM (
      SELECT *, row_number() OVER w AS n, sum(octet_length(msg)) OVER w - octet_length(msg) AS before
      FROM (
        SELECT * FROM messages WHERE inbox = ${INBOX_OF} AND position > $2::bigint ORDER BY position LIMIT $3::bigint + 1
      ) behind WINDOW w AS (ORDER BY position)
    ) m ORDER BY m.position`,
} as const;

const READ = {
  name: 'read',
  text: `SELECT ${COLUMNS}, m.msg FROM messages m WHERE m.inbox = ${INBOX_OF} AND m.position = ANY ($2::bigint[])`,
} as const;

const HAS_BACKLOG = {
  name: 'has-backlog',
  text: 'SELECT 1 FROM inboxes WHERE receiver = $1 AND messages > 0',
} as const;

const FILLED = {
  name: 'filled',
  text: `SELECT receiver FROM (
      SELECT receiver, messages FROM inboxes WHERE receiver > $1 ORDER BY receiver LIMIT $3::bigint
    ) looked_at WHERE messages > 0 ORDER BY receiver LIMIT $2::bigint`,
} as const;

const LAST_LOOKED_AT = {
  name: 'last-looked-at',
  text: 'SELECT receiver FROM inboxes WHERE receiver > $1 ORDER BY receiver OFFSET $2::bigint - 1 LIMIT 1',
} as const;

const HEADS = {
  name: 'heads',
  text: `SELECT b.receiver, ${COLUMNS}, m.msg FROM inboxes b
    CROSS JOIN LATERAL (SELECT * FROM messages WHERE inbox = b.id ORDER BY position LIMIT 1) m
    WHERE b.receiver = ANY ($1::text[]) ORDER BY b.receiver`,
} as const;

/** Reads of inboxes. What this node has removed is left out, wherever its removal is on its way. */
export class Inboxes {
  readonly #query: Query;
  readonly #removals: Removals;

  constructor(query: Query, removals: Removals) {
    this.#query = query;
    this.#removals = removals;
  }

  async hasBacklog(receiver: string): Promise<boolean> {
    const gone = this.#removals.goneOf(receiver);
    if (gone.length > 0) return (await this.#page(receiver, 0, 1, 0, gone)).messages.length > 0;
    return (await this.#query(HAS_BACKLOG, [receiver])).length > 0;
  }

  page(receiver: string, after: number, count: number, bytes: number): Promise<Page> {
    return this.#page(receiver, after, count, bytes, this.#removals.goneOf(receiver));
  }

  async #page(receiver: string, after: number, count: number, bytes: number, gone: readonly Gone[]): Promise<Page> {
    const messages: StoredMessage[] = [];
    let left = bytes;
    const isFull = (): boolean => messages.length === count || (messages.length > 0 && left <= 0);
    let position = after;
    for (;;) {
      const passedOver = passedOverOf(gone, position);
      const countAsked = count - messages.length + passedOver.messages;
      const bytesAsked = Math.max(0, left) + passedOver.bytes;
      const rows = await this.#query(PAGE, [receiver, position, countAsked, Math.min(bytesAsked, 2 ** 53)]);
      let isEnd = true;
      for (const row of rows) {
        const at = Number(row.position);
        if (gone.some((positions) => positions.has(at))) {
          position = at;
          continue;
        }
        if (isFull()) return { messages, end: false };
        if (row.msg === null) {
          isEnd = false;
          break;
        }
        position = at;
        messages.push(messageOf(receiver, row));
        left -= (row.msg as Uint8Array).length;
      }
      if (isEnd && rows.at(-1)?.msg !== null) return { messages, end: true };
    }
  }

  async read(receiver: string, positions: readonly number[]): Promise<readonly StoredMessage[]> {
    const gone = this.#removals.goneOf(receiver);
    if (positions.length === 0) return [];
    const rows = await this.#query(READ, [receiver, int8s(positions)]);
    const found = new Map(rows.map((row) => [Number(row.position), row]));
    return positions.flatMap((position) => {
      const row = found.get(position);
      const isThere = row !== undefined && !gone.some((each) => each.has(position));
      return isThere ? [messageOf(receiver, row)] : [];
    });
  }

  async oldest(afterReceiver: string, count: number): Promise<readonly StoredMessage[]> {
    const goneOf = this.#removals.gone();
    const found: StoredMessage[] = [];
    let after = afterReceiver;
    while (found.length < count) {
      const wanted = count - found.length;
      const receivers = (await this.#query(FILLED, [after, wanted, RECEIVERS_LOOKED_AT])).map((row) =>
        String(row.receiver),
      );
      found.push(...(await this.#heads(receivers, goneOf)));
      if (receivers.length === wanted) after = receivers.at(-1)!;
      else {
        const [last] = await this.#query(LAST_LOOKED_AT, [after, RECEIVERS_LOOKED_AT]);
        if (last === undefined) break;
        after = String(last.receiver);
      }
    }
    return found;
  }

  async #heads(receivers: readonly string[], goneOf: (receiver: string) => readonly Gone[]): Promise<StoredMessage[]> {
    if (receivers.length === 0) return [];
    const heads: StoredMessage[] = [];
    for (const row of await this.#query(HEADS, [texts(receivers)])) {
      const head = messageOf(String(row.receiver), row);
      const gone = goneOf(head.to);
      if (!gone.some((positions) => positions.has(head.position))) heads.push(head);
      else heads.push(...(await this.#page(head.to, head.position, 1, 0, gone)).messages);
    }
    return heads;
  }
}

/** What lies behind a position and is to be left out, at most. */
function passedOverOf(gone: readonly Gone[], after: number): { messages: number; bytes: number } {
  let messages = 0;
  let bytes = 0;
  for (const positions of gone) {
    for (const [position, size] of positions) {
      if (position <= after) continue;
      bytes += size;
      if (++messages === PASSED_OVER_MAX) return { messages, bytes };
    }
  }
  return { messages, bytes };
}

function messageOf(to: string, row: Row): StoredMessage {
  return {
    to,
    from: String(row.sender),
    msgId: (row.msg_id as Buffer).toString(),
    msg: row.msg as Buffer,
    position: Number(row.position),
    wall: Number(row.wall),
    ran: Number(row.ran),
    ttl: Number(row.ttl),
  };
}
