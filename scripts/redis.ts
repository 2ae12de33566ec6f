/** A Redis server, for the tests of the cluster's adapter: `packages/server/src/cluster/redis/server-harness.ts`. */

import { aptInstall, isThere } from './apt.ts';

/** The server itself is in here, under another name; the package redis-server adds no more than a service that runs. */
const PACKAGES = ['redis-tools'];
const PROGRAMS = ['redis-server', 'redis-check-rdb', 'valkey-server'];

function isInstalled(): boolean {
  return PROGRAMS.some(isThere);
}

/** Installs one where that can be done without asking. Says so when it could not. */
export function installRedis(): void {
  if (isInstalled()) return;
  const failure = aptInstall(PACKAGES, isInstalled);
  if (failure === undefined) console.log(`▶ installed ${PACKAGES.join(', ')} for the tests of cluster/redis`);
  else console.log(`▶ no Redis, so that the tests of cluster/redis are skipped: ${failure}`);
}
