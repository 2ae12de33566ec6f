import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { serverLimits } from '@hawser/protocol';
import type { Place } from '../core/admission.ts';
import type { Core } from '../core/core.ts';
import type { Wire } from '../core/ports.ts';
import type { Session } from '../core/session.ts';
import type { Origin } from './listener.ts';

/** What is known of a client beside its socket. */
export interface Peer extends Origin {
  readonly certifiedName: string | undefined;
}

/** A connection over TCP, with or without TLS, as the core uses it. */
export class SocketWire implements Wire {
  readonly address: string;
  readonly secure: boolean;
  readonly isTls: boolean;
  readonly certifiedName: string | undefined;
  readonly #socket: Socket;
  readonly #now: () => number;
  /** Bytes given to the socket since the beginning, and how many of them the system had taken when that was last looked at. */
  #written = 0;
  #taken = 0;
  #takenAt = 0;
  #isEnded = false;

  constructor(socket: Socket, peer: Peer, now: () => number) {
    this.#socket = socket;
    this.#now = now;
    this.address = peer.address;
    this.isTls = peer.isTls;
    this.certifiedName = peer.certifiedName;
    this.secure = peer.isTls || peer.isLoopback;
  }

  get unsentBytes(): number {
    return this.#socket.writableLength;
  }

  /** Looked at now and then instead of noted when each write is done: to be called back costs as much as to encrypt. */
  get wroteAt(): number {
    const taken = this.#written - this.#socket.writableLength;
    if (taken !== this.#taken) {
      this.#taken = taken;
      this.#takenAt = this.#now();
    }
    return this.#takenAt;
  }

  write(bytes: Uint8Array): void {
    if (this.#isEnded || !this.#socket.writable) return;
    this.#written += bytes.length;
    this.#socket.write(Buffer.from(bytes));
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  end(): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    const socket = this.#socket;
    if (socket.destroyed) return;
    // The peer sends no more and the system has all that was written: to close says the same, without a timer and a shutdown.
    // TLS has something to say first.
    if (socket.readableEnded && socket.writableLength === 0 && !(socket instanceof TLSSocket)) {
      socket.destroy();
      return;
    }
    // Reading goes on, into nothing: unread data would make the kernel send RST, and what was flushed might be lost.
    socket.end();
    socket.resume();
    const force = setTimeout(() => socket.destroy(), serverLimits.closeTimeoutMs);
    socket.once('close', () => clearTimeout(force));
  }

  destroy(): void {
    this.#isEnded = true;
    this.#socket.destroy();
  }
}

/** Gives a connection to the core. */
export function serve(core: Core, socket: Socket, peer: Peer, place: Place): void {
  const wire = new SocketWire(socket, peer, () => core.time.now());
  let session: Session;
  // A peer that vanishes: 'close' follows and says all there is to say.
  socket.on('error', () => {});
  socket.on('data', (chunk: Buffer) => session.receive(chunk));
  socket.on('end', () => session.receivedEnd());
  socket.on('drain', () => session.drained());
  socket.on('close', () => session.gone());
  session = core.connect(wire, place);
}
