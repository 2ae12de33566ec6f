import type { Socket } from 'node:net';
import type { Wire, WireEvents } from '../core/index.ts';

/** After its last bytes were written, a connection gets this long to close. */
const CLOSE_TIMEOUT_MS = 5_000;

/**
 * A socket of Node as the core uses it.
 *
 * @param explained an error that says more than the socket's own, if there is one
 */
export function socketWire(
  socket: Socket,
  openedBy: 'connect' | 'secureConnect',
  events: WireEvents,
  explained: (error: Error) => Error | undefined = () => undefined,
): Wire {
  let cause: Error | undefined;
  socket.once(openedBy, () => events.opened());
  socket.on('data', (chunk: Buffer) => events.received(chunk));
  socket.on('error', (error) => {
    cause = explained(error) ?? error;
  });
  socket.on('close', () => events.closed(cause));
  return {
    write: (bytes) => {
      if (socket.writable) socket.write(bytes);
    },
    end: () => {
      if (socket.destroyed) return;
      socket.end();
      const force = setTimeout(() => socket.destroy(), CLOSE_TIMEOUT_MS);
      socket.once('close', () => clearTimeout(force));
    },
    destroy: () => {
      socket.destroy();
    },
  };
}
