import type { Cipher } from '@hawser/protocol';

/**
 * What the client needs of the world. It reaches time, randomness, sockets and cryptography only through these, so that
 * tests and the simulator can stand in for all of them.
 */

export interface Time {
  /** Milliseconds; monotonic. */
  now(): number;
  /** Calls once, after `ms` milliseconds. */
  after(ms: number, call: () => void): Timer;
  /** Calls once, when what runs now has ended. What a turn brings leaves in one write. */
  endOfTurn(call: () => void): void;
}

export interface Timer {
  cancel(): void;
}

export interface Random {
  /** From 0 up to 1, for the waits between attempts. */
  fraction(): number;
  /** Never the same twice, also not in another process: the `msgId` of a message. 1 to 128 bytes. */
  id(): string;
}

/** Where a server listens. */
export interface Address {
  readonly host: string;
  readonly port: number;
}

/** How bytes get to a server and back. A transport is a small file; those of this package are in `transports/`. */
export interface Transport {
  /**
   * Whether a key is to be agreed on with the server (cmd 1 and 2), under which everything is encrypted. For what
   * travels in the clear; TLS has no need of it, and browsers cannot.
   */
  readonly agreesOnKey: boolean;
  /** It is TLS: the dispatcher is asked for a server that speaks it. */
  readonly isTls?: boolean;
  /** Begins to connect. Events come later, never from within this call. */
  connect(address: Address, events: WireEvents): Wire;
}

/** `opened` once at most, then `received`, and `closed` once, after which nothing comes. */
export interface WireEvents {
  opened(): void;
  /** Bytes, split and merged in any way. Valid during the call. */
  received(bytes: Uint8Array): void;
  /** The connection is gone, or was never made. `cause` is missing when the server ended it in an orderly way. */
  closed(cause?: Error): void;
}

/** A connection. Its calls never throw, and do nothing once it has closed. */
export interface Wire {
  /** The bytes are the wire's from then on. */
  write(bytes: Uint8Array): void;
  /** Sends what was written, then closes. */
  end(): void;
  /** Closes at once. */
  destroy(): void;
}

/** Finds the server for a client: through the dispatcher, anew for each attempt, or always the same. */
export type Locate = (id: string, signal: AbortSignal) => Promise<Address>;

/** Makes the key of a connection. */
export interface KeyExchange {
  /**
   * A fresh AES key.
   *
   * @param serverKey the server's RSA key, SubjectPublicKeyInfo in DER, from cmd 1
   * @returns the AES key under it (PKCS#1 v1.5), for cmd 2, and the cipher of the connection
   */
  agree(serverKey: Uint8Array): { readonly secret: Uint8Array; readonly cipher: Cipher };
}

/** All of it. */
export interface Ports {
  readonly time: Time;
  readonly random: Random;
  readonly transport: Transport;
  readonly locate: Locate;
  /** Needed when the transport's `agreesOnKey` is true. */
  readonly keys: KeyExchange | undefined;
  /** Told of what went wrong where nobody awaits a promise: a handler that threw, a frame that makes no sense. */
  report(error: Error): void;
}
