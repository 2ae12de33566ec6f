import type { Cipher } from '@hawser/protocol';
import type { AbuseLimits } from './abuse-limits.ts';
import type { Accounts } from './accounts.ts';
import type { Admission } from './admission.ts';
import type { Counters } from './counters.ts';
import type { Delivery, DeliveryOptions } from './delivery.ts';
import type { DeviceLists } from './device-lists.ts';
import type { Directory } from './directory.ts';
import type { Guard } from './guard.ts';
import type { Handover } from './handover.ts';
import type { DevicesMode } from './identity.ts';
import type { Keyring } from './keyring.ts';
import type { PairingMode } from './pairing.ts';
import type { Log, Time } from './ports.ts';
import type { Session } from './session.ts';

/** What an operator may change; defaults in `serverLimits`. Milliseconds. */
export interface CoreOptions extends DeliveryOptions {
  readonly loginTimeoutMs: number;
  readonly idleTimeoutMs: number;
  /** Cmd 100 and 102 in the clear are allowed from everywhere, not only over TLS or from this machine. */
  readonly allowPlainLogin: boolean;
  readonly devices: DevicesMode;
  readonly pairing: PairingMode;
  /** When a device that is of no use to anybody is forgotten. */
  readonly deviceAgeMsMax: number;
  /** Without TLS every frame must be encrypted, but for key agreement and heartbeats. */
  readonly requireEncryption?: boolean;
  /** Cmd 102 is refused: only the operator adds users. */
  readonly isRegistrationClosed?: boolean;
  /** Limits against abuse that are not the defaults. */
  readonly limits?: Partial<AbuseLimits>;
}

/** What sessions and their handlers work with. */
export interface Services {
  readonly options: CoreOptions;
  readonly time: Time;
  readonly log: Log;
  readonly counters: Counters;
  readonly limits: AbuseLimits;
  readonly admission: Admission;
  readonly guard: Guard;
  readonly keyring: Keyring;
  readonly directory: Directory;
  readonly accounts: Accounts;
  readonly delivery: Delivery;
  readonly deviceLists: DeviceLists;
  /** Names that come from other nodes and go there, if there are any. */
  readonly handover: Handover | undefined;
  /** @param key 16, 24 or 32 bytes */
  createCipher(key: Uint8Array): Cipher;
  /** Has `session.flush` called at the end of this turn. */
  flushLater(session: Session): void;
  /** Adds to the room taken for frames that have not arrived whole; returns how much it is in all. */
  addUnfinishedBytes(bytes: number): number;
  /** Whether this node may have lost what it holds to others: then nothing may be taken, pushed or acked any more. */
  readonly isFenced: boolean;
  /** The session has ended. */
  left(session: Session): void;
  /** The session of this name has ended, or was never served. */
  leftName(name: string): void;
}
