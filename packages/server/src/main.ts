/** The composition root: builds a server from its parts. */

import { mkdirSync, realpathSync } from 'node:fs';
import type { Server as HttpServer } from 'node:http';
import { join, resolve } from 'node:path';
import { serverLimits } from '@hawser/protocol';
import { NodeCipher } from '@hawser/protocol/cipher-node';
import { type Logger, pino } from 'pino';
import { CONTROL_PATH_BYTES_MAX, callControl, controlPath, NoServer, serveControl } from './admin/control.ts';
import { createAdmin } from './admin/http.ts';
import { Metrics } from './admin/metrics.ts';
import { Core } from './core/core.ts';
import { descriptorLimit } from './descriptors.ts';
import { createDispatcher } from './dispatcher/http.ts';
import { listenTcp, startListening, type TcpGateway } from './gateway/tcp.ts';
import { Operator, OperatorError, operations } from './operator.ts';
import { isLoopbackHost, readSettings, SettingError, type Settings } from './settings.ts';
import { LevelStore, StoreUnusable } from './store/level.ts';
import { systemTime } from './time.ts';
import { WorkerPasswords, WorkerRsa } from './workers/crypto.ts';

export type { DeviceRow, UserRow } from './operator.ts';
export * from './settings.ts';
export { rsaSelfTest } from './workers/self-test.ts';
export { descriptorLimit, isLoopbackHost, OperatorError };

/** The server cannot start; the message is one line for the operator. */
export class StartError extends Error {}

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
  /** Stops cleanly: accepts no more, makes durable what is on its way, closes. Safe to call again. */
  stop(): Promise<void>;
  /** Resolves when the server cannot go on, with the reason. It acks nothing from then on. */
  readonly failed: Promise<unknown>;
}

const RAN_NOTED_EVERY_MS = 60_000;

