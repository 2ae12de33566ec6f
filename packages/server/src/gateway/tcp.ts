import { createServer, type Server, type Socket } from 'node:net';
import { serverLimits } from '@hawser/protocol';
import type { Core } from '../core/core.ts';
import type { Log, Wire } from '../core/ports.ts';
import type { Session } from '../core/session.ts';

/** Whether an address is of this machine. */
export function isLoopback(address: string): boolean {
  return address === '::1' || address.startsWith('127.') || address.startsWith('::ffff:127.');
}

/** A TCP connection as the core uses it. */
class SocketWire implements Wire {
  readonly address: string;
  readonly secure: boolean;
  readonly #socket: Socket;
  readonly #now: () => number;
  wroteAt = 0;
  #isEnded = false;
  /** One function for all writes: none is made per write. */
  readonly #onWritten = (): void => {
    this.wroteAt = this.#now();
  };

  constructor(socket: Socket, now: () => number) {
    this.#socket = socket;
    this.#now = now;
    this.address = socket.remoteAddress ?? '';
    this.secure = isLoopback(this.address);
  }

  get unsentBytes(): number {
    return this.#socket.writableLength;
  }

  write(bytes: Uint8Array): void {
    if (this.#isEnded || !this.#socket.writable) return;
    this.#socket.write(Buffer.from(bytes), this.#onWritten);
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

export interface TcpGateway {
  readonly host: string;
  readonly port: number;
  /** Stops accepting; connections go on. */
  stopAccepting(): void;
  /** Resolves when all connections have closed. */
  closed(): Promise<void>;
}

/** Listens for clients and gives each connection to the core. Rejects when it cannot listen. */
export async function listenTcp(
  core: Core,
  listen: { readonly host: string; readonly port: number; readonly connectionsMax: number },
): Promise<TcpGateway> {
  // Half-open allowed: what a client sent before its FIN is still answered.
  const server = createServer({ noDelay: true, allowHalfOpen: true }, (socket) => serve(core, socket));
  server.maxConnections = listen.connectionsMax;
  server.on('drop', () => {
    core.counters.closed.tooManyConnections++;
  });
  const { host, port } = await startListening(server, listen.host, listen.port, core.log);
  const { promise, resolve } = Promise.withResolvers<void>();
  return {
    host,
    port,
    stopAccepting: () => {
      server.close(() => resolve());
    },
    closed: () => promise,
  };
}

function serve(core: Core, socket: Socket): void {
  const place = core.admit(socket.remoteAddress ?? '');
  if (place === undefined) {
    socket.destroy();
    return;
  }
  const wire = new SocketWire(socket, () => core.time.now());
  let session: Session;
  // A peer that vanishes: 'close' follows and says all there is to say.
  socket.on('error', () => {});
  socket.on('data', (chunk: Buffer) => session.receive(chunk));
  socket.on('end', () => session.receivedEnd());
  socket.on('drain', () => session.drained());
  socket.on('close', () => {
    session.gone();
    place.leave();
  });
  session = core.connect(wire, place);
}

/** Resolves with what is really listened on. */
export function startListening(
  server: Server,
  host: string,
  port: number,
  log: Log,
): Promise<{ host: string; port: number }> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port, backlog: 4096 }, () => {
      server.off('error', reject);
      // A connection that cannot be accepted, for want of descriptors or memory: the others go on.
      server.on('error', (error) => log.warn({ err: error }, 'a connection could not be accepted'));
      const address = server.address();
      if (address === null || typeof address === 'string') reject(new Error('not listening on a TCP port'));
      else resolve({ host: address.address, port: address.port });
    });
  });
}
