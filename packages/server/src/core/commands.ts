import { cmd, type Envelope, FIRST_CMD_AFTER_LOGIN, type RefusalName, type Role } from '@hawser/protocol';
import { ack } from './handlers/ack.ts';
import { authenticate } from './handlers/authenticate.ts';
import { addDevice, devices, removeDevice } from './handlers/devices.ts';
import { fetch } from './handlers/fetch.ts';
import { heartbeat } from './handlers/heartbeat.ts';
import { clientKey } from './handlers/key.ts';
import { login } from './handlers/login.ts';
import { logout } from './handlers/logout.ts';
import { message } from './handlers/message.ts';
import { register } from './handlers/register.ts';
import type { Session } from './session.ts';

/**
 * Handles one request, its data decrypted. A promise holds the frames behind it on this connection until it settles;
 * a rejection is answered code 200.
 */
export type Handler = (session: Session, request: Envelope) => Promise<void> | undefined;

export interface Command {
  readonly name: string;
  /** Who may send it: a role, `client` for both and those not logged in, `server` for what no client sends. */
  readonly from: Role | 'client' | 'server';
  readonly handle?: Handler;
}

/** Every command of the protocol. */
export const commands: ReadonlyMap<number, Command> = new Map<number, Command>([
  [cmd.heartbeat, { name: 'heartbeat', from: 'client', handle: heartbeat }],
  [cmd.serverKey, { name: 'server key', from: 'server' }],
  [cmd.clientKey, { name: 'client key', from: 'client', handle: clientKey }],
  [cmd.internalError, { name: 'internal error', from: 'server' }],
  [cmd.login, { name: 'login', from: 'app', handle: login }],
  [cmd.authenticate, { name: 'device auth', from: 'device', handle: authenticate }],
  [cmd.register, { name: 'register', from: 'app', handle: register }],
  [cmd.conflict, { name: 'conflict', from: 'server' }],
  [cmd.logout, { name: 'logout', from: 'client', handle: logout }],
  [cmd.message, { name: 'message', from: 'client', handle: message }],
  [cmd.push, { name: 'ack of a push', from: 'client', handle: ack }],
  [cmd.fetch, { name: 'fetch offline', from: 'client', handle: fetch }],
  [cmd.addDevice, { name: 'add device', from: 'app', handle: addDevice }],
  [cmd.removeDevice, { name: 'remove device', from: 'app', handle: removeDevice }],
  [cmd.devices, { name: 'my devices', from: 'app', handle: devices }],
]);

export function commandOf(number: number): Command | undefined {
  return commands.get(number);
}

/** Why a client in this state may not send this command, if so: checked before its body is looked at. */
export function whyRefused(
  number: number,
  command: Command | undefined,
  role: Role | undefined,
): RefusalName | undefined {
  if (role === undefined && number >= FIRST_CMD_AFTER_LOGIN) return 'notLoggedIn';
  if (command === undefined) return 'unknownCommand';
  if (command.from === 'server') return 'serverCommand';
  const isForOther = role !== undefined && command.from !== 'client' && command.from !== role;
  return isForOther ? 'otherRole' : undefined;
}
