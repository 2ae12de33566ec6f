import { type App, HawserError, RefusedError } from '@hawser/client';
import { code } from '@hawser/protocol';
import { visible } from '../output.ts';
import { parseExactly } from './json.ts';
import { words } from './names.ts';
import { hostPort } from './report.ts';

/** What commands know of the chat. */
export interface Talk {
  readonly app: App;
  readonly name: string;
  readonly timeoutMs: number;
  readonly names: Set<string>;
  receivers: readonly string[];
  say(text: string): void;
  send(value: unknown, text: string): void;
  quit(): void;
}

/** A command could not be carried out; the message says why, for the person. */
export class ChatError extends Error {}

/** What can be typed behind a slash. */
export interface ChatCommand {
  readonly usage: string;
  readonly help: string;
  run(talk: Talk, rest: string): Promise<void> | void;
}

export const chatCommands: Readonly<Record<string, ChatCommand>> = {
  '/help': { usage: '/help', help: 'this list', run: help },
  '/to': { usage: '/to NAME…', help: 'who the lines that follow are for: devices or users', run: to },
  '/add': { usage: '/add ID…', help: 'add devices to yours, and talk to them', run: add },
  '/pair': { usage: '/pair ID CODE', help: 'add a device that has a pairing code, and talk to it', run: pair },
  '/remove': { usage: '/remove ID…', help: 'remove devices from yours', run: remove },
  '/devices': { usage: '/devices', help: 'your devices, and whether they are online', run: devices },
  '/json': { usage: '/json VALUE', help: 'send a JSON value in place of text', run: json },
  '/status': { usage: '/status', help: 'how the connection fares', run: status },
  '/quit': { usage: '/quit', help: 'leave when all is acked, as Ctrl-D does', run: (talk) => talk.quit() },
};

export const commandNames: readonly string[] = Object.keys(chatCommands);

function help(talk: Talk): void {
  const width = Math.max(...Object.values(chatCommands).map(({ usage }) => usage.length));
  for (const { usage, help } of Object.values(chatCommands)) talk.say(`${usage.padEnd(width)}  ${help}`);
  talk.say('Any other line is sent. Tab completes, names with spaces stand in "quotes", //x sends /x.');
}

function to(talk: Talk, rest: string): void {
  const receivers = words(rest);
  if (receivers.length === 0) talk.say('who is it for? /to NAME');
  else talk.receivers = receivers;
  for (const name of receivers) talk.names.add(name);
}

async function add(talk: Talk, rest: string): Promise<void> {
  const ids = words(rest);
  for (const id of ids) await addOne(talk, id, {});
  if (ids.length > 0) talk.receivers = ids;
  else talk.say('which device? /add ID');
}

async function pair(talk: Talk, rest: string): Promise<void> {
  const [id, code, ...more] = words(rest);
  if (id === undefined || code === undefined || more.length > 0) {
    talk.say('which device, and what is its code? /pair ID CODE');
    return;
  }
  await addOne(talk, id, { code });
  talk.receivers = [id];
}

async function addOne(talk: Talk, id: string, pairing: { readonly code?: string }): Promise<void> {
  const { timeoutMs } = talk;
  try {
    await talk.app.addDevice(id, { timeoutMs, ...pairing });
    talk.say(`${visible(id)} is added`);
  } catch (error) {
    if (!isAlready(error, code.deviceAlreadyAdded)) throw refusal(`${id} is not added`, error);
    talk.say(`${visible(id)} was added before`);
  }
  talk.names.add(id);
}

async function remove(talk: Talk, rest: string): Promise<void> {
  const { timeoutMs } = talk;
  const ids = words(rest);
  if (ids.length === 0) talk.say('which device? /remove ID');
  for (const id of ids) {
    try {
      await talk.app.removeDevice(id, { timeoutMs });
      talk.say(`${visible(id)} is removed`);
    } catch (error) {
      throw refusal(`${id} is not removed`, error);
    }
    talk.receivers = talk.receivers.filter((name) => name !== id);
  }
}

function isAlready(error: unknown, alreadyCode: number): boolean {
  return error instanceof RefusedError && error.code === alreadyCode;
}

function refusal(what: string, cause: unknown): unknown {
  return cause instanceof HawserError ? new ChatError(`${what}: ${cause.message}`, { cause }) : cause;
}

async function devices(talk: Talk): Promise<void> {
  let count = 0;
  try {
    for await (const { deviceId, online } of talk.app.devices({ timeoutMs: talk.timeoutMs })) {
      count++;
      talk.names.add(deviceId);
      talk.say(`${visible(deviceId)}  ${online === undefined ? 'unknown' : online ? 'online' : 'away'}`);
    }
  } catch (error) {
    throw refusal('the devices cannot be listed', error);
  }
  if (count === 0) talk.say('you have no devices: /add ID');
}

function json(talk: Talk, rest: string): void {
  try {
    talk.send(parseExactly(rest), rest);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    talk.say(`it is not JSON, and not sent: ${error.message}`);
  }
}

function status(talk: Talk): void {
  const { name, app } = talk;
  const { state } = app;
  talk.say(`${name} is ${state.phase}${'address' in state ? ` at ${hostPort(state.address)}` : ''}`);
}
