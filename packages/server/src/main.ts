/** The composition root: builds a server from its parts. */

import type { Server as HttpServer } from 'node:http';
import { serverLimits } from '@hawser/protocol';
import type { Logger } from 'pino';
import { controlPath, serveControl } from './admin/control.ts';
import { createAdmin } from './admin/http.ts';
import { Metrics } from './admin/metrics.ts';
import { connectionsWithin, descriptorLimit, httpConnectionsWithin } from './descriptors.ts';
import { createDispatcher } from './dispatcher/http.ts';
import { listenTcp, startListening, type TcpGateway } from './gateway/tcp.ts';
import { watchMemory } from './memory.ts';
import { operateOn } from './operator.ts';
import { makeFolder, openParts, StartError, storePath } from './parts.ts';
import type { Settings } from './settings.ts';
import { isStoreFailure, whyFailed } from './store/unusable.ts';

export { connectionsWithin, descriptorLimit } from './descriptors.ts';
export { boundGarbage } from './memory.ts';
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

export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

export interface RunningServer {
  readonly tcp: Endpoint;
  readonly http: Endpoint;
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
  if (settings.redis !== undefined) {
    throw new StartError('--redis: a cluster needs a database that its nodes share, which this version cannot use yet');
  }
  const connectionsMax = boundByDescriptors(settings.maxConnections);
  const data = makeFolder(settings.data);
  const failure = Promise.withResolvers<unknown>();
  const parts = await openParts(data, { ...settings, maxConnections: connectionsMax }, log, failure.resolve);
  const { core, store } = parts;
  const undo: (() => void)[] = [];
  try {
    const tcp = await listen('--port', settings.port, () =>
      listenTcp(core, { host: settings.host, port: settings.port, connectionsMax }),
    );
    undo.push(() => tcp.stopAccepting());
    let state: 'serving' | 'stopping' | 'failed' = 'serving';
    const advertised = {
      ip: settings.advertise?.host ?? (settings.host === 'localhost' ? tcp.host : settings.host),
      port: settings.advertise?.port ?? tcp.port,
    };
    const dispatcher = createDispatcher(() => (state === 'serving' ? advertised : undefined), {
      mayAsk: (address) => core.guard.mayDispatch(address),
      refusedConnection: () => core.counters.limited.dispatcherConnections++,
    });
    const http = await listen('--http-port', settings.httpPort, () =>
      startListening(dispatcher, settings.host, settings.httpPort, log),
    );
    dispatcher.maxConnections = httpConnectionsWithin(descriptorLimit());
    undo.push(() => closeHttp(dispatcher));
    const metrics = new Metrics({
      counters: core.counters,
      connections: () => core.connections,
      sessions: () => core.directory.size,
      beforeLogin: () => core.admission.beforeLogin,
      loginsDelayed: () => core.guard.delayed,
      delivery: () => core.delivery.stats,
      store: () => store.stats,
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
    };
    const sweeping = setInterval(sweep, serverLimits.expirySweepMs);
    // Also on a server that is never up for as long as that.
    const firstSweep = setTimeout(sweep, serverLimits.expirySweepFirstMs);
    void failure.promise.then((error) => {
      state = 'failed';
      const fields = isStoreFailure(error) ? {} : { err: error };
      log.fatal(fields, `nothing more is accepted: ${whyFailed(error, storePath(data))}; then start the server again`);
      tcp.stopAccepting();
    });

    if (connectionsMax < settings.maxConnections) {
      log.info({ connectionsMax, asked: settings.maxConnections }, 'the descriptor limit bounds the connections');
    }

    let stopped: Promise<void> | undefined;
    const stop = async (): Promise<void> => {
      state = 'stopping';
      clearInterval(notingRan);
      unwatchMemory();
      clearInterval(sweeping);
      clearTimeout(firstSweep);
      tcp.stopAccepting();
      await core.stop();
      await withinCloseTimeout(tcp);
      for (const server of [dispatcher, operators, control]) closeHttp(server);
      metrics.close();
      await parts.close();
    };
    return {
      tcp: { host: settings.host, port: tcp.port },
      http: { host: settings.host, port: http.port },
      admin: { host: settings.adminHost, port: admin.port },
      advertised,
      data,
      stop: () => {
        stopped ??= withinStopTimeout(stop());
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

async function listen<Listening>(option: string, port: number, start: () => Promise<Listening>): Promise<Listening> {
  try {
    return await start();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'EADDRINUSE') throw new StartError(`${option}: port ${port} is in use`, { cause: error });
    if (code === 'EACCES')
      throw new StartError(`${option}: port ${port} needs more rights than this user has`, { cause: error });
    if (code === 'EADDRNOTAVAIL') {
      throw new StartError(`${option}: this machine does not have the address (${message})`, { cause: error });
    }
    throw new StartError(`${option}: cannot listen on port ${port}: ${message}`, { cause: error });
  }
}

/** Fewer connections than asked for when the process may not open that many. */
function boundByDescriptors(connectionsMax: number): number {
  const limit = descriptorLimit();
  const possible = connectionsWithin(limit);
  if (possible > 0) return Math.min(possible, connectionsMax);
  throw new StartError(`only ${limit} files may be open at once: raise that with "ulimit -n 100000"`);
}

function closeHttp(server: HttpServer): void {
  server.close();
  server.closeAllConnections();
}

/** Connections get to flush; those that do not are forced by then. */
function withinCloseTimeout(tcp: TcpGateway): Promise<void> {
  const timeout = new Promise<void>((resolveTimeout) => {
    setTimeout(resolveTimeout, serverLimits.closeTimeoutMs + 500).unref();
  });
  return Promise.race([tcp.closed(), timeout]);
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
