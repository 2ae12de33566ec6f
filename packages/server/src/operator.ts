import { isName, isPairingCode, isSecret, wireLimits } from '@hawser/protocol';
import type { Core } from './core/core.ts';
import { ClusterAway, type DeviceRecord, LOCKED, type Provision, type StoredMessage } from './core/ports.ts';
import type { BackupSeal } from './store/backup.ts';
import type { ServedStore } from './store/served.ts';

/** What an operator asked for cannot be done; the message is for the operator. */
export class OperatorError extends Error {}

export interface UserRow {
  readonly name: string;
  readonly createdAt: number;
  readonly devices: number;
  readonly online: boolean;
  /** Its record was damaged: nobody can log in until it has a new password. */
  readonly locked: boolean;
}

export interface DeviceRow {
  readonly id: string;
  readonly createdAt: number;
  /** 0 when it was added but never came. */
  readonly lastSeenAt: number;
  readonly users: number;
  readonly online: boolean;
  /** `locked`: revoked, or lost to damage; nobody comes as it before it gets a new one. */
  readonly secret: 'none' | 'set' | 'locked';
  readonly code: 'none' | 'set' | 'locked';
  /** The operator has vouched for it. */
  readonly provisioned: boolean;
}

export interface InboxRow {
  readonly receiver: string;
  readonly messages: number;
  readonly bytes: number;
  /** When the first of them was accepted, by the wall clock, ms. */
  readonly oldestAt: number;
  readonly online: boolean;
}

export interface MessageRow {
  readonly position: number;
  readonly from: string;
  readonly msgId: string;
  readonly acceptedAt: number;
  /** Seconds; 0 when it has none. */
  readonly ttl: number;
  readonly bytes: number;
  /** The beginning of the sender's JSON text. */
  readonly msg: string;
}

/** How far a purge is. */
export interface PurgeState {
  readonly purged: number;
  /** Where to go on. */
  readonly after: string;
  readonly end: boolean;
}

export interface StoreState {
  /** Damaged records that are set aside. */
  readonly damaged: number;
}

export interface DamagedRow {
  /** What kind of record it was, and whose. */
  readonly record: string;
  readonly name: string;
  readonly bytes: number;
  /** In hex. */
  readonly key: string;
}

/** How far a backup is. */
export interface BackupState {
  readonly doneBytes: number;
  readonly totalBytes: number;
  /** Set when it is finished. */
  readonly seal: BackupSeal | null;
  /** Set when it failed. */
  readonly error: string | null;
}

/** Rows of a list at once, at most. */
const ROWS_MAX = 500;
const INBOX_ROWS_MAX = 50;
const MESSAGE_ROWS_MAX = 100;
/** How much of a message is shown. */
const SHOWN_BYTES_MAX = 2_000;
/** What is read of an inbox at once to count or to clear it. */
const PAGE_MESSAGES = 256;
const PAGE_BYTES = 1024 * 1024;
/** An operation that can go on in a further call answers after about this: whoever waits sees how far it is. */
const ANSWER_AFTER_MS = 200;

/**
 * What operators can do, on a running server through its control socket or on its data folder when none runs. Takes
 * and returns plain JSON; throws `OperatorError`.
 */
export class Operator {
  readonly #core: Core;
  readonly #store: ServedStore;
  #backup: BackupState = { doneBytes: 0, totalBytes: 0, seal: null, error: 'no backup was begun' };

  constructor(core: Core, store: ServedStore) {
    this.#core = core;
    this.#store = store;
  }

  async addUser({ name, password }: { name: string; password: string }): Promise<void> {
    const result = await this.#core.addUser(name, password);
    if (result === 'userExists') throw new OperatorError(`the name ${quoted(name)} is taken`);
    if (result === 'badName')
      throw new OperatorError(`${quoted(name)} is no name: a name has 1 to 128 bytes and no control characters`);
    if (result === 'badPassword') throw new OperatorError('the password is empty or too long');
    if (result !== 'ok') throw new OperatorError(`not added: ${result}`);
  }

  async setPassword({ name, password }: { name: string; password: string }): Promise<void> {
    const result = await this.#core.setPassword(name, password);
    if (result === 'badPassword') throw new OperatorError('the password is empty or too long');
    if (!result) throw new OperatorError(`there is no user ${quoted(name)}`);
  }

