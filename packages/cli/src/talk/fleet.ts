import { Device, type Message } from '@hawser/client';
import { terminalLimits } from '@hawser/protocol';
import { visible } from '../output.ts';
import { Progress } from '../progress.ts';
import type { Answers } from './answer.ts';
import type { Ending } from './ending.ts';
import { ExitError, endedBy, failWith, loginFailure } from './exit.ts';
import { FirstLogin, leave } from './login.ts';
import { connectionOf, type DeviceOptions } from './options.ts';
import { hostPort, type Report } from './report.ts';
import type { Secrets } from './secrets.ts';
import { Slots } from './slots.ts';

/** `lamp-1` and 3 give lamp-1, lamp-2 and lamp-3; `lamp-08` gives lamp-08, lamp-09, lamp-10; `lamp` gives lamp-1 … */
export function fleetIds(first: string, count: number | undefined): string[] {
  if (count === undefined) return [first];
  const [, stem = '', digits] = /^(.*?)(\d{1,15})?$/s.exec(first) ?? [];
  const from = Number(digits ?? 1);
  const name = digits === undefined ? `${stem}-` : stem;
  return Array.from({ length: count }, (_, index) => name + String(from + index).padStart(digits?.length ?? 0, '0'));
}

/** One device, or many of them. */
export class Fleet {
  /** Those that are online or trying to be. */
  readonly devices = new Map<string, Device>();
  readonly #options: DeviceOptions;
  readonly #secrets: Secrets;
  readonly #report: Report;
  readonly #ending: Ending;
  /** What has ended a device, the first time. */
  #failure: unknown;

  constructor(options: DeviceOptions, secrets: Secrets, report: Report, ending: Ending) {
    this.#options = options;
    this.#secrets = secrets;
    this.#report = report;
    this.#ending = ending;
    ending.signal.addEventListener('abort', () => this.leave());
  }

  /** Brings all online; ends the command when none could be, or none is left. */
  async connect(ids: readonly string[], answers: Answers): Promise<void> {
    const progress = new Progress('connecting', ids.length > 1 ? 'devices' : 'silent');
    const slots = new Slots(terminalLimits.fleetLoginsMax);
    let tried = 0;
    const logins: Promise<void>[] = [];
    try {
      for (const id of ids) {
        await slots.begin(() => {
          const login = this.#connect(id, answers).then(() => progress.count(++tried, ids.length));
          logins.push(login);
          return login;
        });
      }
      await Promise.all(logins);
    } finally {
      progress.end();
    }
    if (this.devices.size === 0) throw this.#failure;
    this.#report.screen.note(this.#welcome(ids));
  }

  /** Ends the command's good end if a device is not well. */
  check(): void {
    if (this.#failure instanceof ExitError) throw new ExitError(this.#failure.exitCode);
  }

  leave(): void {
    for (const device of this.devices.values()) leave(device);
  }

  async #connect(id: string, answers: Answers): Promise<void> {
    // It may have waited for its turn.
    if (this.#ending.signal.aborted) return;
    const { timeout, abilities, deviceVersion } = this.#options;
    const device = new Device({ ...connectionOf(this.#options), onError: (error) => this.#report.trouble(error, id) });
    const secret = this.#secrets(id);
    const code = this.#options.code;
    const attempt = new FirstLogin(timeout);
    this.devices.set(id, device);
    device.onMessage((message: Message) => answers.take(device, message), { ack: 'by hand' });
    const off = device.onState((state) => {
      if (!attempt.isEndedBy(state)) this.#report.state(id, state);
    });
    try {
      await device.authenticate(id, {
        ...attempt.wait,
        ...(abilities !== undefined && { abilities }),
        ...(deviceVersion !== undefined && { version: deviceVersion }),
        ...(secret !== undefined && { secret }),
        ...(code !== undefined && { code }),
      });
    } catch (error) {
      device.close();
      this.#lost(id, loginFailure(visible(id), error));
      return;
    }
    off();
    device.onState((state) => {
      this.#report.state(id, state);
      const end = endedBy(visible(id), state);
      if (end !== undefined) this.#lost(id, end);
    });
  }

  /** A device will not come back. The others go on; without one there is nothing to do. */
  #lost(id: string, failure: unknown): void {
    this.devices.delete(id);
    this.#failure ??= failure;
    if (this.#options.count === undefined) this.#ending.end(failure);
    else {
      if (failure instanceof ExitError && failure.message !== '') failWith(failure);
      if (this.devices.size === 0) this.#ending.end(new ExitError(exitCodeOf(this.#failure)));
    }
  }

  #welcome(ids: readonly string[]): string {
    if (ids.length > 1) return `${this.devices.size} of ${ids.length} devices are online`;
    const state = this.devices.get(ids[0] ?? '')?.state;
    return `${ids[0]} is online${state?.phase === 'online' ? ` at ${hostPort(state.address)}` : ''}`;
  }
}

function exitCodeOf(failure: unknown): number {
  return failure instanceof ExitError ? failure.exitCode : 1;
}
