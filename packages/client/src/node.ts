/** `@hawser/client` in Node: over TCP, TLS and WebSocket. */

import { askOverTls } from './ask-node.ts';
import { AppClient, DeviceClient } from './core/index.ts';
import { nodeKeys } from './keys-node.ts';
import { type ClientOptions as CommonOptions, type Platform, portsOf } from './platform.ts';
import { tcp } from './transports/tcp.ts';
import { type TlsOptions, tls } from './transports/tls.ts';
import { websocket } from './transports/websocket.ts';

export * from './core/index.ts';
export { type TcpOptions, tcp } from './transports/tcp.ts';
export { type TlsOptions, tls } from './transports/tls.ts';
export { type WebSocketLike, type WebSocketOptions, websocket } from './transports/websocket.ts';

/** What every client takes, and what TLS takes in Node. */
export interface ClientOptions extends CommonOptions {
  /**
   * For the dispatcher (`https:`) and the server: `ca`, if the authority of their certificates is your own; `cert` and `key`,
   * if this client shows a certificate. They are not for a `transport` that you give yourself.
   */
  readonly tls?: TlsOptions;
}

function platformWith(options: TlsOptions = {}): Platform {
  return {
    keys: nodeKeys,
    // Whoever asks in private does not want to talk in public.
    defaultTransport: (dispatcher) => (dispatcher?.protocol === 'https:' ? tls(options) : tcp()),
    transportFor: (url) => {
      if (url.protocol === 'tcp:') return tcp();
      if (url.protocol === 'tls:') return tls(options);
      return url.protocol === 'ws:' || url.protocol === 'wss:' ? websocket({ url }) : undefined;
    },
    askFor: (dispatcher) => (dispatcher.protocol === 'https:' ? askOverTls(options) : undefined),
  };
}

/** A person's client. */
export class App extends AppClient {
  /** @throws TypeError when the options make no sense */
  constructor(options: ClientOptions) {
    super(portsOf(options, platformWith(options.tls)), options);
  }
}

/** A device's client. */
export class Device extends DeviceClient {
  /** @throws TypeError when the options make no sense */
  constructor(options: ClientOptions) {
    super(portsOf(options, platformWith(options.tls)), options);
  }
}
