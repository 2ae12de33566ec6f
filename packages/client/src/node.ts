/** `@hawser/client` in Node: over TCP, TLS and WebSocket. */

import { AppClient, DeviceClient } from './core/index.ts';
import { nodeKeys } from './keys-node.ts';
import { type ClientOptions, type Platform, portsOf } from './platform.ts';
import { tcp } from './transports/tcp.ts';
import { tls } from './transports/tls.ts';
import { websocket } from './transports/websocket.ts';

export * from './core/index.ts';
export type { ClientOptions } from './platform.ts';
export { type TcpOptions, tcp } from './transports/tcp.ts';
export { type TlsOptions, tls } from './transports/tls.ts';
export { type WebSocketLike, type WebSocketOptions, websocket } from './transports/websocket.ts';

const platform: Platform = {
  keys: nodeKeys,
  defaultTransport: () => tcp(),
  transportFor: (url) => {
    if (url.protocol === 'tcp:') return tcp();
    if (url.protocol === 'tls:') return tls();
    return url.protocol === 'ws:' || url.protocol === 'wss:' ? websocket({ url }) : undefined;
  },
};

/** A person's client. */
export class App extends AppClient {
  /** @throws TypeError when the options make no sense */
  constructor(options: ClientOptions) {
    super(portsOf(options, platform), options);
  }
}

/** A device's client. */
export class Device extends DeviceClient {
  /** @throws TypeError when the options make no sense */
  constructor(options: ClientOptions) {
    super(portsOf(options, platform), options);
  }
}
