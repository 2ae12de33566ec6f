import { createServer, type RequestListener, type Server } from 'node:http';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { SecureContextOptions, TLSSocket } from 'node:tls';
import { code, serverLimits, utf8Length, wireLimits } from '@hawser/protocol';
import { addressKey } from '../core/address.ts';

/** What clients are told. */
export interface Advertised {
  readonly ip: string;
  readonly port: number;
}

/** The server that the client with this id should use, over TLS or not; `undefined` when none is available. */
export type Choose = (id: string, overTls: boolean) => Advertised | undefined;

/** How often who may ask. */
export interface Gate {
  /** Whether this address may ask for a server now; if not it is told that there is none. */
  mayAsk(address: string): boolean;
  /** A connection was refused: its address had as many as were left free. */
  refusedConnection(): void;
}

const openGate: Gate = { mayAsk: () => true, refusedConnection: () => {} };

/**
 * The dispatcher's answer to a request for `url` (PROTOCOL, "Finding a server"). It depends on nothing else of the
 * request: no header can change where clients are sent.
 */
export function dispatch(url: string, choose: Choose): string {
  const query = queryOf(url);
  const ids = query.getAll('id');
  const id = ids[0];
  if (ids.length !== 1 || id === undefined || id === '') return exception('one id is needed: /?id=<client id>');
  if (utf8Length(id) > wireLimits.nameBytesMax)
    return exception(`the id is longer than ${wireLimits.nameBytesMax} bytes`);
  // An extension: existing clients do not ask, and are told what they always were.
  const overTls = query.get('tls') === '1';
  const chosen = choose(id, overTls);
  if (chosen === undefined) {
    const msg = overTls ? 'no server is available over TLS' : 'no server is available';
    return JSON.stringify({ code: code.noServer, msg });
  }
  return JSON.stringify({ code: code.ok, msg: 'ok', ip: chosen.ip, port: chosen.port, ...(overTls && { tls: true }) });
}

function exception(msg: string): string {
  return JSON.stringify({ code: code.exception, msg });
}

function queryOf(url: string): URLSearchParams {
  const at = url.indexOf('?');
  return new URLSearchParams(at < 0 ? '' : url.slice(at + 1).split('#', 1)[0]);
}

/**
 * The dispatcher's HTTP server, not listening yet. Every answer has status 200: existing clients give up on others.
 */
export function createDispatcher(choose: Choose, gate: Gate = openGate): Server {
  return prepared(createServer(httpOptions), choose, gate);
}

/** The same over TLS. `onFailed` is called for each handshake that fails. */
export function createTlsDispatcher(
  choose: Choose,
  gate: Gate,
  context: SecureContextOptions,
  onFailed: () => void,
): TlsServer {
  const options = { ...httpOptions, ...context, handshakeTimeout: serverLimits.tlsHandshakeTimeoutMs };
  const server = createTlsServer(options);
  // Node would take these for requests that are not valid.
  server.removeAllListeners('tlsClientError');
  server.on('tlsClientError', (_error, socket: TLSSocket) => {
    onFailed();
    socket.destroy();
  });
  return prepared(server, choose, gate);
}

const httpOptions = {
  maxHeaderSize: serverLimits.httpHeaderBytesMax,
  requestTimeout: serverLimits.httpRequestTimeoutMs,
  headersTimeout: serverLimits.httpRequestTimeoutMs,
  connectionsCheckingInterval: serverLimits.httpRequestCheckMs,
  keepAliveTimeout: serverLimits.httpRequestTimeoutMs,
  // Node would answer 400.
  requireHostHeader: false,
};

function prepared<Kind extends Server | TlsServer>(server: Kind, choose: Choose, gate: Gate): Kind {
  const open = new Connections();
  const answer: RequestListener = (request, response) => {
    const isAllowed = gate.mayAsk(request.socket.remoteAddress ?? '');
    const body = dispatch(request.url ?? '', isAllowed ? choose : chooseNone);
    // A body that nobody asked for is not waited for, and where connections are scarce nobody keeps one for later.
    const isToClose = (request.method !== 'GET' && request.method !== 'HEAD') || !isAllowed;
    if (isToClose || open.size > server.maxConnections / 2) response.setHeader('Connection', 'close');
    response.writeHead(200, {
      'Content-Type': 'application/json',
      'Content-Length': Buffer.byteLength(body),
      'Cache-Control': 'no-store',
    });
    response.end(body);
  };
  server.maxConnections = serverLimits.httpConnectionsMax;
  server.on('connection', (socket: Socket) => {
    if (open.add(socket, server.maxConnections)) return;
    gate.refusedConnection();
    socket.destroy();
  });
  server.on('request', answer);
  // Node would answer 417.
  server.on('checkExpectation', answer);
  server.on('clientError', (_error: Error, socket: Duplex) => refuse(socket));
  server.on('connect', (_request: unknown, socket: Duplex) => {
    socket.on('error', () => {});
    refuse(socket);
  });
  return server;
}

const chooseNone: Choose = () => undefined;

/** The connections that are open, by address: each may have as many as are left free, so that nobody can take them all. */
class Connections {
  readonly #counts = new Map<string, number>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** False when its address has enough; else it counts until it is closed. */
  add(socket: Socket, max: number): boolean {
    const key = addressKey(socket.remoteAddress ?? '');
    const own = this.#counts.get(key) ?? 0;
    if (own >= max - this.#size) return false;
    this.#counts.set(key, own + 1);
    this.#size++;
    socket.once('close', () => this.#remove(key));
    return true;
  }

  #remove(key: string): void {
    this.#size--;
    const left = (this.#counts.get(key) ?? 1) - 1;
    if (left > 0) this.#counts.set(key, left);
    else this.#counts.delete(key);
  }
}

/** Answers what is no request for an address. */
function refuse(socket: Duplex): void {
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  // A peer that does not close its side must not keep the connection.
  const force = setTimeout(() => socket.destroy(), serverLimits.closeTimeoutMs);
  socket.once('close', () => clearTimeout(force));
  const body = exception('not a valid HTTP request');
  socket.end(
    `HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n` +
      `Cache-Control: no-store\r\nConnection: close\r\n\r\n${body}`,
  );
}
