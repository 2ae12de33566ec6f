import type { Address, Transport, Wire, WireEvents } from '../core/index.ts';

/** What is used of a `WebSocket`: that of browsers and of Node from 22 on, or that of the package `ws`. */
export interface WebSocketLike {
  binaryType: string;
  readonly readyState: number;
  send(bytes: Uint8Array<ArrayBuffer>): void;
  close(): void;
  addEventListener(type: 'open' | 'close' | 'error', listener: (event: object) => void): void;
  addEventListener(type: 'message', listener: (event: { readonly data: unknown }) => void): void;
}

export interface WebSocketOptions {
  /** Where to connect. Default: `wss://host:port/` from a page under https, otherwise `ws://host:port/`. */
  readonly url?: string | URL | ((address: Address) => string | URL);
  /** Default: the global `WebSocket`. */
  readonly WebSocket?: new (
    url: string,
  ) => WebSocketLike;
}

const OPEN = 1;

/** The protocol's bytes in binary messages, cut in any way. No key is agreed on: use `wss:`. */
export function websocket(options: WebSocketOptions = {}): Transport {
  return { agreesOnKey: false, connect: (address, events) => connect(options, address, events) };
}

function connect(options: WebSocketOptions, address: Address, events: WireEvents): Wire {
  const socket = create(options, address);
  if (socket instanceof Error) {
    queueMicrotask(() => events.closed(socket));
    return { write() {}, end() {}, destroy() {} };
  }
  let cause: Error | undefined;
  socket.binaryType = 'arraybuffer';
  socket.addEventListener('open', () => events.opened());
  socket.addEventListener('message', ({ data }) => {
    if (data instanceof ArrayBuffer) events.received(new Uint8Array(data));
    else {
      cause = new Error('the server sent text in place of bytes');
      socket.close();
    }
  });
  socket.addEventListener('error', (event) => {
    const { message, error } = event as { message?: unknown; error?: unknown };
    cause ??= new Error(typeof message === 'string' && message !== '' ? message : 'the WebSocket failed', {
      cause: error,
    });
  });
  socket.addEventListener('close', () => events.closed(cause));
  return {
    write: (bytes) => {
      if (socket.readyState === OPEN) socket.send(bytes as Uint8Array<ArrayBuffer>);
    },
    // A WebSocket sends what it holds before it closes.
    end: () => socket.close(),
    destroy: () => socket.close(),
  };
}

function create({ url, WebSocket = globalThis.WebSocket }: WebSocketOptions, address: Address): WebSocketLike | Error {
  try {
    const target = typeof url === 'function' ? url(address) : (url ?? defaultUrl(address));
    return new WebSocket(String(target)) as WebSocketLike;
  } catch (cause) {
    return new Error('no WebSocket could be made', { cause });
  }
}

function defaultUrl({ host, port }: Address): string {
  const page = (globalThis as { location?: { protocol?: string } }).location;
  const bracketed = host.includes(':') ? `[${host}]` : host;
  return `${page?.protocol === 'https:' ? 'wss' : 'ws'}://${bracketed}:${port}/`;
}
