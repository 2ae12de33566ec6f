import { isIP } from 'node:net';
import { type ConnectionOptions, connect } from 'node:tls';
import type { Transport } from '../core/index.ts';
import { socketWire } from './socket-wire.ts';

/** What `tls.connect` of Node takes, such as `ca` or `servername`. Certificates are verified unless you say otherwise. */
export type TlsOptions = Omit<ConnectionOptions, 'host' | 'port' | 'path' | 'socket'>;

/** TCP under TLS: no key is agreed on beside it. */
export function tls(options: TlsOptions = {}): Transport {
  return {
    agreesOnKey: false,
    connect: ({ host, port }, events) => {
      const servername = options.servername ?? (isIP(host) === 0 ? host : '');
      const socket = connect({ ...options, host, port, ...(servername !== '' && { servername }) });
      socket.setNoDelay(true);
      return socketWire(socket, 'secureConnect', events);
    },
  };
}
