/** Packets as bytes: what one node sends another in one turn of its event loop is one batch. */

import { wireLimits } from '@hawser/protocol';
import type { Finished, Packet } from '../core/packets.ts';
import { Reader } from './reader.ts';
import type { Writer } from './writer.ts';

/** What another version may write otherwise begins with another number. */
const VERSION = 3;

const types = [
  'forward',
  'acked',
  'refused',
  'nudge',
  'absent',
  'caughtUp',
  'takeOver',
  'handed',
  'removing',
  'letGo',
  'removed',
] as const;
const codes = Object.fromEntries(types.map((type, code) => [type, code])) as Record<Packet['type'], number>;

export interface Batch {
  readonly from: string;
  /** Grows from batch to batch between two nodes. */
  readonly number: number;
  readonly packets: readonly Packet[];
}

export function writeBatchHead(writer: Writer, from: string, number: number): void {
  writer.byte(VERSION);
  writer.text(from);
  writer.uint(number);
}

export function writePacket(writer: Writer, packet: Packet): void {
  writer.byte(codes[packet.type]);
  switch (packet.type) {
    case 'forward':
      writer.name(packet.to);
      writer.uint(packet.stream);
      writer.uint(packet.seq);
      writer.uint(packet.finishedTo);
      writer.byte(packet.isSettled ? 1 : 0);
      writer.name(packet.from);
      writer.text(packet.msgId);
      writer.bytes(packet.msg);
      writer.float(packet.wall);
      writer.float(packet.ran);
      writer.float(packet.ttl);
      return;
    case 'acked':
      writer.name(packet.to);
      writer.uint(packet.stream);
      writer.uint(packet.seqs.length);
      for (const seq of packet.seqs) writer.uint(seq);
      return;
    case 'refused':
      writer.name(packet.to);
      writer.uint(packet.stream);
      writer.uint(packet.seq);
      return;
    case 'nudge':
      writer.name(packet.to);
      writer.uint(packet.position);
      writer.uint(packet.news);
      return;
    case 'absent':
      writer.name(packet.to);
      return;
    case 'caughtUp':
      writer.name(packet.to);
      writer.uint(packet.news);
      writer.uint(packet.stream);
      return;
    case 'takeOver':
      writer.name(packet.name);
      writer.uint(packet.token);
      return;
    case 'handed':
      writer.name(packet.name);
      writer.uint(packet.token);
      writer.ints(packet.settled);
      writer.uint(packet.hadUnder);
      writer.uint(packet.unsure.length);
      for (const msgId of packet.unsure) writer.text(msgId);
      writer.uint(packet.finished.length);
      for (const { from, msgId, hash, ago } of packet.finished) {
        writer.name(from);
        writer.text(msgId);
        writer.uint(hash);
        writer.uint(ago);
      }
      return;
    case 'removing':
      writer.name(packet.name);
      writer.uint(packet.removal);
      writer.byte(packet.onlyIdle ? 1 : 0);
      return;
    case 'letGo':
      writer.name(packet.name);
      writer.uint(packet.removal);
      writer.byte(packet.isDone ? 1 : 0);
      return;
    case 'removed':
      writer.name(packet.name);
      writer.uint(packet.removal);
      writer.byte(packet.isGone === undefined ? UNKNOWN : packet.isGone ? 1 : 0);
      return;
  }
}

/** `undefined` for what no node of this version writes. What it holds shares no memory with the bytes. */
export function readBatch(bytes: Uint8Array): Batch | undefined {
  const reader = new Reader(bytes);
  if (reader.byte() !== VERSION) return undefined;
  const from = reader.text(wireLimits.nameBytesMax);
  const number = reader.uint();
  const packets: Packet[] = [];
  while (!reader.isAtEnd && !reader.hasFailed) {
    const packet = readPacket(reader);
    if (packet !== undefined) packets.push(packet);
  }
  return reader.hasFailed ? undefined : { from, number, packets };
}

/** In place of 0 or 1, for what may be so or not. */
const UNKNOWN = 2;

function perhaps(byte: number): boolean | undefined {
  return byte === UNKNOWN ? undefined : byte === 1;
}

const names = wireLimits.nameBytesMax;
const ids = wireLimits.msgIdBytesMax;

function readPacket(reader: Reader): Packet | undefined {
  const type = types[reader.byte()];
  switch (type) {
    case 'forward': {
      const to = reader.name(names);
      const stream = reader.uint();
      const seq = reader.uint();
      const finishedTo = reader.uint();
      const isSettled = reader.byte() === 1;
      const from = reader.name(names);
      const msgId = reader.text(ids);
      const msg = reader.bytes(wireLimits.msgBytesMax);
      return {
        type,
        to,
        stream,
        seq,
        finishedTo,
        isSettled,
        from,
        msgId,
        msg,
        wall: reader.float(),
        ran: reader.float(),
        ttl: reader.float(),
      };
    }
    case 'acked':
      return { type, to: reader.name(names), stream: reader.uint(), seqs: reader.list(() => reader.uint()) };
    case 'refused':
      return { type, to: reader.name(names), stream: reader.uint(), seq: reader.uint() };
    case 'nudge':
      return { type, to: reader.name(names), position: reader.uint(), news: reader.uint() };
    case 'absent':
      return { type, to: reader.name(names) };
    case 'caughtUp':
      return { type, to: reader.name(names), news: reader.uint(), stream: reader.uint() };
    case 'takeOver':
      return { type, name: reader.name(names), token: reader.uint() };
    case 'handed':
      return {
        type,
        name: reader.name(names),
        token: reader.uint(),
        settled: reader.ints(),
        hadUnder: reader.uint(),
        unsure: reader.list(() => reader.text(ids)),
        finished: reader.list(
          (): Finished => ({
            from: reader.name(names),
            msgId: reader.text(ids),
            hash: reader.uint(),
            ago: reader.uint(),
          }),
        ),
      };
    case 'removing':
      return { type, name: reader.name(names), removal: reader.uint(), onlyIdle: reader.byte() === 1 };
    case 'letGo':
      return { type, name: reader.name(names), removal: reader.uint(), isDone: reader.byte() === 1 };
    case 'removed':
      return { type, name: reader.name(names), removal: reader.uint(), isGone: perhaps(reader.byte()) };
    default:
      reader.fail();
      return undefined;
  }
}
