import type { Address, KeyExchange, Locate, Ports, Random, SessionOptions, Time, Transport } from './core/index.ts';
import { type Ask, dispatcher } from './dispatcher.ts';

/** Where to find a server, and how to reach it. Either `dispatcher` or `server` must be given. */
export interface ClientOptions extends Partial<SessionOptions> {
  /**
   * The dispatcher's URL, such as `https://hawser.example.org:9443` or `http://127.0.0.1:9999`. It is asked for a server
   * before each attempt to connect.
   */
  readonly dispatcher?: string | URL;
  /**
   * Always this server, without a dispatcher: an address, or a URL whose scheme says how to reach it: `tcp:`, `tls:`
   * (both in Node only), `ws:`, `wss:`.
   */
  readonly server?: string | URL | Address;
  /**
   * How to reach the server. Default: what the URL of `server` says; otherwise, in Node, TLS when the dispatcher is asked
   * over `https:`, else TCP; in browsers WebSocket.
   */
  readonly transport?: Transport;
  /**
   * Whether to agree on a key and encrypt with it. Default: where the transport is TCP. Without it a server by default
   * takes passwords from its own machine only; a weak device may do without.
   */
  readonly encrypt?: boolean;
  /**
   * Told of what went wrong where nobody awaits a promise: a handler that threw, an answer that makes no sense. Default:
   * `console.error`.
   */
  readonly onError?: (error: Error) => void;
}

/** What Node and browsers do differently. */
export interface Platform {
  readonly keys: KeyExchange | undefined;
  /** @param dispatcher where the server is asked for, if it is */
  readonly defaultTransport: (dispatcher?: URL) => Transport;
  /** The transport for a URL, by its scheme; `undefined` for a scheme that is not known here. */
  transportFor(url: URL): Transport | undefined;
  /** How a dispatcher is asked; `undefined`: by `fetch`. */
  askFor?(dispatcher: URL): Ask | undefined;
}

const time: Time = {
  now: () => performance.now(),
  after(ms, call) {
    // What a timer can take.
    const timer = setTimeout(call, Math.min(Math.max(ms, 0), 2 ** 31 - 1));
    return { cancel: () => clearTimeout(timer) };
  },
  endOfTurn: (call) => queueMicrotask(call),
};

function randomness(): Random {
  // As many random bits as a UUID has, and more, once for each client; crypto.randomUUID is missing on pages without TLS.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const prefix = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  let count = 0;
  return { fraction: () => Math.random(), id: () => `${prefix}-${(count++).toString(36)}` };
}

/** @throws TypeError when the options make no sense */
export function portsOf(options: ClientOptions, platform: Platform): Ports {
  const { transport, locate } = reach(options, platform);
  const agreesOnKey = options.encrypt ?? transport.agreesOnKey;
  if (agreesOnKey && platform.keys === undefined) throw new TypeError('encrypt: there is no key exchange in browsers');
  return {
    time,
    random: randomness(),
    transport: { agreesOnKey, connect: (address, events) => transport.connect(address, events) },
    locate,
    keys: platform.keys,
    report: options.onError ?? ((error) => console.error(error)),
  };
}

function reach(options: ClientOptions, platform: Platform): { transport: Transport; locate: Locate } {
  const { server } = options;
  if ((server === undefined) === (options.dispatcher === undefined)) {
    throw new TypeError('give either `dispatcher` or `server`');
  }
  if (server === undefined) {
    const url = new URL(options.dispatcher!);
    const transport = options.transport ?? platform.defaultTransport(url);
    return { transport, locate: dispatcher(url, { overTls: transport.isTls, ask: platform.askFor?.(url) }) };
  }
  if (typeof server !== 'string' && !(server instanceof URL)) {
    const address = { host: server.host, port: server.port };
    return { transport: options.transport ?? platform.defaultTransport(), locate: () => Promise.resolve(address) };
  }
  const url = new URL(server);
  const transport = options.transport ?? platform.transportFor(url);
  if (transport === undefined) throw new TypeError(`server: no transport for ${url.protocol}//`);
  const address = { host: url.hostname.replace(/^\[(.*)\]$/, '$1'), port: Number(url.port) || portOf(url.protocol) };
  return { transport, locate: () => Promise.resolve(address) };
}

function portOf(protocol: string): number {
  if (protocol === 'ws:') return 80;
  return protocol === 'wss:' ? 443 : 8888;
}
