import type { Packet } from './packets.ts';

/**
 * What the core needs of the world. It reaches time, sockets, cryptography and storage only through these, so that a
 * test or a simulator can stand in for all of them.
 */

/** Time in milliseconds. Timers and deadlines use `now`; the wall clock only stamps messages. */
export interface Time {
  /** Monotonic. */
  now(): number;
  /** Since 1970, may jump. */
  wall(): number;
  /** How long the store has been in service, over all its runs; never jumps. All nodes of a cluster agree on it. */
  ran(): number;
  after(ms: number, call: () => void): Timer;
  /** Calls once, when everything that this event-loop turn brought has been handled. */
  endOfTurn(call: () => void): void;
  /** Of late the event loop has hardly been without work (`loopBusyPercent`). */
  isBusy(): boolean;
}

export interface Timer {
  cancel(): void;
}

/** One client's connection. The core is its only user. */
export interface Wire {
  /** The peer's address, without port. */
  readonly address: string;
  /** TLS, or from this machine: credentials may come in the clear. */
  readonly secure: boolean;
  /** The client came over TLS. */
  readonly isTls?: boolean;
  /** Whom its certificate names, if it has shown one that counts: it may be nobody else. */
  readonly certifiedName?: string | undefined;
  /** Bytes written and not yet taken by the operating system. */
  readonly unsentBytes: number;
  /** When it was first seen here that the last write completed (`Time.now`); 0 before the first. */
  readonly wroteAt: number;
  /** One system call. Copies the bytes, which are written over afterwards. Never throws, does nothing once ended. */
  write(bytes: Uint8Array): void;
  /** After this nothing is received until `resume`. */
  pause(): void;
  resume(): void;
  /** Flushes, sends FIN, and is forced after `closeTimeoutMs`. What is received from now on is discarded. */
  end(): void;
  /** At once: nothing is flushed. */
  destroy(): void;
}

/** Structured log, pino's shape. */
export interface Log {
  debug(fields: object, text: string): void;
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
  error(fields: object, text: string): void;
}

/** Whom work is for that has to wait for a thread. */
export interface Asker {
  /** As limits count addresses: all take turns, and none can fill the queue for the others. */
  readonly from: string;
  /** Whether it still waits, asked when its turn has come. */
  isWaiting(): boolean;
}

/**
 * argon2id, off the main thread. Every call rejects with `Busy` when the queue has no room for it, or when `asker` is not
 * waiting for it any more. Without an asker it is the operator's.
 */
export interface Passwords {
  hash(password: string, asker?: Asker): Promise<string>;
  /** Takes as long for `undefined` (no such user) as for a real hash, and is then false. */
  verify(password: string, hash: string | undefined, asker?: Asker): Promise<boolean>;
}

/**
 * Salted digests of what devices prove themselves by, at a few microseconds each: for secrets that are long and random.
 */
export interface Digests {
  /** With a fresh salt. */
  digest(text: string): string;
  /** In constant time, and in the same time when there is no digest or it is `LOCKED`: then false. */
  matches(text: string, digest: string | undefined): boolean;
  /** A number below 2³² that is the same for a name during this run, and that nobody outside can foresee. */
  hash(name: string): number;
}

/** RSA, off the main thread. */
export interface Rsa {
  generate(): Promise<RsaKey>;
}

export interface RsaKey {
  /** X.509 SubjectPublicKeyInfo, DER. */
  readonly publicDer: Uint8Array;
  /**
   * PKCS#1 v1.5. With implicit rejection: bad padding yields random bytes, never an error. Rejects with `Busy` as
   * `Passwords` does, and with another error for a ciphertext that is no number below the modulus.
   */
  decrypt(ciphertext: Uint8Array, asker?: Asker): Promise<Uint8Array>;
}

/** A bounded queue is full; the request should be made again later. */
export class Busy extends Error {}

/** The store cannot be reached for now (a database on the network). Any other failure of a write ends the server. */
export class StoreAway extends Error {}

/** What a claim of a name came to. */
export interface Claim {
  /** Greater than that of every claim of this name before. */
  readonly token: number;
  /**
   * The other nodes that held the name, now or within the time that ids are remembered, and of which no claim since has
   * been `confirmed`.
   */
  readonly previous: readonly string[];
}

/** What the core hears of other nodes. */
export interface ClusterListener {
  packet(from: string, packet: Packet): void;
  /** Another node has claimed this name. */
  taken(name: string, token: number): void;
}

