/** What serves over TLS with the certificate of the moment: the dispatcher here, and whatever else is given to `listenOverTls`. */

import { Certificates } from './certificates.ts';
import type { Log } from './core/ports.ts';
import { descriptorLimit, httpConnectionsWithin } from './descriptors.ts';
import { type Choose, createTlsDispatcher, type Gate } from './dispatcher/http.ts';
import { startListening } from './gateway/listener.ts';
import { type Credentials, contextOf } from './gateway/tls.ts';
import { listen } from './listening.ts';
import type { Settings } from './settings.ts';

export function certificatesOf(
  { tlsCert, tlsKey, tlsClientCa }: Pick<Settings, 'tlsCert' | 'tlsKey'> & Partial<Pick<Settings, 'tlsClientCa'>>,
  log: Log,
): Certificates | undefined {
  if (tlsCert === undefined || tlsKey === undefined) return undefined;
  return new Certificates({ cert: tlsCert, key: tlsKey, ca: tlsClientCa }, log);
}

/** A listener that has the certificate of the moment, if there is to be one. */
export async function listenOverTls<Listening extends { renew(credentials: Credentials): void }>(
  option: string,
  certificates: Certificates | undefined,
  port: number | undefined,
  start: (credentials: Credentials, port: number) => Promise<Listening>,
): Promise<Listening | undefined> {
  if (certificates === undefined || port === undefined) return undefined;
  const listening = await listen(option, port, () => start(certificates.current, port));
  certificates.onRenewed((credentials) => listening.renew(credentials));
  return listening;
}

export interface TlsDispatcherOptions {
  readonly choose: Choose;
  readonly gate: Gate;
  readonly credentials: Credentials;
  readonly host: string;
  readonly port: number;
  readonly log: Log;
  /** Called for each handshake that fails. */
  readonly onFailed: () => void;
}

export async function startTlsDispatcher({
  choose,
  gate,
  credentials,
  host,
  port,
  log,
  onFailed,
}: TlsDispatcherOptions) {
  // Clients show their certificates to the server, not here.
  const context = (of: Credentials) => contextOf({ ...of, ca: undefined });
  const server = createTlsDispatcher(choose, gate, context(credentials), onFailed);
  const listening = await startListening(server, host, port, log);
  server.maxConnections = httpConnectionsWithin(descriptorLimit());
  return { server, port: listening.port, renew: (next: Credentials) => server.setSecureContext(context(next)) };
}
