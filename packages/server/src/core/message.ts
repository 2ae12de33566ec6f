import { digest } from './digest.ts';
import type { Mailbox } from './mailbox.ts';
import type { Sender } from './sender.ts';

/** How far a message is on its way to the disk. */
export const stage = {
  /** In memory only. */
  accepted: 0,
  /** Waiting for the next commit. */
  queued: 1,
  /** Handed to the store. */
  writing: 2,
  /** Synced. */
  stored: 3,
} as const;

export type Stage = (typeof stage)[keyof typeof stage];

/** The way of a message between nodes: its place in a stream from, or to, another node. */
export interface Hop {
  readonly node: string;
  readonly stream: number;
  readonly seq: number;
}

/** How many messages there have been. */
let made = 0;

/**
 * One message in memory: from acceptance until it is both settled (its sender acked) and out of its receiver's
 * window. Paged from the store it has no sender to ack.
 */
export class Message {
  readonly from: string;
  readonly to: string;
  readonly msgId: string;
  /** The digest of `msgId`. */
  readonly idLow: number;
  readonly idHigh: number;
  /** Grows from message to message. */
  readonly number: number = ++made;
  /** The sender's JSON text; let go of once the store has it and it has been pushed. */
  msg: Uint8Array | undefined;
  /** Bytes of `msg`, also when it is gone. */
  readonly size: number;
  readonly wall: number;
  readonly ran: number;
  /** Seconds; 0 when it has none. */
  readonly ttl: number;
  /** Of `to` and `msg`: tells a resend from another message under the same id. */
  readonly hash: number;
  readonly mailbox: Mailbox;

  /** Whom to ack, until settled. */
  sender: Sender | undefined;
  /** When it could first not be stored; 0 when that has not been so. */
  refusedAt = 0;
  /** It was pushed here and is in the committer: the store is not read meanwhile. */
  isCommittingPushed = false;
  /** It could not be stored, and its sender was told; but it is in the window, so it may be acked yet. */
  isRefused = false;
  /** How the ack goes. */
  isEncrypt = false;

  stage: Stage = stage.accepted;
  /** The store went away while it was written. */
  mayBeStored = false;
  /** In the inbox; 0 until stored. */
  position = 0;
  /** When it joins a commit unless acked before (`Time.now`). */
  persistAt = 0;
  /** Its place among those that are neither acked nor handed to the store (`Unsafe`). */
  olderUnsafe: Message | undefined;
  newerUnsafe: Message | undefined;
  isUnsafe = false;

  /** In a cluster: the node that it was accepted by, or was forwarded to. */
  hop: Hop | undefined;
  /** In a cluster: it has been on its way to its receiver's node, which may have pushed it. */
  wasForwarded = false;

  /** The receiver has acked it. */
  acked = false;
  /** As good as acked, though its receiver may not have it: its time has passed, or the store has it no more. */
  isGone = false;
  /** It is in the window of the receiver's present session. */
  inWindow = false;
  pushedAt = 0;
  pushes = 0;

  constructor(
    mailbox: Mailbox,
    from: string,
    msgId: string,
    msg: Uint8Array | undefined,
    hash: number,
    wall: number,
    ran: number,
    ttl: number,
    size: number = msg?.length ?? 0,
  ) {
    this.mailbox = mailbox;
    this.from = from;
    this.to = mailbox.name;
    this.msgId = msgId;
    digest.of(msgId);
    this.idLow = digest.low;
    this.idHigh = digest.high;
    this.msg = msg;
    this.size = size;
    this.hash = hash;
    this.wall = wall;
    this.ran = ran;
    this.ttl = ttl;
  }
}

/** Contents of so many bytes are hashed four bytes at a time: what reads four costs more to make than it saves before. */
const LONG_CONTENT = 128;

/**
 * Over receiver and content, 31 bits so that it is stored without an object: FNV-1a, and for long contents MurmurHash3. Nodes
 * tell each other of messages by it: another one needs another version of what they say.
 */
export function contentHash(to: string, msg: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < to.length; i++) hash = Math.imul(hash ^ to.charCodeAt(i), 0x01000193);
  if (msg.length >= LONG_CONTENT) return murmur(hash, msg) >>> 1;
  for (let i = 0; i < msg.length; i++) hash = Math.imul(hash ^ msg[i]!, 0x01000193);
  return hash >>> 1;
}

/** MurmurHash3, x86, 32 bits (Appleby). */
function murmur(seed: number, bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const whole = bytes.length & ~3;
  let hash = seed;
  for (let i = 0; i < whole; i += 4) {
    hash ^= scrambled(view.getInt32(i, true));
    hash = (Math.imul((hash << 13) | (hash >>> 19), 5) + 0xe6546b64) | 0;
  }
  let rest = 0;
  for (let i = bytes.length - 1; i >= whole; i--) rest = (rest << 8) | bytes[i]!;
  hash ^= scrambled(rest) ^ bytes.length;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}

function scrambled(word: number): number {
  const k = Math.imul(word, 0xcc9e2d51);
  return Math.imul((k << 15) | (k >>> 17), 0x1b873593);
}