/** Starts a server. Rejects with `StartError` or `SettingError` when it cannot. */
export async function startServer(settings: Settings, log: Logger): Promise<RunningServer> {
  const data = makeFolder(settings.data);
  const failure = Promise.withResolvers<unknown>();
  const parts = await openCore(data, settings, log, failure.resolve);
  const { core, store } = parts;
  const undo: (() => void)[] = [];
  try {
    const tcp = await listen('--port', settings.port, () =>
      listenTcp(core, { host: settings.host, port: settings.port, connectionsMax: connectionsMax(settings, log) }),
    );
    undo.push(() => tcp.stopAccepting());
    let state: 'serving' | 'stopping' | 'failed' = 'serving';
    const advertised = {
      ip: settings.advertise?.host ?? (settings.host === 'localhost' ? tcp.host : settings.host),
      port: settings.advertise?.port ?? tcp.port,
    };
    const dispatcher = createDispatcher(() => (state === 'serving' ? advertised : undefined));
    const http = await listen('--http-port', settings.httpPort, () =>
      startListening(dispatcher, settings.host, settings.httpPort),
    );
    undo.push(() => closeHttp(dispatcher));
    const metrics = new Metrics({
      counters: core.counters,
      connections: () => core.connections,
      sessions: () => core.directory.size,
      delivery: () => core.delivery.stats,
      store: () => ({ ...store.stats, damaged: store.damaged }),
    });
    const operators = createAdmin(metrics, () => ({ ok: state === 'serving', state }));
    const admin = await listen('--admin-port', settings.adminPort, () =>
      startListening(operators, settings.adminHost, settings.adminPort),
    );
    undo.push(() => closeHttp(operators));
    const control = await serveControl(controlPath(data), operateOn(core));
    undo.push(() => closeHttp(control));

    const notingRan = setInterval(() => store.noteRan(core.time.ran()), RAN_NOTED_EVERY_MS);
    const sweeping = setInterval(() => {
      core.delivery.sweepInboxes().catch((error: unknown) => log.error({ err: error }, 'inboxes could not be swept'));
    }, serverLimits.expirySweepMs);
    void failure.promise.then((error) => {
      state = 'failed';
      log.fatal({ err: error }, 'the store failed: nothing more can be accepted');
      tcp.stopAccepting();
    });

    let stopped: Promise<void> | undefined;
    const stop = async (): Promise<void> => {
      state = 'stopping';
      clearInterval(notingRan);
      clearInterval(sweeping);
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
        stopped ??= stop();
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

/** Runs one operation by name: on the running server when there is one, else on its data folder. */
export async function operate(folder: string, name: (typeof operations)[number], argument: object): Promise<unknown> {
  const data = resolve(folder);
  try {
    return await callControl(controlPath(data), name, argument);
  } catch (error) {
    if (!(error instanceof NoServer)) throw error;
  }
  const settings = readSettings({ data }, {});
  const log = pino({ level: 'silent' });
  const fail = (error: unknown): never => {
    throw error;
  };
  const parts = await openCore(makeFolder(data), settings, log, fail);
  try {
    return await operateOn(parts.core)(name, argument);
  } finally {
    await parts.core.stop();
    await parts.close();
  }
}

/** Whether a server is running on this data folder. */
export async function serverAnswers(folder: string): Promise<boolean> {
  try {
    await callControl(controlPath(resolve(folder)), 'ping', {});
    return true;
  } catch (error) {
    return !(error instanceof NoServer);
  }
}

function operateOn(core: Core): (name: string, argument: unknown) => Promise<unknown> {
  const operator = new Operator(core);
  return (name, argument) => {
    const operation = operations.find((each) => each === name);
    if (operation === undefined) throw new OperatorError(`there is no operation ${name}`);
    return operator[operation](argument as never);
  };
}

interface Parts {
  readonly core: Core;
  readonly store: LevelStore;
  close(): Promise<void>;
}

async function openCore(
  data: string,
  settings: Settings,
  log: Logger,
  onFatal: (error: unknown) => void,
): Promise<Parts> {
  const store = await openStore(data, settings, log, onFatal);
  const rsa = new WorkerRsa();
  const passwords = new WorkerPasswords();
  const time = systemTime(store.ranBefore);
  const core = await Core.open(
    { time, log, store, passwords, rsa, onFatal, createCipher: (key) => new NodeCipher(key) },
    {
      loginTimeoutMs: settings.loginTimeout,
      idleTimeoutMs: settings.idleTimeout,
      allowPlainLogin: settings.allowPlainLogin,
      persistAfterMs: settings.persistAfter,
      redeliveryAfterMs: settings.redeliveryAfter,
      backlogAfterMs: settings.backlogAfter,
      inboxAgeMsMax: settings.inboxAge,
    },
  );
  return {
    core,
    store,
    async close() {
      store.noteRan(time.ran());
      await Promise.all([store.close(), rsa.close(), passwords.close()]);
    },
  };
}

async function openStore(
  data: string,
  settings: Settings,
  log: Logger,
  onError: (error: unknown) => void,
): Promise<LevelStore> {
  try {
    return await LevelStore.open({
      folder: join(data, 'store'),
      log,
      onError,
      limits: {
        messagesMax: settings.inboxMessages,
        bytesMax: settings.inboxBytes,
        senderShare: serverLimits.inboxSenderShare,
      },
    });
  } catch (error) {
    if (!(error instanceof StoreUnusable)) throw error;
    throw new StartError(`--data: ${error.message}`, { cause: error });
  }
}

function makeFolder(folder: string): string {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const data = realpathSync(folder);
    if (Buffer.byteLength(controlPath(data)) > CONTROL_PATH_BYTES_MAX) {
      throw new SettingError(`--data: the path ${data} is too long for the control socket in it`);
    }
    return data;
  } catch (error) {
    if (error instanceof SettingError) throw error;
    throw new StartError(`--data: ${folder} cannot be used: ${(error as Error).message}`, { cause: error });
  }
}

async function listen<Listening>(option: string, port: number, start: () => Promise<Listening>): Promise<Listening> {
  try {
    return await start();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'EADDRINUSE') throw new StartError(`${option}: port ${port} is in use`, { cause: error });
    if (code === 'EACCES') throw new StartError(`${option}: port ${port} needs more rights`, { cause: error });
    if (code === 'EADDRNOTAVAIL') {
      throw new StartError(`${option}: this machine does not have the address (${message})`, { cause: error });
    }
    throw error;
  }
}

/** Fewer than asked for when the process may not open that many. */
function connectionsMax(settings: Settings, log: Logger): number {
  const limit = descriptorLimit();
  if (limit === undefined) return settings.maxConnections;
  const possible = Math.max(1, limit - serverLimits.descriptorsReserved);
  if (possible < settings.maxConnections) {
    log.info({ connectionsMax: possible, descriptorLimit: limit }, 'the descriptor limit bounds the connections');
  }
  return Math.min(possible, settings.maxConnections);
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
