import type { NewMessage } from '../../core/ports.ts';
import type { InboxLimits } from '../inbox.ts';
import { byteas, float8s, int4s, int8s, texts, utf8s } from './arrays.ts';
import type { Gone } from './removals.ts';
import { APPEND_MESSAGES_MAX } from './schema.ts';

/** The messages of one append as the function in the database takes them. */
export interface Batch {
  readonly count: number;
  readonly receivers: readonly string[];
  /** Arguments of `append()` behind those of the run. */
  readonly values: readonly unknown[];
}

export function batchOf(messages: readonly NewMessage[], limits: InboxLimits, gone: ReadonlyMap<string, Gone>): Batch {
  if (messages.length > APPEND_MESSAGES_MAX) throw new Error(`${messages.length} messages are too many for one append`);
  const numbers = new Map<string, number>();
  const receivers: string[] = [];
  const counts: number[] = [];
  const sizes: number[] = [];
  const to: number[] = [];
  const from: string[] = [];
  const msgIds: string[] = [];
  const msgs: Uint8Array[] = [];
  const walls: number[] = [];
  const rans: number[] = [];
  const ttls: number[] = [];
  for (const message of messages) {
    const { msg } = message;
    if (msg === undefined) throw new Error('a message without its content cannot be stored');
    let number = numbers.get(message.to);
    if (number === undefined) {
      number = receivers.push(message.to);
      numbers.set(message.to, number);
      counts.push(0);
      sizes.push(0);
    }
    counts[number - 1]!++;
    sizes[number - 1]! += msg.length;
    to.push(number);
    from.push(message.from);
    msgIds.push(message.msgId);
    msgs.push(msg);
    walls.push(message.wall);
    rans.push(message.ran);
    ttls.push(message.ttl);
  }
  const goneOf: number[] = [];
  const gonePositions: number[] = [];
  for (const [receiver, positions] of gone) {
    for (const position of positions.keys()) {
      goneOf.push(numbers.get(receiver)!);
      gonePositions.push(position);
    }
  }
  return {
    count: messages.length,
    receivers,
    values: [
      limits.messagesMax,
      limits.bytesMax,
      limits.senderShare,
      texts(receivers),
      int4s(counts),
      int8s(sizes),
      int4s(goneOf),
      int8s(gonePositions),
      int4s(to),
      texts(from),
      utf8s(msgIds),
      byteas(msgs),
      float8s(walls),
      float8s(rans),
      int4s(ttls),
    ],
  };
}
