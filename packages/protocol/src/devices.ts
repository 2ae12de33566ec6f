/** The answer to cmd 205: a page of a user's devices, as the server writes it and a client reads it. */

import { code } from './code.ts';
import { decodeText, encodeText, utf8Length } from './text.ts';

/** A device as the server tells of it. */
export interface DeviceLine {
  readonly deviceId: string;
  /** JSON text, as the device last said it; `undefined` when it said nothing. */
  readonly version: string | undefined;
  readonly abilities: string | undefined;
  /** `undefined` when that cannot be told for now. */
  readonly online: boolean | undefined;
  /** When it last authenticated, in ms since 1970; 0 when it never did. */
  readonly lastSeen: number;
}

/** One page; `next` is where the following one begins, if there is one. */
export interface DevicesPage {
  readonly devices: readonly ReadDevice[];
  readonly next: string | undefined;
}

/** A device as a client reads it; what is absent from the answer is `undefined`. */
export interface ReadDevice {
  readonly deviceId: string;
  readonly version: unknown;
  readonly abilities: unknown;
  readonly online: boolean | undefined;
  readonly lastSeen: number;
}

const HEAD = `{"code":${code.ok},"msg":"ok","devices":[`;
const TAIL = '],"next":';

/** Writes a page, device by device, within a number of bytes. */
export class DevicesWriter {
  readonly #bytesMax: number;
  readonly #lines: string[] = [];
  #bytes = HEAD.length + 2;

  /** @param bytesMax of the answer; one device has room in any case */
  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get count(): number {
    return this.#lines.length;
  }

  /** False when the page has no room for the device. */
  add(device: DeviceLine): boolean {
    const line = lineOf(device);
    // Behind any device the page may end, and then names it.
    const bytes = utf8Length(line) + 1;
    const end = TAIL.length + utf8Length(JSON.stringify(device.deviceId)) + 1;
    if (this.count > 0 && this.#bytes + bytes + end > this.#bytesMax) return false;
    this.#lines.push(line);
    this.#bytes += bytes;
    return true;
  }

  /** @param next the last device of the page, when others follow */
  body(next: string | undefined): Uint8Array {
    const end = next === undefined ? ']}' : `${TAIL}${JSON.stringify(next)}}`;
    return encodeText(HEAD + this.#lines.join(',') + end);
  }
}

function lineOf({ deviceId, version, abilities, online, lastSeen }: DeviceLine): string {
  const said =
    (version === undefined ? '' : `,"version":${version}`) +
    (abilities === undefined ? '' : `,"abilities":${abilities}`);
  const here = online === undefined ? '' : `,"online":${online}`;
  return `{"deviceId":${JSON.stringify(deviceId)}${said}${here},"lastSeen":${Math.trunc(lastSeen)}}`;
}

/** Reads a page; `undefined` when it makes no sense. Members that are not known are ignored. */
export function readDevicesPage(data: Uint8Array): DevicesPage | undefined {
  const page = fieldsOf(parsed(data));
  if (!Array.isArray(page?.devices)) return undefined;
  const devices: ReadDevice[] = [];
  for (const value of page.devices as unknown[]) {
    const device = fieldsOf(value);
    if (typeof device?.deviceId !== 'string') return undefined;
    const { deviceId, version, abilities, online, lastSeen } = device;
    devices.push({
      deviceId,
      version: version ?? undefined,
      abilities: abilities ?? undefined,
      online: typeof online === 'boolean' ? online : undefined,
      lastSeen: typeof lastSeen === 'number' ? lastSeen : 0,
    });
  }
  return { devices, next: typeof page.next === 'string' ? page.next : undefined };
}

function parsed(data: Uint8Array): unknown {
  try {
    return JSON.parse(decodeText(data) ?? '') as unknown;
  } catch {
    return undefined;
  }
}

function fieldsOf(value: unknown): Record<string, unknown> | undefined {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
}
