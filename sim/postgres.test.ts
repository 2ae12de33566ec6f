// The simulated PostgreSQL does what a real one does, as far as the contract of the store asks: the adapter itself is run on it.

import type { Harness } from '@hawser/server/store/contract';
import { storeContract } from '@hawser/server/store/contract';
import type { InboxLimits } from '@hawser/server/store/inbox';
import { PostgresStore } from '@hawser/server/store/postgres/store';
import { processClock } from './clock.ts';
import { Disk } from './disk.ts';
import { Way } from './net.ts';
import { Database } from './postgres/database.ts';
import { postgresDriver } from './postgres/driver.ts';
import { Process } from './process.ts';
import { Pump } from './pump.ts';
import { Random } from './random.ts';
import { Scheduler } from './scheduler.ts';
import { Trace } from './trace.ts';

const DOWN_MS = 200;
let seeds = 1;

async function open(limits?: InboxLimits): Promise<Harness> {
  const scheduler = new Scheduler();
  const random = new Random(seeds++);
  const trace = new Trace(() => scheduler.now, 0);
  const database = new Database(scheduler, random, trace, new Disk(random));
  const pump = new Pump(scheduler);
  let process = new Process(scheduler);
  const openStore = (): Promise<PostgresStore> => {
    process = new Process(scheduler);
    const clock = processClock(scheduler, process);
    return PostgresStore.open({
      url: 'postgres://simulated',
      driver: postgresDriver({ scheduler, random, database, way: new Way(), process, clock }),
      log: { debug() {}, info() {}, warn() {}, error() {} },
      onError: (error) => console.error(error),
      ...(limits && { limits }),
    });
  };
  let store = await openStore();
  return {
    get store() {
      return store;
    },
    async reopen() {
      await store.close();
      store = await openStore();
    },
    async crash() {
      store.drop();
      process.end(true);
      database.crash(DOWN_MS);
      await new Promise<void>((resolve) => scheduler.after(DOWN_MS + 1, resolve));
      store = await openStore();
    },
    async close() {
      await store.close();
      await pump.stop();
    },
  };
}

storeContract("PostgresStore on the simulator's PostgreSQL", { open });
