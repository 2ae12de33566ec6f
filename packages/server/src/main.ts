/** The composition root: builds a server from its parts. */

import { serverLimits } from '@hawser/protocol';
import type { Logger } from 'pino';
import { controlPath, isServed, serveControl } from './admin/control.ts';
import { createAdmin } from './admin/http.ts';
import { serverMeters } from './admin/metrics.ts';
import { Fenced } from './core/ports.ts';
import { connectionsWithin, descriptorLimit, httpConnectionsWithin } from './descriptors.ts';
import { type Choose, createDispatcher, type Gate } from './dispatcher/http.ts';
import { type Gateway, startListening } from './gateway/listener.ts';
import { listenTcp } from './gateway/tcp.ts';
import { listenTls } from './gateway/tls.ts';
import { closeHttp, type Endpoint, listen } from './listening.ts';
import { watchMemory } from './memory.ts';
import { ClusterNode } from './node.ts';
import { operateOn } from './operator.ts';
import { certificatesOf, listenOverTls, startTlsDispatcher } from './over-tls.ts';
import { makeFolder, openParts, StartError } from './parts.ts';
import type { Settings } from './settings.ts';
import { isStoreFailure, whyFailed } from './store/unusable.ts';

export { certificateExpiry } from './certificates.ts';
export { connectionsWithin, descriptorLimit } from './descriptors.ts';
export { type DispatcherSettings, dispatcherSettings, type RunningDispatcher, startDispatcher } from './dispatch.ts';
export type { Endpoint } from './listening.ts';
export { boundGarbage } from './memory.ts';
export { type Moved, type MoveStep, moveToPostgres } from './move.ts';
export { type NodeRow, type Nodes, watchNodes } from './node-operations.ts';
export { examineStore, type Operations, openOperations, restoreBackup, serverRuns } from './operate.ts';
export {
  type BackupState,
  type DamagedRow,
  type DeviceRow,
  type InboxRow,
  type MessageRow,
  OperatorError,
  type PurgeState,
  type StoreState,
  type UserRow,
} from './operator.ts';
export { dataPath, StartError, storePath } from './parts.ts';
export * from './settings.ts';
export type { BackupSeal } from './store/backup.ts';
export { rsaSelfTest } from './workers/self-test.ts';

export interface RunningServer {
  readonly tcp: Endpoint;
  readonly tls: Endpoint | undefined;
  readonly http: Endpoint;
  readonly https: Endpoint | undefined;
  readonly admin: Endpoint;
  /** What the dispatcher tells clients. */
  readonly advertised: { readonly ip: string; readonly port: number };
  readonly data: string;
  /**
   * Stops cleanly: accepts no more, makes durable what is on its way, closes. Safe to call again. Rejects when that
   * takes longer than `stopTimeoutMs`.
   */
  stop(): Promise<void>;
  /** Resolves when the server cannot go on, with the reason. It acks nothing from then on. */
  readonly failed: Promise<unknown>;
}

const RAN_NOTED_EVERY_MS = 60_000;

