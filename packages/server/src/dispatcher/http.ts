import { createServer, type RequestListener, type Server } from 'node:http';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https';
import type { Duplex } from 'node:stream';
import type { SecureContextOptions, TLSSocket } from 'node:tls';
import { code, serverLimits, utf8Length, wireLimits } from '@hawser/protocol';

/** What clients are told. */
export interface Advertised {
  readonly ip: string;
  readonly port: number;
}

/** The server that the client with this id should use, over TLS or not; `undefined` when none is available. */
export type Choose = (id: string, overTls: boolean) => Advertised | undefined;

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
export function createDispatcher(choose: Choose): Server {
  const answer = answerBy(choose);
  return prepared(createServer(httpOptions, answer), answer);
}

/** The same over TLS. `onFailed` is called for each handshake that fails. */
export function createTlsDispatcher(choose: Choose, context: SecureContextOptions, onFailed: () => void): TlsServer {
  const answer = answerBy(choose);
  const options = { ...httpOptions, ...context, handshakeTimeout: serverLimits.tlsHandshakeTimeoutMs };
  const server = createTlsServer(options, answer);
  // Node would take these for requests that are not valid.
  server.removeAllListeners('tlsClientError');
  server.on('tlsClientError', (_error, socket: TLSSocket) => {
    onFailed();
    socket.destroy();
  });
  return prepared(server, answer);
}

const httpOptions = {
  maxHeaderSize: serverLimits.httpHeaderBytesMax,
  requestTimeout: serverLimits.httpRequestTimeoutMs,
  headersTimeout: serverLimits.httpRequestTimeoutMs,
  keepAliveTimeout: serverLimits.httpRequestTimeoutMs,
  // Node would answer 400.
  requireHostHeader: false,
};

function answerBy(choose: Choose): RequestListener {
  return (request, response) => {
    const body = dispatch(request.url ?? '', choose);
    // A body that nobody asked for is not waited for.
    if (request.method !== 'GET' && request.method !== 'HEAD') response.setHeader('Connection', 'close');
    response.writeHead(200, {
      'Content-Type': 'application/json',
      'Content-Length': Buffer.byteLength(body),
      'Cache-Control': 'no-store',
    });
    response.end(body);
  };
}

function prepared<Kind extends Server | TlsServer>(server: Kind, answer: RequestListener): Kind {
  server.maxConnections = serverLimits.httpConnectionsMax;
  // Node would answer 417.
  server.on('checkExpectation', answer);
  server.on('clientError', (_error: Error, socket: Duplex) => refuse(socket));
  server.on('connect', (_request: unknown, socket: Duplex) => {
    socket.on('error', () => {});
    refuse(socket);
  });
  return server;
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
