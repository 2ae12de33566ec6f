/** What serving and operating without a server both stand on: a data folder, the store in it, the core on that. */

import { existsSync, mkdirSync, realpathSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { serverLimits } from '@hawser/protocol';
import { NodeCipher } from '@hawser/protocol/cipher-node';
import { CONTROL_PATH_BYTES_MAX, controlPath } from './admin/control.ts';
import { newRun, RedisCluster } from './cluster/redis/cluster.ts';
import type { Witness } from './cluster/witness.ts';
import { Core } from './core/core.ts';
import { ClusterAway, type Log, type Time } from './core/ports.ts';
import { systemDigests } from './digests.ts';
import { BufferGarbage, inboxesKnownBytesMax } from './memory.ts';
import { SettingError, type Settings } from './settings.ts';
import { LevelStore } from './store/level.ts';
import { PostgresStore } from './store/postgres/store.ts';
import type { ServedStore } from './store/served.ts';
import { StoreUnusable } from './store/unusable.ts';
import { systemTime } from './time.ts';
import { WorkerPasswords, WorkerRsa } from './workers/crypto.ts';

/** The server cannot start; the message is one line for the operator. */
export class StartError extends Error {}

export interface Parts {
  readonly core: Core;
  readonly store: ServedStore;
  /** What the store is called where it fails. */
  readonly storeName: string;
  /** The other nodes, where this is one of several. */
  readonly cluster: RedisCluster | undefined;
  /** Stops the core if it has not been, and closes what is below it. */
  close(): Promise<void>;
}

/** Opens the store of a server, its cluster if it is to be a node of one, and a core on them. Rejects with `StartError` when the folder cannot be used. */
export async function openParts(
  data: string,
  settings: Settings,
  log: Log,
  onFatal: (error: unknown) => void,
): Promise<Parts> {
  const run = settings.node === undefined ? undefined : newRun(settings.node);
  const { store, ran, storeName } = await openStore(data, settings, run, log, onFatal);
  const time = systemTime(ran);
  const cluster = await joinCluster(store, settings, run, time, log);
  const rsa = new WorkerRsa();
  const passwords = new WorkerPasswords();
  const garbage = new BufferGarbage();
  const closeAll = async (): Promise<void> => {
    garbage.stop();
    // Nothing of this run is stored any more: others need not wait for its lease.
    await cluster?.leave();
    await Promise.all([store.close(), rsa.close(), passwords.close()]);
  };
  let core: Core;
  try {
    core = await Core.open(
      {
        time,
        log,
        store,
        passwords,
        digests: systemDigests(),
        rsa,
        cluster,
        onFatal,
        createCipher: (key) => new NodeCipher(key),
        turnEnded: (wireBytes) => garbage.turnEnded(wireBytes),
      },
      {
        loginTimeoutMs: settings.loginTimeout,
        idleTimeoutMs: settings.idleTimeout,
        allowPlainLogin: settings.allowPlainLogin,
        devices: settings.devices,
        pairing: settings.pairing,
        deviceAgeMsMax: settings.deviceAge,
        requireEncryption: settings.requireEncryption,
        persistAfterMs: settings.persistAfter,
        redeliveryAfterMs: settings.redeliveryAfter,
        backlogAfterMs: settings.backlogAfter,
        inboxAgeMsMax: settings.inboxAge,
        isRegistrationClosed: settings.registration === 'closed',
        limits: {
          connectionsMax: settings.maxConnections,
          connectionsPerAddressMax: settings.connectionsPerAddress,
          handshakesPerAddressPerSecondMax: settings.handshakesPerAddress,
          loginFailuresPerAddressPerHourMax: settings.loginFailuresPerAddress,
          registrationsPerAddressPerHourMax: settings.registrationsPerAddress,
          newNamesPerAddressPerMinuteMax: settings.newDevicesPerAddress,
          sessionFramesPerSecondMax: settings.sessionFrames,
          sessionBytesPerSecondMax: settings.sessionBytes,
        },
      },
    );
  } catch (error) {
    await closeAll();
    throw error;
  }
  return {
    core,
    store,
    storeName,
    cluster,
    async close() {
      await core.stop();
      store.noteRan(time.ran());
      await closeAll();
    },
  };
}

interface OpenStore {
  readonly store: ServedStore;
  readonly ran: number | (() => number);
  readonly storeName: string;
}

async function openStore(
  data: string,
  settings: Settings,
  run: string | undefined,
  log: Log,
  onError: (error: unknown) => void,
): Promise<OpenStore> {
  const limits = {
    messagesMax: settings.inboxMessages,
    bytesMax: settings.inboxBytes,
    senderShare: serverLimits.inboxSenderShare,
  };
  const { postgres: url } = settings;
  try {
    if (url !== undefined) {
      const store = await PostgresStore.open({ url, log, onError, limits, run });
      return { store, ran: () => store.ran(), storeName: 'the database' };
    }
    const known = inboxesKnownBytesMax();
    const store = await LevelStore.open({ folder: storePath(data), log, onError, limits, inboxesKnownBytesMax: known });
    return { store, ran: store.ranBefore, storeName: storePath(data) };
  } catch (error) {
    if (!(error instanceof StoreUnusable)) throw error;
    throw new StartError(`${url === undefined ? '--data' : '--postgres'}: ${error.message}`, { cause: error });
  }
}

/** Meets the other nodes; the run has been entered in the database, which has the last word on which run is void. */
async function joinCluster(
  store: ServedStore,
  { redis: address }: Settings,
  run: string | undefined,
  time: Time,
  log: Log,
): Promise<RedisCluster | undefined> {
  if (run === undefined || address === undefined || !(store instanceof PostgresStore)) return undefined;
  const witness: Witness = {
    fence: (node) => store.voidRun(node),
    stands: (node) => store.runStands(node),
    standing: () => store.standingRuns(),
  };
  try {
    return await RedisCluster.open({ address, run, time, log, witness });
  } catch (error) {
    // It has held nothing: nobody needs to wait for it.
    await store.voidRun(run).catch(() => {});
    await store.close();
    if (!(error instanceof ClusterAway)) throw error;
    throw new StartError(`--redis: ${error.message}`, { cause: error });
  }
}

/** Where a data folder has its store. */
export function storePath(data: string): string {
  return join(data, 'store');
}

/** The one path of a data folder, however it was written, whether it is there yet or not. */
export function dataPath(folder: string): string {
  return existsSync(folder) ? realpathSync(folder) : resolve(folder);
}

/** Makes the data folder if it is not there. Throws `StartError` or `SettingError` when it cannot be used. */
export function makeFolder(folder: string): string {
  try {
    refuseLongPath(dataPath(folder));
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const data = dataPath(folder);
    refuseLongPath(data);
    return data;
  } catch (error) {
    if (error instanceof SettingError) throw error;
    const { code, message } = error as NodeJS.ErrnoException;
    const why = code === 'EEXIST' ? 'it is not a folder' : message;
    throw new StartError(`--data: ${folder} cannot be used: ${why}`, { cause: error });
  }
}

function refuseLongPath(data: string): void {
  if (Buffer.byteLength(controlPath(data)) <= CONTROL_PATH_BYTES_MAX) return;
  throw new SettingError(`--data: the path ${data} is too long for the control socket in it`);
}
