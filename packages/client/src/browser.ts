/** `@hawser/client` in browsers: over WebSocket. */

import { AppClient, DeviceClient } from './core/index.ts';
import { type ClientOptions, type Platform, portsOf } from './platform.ts';
import { websocket } from './transports/websocket.ts';

export * from './core/index.ts';
export type { ClientOptions } from './platform.ts';
export { type WebSocketLike, type WebSocketOptions, websocket } from './transports/websocket.ts';

const platform: Platform = {
  keys: undefined,
  defaultTransport: () => websocket(),
  transportFor: (url) => (url.protocol === 'ws:' || url.protocol === 'wss:' ? websocket({ url }) : undefined),
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
