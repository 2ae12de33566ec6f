// The client of packages/client and the real server.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { App, Device, type Message } from '@hawser/client';
import { type Server, startServer } from './harness.ts';
import { unique } from './mini-client.ts';

let server: Server;
const opened: { close(): void }[] = [];

before(async () => {
  server = await startServer();
});

after(async () => {
  for (const client of opened) client.close();
  await server[Symbol.asyncDispose]();
});

function dispatcherUrl(): string {
  return `http://127.0.0.1:${server.httpPort}`;
}

function newClient<T extends App | Device>(Class: new (options: { dispatcher: string }) => T): T {
  const client = new Class({ dispatcher: dispatcherUrl() });
  opened.push(client);
  return client;
}

async function newApp(name = unique('user')): Promise<App> {
  const app = newClient(App);
  await app.register(name, 'correct horse');
  await app.login(name, 'correct horse');
  return app;
}

/** The next `count` messages that the client is given. */
function take<T>(client: App | Device, count: number): Promise<Message<T>[]> {
  return new Promise((resolve) => {
    const taken: Message<T>[] = [];
    const off = client.onMessage<T>((message) => {
      taken.push(message);
      if (taken.length === count) {
        off();
        resolve(taken);
      }
    });
  });
}

test('an app and a device find the server, log in, and exchange any JSON value', async () => {
  const lampId = unique('lamp');
  const lamp = newClient(Device);
  await lamp.authenticate(lampId, { version: '1.0', abilities: ['light'] });
  const app = await newApp();
  await app.addDevice(lampId);
  const values = [null, true, 0, -1.5e300, '', 'é消😀"\\', [], {}, { on: true, deep: [[[1]]] }];
  const received = take(lamp, values.length);
  for (const value of values) await app.send(lampId, value);
  assert.deepEqual(
    (await received).map(({ msg }) => msg),
    values,
  );
});
