/** The composition root of a dispatcher that stands alone: it tells clients of the nodes of a cluster, and is none. */

import type { Logger } from 'pino';
import { Watcher } from './cluster/redis/watcher.ts';
import { abuseLimits } from './core/abuse-limits.ts';
import { Counters } from './core/counters.ts';
import { Guard } from './core/guard.ts';
import { descriptorLimit, httpConnectionsWithin } from './descriptors.ts';
import { createDispatcher } from './dispatcher/http.ts';
import { chooseAmong } from './fleet.ts';
import { startListening } from './gateway/listener.ts';
import { closeHttp, type Endpoint, listen } from './listening.ts';
import { SettingError, type Settings } from './settings.ts';
import { systemTime } from './time.ts';

export interface RunningDispatcher {
  readonly http: Endpoint;
  close(): Promise<void>;
}

/** Starts without waiting for Redis: until it has told of nodes, clients are told that there is no server. */
export async function startDispatcher(
  { redis: address, host, httpPort }: Pick<Settings, 'redis' | 'host' | 'httpPort'>,
  log: Logger,
): Promise<RunningDispatcher> {
  if (address === undefined) throw new SettingError('--redis URL says where the nodes are found');
  const time = systemTime(0);
  const watcher = new Watcher({ address, time, log });
  const guard = new Guard(abuseLimits(), time, new Counters());
  const choose = chooseAmong(
    () => watcher.offers,
    () => time.now(),
  );
  const server = createDispatcher(choose, {
    mayAsk: (from) => guard.mayDispatch(from),
    refusedConnection: () => {},
  });
  try {
    const { port } = await listen('--http-port', httpPort, () => startListening(server, host, httpPort, log));
    server.maxConnections = httpConnectionsWithin(descriptorLimit());
    watcher.start();
    return {
      http: { host, port },
      async close() {
        closeHttp(server);
        watcher.close();
      },
    };
  } catch (error) {
    watcher.close();
    throw error;
  }
}
