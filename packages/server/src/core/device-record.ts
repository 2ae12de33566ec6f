import type { DeviceRecord, Entry, NameRecord, Provision } from './ports.ts';

/**
 * What becomes of a device's record, for stores that read it, decide and write it at one moment. `Store` says what each
 * of these means.
 */

type Says = Pick<DeviceRecord, 'version' | 'abilities'>;

/** The record of a device that has come in, or why it has not. */
export function seenDevice(
  known: NameRecord | undefined,
  { version, abilities }: Says,
  wall: number,
  { secret, newSecret, newCode, ran }: Entry = {},
): DeviceRecord | 'is a user' | 'changed' {
  if (known?.kind === 'user') return 'is a user';
  if (known?.secret !== secret) return 'changed';
  if (newSecret !== undefined && (secret !== undefined || hasCome(known))) return 'changed';
  return {
    ...known,
    kind: 'device',
    version,
    abilities,
    createdAt: known?.createdAt ?? wall,
    lastSeenAt: wall,
    ...(ran !== undefined && { lastSeenRan: ran }),
    ...(newSecret !== undefined && { secret: newSecret }),
    ...(newCode !== undefined && { code: newCode }),
  };
}

/** Whether more is new than the time: that alone may be lost. */
export function isNews(known: NameRecord | undefined, seen: DeviceRecord): boolean {
  if (known?.kind !== 'device' || !hasCome(known)) return true;
  return (['version', 'abilities', 'secret', 'code'] as const).some((field) => known[field] !== seen[field]);
}

/** Whether a device has authenticated before. */
export function hasCome(known: DeviceRecord | undefined): boolean {
  return known !== undefined && known.lastSeenAt !== 0;
}

/** A device that somebody has added before it came. */
export function addedDevice(wall: number): DeviceRecord {
  return { kind: 'device', version: undefined, abilities: undefined, createdAt: wall, lastSeenAt: 0 };
}

/** The record of a device that was given something by the operator, or why it was not. */
export function provisionedDevice(
  known: NameRecord | undefined,
  { secret, code }: Provision,
  wall: number,
  which: 'new' | 'known',
): DeviceRecord | 'known' | 'unknown' | 'is a user' {
  if (known?.kind === 'user') return 'is a user';
  if (which === 'known' && known === undefined) return 'unknown';
  if (which === 'new' && (hasCome(known) || known?.secret !== undefined)) return 'known';
  const { code: oldCode, ...rest } = known ?? addedDevice(wall);
  const newCode = code === undefined ? oldCode : (code ?? undefined);
  return {
    ...rest,
    ...(secret !== undefined && { secret }),
    ...(newCode !== undefined && { code: newCode }),
    provisioned: true,
  };
}

/** Whether a device may be forgotten, if nobody has added it and nothing waits for it. */
export function isUnused(known: NameRecord | undefined, wallBefore: number, ranBefore: number): boolean {
  if (known?.kind !== 'device' || known.secret !== undefined || known.provisioned) return false;
  return Math.max(known.createdAt, known.lastSeenAt) < wallBefore && (known.lastSeenRan ?? 0) < ranBefore;
}