/** The other nodes: which of them holds which name, and the way to them. A server that is alone has none. */
export interface Cluster {
  /** This run of this node; no other run of any node is called so. */
  readonly self: string;
  /**
   * Until then (`Time.now`) what this node holds is its own for sure. Later another may have been given it, so nothing
   * may be pushed, acked or stored any more.
   */
  readonly heldUntil: number;
  /** From now on the listener is told. */
  listen(listener: ClusterListener): void;
  /**
   * Makes this node the holder of a name, whoever held it: atomically, among all nodes. Whoever held it is told
   * (`taken`) while it is sure of what it holds. Rejects with `ClusterAway`.
   */
  claim(name: string): Promise<Claim>;
  /**
   * These nodes have let go of the name, and what they knew of it is here: they need not be told of any more. Only while
   * this is the newest claim of the name: of a newer one they may be told because they have had it again since.
   */
  confirm(name: string, token: number, previous: readonly string[]): void;
  /** Gives a name up, unless it has been claimed since. That this node held it last is remembered. */
  release(name: string, token: number): void;
  /** The node that holds a name now, not a moment ago. Rejects with `ClusterAway`. */
  locate(name: string): Promise<string | undefined>;
  /** Calls when a run of a node has ended, or is not sure any more of anything it holds; returns how to call it off. */
  onVoid(node: string, call: () => void): () => void;
  /** Whether that is so already, as far as it is remembered: for some minutes longer than ids are. */
  isVoid(node: string): boolean;
  /**
   * The runs of other nodes that may have something of their own: all that have begun by now, but for those that are
   * void. Rejects with `ClusterAway`.
   */
  others(): Promise<readonly string[]>;
  /** May be lost. What is not comes once, and between two nodes in the order sent. */
  send(node: string, packet: Packet): void;
}

/** Who holds which name cannot be told for now. */
export class ClusterAway extends Error {}

/** Others may have been given what this node holds: it must end, and may start again. */
export class Fenced extends Error {}

export interface UserRecord {
  readonly kind: 'user';
  /** PHC string of argon2id. */
  readonly passwordHash: string;
  readonly createdAt: number;
}

export interface DeviceRecord {
  readonly kind: 'device';
  /** JSON text, as the device last said it. */
  readonly version: string | undefined;
  readonly abilities: string | undefined;
  readonly createdAt: number;
  /** When it last authenticated, by the wall clock; 0 when it was added but never came. */
  readonly lastSeenAt: number;
  /** The same by `Time.ran`; absent when it is not known. */
  readonly lastSeenRan?: number;
  /** Digest of its secret, or `LOCKED`; absent when it has none. */
  readonly secret?: string;
  /** Digest of its pairing code, or `LOCKED`; absent when it has none. */
  readonly code?: string;
  /** The operator has vouched for it. */
  readonly provisioned?: true;
}

/** In place of a digest: there is one, and nobody knows of what, until the operator sets another. */
export const LOCKED = 'locked';

/** What a device that comes in is known by, and what it is given. */
export interface Entry {
  /** The digest of its secret as the caller has read it; absent when it has none, or is not known. */
  readonly secret?: string | undefined;
  /** To be the digest of its secret from now on: it comes for the very first time. */
  readonly newSecret?: string | undefined;
  /** To be the digest of its pairing code from now on. */
  readonly newCode?: string | undefined;
  /** `Time.ran`. */
  readonly ran?: number | undefined;
}

/** What the operator gives a device. */
export interface Provision {
  /** A digest, or `LOCKED`; absent when it is to stay. */
  readonly secret?: string | undefined;
  /** The same; null takes it away. */
  readonly code?: string | null | undefined;
}

export type NameRecord = UserRecord | DeviceRecord;

/** A message to be stored. */
export interface NewMessage {
  readonly from: string;
  readonly to: string;
  readonly msgId: string;
  /** JSON text. */
  readonly msg: Uint8Array | undefined;
  /** Time of acceptance, by the wall clock and by `Time.ran`. */
  readonly wall: number;
  readonly ran: number;
  /** Seconds; 0 when it has none. */
  readonly ttl: number;
}

export interface StoredMessage extends NewMessage {
  readonly msg: Uint8Array;
  /**
   * Its place in the receiver's inbox: greater than that of every message appended before, by whichever node. Whoever
   * has read a position has seen all before it.
   */
  readonly position: number;
}

/** What `append` says of a message that it did not store. */
export const APPEND = {
  /** The inbox has it already (same sender, msgId and content). */
  duplicate: -1,
  /** The inbox has the sender's msgId with other content. */
  conflict: -2,
  /** The inbox, or the sender's share of it, is full. */
  full: -3,
} as const;

