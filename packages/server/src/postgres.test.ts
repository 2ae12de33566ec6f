// The store on PostgreSQL keeps the contract of the port, on a real server of its own.

import { after } from 'node:test';
import { Postgres, postgresFolder } from '../../../scripts/postgres.ts';
import { type Harness, storeContract } from './store/contract.ts';
import type { InboxLimits } from './store/inbox.ts';
import { PostgresStore } from './store/postgres/store.ts';

const skip = postgresFolder() === undefined ? 'there is no PostgreSQL here' : false;

/** Servers that no test uses now. A crash of one must not be seen by others, so that each test has one to itself. */
const idle: Postgres[] = [];
const all: Postgres[] = [];
let schemas = 0;

async function open(limits?: InboxLimits): Promise<Harness> {
  let server = idle.pop();
  if (server === undefined) {
    server = await Postgres.start(['max_connections=30', 'shared_buffers=32MB']);
    all.push(server);
  }
  const postgres = server;
  const schema = `test_${schemas++}`;
  const openStore = (): Promise<PostgresStore> =>
    PostgresStore.open({
      url: postgres.url(),
      schema,
      log: { debug() {}, info() {}, warn() {}, error() {} },
      onError: (error) => console.error(error),
      ...(limits && { limits }),
    });
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
      await postgres.kill9();
      await postgres.start();
      store = await openStore();
    },
    async close() {
      await store.close();
      idle.push(postgres);
    },
  };
}

after(async () => {
  for (const server of all) await server[Symbol.asyncDispose]();
});

storeContract('PostgresStore', { open }, { concurrency: 2, skip });
