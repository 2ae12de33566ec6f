import { serverLimits } from '@hawser/protocol';
import type {
  DeviceRecord,
  Entry,
  Log,
  NameRecord,
  NewMessage,
  Page,
  Provision,
  Store,
  StoredMessage,
} from '../../core/ports.ts';
import { StoreAway } from '../../core/ports.ts';
import { defaultInboxLimits, type InboxLimits } from '../inbox.ts';
import type { ServedStore } from '../served.ts';
import { StoreUnusable } from '../unusable.ts';
import { Appender } from './appender.ts';
import { Connections, type DatabaseTimes, type Driver } from './connections.ts';
import { Inboxes } from './inboxes.ts';
import { LastSeen } from './last-seen.ts';
import { examine, migrate } from './migrate.ts';
import { Names } from './names.ts';
import { Removals } from './removals.ts';
import { Run, runStands, standingRuns, voidRun } from './run.ts';
import { ServiceTime } from './service-time.ts';
import { whyNot } from './why-not.ts';

export interface PostgresStoreOptions {
  /** `postgres://user:password@host:port/database`. */
  readonly url: string;
  readonly log: Log;
  /** Told of failed writes that nobody waits for. */
  readonly onError: (error: unknown) => void;
  /**
   * The name of this run of this node, which no other has had; what `Cluster.self` says. None for a server that is alone:
   * then it makes all other runs void.
   */
  readonly run?: string | undefined;
  readonly limits?: InboxLimits;
  readonly schema?: string;
  readonly times?: DatabaseTimes;
  readonly driver?: Driver;
}

const defaultTimes: DatabaseTimes = {
  connectMs: serverLimits.postgresConnectMs,
  statementMs: serverLimits.postgresStatementMs,
  appendMs: serverLimits.postgresAppendMs,
};

/**
 * The store on PostgreSQL, for any number of nodes. What resolves is committed there. It connects by itself whenever it
 * is asked something; while it cannot, everything rejects with `StoreAway`.
 */
export class PostgresStore implements ServedStore {
  readonly #connections: Connections;
  readonly #removals: Removals;
  readonly #lastSeen: LastSeen;
  readonly #names: Names;
  readonly #inboxes: Inboxes;
  readonly #appender: Appender;
  readonly #time: ServiceTime;

  private constructor(options: PostgresStoreOptions, connections: Connections, run: Run, time: ServiceTime) {
    const { onError, limits = defaultInboxLimits, times = defaultTimes } = options;
    this.#connections = connections;
    this.#removals = new Removals(connections, onError);
    this.#lastSeen = new LastSeen(connections, onError);
    this.#names = new Names(connections, this.#lastSeen, run);
    this.#inboxes = new Inboxes(connections.query, this.#removals);
    this.#appender = new Appender(connections, run, this.#removals, limits, times);
    this.#time = time;
    time.keepNoted(onError);
  }

  /**
   * Connects, and makes the tables where there are none or only older ones. Rejects with `StoreUnusable` when the database
   * cannot be used.
   */
  static async open(options: PostgresStoreOptions): Promise<PostgresStore> {
    const { url, log, schema = 'hawser', times = defaultTimes, driver } = options;
    const connections = new Connections({ url, schema, log, times, driver });
    try {
      const run = new Run(options.run, schema, connections.clock);
      const client = await connections.connect(0);
      try {
        await examine(client);
        await migrate(client, schema);
      } finally {
        await client.end();
      }
      const time = await ServiceTime.open(connections);
      const store = new PostgresStore(options, connections, run, time);
      await store.#appender.begin();
      await refuseUnfinishedMove(connections);
      return store;
    } catch (error) {
      connections.drop();
      if (error instanceof StoreUnusable) throw error;
      throw new StoreUnusable(whyNot(error), { cause: error });
    }
  }

