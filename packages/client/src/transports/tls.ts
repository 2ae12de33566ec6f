import { isIP } from 'node:net';
import { type ConnectionOptions, connect } from 'node:tls';
import type { Transport } from '../core/index.ts';
import { certificateFault } from './certificate-fault.ts';
import { socketWire } from './socket-wire.ts';

/** What `tls.connect` of Node takes, such as `ca` or `servername`. Certificates are verified unless you say otherwise. */
export type TlsOptions = Omit<ConnectionOptions, 'host' | 'port' | 'path' | 'socket'>;

/** TCP under TLS: no key is agreed on beside it. */
export function tls(options: TlsOptions = {}): Transport {
  return {
    agreesOnKey: false,
    isTls: true,
    connect: ({ host, port }, events) => {
      const servername = options.servername ?? (isIP(host) === 0 ? host : '');
      const socket = connect({ ...options, host, port, ...(servername !== '' && { servername }) });
      socket.setNoDelay(true);
      const shown = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
      return socketWire(socket, 'secureConnect', events, (error) =>
        options.rejectUnauthorized === false ? undefined : certificateFault(socket, error, shown),
      );
    },
  };
}