  async removeUser({ name }: { name: string }): Promise<void> {
    if (!(await this.#remove(name, 'user'))) throw new OperatorError(`there is no user ${quoted(name)}`);
  }

  async removeDevice({ name }: { name: string }): Promise<void> {
    if (!(await this.#remove(name, 'device'))) throw new OperatorError(`there is no device ${quoted(name)}`);
  }

  /** On all nodes, where there are others. */
  async #remove(name: string, kind: 'user' | 'device'): Promise<boolean> {
    try {
      return await this.#core.removeName(name, kind);
    } catch (error) {
      if (!(error instanceof ClusterAway)) throw error;
      throw new OperatorError(`${quoted(name)} was not removed: ${error.message}: try again`, { cause: error });
    }
  }

  // ---- what devices prove themselves by

  /**
   * Adds a device that is not known, or was added and never came. An empty code is none. `known` when it is there already:
   * then nothing is changed.
   */
  async addDevice({ name, secret, code }: { name: string; secret: string; code: string }): Promise<'added' | 'known'> {
    const provision = { secret: this.#digestOfSecret(secret), code: this.#digestOfCode(code) };
    return (await this.#provision(name, provision, 'new')) === 'known' ? 'known' : 'added';
  }

  /** Gives a device a new secret, whatever it had; its session ends. */
  async setSecret({ name, secret }: { name: string; secret: string }): Promise<void> {
    await this.#provision(name, { secret: this.#digestOfSecret(secret) }, 'known');
  }

  /** Nobody comes as this device any more, before it gets a new secret; its session ends. */
  async revokeDevice({ name }: { name: string }): Promise<void> {
    await this.#provision(name, { secret: LOCKED }, 'known');
  }

  /** Gives a device a new pairing code; an empty one takes it away. Who has added it keeps it. */
  async setCode({ name, code }: { name: string; code: string }): Promise<void> {
    await this.#provision(name, { code: this.#digestOfCode(code) ?? null }, 'known');
  }

  async #provision(name: string, provision: Provision, which: 'new' | 'known'): Promise<'done' | 'known'> {
    if (!isName(name))
      throw new OperatorError(`${quoted(name)} is no id: an id has 1 to 128 bytes and no control characters`);
    const result = await this.#core.provision(name, provision, which);
    if (result === 'is a user') throw new OperatorError(`${quoted(name)} is a user`);
    if (result === 'unknown') throw new OperatorError(`there is no device ${quoted(name)}`);
    return result;
  }

  #digestOfSecret(secret: string): string {
    if (!isSecret(secret)) throw new OperatorError(`a secret has 1 to ${wireLimits.secretBytesMax} bytes`);
    return this.#core.digests.digest(secret);
  }

  #digestOfCode(code: string): string | undefined {
    if (code === '') return undefined;
    const { codeBytesMin, codeBytesMax } = wireLimits;
    if (!isPairingCode(code)) throw new OperatorError(`a pairing code has ${codeBytesMin} to ${codeBytesMax} bytes`);
    return this.#core.digests.digest(code);
  }

  /** Users in byte order behind `after`, up to 500 of them. */
  async listUsers({ after }: { after: string }): Promise<UserRow[]> {
    const { directory } = this.#core;
    const rows = await this.#store.list('user', after, ROWS_MAX);
    return Promise.all(
      rows.map(async ([name, record]) => ({
        name,
        createdAt: record.createdAt,
        devices: (await this.#store.peers(name, 'user')).length,
        online: directory.get(name) !== undefined,
        locked: record.locked === true,
      })),
    );
  }

  /** Devices in byte order behind `after`, up to 500 of them. */
  async listDevices({ after }: { after: string }): Promise<DeviceRow[]> {
    const { store, directory } = this.#core;
    const rows = await store.list('device', after, ROWS_MAX);
    return Promise.all(
      rows.map(async ([id, record]) => {
        const { createdAt, lastSeenAt, secret, code, provisioned } = record as DeviceRecord;
        return {
          id,
          createdAt,
          lastSeenAt,
          users: (await store.peers(id, 'device')).length,
          online: directory.get(id) !== undefined,
          secret: stateOf(secret),
          code: stateOf(code),
          provisioned: provisioned === true,
        };
      }),
    );
  }

  // ---- inboxes

  /** Inboxes that hold something, by receiver in byte order behind `after`: none when there are no more. */
  async listInboxes({ after }: { after: string }): Promise<InboxRow[]> {
    const heads = await this.#store.oldest(after, INBOX_ROWS_MAX);
    const rows: InboxRow[] = [];
    const since = performance.now();
    for (const head of heads) {
      if (rows.length > 0 && performance.now() - since > ANSWER_AFTER_MS) break;
      let messages = 0;
      let bytes = 0;
      for await (const message of this.#stored(head.to)) {
        messages++;
        bytes += message.msg.length;
      }
      const online = this.#core.directory.get(head.to) !== undefined;
      rows.push({ receiver: head.to, messages, bytes, oldestAt: head.wall, online });
    }
    return rows;
  }

  /** What an inbox holds behind a position, up to 100 messages. */
  async showInbox({ name, after }: { name: string; after: string }): Promise<MessageRow[]> {
    const { messages } = await this.#store.page(name, Number(after) || 0, MESSAGE_ROWS_MAX, Number.POSITIVE_INFINITY);
    return messages.map(({ position, from, msgId, wall, ttl, msg }) => ({
      position,
      from,
      msgId,
      acceptedAt: wall,
      ttl,
      bytes: msg.length,
      msg: Buffer.from(msg.subarray(0, SHOWN_BYTES_MAX)).toString(),
    }));
  }

  /**
   * Deletes what an inbox holds behind a position, for a while; to be called until it comes to the end. What was pushed
   * already may still be acked.
   */
  async purgeInbox({ name, after }: { name: string; after: string }): Promise<PurgeState> {
    let purged = 0;
    let position = Number(after) || 0;
    for (const since = performance.now(); performance.now() - since < ANSWER_AFTER_MS; ) {
      const { messages, end } = await this.#store.page(name, position, PAGE_MESSAGES, PAGE_BYTES);
      for (const message of messages) this.#store.remove({ ...message, size: message.msg.length });
      purged += messages.length;
      position = messages.at(-1)?.position ?? position;
      if (end) return { purged, after: String(position), end };
    }
    return { purged, after: String(position), end: false };
  }

  /** All messages of an inbox in order, read page by page. */
  async *#stored(receiver: string): AsyncGenerator<StoredMessage> {
    let position = 0;
    for (;;) {
      const { messages, end } = await this.#store.page(receiver, position, PAGE_MESSAGES, PAGE_BYTES);
      yield* messages;
      if (end) return;
      position = messages.at(-1)?.position ?? position;
    }
  }

  // ---- the store

  async storeState(): Promise<StoreState> {
    return { damaged: this.#store.stats.damaged };
  }

  /** Damaged records that are set aside, behind a key, up to 500 of them. */
  async listDamaged({ after }: { after: string }): Promise<DamagedRow[]> {
    const records = await this.#store.damaged(after === '' ? undefined : Buffer.from(after, 'hex'), ROWS_MAX);
    return records.map(({ key, ...row }) => ({ ...row, key: Buffer.from(key).toString('hex') }));
  }

  /** Deletes the damaged records that are set aside; returns how many. */
  forgetDamaged(): Promise<number> {
    return this.#store.forgetDamaged();
  }

  // ---- backup

  /** Begins a copy of all that is stored into a new folder. One at a time. */
  async startBackup({ folder }: { folder: string }): Promise<void> {
    if (this.#backup.seal === null && this.#backup.error === null) throw new OperatorError('a backup is under way');
    this.#backup = { doneBytes: 0, totalBytes: 0, seal: null, error: null };
    const onProgress = (doneBytes: number, totalBytes: number): void => {
      this.#backup = { doneBytes, totalBytes, seal: null, error: null };
    };
    this.#store.backUp(folder, this.#core.time.wall(), onProgress).then(
      (seal) => {
        this.#backup = { ...this.#backup, seal };
      },
      (error: unknown) => {
        this.#backup = { ...this.#backup, error: error instanceof Error ? error.message : String(error) };
      },
    );
  }

  async backupState(): Promise<BackupState> {
    return this.#backup;
  }
}

/** The operations by their names on the control socket, each with the texts that it takes. */
export const operations = {
  addUser: ['name', 'password'],
  setPassword: ['name', 'password'],
  removeUser: ['name'],
  removeDevice: ['name'],
  addDevice: ['name', 'secret', 'code'],
  setSecret: ['name', 'secret'],
  revokeDevice: ['name'],
  setCode: ['name', 'code'],
  listUsers: ['after'],
  listDevices: ['after'],
  listInboxes: ['after'],
  showInbox: ['name', 'after'],
  purgeInbox: ['name', 'after'],
  storeState: [],
  listDamaged: ['after'],
  forgetDamaged: [],
  startBackup: ['folder'],
  backupState: [],
} as const satisfies Record<keyof Operator, readonly string[]>;

export type Operation = keyof typeof operations;

export interface OperatedOn {
  readonly core: Core;
  readonly store: ServedStore;
}

/** Runs an operation by its name, when it is one and its argument has what it takes. */
export function operateOn({ core, store }: OperatedOn): (name: string, argument: unknown) => Promise<unknown> {
  const operator = new Operator(core, store);
  return async (name, argument) => {
    if (!Object.hasOwn(operations, name)) throw new OperatorError(`there is no operation ${quoted(name)}`);
    const operation = name as Operation;
    for (const key of operations[operation]) {
      const value: unknown = (argument as Record<string, unknown> | null)?.[key];
      if (typeof value !== 'string') throw new OperatorError(`${operation} takes a text "${key}"`);
    }
    return operator[operation](argument as never);
  };
}

function stateOf(digest: string | undefined): 'none' | 'set' | 'locked' {
  if (digest === undefined) return 'none';
  return digest === LOCKED ? 'locked' : 'set';
}

function quoted(name: string): string {
  return JSON.stringify(name);
}
