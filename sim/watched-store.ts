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
} from '@hawser/server/core/ports';
import type { PostgresStore } from '@hawser/server/store/postgres/store';
import type { Checker } from './checker.ts';
import type { Database } from './postgres/database.ts';
import type { Process } from './process.ts';
import type { Scheduler } from './scheduler.ts';
import type { Trace } from './trace.ts';

export interface WatchedStorePorts {
  readonly database: Database;
  readonly checker: Checker;
  readonly trace: Trace;
  readonly scheduler: Scheduler;
  readonly process: Process;
}

/** The adapter as the core has it: what is asked of it, and what comes of that, is told to the checker. */
export class WatchedStore implements Store {
  readonly #store: PostgresStore;
  readonly #ports: WatchedStorePorts;
  #isAppending = false;

  constructor(store: PostgresStore, ports: WatchedStorePorts) {
    this.#store = store;
    this.#ports = ports;
  }

  // ---- names

  name(name: string): Promise<NameRecord | undefined> {
    return this.#store.name(name);
  }

  names(names: readonly string[]): Promise<readonly (NameRecord | undefined)[]> {
    return this.#store.names(names);
  }

  createUser(name: string, passwordHash: string, wall: number): Promise<'created' | 'exists'> {
    return this.#store.createUser(name, passwordHash, wall);
  }

  setPassword(name: string, passwordHash: string): Promise<boolean> {
    return this.#store.setPassword(name, passwordHash);
  }

  deviceSeen(
    name: string,
    says: Pick<DeviceRecord, 'version' | 'abilities'>,
    wall: number,
    entry?: Entry,
  ): ReturnType<Store['deviceSeen']> {
    return this.#store.deviceSeen(name, says, wall, entry);
  }

  provision(name: string, provision: Provision, wall: number, which: 'new' | 'known'): ReturnType<Store['provision']> {
    return this.#store.provision(name, provision, wall, which);
  }

  dropUnused(...args: Parameters<Store['dropUnused']>): ReturnType<Store['dropUnused']> {
    return this.#store.dropUnused(...args);
  }

  bind(user: string, device: string, wall: number, code?: string): ReturnType<Store['bind']> {
    return this.#changing(user, device, () => this.#store.bind(user, device, wall, code));
  }

  unbind(user: string, device: string): Promise<boolean> {
    return this.#changing(user, device, () => this.#store.unbind(user, device));
  }

  async #changing<Result>(user: string, device: string, change: () => Promise<Result>): Promise<Result> {
    const { database, scheduler, trace, process } = this.#ports;
    database.disk.beginChange(user, device);
    let isOver = false;
    const end = (): void => {
      if (!isOver) database.disk.endChange(user, device, scheduler.now);
      isOver = true;
    };
    process.whenOver(end);
    try {
      const result = await change();
      trace.note('binding', -1, -1, `${result} ${user} ${device}`);
      return result;
    } finally {
      end();
    }
  }

  peers(name: string, kind: 'user' | 'device'): Promise<readonly string[]> {
    this.#ports.trace.note('binding', -1, -1, `read ${name}`);
    return this.#store.peers(name, kind);
  }

  removeName(...args: Parameters<Store['removeName']>): ReturnType<Store['removeName']> {
    return this.#store.removeName(...args);
  }

  list(kind: 'user' | 'device', after: string, count: number): Promise<readonly (readonly [string, NameRecord])[]> {
    return this.#store.list(kind, after, count);
  }

  // ---- inboxes

  async append(messages: readonly NewMessage[]): Promise<readonly number[]> {
    const { checker, trace } = this.#ports;
    if (this.#isAppending) checker.misused('append was called while another was under way');
    if (messages.some(({ msg }) => msg === undefined))
      checker.misused('a message was to be stored without its content');
    this.#isAppending = true;
    trace.note('append', messages.length);
    try {
      const results = await this.#store.append(messages);
      for (const [i, message] of messages.entries()) this.#placed(message, results[i]!);
      return results;
    } catch (error) {
      for (const message of messages) checker.notStored(message, 'failed', String(error));
      throw error;
    } finally {
      this.#isAppending = false;
    }
  }

  #placed(message: NewMessage, result: number): void {
    const { checker } = this.#ports;
    if (result === APPEND.full) checker.notStored(message, 'full');
    else if (result < 0) checker.foundStored(message);
  }

  hasBacklog(receiver: string): Promise<boolean> {
    return this.#store.hasBacklog(receiver);
  }

  async page(receiver: string, after: number, count: number, bytes: number): Promise<Page> {
    const page = await this.#store.page(receiver, after, count, bytes);
    this.#ports.trace.note('paged', page.messages.length, after, receiver);
    return page;
  }

  read(receiver: string, positions: readonly number[]): Promise<readonly StoredMessage[]> {
    return this.#store.read(receiver, positions);
  }

  remove(message: Parameters<Store['remove']>[0]): void {
    const { database, checker } = this.#ports;
    const stored = database.seen.inboxes.get(message.to)?.messages.get(message.position);
    if (stored !== undefined) checker.removed(stored);
    this.#store.remove(message);
  }

  whenRemoved(): Promise<void> {
    return this.#store.whenRemoved();
  }

  oldest(afterReceiver: string, count: number): Promise<readonly StoredMessage[]> {
    return this.#store.oldest(afterReceiver, count);
  }
}