export interface Page {
  readonly messages: readonly StoredMessage[];
  /** Nothing lay behind the last of them. */
  readonly end: boolean;
}

/**
 * Accounts, devices, bindings, inboxes. What resolves is durable: synced to disk, or the engine's equal of it, unless
 * a method says otherwise. Calls on one name take effect in the order made.
 */
export interface Store {
  name(name: string): Promise<NameRecord | undefined>;
  /** The records of several names, in the order asked for; `undefined` for one that is not known. */
  names(names: readonly string[]): Promise<readonly (NameRecord | undefined)[]>;
  createUser(name: string, passwordHash: string, wall: number): Promise<'created' | 'exists'>;
  setPassword(name: string, passwordHash: string): Promise<boolean>;
  /**
   * Creates the device, or notes what it says of itself now; writes nothing when nothing changed. At one moment, it sees
   * that the device still has the secret that `entry` names, and that one who is given a secret has none and never came
   * before (`lastSeenAt` 0): otherwise nothing is changed, and the caller must look again. That a device came for the
   * first time is durable even when it says nothing.
   */
  deviceSeen(
    name: string,
    says: Pick<DeviceRecord, 'version' | 'abilities'>,
    wall: number,
    entry?: Entry,
  ): Promise<'new' | 'known' | 'is a user' | 'changed'>;
  /**
   * Creates the device when it is not known. At one moment, it sees that the device still has the pairing code of this
   * digest, or none: otherwise it is `changed`. Who has added it already is told so whatever the code is.
   */
  bind(
    user: string,
    device: string,
    wall: number,
    code?: string,
  ): Promise<'bound' | 'already' | 'is a user' | 'user full' | 'device full' | 'changed'>;
  /**
   * Gives a device what the operator decided, from when on it is provisioned. `new`: one that is not known, or was added
   * and never came, and has no secret; else it is `known`. `known`: one that is known; else it is `unknown`.
   */
  provision(
    name: string,
    provision: Provision,
    wall: number,
    which: 'new' | 'known',
  ): Promise<'done' | 'known' | 'unknown' | 'is a user'>;
  /**
   * Forgets a device that nobody has added, that has no secret and was not provisioned, whose inbox is empty, and that
   * did not come, nor became known, since both these times; false when it is not such a one. `others` as for `removeName`.
   */
  dropUnused(
    name: string,
    wallBefore: number,
    ranBefore: number,
    others?: readonly string[],
  ): Promise<boolean | 'others'>;
  unbind(user: string, device: string): Promise<boolean>;
  /** The devices of a user, or the users of a device. */
  peers(name: string, kind: 'user' | 'device'): Promise<readonly string[]>;
  /**
   * Forgets a name with its bindings and its inbox, all of it or nothing. The caller makes sure that nothing more is
   * stored for it: in a cluster it names the other runs that have nothing of it any more. At one moment, it sees that no
   * others stand (else nothing is changed: `'others'`), and that this run does; it rejects with `Fenced` when it is void.
   */
  removeName(name: string, others?: readonly string[]): Promise<boolean | 'others'>;
  /** Names of one kind in byte order, behind `after`. */
  list(kind: 'user' | 'device', after: string, count: number): Promise<readonly (readonly [string, NameRecord])[]>;

  /**
   * Stores messages, all or none, in order: after a crash a prefix of all appends is there. For each its position, or
   * one of `APPEND`. One call at a time. In a cluster it stores nothing once this run of the node is void, and rejects
   * with `Fenced`. It settles within a minute, and what it has rejected is not stored later.
   */
  append(messages: readonly NewMessage[]): Promise<readonly number[]>;
  hasBacklog(receiver: string): Promise<boolean>;
  /** Messages behind `after` in order, up to `count` of them and about `bytes` (one at least). */
  page(receiver: string, after: number, count: number, bytes: number): Promise<Page>;
  /** The messages at these positions that are still there. */
  read(receiver: string, positions: readonly number[]): Promise<readonly StoredMessage[]>;
  /**
   * Deletes a message. Every later read by this node sees it gone; the deletion itself is batched and not synced, so
   * that other nodes see it later, and a crash may bring it back.
   */
  remove(message: Pick<StoredMessage, 'to' | 'from' | 'msgId' | 'position'> & { readonly size: number }): void;
  /** Resolves when all removals made so far are seen by every node. */
  whenRemoved(): Promise<void>;
  /** The first message of each inbox whose receiver comes behind `afterReceiver`, for `count` inboxes. */
  oldest(afterReceiver: string, count: number): Promise<readonly StoredMessage[]>;
}
