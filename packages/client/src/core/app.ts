import { cmd, code, encodeText } from '@hawser/protocol';
import { Client, nameFault } from './client.ts';
import { md5Hex } from './md5.ts';
import type { WaitOptions } from './pending.ts';

/** A person's client: logs in with a user name and a password, and talks to the devices that it has added. */
export class AppClient extends Client {
  /**
   * Registers a user. It does not log in. Rejects with `RefusedError`: code 1001 when the name is taken; with
   * `ClosedError` and outcome `unknown` when the connection broke before the answer: then try to log in.
   *
   * @param password as the person typed it; only its MD5 leaves this machine
   */
  register(username: string, password: string, options: WaitOptions = {}): Promise<void> {
    const body = { username, password: md5Hex(password) };
    return nameFault(username) ?? this.session.register(username, encodeText(JSON.stringify(body)), options);
  }

  /**
   * Logs in, and stays logged in: from the first success on the client reconnects by itself. Rejects with `RefusedError`
   * (code 1002: wrong user name or password), with `TimeoutError`, or with `AbortedError`; until then it keeps trying.
   * With `timeoutMs: Infinity` it tries until the signal ends it.
   */
  login(username: string, password: string, options: WaitOptions = {}): Promise<void> {
    const body = { username, password: md5Hex(password), nack: true };
    const login = { cmd: cmd.login, name: username, data: encodeText(JSON.stringify(body)) };
    return nameFault(username) ?? this.session.login(login, options);
  }

  /** Adds a device to this user's. Rejects with `RefusedError`: code 2001 when it was added before. */
  addDevice(deviceId: string, options: WaitOptions = {}): Promise<void> {
    return this.#change(cmd.addDevice, code.deviceAlreadyAdded, deviceId, options);
  }

  /** Removes a device from this user's. Rejects with `RefusedError`: code 2002 when it is not added. */
  removeDevice(deviceId: string, options: WaitOptions = {}): Promise<void> {
    return this.#change(cmd.removeDevice, code.deviceNotAdded, deviceId, options);
  }

  #change(number: number, alreadyCode: number, deviceId: string, options: WaitOptions): Promise<void> {
    const data = encodeText(JSON.stringify({ deviceId }));
    return nameFault(deviceId) ?? this.session.request({ cmd: number, data, alreadyCode }, options).then(() => {});
  }
}
