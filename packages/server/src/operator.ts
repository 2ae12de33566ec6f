import type { Core } from './core/core.ts';
import type { DeviceRecord, UserRecord } from './core/ports.ts';

/** What an operator asked for cannot be done; the message is for the operator. */
export class OperatorError extends Error {}

export interface UserRow {
  readonly name: string;
  readonly createdAt: number;
  readonly devices: number;
  readonly online: boolean;
}

export interface DeviceRow {
  readonly id: string;
  readonly createdAt: number;
  /** 0 when it was added but never came. */
  readonly lastSeenAt: number;
  readonly users: number;
  readonly online: boolean;
}

/** Rows of a list at once, at most. */
const ROWS_MAX = 500;

/**
 * What operators can do, on a running server through its control socket or on its data folder when none runs. Takes
 * and returns plain JSON; throws `OperatorError`.
 */
export class Operator {
  readonly #core: Core;

  constructor(core: Core) {
    this.#core = core;
  }

  async addUser({ name, password }: { name: string; password: string }): Promise<void> {
    const result = await this.#core.addUser(name, password);
    if (result === 'userExists') throw new OperatorError(`the name ${quoted(name)} is taken`);
    if (result === 'badName')
      throw new OperatorError(`${quoted(name)} is no name: 1 to 128 bytes, no control characters`);
    if (result === 'badPassword') throw new OperatorError('the password is empty or too long');
    if (result !== 'ok') throw new OperatorError(`not added: ${result}`);
  }

  async setPassword({ name, password }: { name: string; password: string }): Promise<void> {
    const result = await this.#core.setPassword(name, password);
    if (result === 'badPassword') throw new OperatorError('the password is empty or too long');
    if (!result) throw new OperatorError(`there is no user ${quoted(name)}`);
  }

  async removeUser({ name }: { name: string }): Promise<void> {
    if (!(await this.#core.removeName(name, 'user'))) throw new OperatorError(`there is no user ${quoted(name)}`);
  }

  async removeDevice({ name }: { name: string }): Promise<void> {
    if (!(await this.#core.removeName(name, 'device'))) throw new OperatorError(`there is no device ${quoted(name)}`);
  }

  /** Users in byte order behind `after`, up to 500 of them. */
  async listUsers({ after }: { after: string }): Promise<UserRow[]> {
    const { store, directory } = this.#core;
    const rows = await store.list('user', after, ROWS_MAX);
    return Promise.all(
      rows.map(async ([name, record]) => ({
        name,
        createdAt: (record as UserRecord).createdAt,
        devices: (await store.peers(name)).length,
        online: directory.get(name) !== undefined,
      })),
    );
  }

  /** Devices in byte order behind `after`, up to 500 of them. */
  async listDevices({ after }: { after: string }): Promise<DeviceRow[]> {
    const { store, directory } = this.#core;
    const rows = await store.list('device', after, ROWS_MAX);
    return Promise.all(
      rows.map(async ([id, record]) => ({
        id,
        createdAt: (record as DeviceRecord).createdAt,
        lastSeenAt: (record as DeviceRecord).lastSeenAt,
        users: (await store.peers(id)).length,
        online: directory.get(id) !== undefined,
      })),
    );
  }
}

/** The operations by their names on the control socket. */
export const operations = [
  'addUser',
  'setPassword',
  'removeUser',
  'removeDevice',
  'listUsers',
  'listDevices',
] as const satisfies readonly (keyof Operator)[];

function quoted(name: string): string {
  return JSON.stringify(name);
}
