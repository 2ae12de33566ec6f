import { cmd, code, encodeText, readDevicesPage } from '@hawser/protocol';
import { Client, nameFault } from './client.ts';
import { HawserError } from './errors.ts';
import { md5Hex } from './md5.ts';
import type { WaitOptions } from './pending.ts';

/** A device of a user, as the server knows it. */
export interface DeviceInfo {
  readonly deviceId: string;
  /** What the device last said of itself: any JSON values; `undefined` when it said nothing. */
  readonly version: unknown;
  readonly abilities: unknown;
  /** Whether it is connected now; `undefined` when the servers cannot tell for the moment. */
  readonly online: boolean | undefined;
  /** When it last logged in, in ms since 1970 by the server's clock; `undefined` when it never did. */
  readonly lastSeen: number | undefined;
}

export interface AddDeviceOptions extends WaitOptions {
  /** The device's pairing code, when it has one. */
  readonly code?: string;
}

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

  /**
   * Adds a device to this user's. Rejects with `RefusedError`: code 2001 when it was added before, 200 when its pairing code
   * is wrong or missing; with `retry` true when too many codes were wrong, for this device or by this user: later again.
   */
  addDevice(deviceId: string, options: AddDeviceOptions = {}): Promise<void> {
    const data = encodeText(JSON.stringify({ deviceId, code: options.code }));
    return this.#change(cmd.addDevice, code.deviceAlreadyAdded, deviceId, data, options);
  }

  /** Removes a device from this user's. Rejects with `RefusedError`: code 2002 when it is not added. */
  removeDevice(deviceId: string, options: WaitOptions = {}): Promise<void> {
    const data = encodeText(JSON.stringify({ deviceId }));
    return this.#change(cmd.removeDevice, code.deviceNotAdded, deviceId, data, options);
  }

  /**
   * The devices that this user has added, in a fixed order of their ids. They are asked for as the loop goes on, up to 500
   * at a time: what is added or removed meanwhile may be among them or not.
   *
   * What goes wrong is thrown in the loop, as `addDevice` rejects with it; `timeoutMs` is for each request. A server that
   * does not know the command refuses it with code 200.
   */
  async *devices(options: WaitOptions = {}): AsyncGenerator<DeviceInfo, void, undefined> {
    let after: string | undefined;
    do {
      const data = encodeText(JSON.stringify({ after }));
      const page = readDevicesPage(await this.session.request({ cmd: cmd.devices, data }, options));
      if (page === undefined || (page.next !== undefined && page.next === after)) {
        throw new HawserError('the list of devices that the server sent makes no sense');
      }
      for (const device of page.devices) {
        yield { ...device, lastSeen: device.lastSeen === 0 ? undefined : device.lastSeen };
      }
      after = page.next;
    } while (after !== undefined);
  }

  #change(
    number: number,
    alreadyCode: number,
    deviceId: string,
    data: Uint8Array,
    options: WaitOptions,
  ): Promise<void> {
    return nameFault(deviceId) ?? this.session.request({ cmd: number, data, alreadyCode }, options).then(() => {});
  }
}
