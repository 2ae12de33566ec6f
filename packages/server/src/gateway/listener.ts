import { createServer, type Server, type Socket } from 'node:net';
import type { Core } from '../core/core.ts';
import type { Log } from '../core/ports.ts';

/** Where clients are listened for, and how many there may be. */
export interface Listen {
  readonly host: string;
  readonly port: number;
  readonly connectionsMax: number;
  /** What counts towards it: listeners that bound their connections together share it. */
  readonly open?: { count: number };
}

export interface Gateway {
  readonly host: string;
  readonly port: number;
  /** Stops accepting; connections go on. */
  stopAccepting(): void;
  /** Resolves when all connections have closed. */
  closed(): Promise<void>;
}

/** Listens on a TCP port and hands over each connection. Rejects when it cannot listen. */
export async function listen(
  core: Core,
  { host: where, port: wanted, connectionsMax, open = { count: 0 } }: Listen,
  take: (socket: Socket) => void,
): Promise<Gateway> {
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
    take(socket);
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
    },
    closed: () => promise,
  };
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
