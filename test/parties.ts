// Apps and devices in the states that tests begin with, and the assertions that all tests share.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import type { Server } from './harness.ts';
import { Client, type ConnectOptions, type Frame, unique } from './mini-client.ts';

interface Address {
  readonly host: string;
  readonly port: number;
}

export interface PartyOptions extends ConnectOptions {
  readonly name?: string;
  /** Negotiate a key and encrypt everything. */
  readonly encrypt?: boolean;
  /** Further fields of the login or device auth. */
  readonly extra?: Record<string, unknown>;
}

export function md5(text: string): string {
  return createHash('md5').update(text).digest('hex');
}

/** The password of every user that these helpers register. */
export const password = md5('correct horse');

/** Connects and awaits the key. */
export async function connect(at: Address, options: PartyOptions = {}): Promise<Client> {
  const client = await Client.connect(at, options);
  await client.awaitKey();
  if (options.encrypt === true) expectCode(await client.negotiate(), 2, 100);
  return client;
}

/** Registers a user (on a connection of its own) without logging in. */
export async function newUser(at: Address, name = unique('user')): Promise<string> {
  using client = await connect(at);
  expectCode(await client.register(name, password), 102, 100);
  return name;
}

/** Logs a registered user in. */
export async function login(at: Address, name: string, options: PartyOptions = {}): Promise<Client> {
  const client = await connect(at, options);
  expectCode(await client.login(name, password, options.extra), 100, 100);
  return client;
}

/** A fresh user, logged in. */
export async function newApp(at: Address, options: PartyOptions = {}): Promise<Client> {
  const name = options.name ?? unique('user');
  const client = await connect(at, options);
  expectCode(await client.register(name, password), 102, 100);
  expectCode(await client.login(name, password, options.extra), 100, 100);
  return client;
}

/** A device, authenticated. */
export async function newDevice(at: Address, options: PartyOptions = {}): Promise<Client> {
  const client = await connect(at, options);
  expectCode(await client.auth(options.name ?? unique('device'), options.extra), 101, 100);
  return client;
}

/** A fresh id of a device that `app` has added and that has never connected. */
export async function addDevice(app: Client, id = unique('device')): Promise<string> {
  expectCode(await app.bind(id), 203, 100);
  return id;
}

export function expectCode(frame: Frame, cmd: number, code: number): void {
  assert.equal(frame.cmd, cmd, `expected an answer to cmd ${cmd}, got ${frame}`);
  assert.equal(frame.code, code, `expected code ${code}, got ${frame}`);
  assert.equal(typeof frame.msg, 'string', `"msg" is a text in ${frame}`);
  assert.ok(code === 100 || frame.msg.length > 0, `a refusal says why: ${frame}`);
}

/** The ack of a message: cmd 200 with empty data. */
export function expectAck(frame: Frame): void {
  assert.equal(frame.cmd, 200, `expected an ack, got ${frame}`);
  assert.equal(frame.data.length, 0, `an ack has empty data: ${frame}`);
}

/** A message acked by an away receiver's inbox: the usual start of a test of offline delivery. */
export async function leave(sender: Client, to: string, msg: unknown, msgId = unique('m')): Promise<string> {
  expectAck(await sender.say(to, msg, { msgId }));
  return msgId;
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Waits until `probe` holds. */
export async function eventually(
  probe: () => boolean | Promise<boolean>,
  what: () => string,
  timeoutMs = 10_000,
): Promise<void> {
  const until = performance.now() + timeoutMs;
  while (!(await probe())) {
    assert.ok(performance.now() < until, `not within ${timeoutMs} ms: ${what()}`);
    await sleep(10);
  }
}

/** Has the server open whatever it opens at first use; gives its count of descriptors with no connection. */
export async function warmUp(server: Server): Promise<number> {
  {
    using app = await newApp(server, { encrypt: true, autoAck: true });
    const device = await addDevice(app);
    await leave(app, device, 'stored');
    await leave(app, app.name, 'acked');
  }
  return settledDescriptors(server);
}

/** The server's count of descriptors once it has stood still for a while. */
export async function settledDescriptors(server: Server): Promise<number> {
  let count = server.openDescriptors();
  let since = performance.now();
  while (performance.now() - since < 300) {
    await sleep(20);
    const now = server.openDescriptors();
    if (now !== count) {
      count = now;
      since = performance.now();
    }
  }
  return count;
}
