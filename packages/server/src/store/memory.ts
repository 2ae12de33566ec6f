import { encodeText, serverLimits } from '@hawser/protocol';
import { addedDevice, isUnused, provisionedDevice, seenDevice } from '../core/device-record.ts';
import {
  APPEND,
  type DeviceRecord,
  type Entry,
  type NameRecord,
  type NewMessage,
  type Page,
  type Provision,
  type Store,
  type StoredMessage,
} from '../core/ports.ts';
import { defaultInboxLimits, type InboxLimits } from './inbox.ts';

/**
 * Decides when a step of the store happens: `call` is to be called once, at any later time, before or after steps that
 * were deferred earlier. Whatever order is chosen, the store keeps the guarantees of its port.
 */
export type Defer = (call: () => void) => void;

/** What outlives a crash. */
interface Disk {
  readonly names: Map<string, NameRecord>;
  bindings: readonly { readonly user: string; readonly device: string }[];
  readonly inboxes: Map<string, StoredMessage[]>;
  position: number;
}

/**
 * A store for tests and simulation: small, plainly correct, with no time or randomness of its own.
 *
 * Every call takes two deferred steps: it takes effect, then it is answered. So a crash may find a change that is
 * durable and that nobody was told of, and an answer may be older than what happened meanwhile. Changes take effect in
 * the order made, reads whenever their step comes. A removal is seen at once and reaches the disk with a step of its
 * own; a crash before that brings the message back.
 */
export class MemoryStore implements Store {
  readonly #defer: Defer;
  readonly #limits: InboxLimits;
  readonly #disk: Disk;
  readonly #changes: (() => void)[] = [];
  /** Positions of messages that are removed, and still on the disk. */
  readonly #removed = new Set<number>();
  #hasEnded = false;

  constructor(defer: Defer, limits: InboxLimits = defaultInboxLimits, disk: Disk = emptyDisk()) {
    this.#defer = defer;
    this.#limits = limits;
    this.#disk = disk;
  }

