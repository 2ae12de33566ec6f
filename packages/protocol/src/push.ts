/** Reading a push (cmd 201) as its receiver does. `PushWriter` in `bodies.ts` writes it. */

import { FieldSet, NOT_FOUND, skipSpace, stringValue } from './json.ts';
import { decodeText } from './text.ts';

/** One message of a push, as its receiver reads it. */
export interface PushedMessage {
  readonly from: string;
  readonly to: string;
  readonly msgId: string;
  /** The value of `msg` as JSON text: a view into the data. */
  readonly msg: Uint8Array;
  /** Time of acceptance in ms since 1970 (extension `ts`); 0 when the server does not say. */
  readonly ts: number;
}

const pushFields = /* @__PURE__ */ new FieldSet(['from', 'to', 'msg', 'msgid', 'ts']);

/** cmd 201 from the server: its messages; `undefined` when it is not an array of such. Unknown fields are ignored. */
export function readPush(data: Uint8Array): PushedMessage[] | undefined {
  const messages: PushedMessage[] = [];
  let at = skipSpace(data, 0);
  if (data[at] !== 0x5b) return undefined;
  at = skipSpace(data, at + 1);
  if (data[at] === 0x5d) return skipSpace(data, at + 1) === data.length ? messages : undefined;
  for (;;) {
    // `msg` may nest as deep as in the message that was sent: there is an object around it here as well as there.
    at = pushFields.find(data, at);
    const message = at < 0 ? undefined : pushedMessage(data);
    if (message === undefined) return undefined;
    messages.push(message);
    at = skipSpace(data, at);
    if (data[at] === 0x5d) return skipSpace(data, at + 1) === data.length ? messages : undefined;
    if (data[at] !== 0x2c) return undefined;
    at = skipSpace(data, at + 1);
  }
}

function pushedMessage(data: Uint8Array): PushedMessage | undefined {
  const [from, to, msg, msgid, ts] = [0, 1, 2, 3, 4].map((field) => {
    const begin = pushFields.spans[2 * field]!;
    return begin === NOT_FOUND ? undefined : data.subarray(begin, pushFields.spans[2 * field + 1]!);
  });
  const names = [from, to, msgid].map((span) => (span === undefined ? undefined : stringValue(span, 0, span.length)));
  const [sender, receiver, msgId] = names;
  if (sender === undefined || receiver === undefined || msgId === undefined || msg === undefined) return undefined;
  return { from: sender, to: receiver, msgId, msg, ts: ts === undefined ? 0 : Number(decodeText(ts)) || 0 };
}
