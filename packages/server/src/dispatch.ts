/** The composition root of a dispatcher that stands alone: it tells clients of the nodes of a cluster, and is none. */

import { serverLimits } from '@hawser/protocol';
import type { Logger } from 'pino';
import { dispatcherMeters } from './admin/dispatcher-metrics.ts';
import { createAdmin, type Health } from './admin/http.ts';
import { Watcher } from './cluster/redis/watcher.ts';
import { abuseLimits } from './core/abuse-limits.ts';
import { Counters } from './core/counters.ts';
import { Guard } from './core/guard.ts';
import { descriptorLimit, httpConnectionsWithin } from './descriptors.ts';
import { type Choose, createDispatcher, type Gate } from './dispatcher/http.ts';
import { chooseAmong } from './fleet.ts';
import { startListening } from './gateway/listener.ts';
import { closeHttp, type Endpoint, listen } from './listening.ts';
import { certificatesOf, listenOverTls, startTlsDispatcher } from './over-tls.ts';
import { SettingError, type SettingName, type Settings } from './settings.ts';
import { systemTime } from './time.ts';

/** The settings that a dispatcher has. */
export const dispatcherSettings = [
  ...['redis', 'host', 'httpPort', 'httpsPort', 'tlsCert', 'tlsKey', 'adminHost', 'adminPort', 'logLevel'],
] as const satisfies readonly SettingName[];

export type DispatcherSettings = Pick<Settings, (typeof dispatcherSettings)[number]>;

export interface RunningDispatcher {
  readonly http: Endpoint;
  readonly https: Endpoint | undefined;
  readonly admin: Endpoint;
  close(): Promise<void>;
}

/** Starts without waiting for Redis: until it has told of nodes, clients are told that there is no server. */
export async function startDispatcher(settings: DispatcherSettings, log: Logger): Promise<RunningDispatcher> {
  const { redis: address, host, httpPort, adminHost, adminPort } = settings;
  if (address === undefined) throw new SettingError('--redis URL says where the nodes are found');
  checkHttps(settings);
  const undo: (() => void)[] = [];
  const closeAll = (): void => undo.splice(0).forEach((each) => void each());
  try {
    const certificates = certificatesOf(settings, log);
    if (certificates !== undefined) undo.push(() => certificates.close());
    const time = systemTime(0);
    const watcher = new Watcher({ address, time, log });
    undo.push(() => watcher.close());
    const counters = new Counters();
    const guard = new Guard(abuseLimits(), time, counters);
    const gate: Gate = {
      mayAsk: (from) => guard.mayDispatch(from),
      refusedConnection: () => counters.limited.dispatcherConnections++,
    };
    const answers = { told: 0, none: 0 };
    const chooseNode = chooseAmong(
      () => watcher.offers,
      () => time.now(),
    );
    const choose: Choose = (id, overTls) => {
      const chosen = chooseNode(id, overTls);
      answers[chosen === undefined ? 'none' : 'told']++;
      return chosen;
    };

    const server = createDispatcher(choose, gate);
    undo.push(() => closeHttp(server));
    const http = await listen('--http-port', httpPort, () => startListening(server, host, httpPort, log));
    server.maxConnections = httpConnectionsWithin(descriptorLimit());
    const onFailed = (): void => void counters.closed.handshakeFailed++;
    const secure = await listenOverTls('--https-port', certificates, settings.httpsPort, (credentials, port) =>
      startTlsDispatcher({ choose, gate, credentials, host, port, log, onFailed }),
    );
    if (secure !== undefined) undo.push(() => closeHttp(secure.server));

    const meters = dispatcherMeters({
      counters,
      answers: () => answers,
      nodes: () => watcher.offers.filter(({ state }) => !state.isDraining).length,
      ageMs: () => watcher.ageMs,
      certificateExpiresAt: () => certificates?.expiresAt,
    });
    undo.push(() => meters.close());
    // That there is no node for clients is an answer; that it does not know is not.
    const health = (): Health => {
      const ok = watcher.ageMs < serverLimits.dispatcherMemoryMs;
      return { ok, state: ok ? 'serving' : 'blind' };
    };
    const operators = createAdmin(meters, health);
    undo.push(() => closeHttp(operators));
    const admin = await listen('--admin-port', adminPort, () => startListening(operators, adminHost, adminPort, log));
    operators.maxConnections = httpConnectionsWithin(descriptorLimit());

    certificates?.watch();
    watcher.start();
    return {
      http: { host, port: http.port },
      https: secure && { host, port: secure.port },
      admin: { host: adminHost, port: admin.port },
      close: async () => closeAll(),
    };
  } catch (error) {
    closeAll();
    throw error;
  }
}

function checkHttps({ httpsPort, tlsCert, tlsKey }: DispatcherSettings): void {
  if (httpsPort !== undefined && (tlsCert === undefined || tlsKey === undefined)) {
    throw new SettingError('--https-port needs --tls-cert and --tls-key');
  }
  if (httpsPort === undefined && (tlsCert !== undefined || tlsKey !== undefined)) {
    throw new SettingError('--tls-cert and --tls-key have no effect without --https-port');
  }
}