  /** Ends the store in good order: everything that was called before takes effect. */
  close(): Promise<void> {
    return this.#change(() => {
      for (const inbox of this.#disk.inboxes.values()) {
        for (const { to, position } of [...inbox]) if (this.#removed.has(position)) this.#delete(to, position);
      }
    }).then(() => this.crash());
  }

  /** Ends the store at once: what has not taken effect never will, and nothing more is answered. */
  crash(): void {
    this.#hasEnded = true;
  }

  /** A new store on the disk of this one, which must have ended. */
  reopen(): MemoryStore {
    if (!this.#hasEnded) throw new Error('two stores on one disk');
    return new MemoryStore(this.#defer, this.#limits, this.#disk);
  }

  #later(call: () => void): void {
    if (this.#hasEnded) return;
    this.#defer(() => {
      if (!this.#hasEnded) call();
    });
  }

  /** Of several changes under way each step takes the oldest, so that they keep their order in any order of steps. */
  #change<Result>(change: () => Result): Promise<Result> {
    return new Promise((resolve) => {
      this.#changes.push(() => {
        const result = change();
        this.#later(() => resolve(result));
      });
      this.#later(() => this.#changes.shift()?.());
    });
  }

  #read<Result>(read: () => Result): Promise<Result> {
    return new Promise((resolve) => {
      this.#later(() => {
        const result = read();
        this.#later(() => resolve(result));
      });
    });
  }

  // ---- names

  name(name: string): Promise<NameRecord | undefined> {
    return this.#read(() => this.#disk.names.get(name));
  }

  names(names: readonly string[]): Promise<readonly (NameRecord | undefined)[]> {
    return this.#read(() => names.map((name) => this.#disk.names.get(name)));
  }

  createUser(name: string, passwordHash: string, wall: number): Promise<'created' | 'exists'> {
    return this.#change(() => {
      if (this.#disk.names.has(name)) return 'exists';
      this.#disk.names.set(name, { kind: 'user', passwordHash, createdAt: wall });
      return 'created';
    });
  }

  setPassword(name: string, passwordHash: string): Promise<boolean> {
    return this.#change(() => {
      const known = this.#disk.names.get(name);
      if (known?.kind !== 'user') return false;
      this.#disk.names.set(name, { ...known, passwordHash });
      return true;
    });
  }

  deviceSeen(
    name: string,
    says: Pick<DeviceRecord, 'version' | 'abilities'>,
    wall: number,
    entry?: Entry,
  ): ReturnType<Store['deviceSeen']> {
    return this.#change(() => {
      const known = this.#disk.names.get(name);
      const seen = seenDevice(known, says, wall, entry);
      if (typeof seen === 'string') return seen;
      this.#disk.names.set(name, seen);
      return known === undefined ? 'new' : 'known';
    });
  }

  provision(name: string, provision: Provision, wall: number, which: 'new' | 'known'): ReturnType<Store['provision']> {
    return this.#change(() => {
      const record = provisionedDevice(this.#disk.names.get(name), provision, wall, which);
      if (typeof record === 'string') return record;
      this.#disk.names.set(name, record);
      return 'done';
    });
  }

  dropUnused(name: string, wallBefore: number, ranBefore: number): Promise<boolean> {
    return this.#change(() => {
      const { names, bindings, inboxes } = this.#disk;
      if (!isUnused(names.get(name), wallBefore, ranBefore)) return false;
      if (inboxes.has(name) || bindings.some(({ device }) => device === name)) return false;
      return names.delete(name);
    });
  }

  bind(user: string, device: string, wall: number, code?: string): ReturnType<Store['bind']> {
    return this.#change(() => {
      const disk = this.#disk;
      const known = disk.names.get(device);
      if (known?.kind === 'user') return 'is a user';
      if (disk.bindings.some((binding) => binding.user === user && binding.device === device)) return 'already';
      if (known?.code !== code) return 'changed';
      const devices = disk.bindings.filter((binding) => binding.user === user);
      if (devices.length >= serverLimits.devicesPerUserMax) return 'user full';
      const users = disk.bindings.filter((binding) => binding.device === device);
      if (users.length >= serverLimits.usersPerDeviceMax) return 'device full';
      disk.bindings = [...disk.bindings, { user, device }];
      if (known === undefined) disk.names.set(device, addedDevice(wall));
      return 'bound';
    });
  }

  unbind(user: string, device: string): Promise<boolean> {
    return this.#change(() => {
      const before = this.#disk.bindings;
      this.#disk.bindings = before.filter((binding) => binding.user !== user || binding.device !== device);
      return this.#disk.bindings.length < before.length;
    });
  }

  peers(name: string, kind: 'user' | 'device'): Promise<readonly string[]> {
    const other = kind === 'user' ? 'device' : 'user';
    return this.#read(() => this.#disk.bindings.flatMap((binding) => (binding[kind] === name ? binding[other] : [])));
  }

  removeName(name: string): Promise<boolean> {
    return this.#change(() => {
      const disk = this.#disk;
      if (!disk.names.delete(name)) return false;
      disk.bindings = disk.bindings.filter(({ user, device }) => user !== name && device !== name);
      disk.inboxes.delete(name);
      return true;
    });
  }

  list(kind: 'user' | 'device', after: string, count: number): Promise<readonly (readonly [string, NameRecord])[]> {
    return this.#read(() =>
      [...this.#disk.names]
        .filter(([name, record]) => record.kind === kind && byBytes(name, after) > 0)
        .sort(([one], [other]) => byBytes(one, other))
        .slice(0, count),
    );
  }

  // ---- inboxes

  async append(messages: readonly NewMessage[]): Promise<readonly number[]> {
    const whole = messages.map((message) => {
      if (message.msg === undefined) throw new Error('a message without its content cannot be stored');
      return { ...message, msg: message.msg.slice() };
    });
    return await this.#change(() => whole.map((message) => this.#place(message)));
  }

  #place(message: NewMessage & { readonly msg: Uint8Array }): number {
    const { to, from, msgId, msg } = message;
    const stored = this.#inbox(to);
    const own = stored.filter((other) => other.from === from);
    const same = own.find((other) => other.msgId === msgId);
    if (same !== undefined) return Buffer.compare(same.msg, msg) === 0 ? APPEND.duplicate : APPEND.conflict;
    if (!this.#hasRoom(stored, own, msg.length)) return APPEND.full;
    const position = ++this.#disk.position;
    const inbox = this.#disk.inboxes.get(to) ?? [];
    this.#disk.inboxes.set(to, inbox);
    inbox.push({ ...message, position });
    return position;
  }

  #hasRoom(stored: readonly StoredMessage[], own: readonly StoredMessage[], bytes: number): boolean {
    const { messagesMax, bytesMax, senderShare } = this.#limits;
    if (stored.length === 0) return true;
    if (stored.length >= messagesMax || bytesOf(stored) + bytes > bytesMax) return false;
    if (own.length === 0) return true;
    return own.length < Math.max(1, messagesMax / senderShare) && bytesOf(own) + bytes <= bytesMax / senderShare;
  }

  hasBacklog(receiver: string): Promise<boolean> {
    return this.#read(() => this.#inbox(receiver).length > 0);
  }

  page(receiver: string, after: number, count: number, bytes: number): Promise<Page> {
    return this.#read(() => {
      const behind = this.#inbox(receiver).filter((message) => message.position > after);
      const messages: StoredMessage[] = [];
      let left = bytes;
      for (const message of behind) {
        if (messages.length === count || (messages.length > 0 && left <= 0)) break;
        messages.push(message);
        left -= message.msg.length;
      }
      return { messages, end: messages.length === behind.length };
    });
  }

  read(receiver: string, positions: readonly number[]): Promise<readonly StoredMessage[]> {
    return this.#read(() => {
      const inbox = this.#inbox(receiver);
      return positions.flatMap((position) => inbox.find((message) => message.position === position) ?? []);
    });
  }

  remove(message: Parameters<Store['remove']>[0]): void {
    const { to, position } = message;
    this.#removed.add(position);
    this.#later(() => this.#delete(to, position));
  }

  #delete(receiver: string, position: number): void {
    const left = (this.#disk.inboxes.get(receiver) ?? []).filter((message) => message.position !== position);
    if (left.length > 0) this.#disk.inboxes.set(receiver, left);
    else this.#disk.inboxes.delete(receiver);
    this.#removed.delete(position);
  }

  /** There is no other node. */
  whenRemoved(): Promise<void> {
    return Promise.resolve();
  }

  oldest(afterReceiver: string, count: number): Promise<readonly StoredMessage[]> {
    return this.#read(() =>
      [...this.#disk.inboxes.keys()]
        .filter((receiver) => byBytes(receiver, afterReceiver) > 0)
        .sort(byBytes)
        .flatMap((receiver) => this.#inbox(receiver)[0] ?? [])
        .slice(0, count),
    );
  }

  /** What is in an inbox for whoever looks now. */
  #inbox(receiver: string): readonly StoredMessage[] {
    return (this.#disk.inboxes.get(receiver) ?? []).filter((message) => !this.#removed.has(message.position));
  }
}

function emptyDisk(): Disk {
  return { names: new Map(), bindings: [], inboxes: new Map(), position: 0 };
}

function byBytes(one: string, other: string): number {
  return Buffer.compare(encodeText(one), encodeText(other));
}

function bytesOf(messages: readonly StoredMessage[]): number {
  return messages.reduce((bytes, message) => bytes + message.msg.length, 0);
}
