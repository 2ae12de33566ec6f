import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { CertificateError } from '../core/index.ts';

/** What a server says in TLS of a client whose certificate it does not take. */
const REFUSED = /alert (certificate|bad certificate|unknown ca|unsupported certificate|access denied)/;

/** Whether it was for a certificate that a connection failed: then what to tell. */
export function certificateFault(
  socket: Socket | TLSSocket | null,
  cause: Error,
  where: string,
): CertificateError | undefined {
  if (socket !== null && 'authorizationError' in socket && socket.authorizationError) {
    return new CertificateError(`the certificate of ${where} is not accepted: ${cause.message}`, { cause });
  }
  const reason = String((cause as { reason?: unknown }).reason ?? '');
  if (!REFUSED.test(reason)) return undefined;
  return new CertificateError(`${where} does not accept the certificate of this client: ${reason}`, { cause });
}
