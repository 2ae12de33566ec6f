import { constants } from 'node:crypto';
import type { Socket } from 'node:net';
import { createServer, type TLSSocket } from 'node:tls';
import { answerBody, cmd, encodeFrame, isName, refusals, serverLimits } from '@hawser/protocol';
import type { Place } from '../core/admission.ts';
import type { Core } from '../core/core.ts';
import { type Gateway, type Listen, listen, type Origin } from './listener.ts';
import { type Peer, SocketWire, serve } from './socket.ts';

/** PEM. */
export interface Credentials {
  readonly cert: Buffer;
  readonly key: Buffer;
  /** Whose certificates clients may show; without it they are not asked for any. */
  readonly ca?: Buffer | undefined;
}

export interface TlsListen extends Listen {
  readonly credentials: Credentials;
  /** Whether a client without a certificate is turned away. */
  readonly needsCertificate: boolean;
}

export interface TlsGateway extends Gateway {
  /** For connections from now on; those that are open go on. Throws when the credentials make no sense. */
  renew(credentials: Credentials): void;
}

/** Listens for clients that come over TLS: the same frames. Rejects when it cannot listen. */
export async function listenTls(core: Core, where: TlsListen): Promise<TlsGateway> {
  /** Where connections come from, for as long as they are open. */
  const arrivals = new Map<string, Arrival>();
  /** Those whose handshake is not over. */
  const pending = new Map<string, Socket>();
  const asksForCertificate = where.credentials.ca !== undefined;
  // Does not listen itself: it is given connections for their handshakes.
  const handshakes = createServer(
    {
      ...contextOf(where.credentials),
      handshakeTimeout: serverLimits.tlsHandshakeTimeoutMs,
      requestCert: asksForCertificate,
      // Whoever is turned away for a certificate is told so, in a frame.
      rejectUnauthorized: false,
    },
    (socket) => {
      pending.delete(connectionOf(socket));
      const arrival = arrivals.get(connectionOf(socket));
      if (arrival === undefined) {
        socket.destroy();
        return;
      }
      const name = asksForCertificate ? certifiedName(socket, where.needsCertificate) : undefined;
      const peer = { ...arrival.origin, isTls: true };
      if (name === 'not accepted') turnAway(core, socket, { ...peer, certifiedName: undefined });
      else serve(core, socket, { ...peer, certifiedName: name?.of }, arrival.place);
    },
  );
  handshakes.on('tlsClientError', (error: NodeJS.ErrnoException, socket) => {
    core.counters.closed.handshakeFailed++;
    const address = arrivals.get(connectionOf(socket))?.origin.address;
    core.log.debug({ reason: 'handshakeFailed', why: error.code, address }, 'closed');
    socket.destroy();
  });
  const gateway = await listen(core, where, (socket, origin, place) => {
    const connection = connectionOf(socket);
    const arrival = { origin, place };
    arrivals.set(connection, arrival);
    pending.set(connection, socket);
    place.giveWay = () => {
      socket.destroy();
      return true;
    };
    socket.once('close', () => {
      // Its ports may be another's by now.
      if (arrivals.get(connection) !== arrival) return;
      arrivals.delete(connection);
      pending.delete(connection);
    });
    handshakes.emit('connection', socket);
  });
  return {
    ...gateway,
    stopAccepting() {
      gateway.stopAccepting();
      for (const socket of pending.values()) socket.destroy();
    },
    renew: (credentials) => handshakes.setSecureContext(contextOf(credentials)),
  };
}

interface Arrival {
  readonly origin: Origin;
  readonly place: Place;
}

/** Names a connection by its two ends: the same on the socket that TLS is made of and on the one that it makes. */
function connectionOf({ remoteAddress, remotePort, localAddress, localPort }: Socket): string {
  return `${remoteAddress} ${remotePort} ${localAddress} ${localPort}`;
}

/** What Node makes a context of: the same for every listener. */
export function contextOf({ cert, key, ca }: Credentials) {
  // Nobody needs a renegotiation, and each takes as much of the processor as a new connection.
  return { cert, key, ca, minVersion: 'TLSv1.2', secureOptions: constants.SSL_OP_NO_RENEGOTIATION } as const;
}

/**
 * Whom the certificate of a client names: the one common name (CN) of its subject. One that our authority has not signed,
 * or that names nobody, is worse than none: its client takes itself for somebody.
 */
function certifiedName(socket: TLSSocket, isNeeded: boolean): { readonly of: string } | undefined | 'not accepted' {
  const certificate = socket.getPeerCertificate();
  if (Object.keys(certificate).length === 0) return isNeeded ? 'not accepted' : undefined;
  const name: unknown = certificate.subject?.CN;
  return socket.authorized && typeof name === 'string' && isName(name) ? { of: name } : 'not accepted';
}

function turnAway(core: Core, socket: TLSSocket, peer: Peer): void {
  core.counters.closed.badCertificate++;
  core.log.debug({ reason: 'badCertificate', why: socket.authorizationError, address: peer.address }, 'closed');
  socket.on('error', () => {});
  const wire = new SocketWire(socket, peer, () => core.time.now());
  const { code, msg } = refusals.badCertificate;
  wire.write(encodeFrame(cmd.internalError, '', false, answerBody(code, msg)));
  wire.end();
}
