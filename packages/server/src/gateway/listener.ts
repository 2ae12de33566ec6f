import { createServer, type Server, type Socket } from 'node:net';
import type { Place } from '../core/admission.ts';
import type { Core } from '../core/core.ts';
import type { Log } from '../core/ports.ts';
import { isLoopback, type Network, networksOf } from './networks.ts';
import { type Proxied, takeProxyHeader } from './proxy.ts';

/** Where clients are listened for, and how many there may be. */
export interface Listen {
  readonly host: string;
  readonly port: number;
  readonly connectionsMax: number;
  /** What counts towards it: listeners that bound their connections together share it. */
  readonly open?: { count: number };
  /** Proxies, each of whose connections begins with a PROXY header. */
  readonly proxies?: readonly Network[];
}

/** Where a connection comes from. */
export interface Origin {
  /** Of the client, without port. */
  readonly address: string;
  /** The client is of this machine, and so is the proxy if there is one. */
  readonly isLoopback: boolean;
  /** A proxy on this machine says that its client came over TLS. */
  readonly isTls: boolean;
}

export interface Gateway {
  readonly host: string;
  readonly port: number;
  /** Stops accepting; connections go on, but for those that are not as far as to be served. */
  stopAccepting(): void;
  /** Resolves when all connections have closed. */
  closed(): Promise<void>;
}

/** Listens on a TCP port and hands over each connection that is admitted. Rejects when it cannot listen. */
export async function listen(
  core: Core,
  { host: where, port: wanted, connectionsMax, open = { count: 0 }, proxies = [] }: Listen,
  take: (socket: Socket, origin: Origin, place: Place) => void,
): Promise<Gateway> {
  const isProxy = networksOf(proxies);
  /** Those whose header is waited for. */
  const waiting = new Set<Socket>();
  const admit = (socket: Socket, origin: Origin): void => {
    const place = core.admit(origin.address);
    if (place === undefined) {
      socket.destroy();
      return;
    }
    socket.on('close', () => place.leave());
    take(socket, origin, place);
  };
  // Half-open allowed: what a client sent before its FIN is still answered.
  const server = createServer({ noDelay: true, allowHalfOpen: true }, (socket) => {
    // A peer that vanishes: 'close' follows and says all there is to say.
    socket.on('error', () => {});
    if (open.count >= connectionsMax) {
      core.counters.closed.tooManyConnections++;
      socket.destroy();
      return;
    }
    open.count++;
    socket.on('close', () => {
      open.count--;
    });
    const address = socket.remoteAddress ?? '';
    if (!isProxy(address)) admit(socket, { address, isLoopback: isLoopback(address), isTls: false });
    else {
      waiting.add(socket);
      takeProxyHeader(socket).then(
        (proxied) => {
          waiting.delete(socket);
          if (socket.destroyed) return;
          if (typeof proxied === 'object') admit(socket, originOf(address, proxied));
          else turnAway(core, socket, address, proxied);
        },
        (error: unknown) => core.log.error({ err: error }, 'a connection could not be taken'),
      );
    }
  });
  server.maxConnections = connectionsMax;
  server.on('drop', () => {
    core.counters.closed.tooManyConnections++;
  });
  const { host, port } = await startListening(server, where, wanted, core.log);
  const { promise, resolve } = Promise.withResolvers<void>();
  return {
    host,
    port,
    stopAccepting: () => {
      server.close(() => resolve());
      for (const socket of waiting) socket.destroy();
    },
    closed: () => promise,
  };
}

/** What a proxy says is as private as the way from it to here. */
function originOf(proxy: string, { address = proxy, isTls }: Proxied): Origin {
  const isLocalProxy = isLoopback(proxy);
  return { address, isLoopback: isLocalProxy && isLoopback(address), isTls: isLocalProxy && isTls };
}

function turnAway(core: Core, socket: Socket, address: string, why: 'invalid' | 'ended'): void {
  if (why === 'invalid') {
    core.counters.closed.badProxyHeader++;
    core.log.debug({ reason: 'badProxyHeader', address }, 'closed');
  }
  socket.destroy();
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
