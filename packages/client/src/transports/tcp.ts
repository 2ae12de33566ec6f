import { connect, type Socket } from 'node:net';
import type { Transport } from '../core/index.ts';
import { socketWire } from './socket-wire.ts';

export interface TcpOptions {
  /** The local address to connect from. Default: the system's choice. */
  readonly localAddress?: string;
}

/** TCP, as the protocol's source has it: in the clear, so that a key is agreed on under which everything is encrypted. */
export function tcp(options: TcpOptions = {}): Transport {
  return {
    agreesOnKey: true,
    connect: ({ host, port }, events) => {
      const local = options.localAddress === undefined ? {} : { localAddress: options.localAddress };
      const socket: Socket = connect({ host, port, noDelay: true, ...local });
      return socketWire(socket, 'connect', events);
    },
  };
}
