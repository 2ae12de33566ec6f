/**
 * Writes a store as version 1 did, for tests of its migration. This is that version's own encoding, and must stay as
 * it is: it shares nothing with the code that writes stores now.
 */

import { crc32 } from 'node:zlib';
import { ClassicLevel } from 'classic-level';
import type { LevelDb } from './writer.ts';

export interface MessageOfVersion1 {
  readonly position: number;
  readonly from: string;
  readonly msgId: string;
  readonly msg: string;
  readonly wall: number;
  readonly ran: number;
  readonly ttl: number;
}

export interface StoreOfVersion1 {
  readonly users: Readonly<Record<string, { passwordHash: string; createdAt: number }>>;
  readonly devices: Readonly<
    Record<string, { version?: string; abilities?: string; createdAt: number; lastSeenAt: number }>
  >;
  /** User and device. */
  readonly bindings: readonly (readonly [string, string])[];
  /** By receiver: segments of messages. */
  readonly inboxes: Readonly<Record<string, readonly (readonly MessageOfVersion1[])[]>>;
  /** Positions that are removed, by receiver. */
  readonly removed: Readonly<Record<string, readonly number[]>>;
  readonly positionLease: number;
  readonly ran: number;
}

export async function writeVersion1(folder: string, store: StoreOfVersion1): Promise<void> {
  const db: LevelDb = new ClassicLevel(folder, { keyEncoding: 'view', valueEncoding: 'view' });
  const put = (key: Uint8Array | string, value: Uint8Array | string): Promise<void> =>
    db.put(Buffer.from(key as string), Buffer.from(value as string));
  await put('!schema', '1');
  await put('!position', String(store.positionLease));
  await put('!ran', String(store.ran));
  for (const [name, user] of Object.entries(store.users)) {
    await put(`n${name}`, JSON.stringify({ kind: 'user', ...user }));
  }
  for (const [name, device] of Object.entries(store.devices)) {
    await put(`n${name}`, JSON.stringify({ kind: 'device', ...device }));
  }
  for (const [user, device] of store.bindings) {
    await put(`b${user}\0${device}`, '');
    await put(`r${device}\0${user}`, '');
  }
  for (const [receiver, segments] of Object.entries(store.inboxes)) {
    for (const messages of segments) {
      const first = messages[0]!.position;
      await put(inboxKey('m', receiver, first), segment(messages));
      const gone = (store.removed[receiver] ?? []).filter((each) => messages.some(({ position }) => position === each));
      if (gone.length > 0) await put(inboxKey('d', receiver, first), note(first, gone));
    }
  }
  await db.close();
}

function inboxKey(kind: 'm' | 'd', receiver: string, position: number): Uint8Array {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(position));
  return Buffer.concat([Buffer.from(`${kind}${receiver}\0`), bytes]);
}

function segment(messages: readonly MessageOfVersion1[]): Uint8Array {
  const count = Buffer.alloc(2);
  count.writeUInt16BE(messages.length);
  const entries = messages.map((message) => {
    const [from, msgId, msg] = [Buffer.from(message.from), Buffer.from(message.msgId), Buffer.from(message.msg)];
    const head = Buffer.alloc(30);
    head.writeUInt32BE(message.position - messages[0]!.position, 0);
    head.writeDoubleBE(message.wall, 4);
    head.writeDoubleBE(message.ran, 12);
    head.writeUInt32BE(message.ttl, 20);
    head.writeUInt8(from.length, 24);
    head.writeUInt8(msgId.length, 25);
    head.writeUInt32BE(msg.length, 26);
    return Buffer.concat([head, from, msgId, msg]);
  });
  return Buffer.concat([Buffer.from([1]), withChecksum(Buffer.concat([count, ...entries]))]);
}

function note(first: number, gone: readonly number[]): Uint8Array {
  const rest = Buffer.alloc(gone.length * 4);
  for (const [i, position] of gone.entries()) rest.writeUInt32BE(position - first, i * 4);
  return withChecksum(rest);
}

function withChecksum(rest: Buffer): Buffer {
  const sum = Buffer.alloc(4);
  sum.writeUInt32BE(crc32(rest));
  return Buffer.concat([sum, rest]);
}