  /** Writes what is waiting, if it can, and closes. */
  async close(): Promise<void> {
    await this.#names.close();
    const last = [this.#lastSeen.close(), this.#removals.close(), this.#time.close()];
    await Promise.all(last.map((each) => each.catch(ignoreAway)));
    await this.#appender.close();
    await this.#connections.close();
  }

  /** Ends at once, whatever is under way: nothing more is asked of the database, and nothing is answered. */
  drop(): void {
    this.#time.drop();
    this.#lastSeen.drop();
    this.#removals.drop();
    this.#appender.drop();
    this.#connections.drop();
  }

  // ---- nodes

  /**
   * Makes a run of a node void: once this has resolved, no append of it that has not been committed will be. Waits for one
   * that is being. For whoever decides that a node has lost what it held, before others are given it.
   */
  voidRun(name: string): Promise<void> {
    return voidRun(this.#connections, name);
  }

  /** Whether a run of a node was entered and has not been made void, as of a moment after the call. */
  runStands(name: string): Promise<boolean> {
    return runStands(this.#connections, name);
  }

  /** The runs that were entered and have not been made void. */
  standingRuns(): Promise<readonly string[]> {
    return standingRuns(this.#connections);
  }

  /** How long the store has been in service, ms, as all nodes have it. Never goes back. */
  ran(): number {
    return this.#time.ran();
  }

  /** The store notes it by itself. */
  noteRan(): void {}

  // ---- operators

  /** Appends and messages stored since start. */
  get stats(): ServedStore['stats'] {
    return { batches: this.#appender.batches, operations: this.#appender.messages, damaged: 0 };
  }

  /** Nothing is kept in memory of what is stored. */
  set isMemoryShort(_isShort: boolean) {}

  /** PostgreSQL sees to damage itself: nothing is set aside. */
  damaged(): Promise<[]> {
    return Promise.resolve([]);
  }

  forgetDamaged(): Promise<number> {
    return Promise.resolve(0);
  }

  backUp(): Promise<never> {
    return Promise.reject(new Error('everything is in PostgreSQL: back up the database, as with pg_dump'));
  }

  // ---- names

  name(name: string): Promise<NameRecord | undefined> {
    return this.#names.name(name);
  }

  names(names: readonly string[]): Promise<readonly (NameRecord | undefined)[]> {
    return this.#names.names(names);
  }

  createUser(name: string, passwordHash: string, wall: number): Promise<'created' | 'exists'> {
    return this.#names.createUser(name, passwordHash, wall);
  }

  setPassword(name: string, passwordHash: string): Promise<boolean> {
    return this.#names.setPassword(name, passwordHash);
  }

  deviceSeen(
    name: string,
    says: Pick<DeviceRecord, 'version' | 'abilities'>,
    wall: number,
    entry?: Entry,
  ): ReturnType<Store['deviceSeen']> {
    return this.#names.deviceSeen(name, says, wall, entry);
  }

  provision(name: string, provision: Provision, wall: number, which: 'new' | 'known'): ReturnType<Store['provision']> {
    return this.#names.provision(name, provision, wall, which);
  }

  dropUnused(
    name: string,
    wallBefore: number,
    ranBefore: number,
    others?: readonly string[],
  ): Promise<boolean | 'others'> {
    return this.#names.dropUnused(name, wallBefore, ranBefore, others);
  }

  bind(user: string, device: string, wall: number, code?: string): ReturnType<Store['bind']> {
    return this.#names.bind(user, device, wall, code);
  }

  unbind(user: string, device: string): Promise<boolean> {
    return this.#names.unbind(user, device);
  }

  peers(name: string, kind: 'user' | 'device'): Promise<readonly string[]> {
    return this.#names.peers(name, kind);
  }

  removeName(name: string, others?: readonly string[]): Promise<boolean | 'others'> {
    return this.#names.remove(name, others);
  }

  list(kind: 'user' | 'device', after: string, count: number): ReturnType<Names['list']> {
    return this.#names.list(kind, after, count);
  }

  // ---- inboxes

  append(messages: readonly NewMessage[]): Promise<readonly number[]> {
    return this.#appender.append(messages);
  }

  hasBacklog(receiver: string): Promise<boolean> {
    return this.#inboxes.hasBacklog(receiver);
  }

  page(receiver: string, after: number, count: number, bytes: number): Promise<Page> {
    return this.#inboxes.page(receiver, after, count, bytes);
  }

  read(receiver: string, positions: readonly number[]): Promise<readonly StoredMessage[]> {
    return this.#inboxes.read(receiver, positions);
  }

  remove(message: Parameters<Store['remove']>[0]): void {
    this.#removals.add(message);
  }

  whenRemoved(): Promise<void> {
    return this.#removals.whenWritten();
  }

  oldest(afterReceiver: string, count: number): Promise<readonly StoredMessage[]> {
    return this.#inboxes.oldest(afterReceiver, count);
  }
}

/** Names that are not here yet would be free for anybody. */
async function refuseUnfinishedMove({ query }: Connections): Promise<void> {
  const unfinished = await query('SELECT 1 FROM move WHERE finished_at IS NULL');
  if (unfinished.length > 0) throw new StoreUnusable('not all has been moved into it: run "hawser migrate" again');
}

function ignoreAway(error: unknown): void {
  if (!(error instanceof StoreAway)) throw error;
}