/** Starts a server. Rejects with `StartError` or `SettingError` when it cannot. */
export async function startServer(settings: Settings, log: Logger): Promise<RunningServer> {
  const connectionsMax = boundByDescriptors(settings.maxConnections, settings.httpsPort !== undefined);
  const data = makeFolder(settings.data);
  // A store in the folder has a lock of its own.
  if (settings.postgres !== undefined && (await isServed(controlPath(data)).catch(() => false))) {
    throw new StartError(`--data: another server runs on ${data}`);
  }
  const failure = Promise.withResolvers<unknown>();
  const parts = await openParts(data, { ...settings, maxConnections: connectionsMax }, log, failure.resolve);
  const { core, store, cluster } = parts;
  const undo: (() => void)[] = [];
  try {
    const gateways: Gateway[] = [];
    const stopAccepting = (): void => gateways.forEach((gateway) => void gateway.stopAccepting());
    undo.push(stopAccepting);
    const where = { host: settings.host, connectionsMax, open: { count: 0 }, proxies: settings.proxyFrom ?? [] };
    const tcp = await listen('--port', settings.port, () => listenTcp(core, { ...where, port: settings.port }));
    gateways.push(tcp);
    const certificates = certificatesOf(settings, log);
    if (certificates !== undefined) undo.push(() => certificates.close());
    const tls = await listenOverTls('--tls-port', certificates, settings.tlsPort, (credentials, port) =>
      listenTls(core, { ...where, port, credentials, needsCertificate: settings.tlsClientCert === 'required' }),
    );
    if (tls !== undefined) gateways.push(tls);
    let state: 'serving' | 'stopping' | 'failed' = 'serving';
    const advertised = {
      ip: settings.advertise?.host ?? (settings.host === 'localhost' ? tcp.host : settings.host),
      port: settings.advertise?.port ?? tcp.port,
    };
    const advertisedTls = tls && {
      ip: settings.advertiseTls?.host ?? advertised.ip,
      port: settings.advertiseTls?.port ?? tls.port,
    };
    const node =
      cluster === undefined
        ? undefined
        : new ClusterNode({ core, cluster, tcp: advertised, tls: advertisedTls, connectionsMax, log });
    if (node !== undefined) undo.push(() => node.close());
    const chooseThis: Choose = (_id, overTls) => {
      if (state !== 'serving') return undefined;
      return overTls ? advertisedTls : advertised;
    };
    const choose = node?.choose ?? chooseThis;
    const gate: Gate = {
      mayAsk: (address) => core.guard.mayDispatch(address),
      refusedConnection: () => core.counters.limited.dispatcherConnections++,
    };
    const dispatcher = createDispatcher(choose, gate);
    const http = await listen('--http-port', settings.httpPort, () =>
      startListening(dispatcher, settings.host, settings.httpPort, log),
    );
    dispatcher.maxConnections = httpConnectionsWithin(descriptorLimit());
    undo.push(() => closeHttp(dispatcher));
    const secureDispatcher = await listenOverTls(
      '--https-port',
      certificates,
      settings.httpsPort,
      (credentials, port) => {
        const onFailed = (): void => void core.counters.closed.handshakeFailed++;
        return startTlsDispatcher({ choose, gate, credentials, host: settings.host, port, log: core.log, onFailed });
      },
    );
    if (secureDispatcher !== undefined) undo.push(() => closeHttp(secureDispatcher.server));
    const metrics = serverMeters({
      counters: core.counters,
      certificateExpiresAt: () => certificates?.expiresAt,
      connections: () => core.connections,
      sessions: () => core.directory.size,
      beforeLogin: () => core.admission.beforeLogin,
      loginsDelayed: () => core.guard.delayed,
      delivery: () => core.delivery.stats,
      store: () => store.stats,
      cluster: cluster && node && (() => ({ ...cluster.figures, isDraining: node.isDraining })),
    });
    const operators = createAdmin(metrics, () => ({ ok: state === 'serving', state }));
    const admin = await listen('--admin-port', settings.adminPort, () =>
      startListening(operators, settings.adminHost, settings.adminPort, log),
    );
    operators.maxConnections = httpConnectionsWithin(descriptorLimit());
    undo.push(() => closeHttp(operators));
    const control = await serveControl(controlPath(data), operateOn(parts)).catch((error: Error) => {
      throw new StartError(`--data: no control socket can be made in ${data}: ${error.message}`, { cause: error });
    });
    undo.push(() => closeHttp(control));

    const unwatchMemory = watchMemory((isShort) => {
      core.delivery.isMemoryShort = isShort;
      store.isMemoryShort = isShort;
      if (isShort) log.warn({}, 'memory runs short: nothing is read from those who send messages');
      else log.info({}, 'memory suffices again');
    });
    const notingRan = setInterval(() => store.noteRan(core.time.ran()), RAN_NOTED_EVERY_MS);
    const sweep = (): void => {
      core.delivery.sweepInboxes().catch((error: unknown) => log.error({ err: error }, 'inboxes could not be swept'));
      core.deviceSweep
        .run()
        .catch((error: unknown) => log.error({ err: error }, 'devices could not be looked through'));
    };
    const sweeping = setInterval(sweep, serverLimits.expirySweepMs);
    // Also on a server that is never up for as long as that.
    const firstSweep = setTimeout(sweep, serverLimits.expirySweepFirstMs);
    void failure.promise.then((error) => {
      state = 'failed';
      if (error instanceof Fenced) log.fatal({}, `this node is fenced: ${error.message}. It ends: start it again`);
      else {
        const fields = isStoreFailure(error) ? {} : { err: error };
        const why = whyFailed(error, parts.storeName);
        log.fatal(fields, `nothing more is accepted: ${why}; then start the server again`);
      }
      stopAccepting();
    });
    certificates?.watch();

    if (connectionsMax < settings.maxConnections) {
      log.info({ connectionsMax, asked: settings.maxConnections }, 'the descriptor limit bounds the connections');
    }

    let stopped: Promise<void> | undefined;
    const giveAway = async (): Promise<void> => {
      if (node === undefined || state !== 'serving') return;
      state = 'stopping';
      await node.giveAway(settings.drainWithin);
    };
    const stop = async (): Promise<void> => {
      state = 'stopping';
      node?.close();
      clearInterval(notingRan);
      unwatchMemory();
      clearInterval(sweeping);
      clearTimeout(firstSweep);
      stopAccepting();
      certificates?.close();
      await core.stop();
      await withinCloseTimeout(gateways);
      for (const server of [dispatcher, secureDispatcher?.server, operators, control]) closeHttp(server);
      metrics.close();
      await parts.close();
    };
    return {
      tcp: { host: settings.host, port: tcp.port },
      tls: tls && { host: settings.host, port: tls.port },
      http: { host: settings.host, port: http.port },
      https: secureDispatcher && { host: settings.host, port: secureDispatcher.port },
      admin: { host: settings.adminHost, port: admin.port },
      advertised,
      data,
      stop: () => {
        stopped ??= giveAway().then(() => withinStopTimeout(stop()));
        return stopped;
      },
      failed: failure.promise,
    };
  } catch (error) {
    for (const each of undo) each();
    await parts.close();
    throw error;
  }
}

/** Fewer connections than asked for when the process may not open that many. */
function boundByDescriptors(connectionsMax: number, isHttps: boolean): number {
  const limit = descriptorLimit();
  const possible = connectionsWithin(limit, isHttps ? 3 : 2);
  if (possible > 0) return Math.min(possible, connectionsMax);
  throw new StartError(`only ${limit} files may be open at once: raise that with "ulimit -n 100000"`);
}

/** Connections get to flush; those that do not are forced by then. */
function withinCloseTimeout(gateways: readonly Gateway[]): Promise<unknown> {
  const timeout = new Promise<void>((resolveTimeout) => {
    setTimeout(resolveTimeout, serverLimits.closeTimeoutMs + 500).unref();
  });
  return Promise.race([Promise.all(gateways.map((gateway) => gateway.closed())), timeout]);
}

async function withinStopTimeout(stopping: Promise<void>): Promise<void> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => reject(new Error(`not done after ${serverLimits.stopTimeoutMs} ms`)),
    serverLimits.stopTimeoutMs,
  );
  try {
    await Promise.race([stopping, promise]);
  } finally {
    clearTimeout(timer);
  }
}
