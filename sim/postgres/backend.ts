import type { Change } from '../contents.ts';
import type { Random } from '../random.ts';
import type { Scheduler } from '../scheduler.ts';
import { type Database, failure } from './database.ts';
import { type Row, type Statement, statementOf } from './statements.ts';

export type Reply = { readonly rows: readonly Row[] } | { readonly error: Error };

export interface BackendPorts {
  readonly scheduler: Scheduler;
  readonly random: Random;
  readonly database: Database;
}

export interface BackendEvents {
  readonly answer: (reply: Reply) => void;
  readonly reset: () => void;
}

interface Transaction {
  readonly changes: Change[];
  hasFailed: boolean;
}

interface Asked {
  readonly name: string | undefined;
  readonly text: string;
  readonly values: readonly unknown[];
}

/** The server's process of one connection. */
export class Backend {
  readonly #ports: BackendPorts;
  readonly #settings: { readonly statementMs: number; readonly idleMs: number };
  readonly #events: BackendEvents;
  readonly #queue: Asked[] = [];
  #generation = 0;
  #isBusy = false;
  #isOver = false;
  /** Its client has hung up: that is seen when the statement under way is done. */
  #isLeft = false;
  #transaction: Transaction | undefined;
  /** Counts statements, for the time that a transaction may be idle. */
  #asked = 0;

  constructor(
    ports: BackendPorts,
    settings: { readonly statementMs: number; readonly idleMs: number },
    events: BackendEvents,
  ) {
    this.#ports = ports;
    this.#settings = settings;
    this.#events = events;
  }

  start(): void {
    const { database } = this.#ports;
    if (database.isDown) {
      this.#events.reset();
      return;
    }
    if (database.isFrozen) {
      database.whenThawed(() => this.start());
      return;
    }
    this.#generation = database.generation;
    database.entered(this);
    this.#events.answer({ rows: [] });
  }

  ask(name: string | undefined, text: string, values: readonly unknown[]): void {
    this.#queue.push({ name, text, values });
    this.#next();
  }

  /** The client has hung up. */
  end(): void {
    this.#isLeft = true;
    if (!this.#isBusy) this.#leave();
  }

  /** The process ends, or the connection breaks. */
  reset(): void {
    this.#events.reset();
    this.end();
  }

  get #isGone(): boolean {
    return this.#isOver || this.#generation !== this.#ports.database.generation;
  }

  #leave(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#ports.database.letGo(this);
    this.#ports.database.left(this);
  }

  #next(): void {
    const asked = this.#queue[0];
    if (this.#isBusy || asked === undefined || this.#isOver) return;
    this.#isBusy = true;
    this.#asked++;
    this.#queue.shift();
    const { scheduler, random, database } = this.#ports;
    const at = scheduler.now;
    const { disk } = database;
    let statement: Statement | undefined;
    const word = asked.text;
    if (word !== 'BEGIN' && word !== 'COMMIT' && word !== 'ROLLBACK') statement = statementOf(asked.name, word);
    const isWrite = word === 'COMMIT' || (statement?.isSynced === true && this.#transaction === undefined);
    const ms = isWrite
      ? disk.writeMs() + disk.syncMs()
      : random.chance(0.7)
        ? random.magnitude(0.05, 1)
        : disk.readMs();
    scheduler.after(ms, () => this.#do(asked, statement, at));
  }

  #do(asked: Asked, statement: Statement | undefined, since: number): void {
    const { scheduler, database } = this.#ports;
    if (this.#isGone) return;
    if (database.isFrozen) {
      database.whenThawed(() => this.#do(asked, statement, since));
      return;
    }
    const { statementMs } = this.#settings;
    if (statementMs > 0 && scheduler.now - since > statementMs) {
      this.#fail(failure('57014', 'canceling statement due to statement timeout'));
      return;
    }
    if (statement?.locks !== undefined) {
      const keys = statement.locks(asked.values);
      let isTried = false;
      const again = (): void => {
        if (isTried) return;
        isTried = true;
        this.#do(asked, statement, since);
      };
      if (!database.isFree(keys, this, again)) {
        // It does not wait for a lock any longer than a statement may take.
        if (statementMs > 0) scheduler.at(since + statementMs + 1, again);
        return;
      }
      if (this.#transaction !== undefined) database.hold(keys, this);
    }
    try {
      this.#done(this.#effect(asked, statement));
    } catch (error) {
      this.#fail(error as Error);
    }
  }

  #effect({ text, values }: Asked, statement: Statement | undefined): readonly Row[] {
    const { database, random } = this.#ports;
    if (statement === undefined) {
      this.#transact(text);
      return [];
    }
    if (this.#transaction?.hasFailed === true) throw failure('25P02', 'current transaction is aborted');
    const isWrite = statement.isSynced !== undefined;
    if (isWrite && random.chance(database.conflicts)) throw failure('40P01', 'deadlock detected');
    if (isWrite && database.isFull) throw failure('53100', 'could not extend file: No space left on device');
    const result = statement.run(database, values);
    const { rows, changes } = 'changes' in result ? result : { rows: result, changes: [] };
    if (this.#transaction !== undefined) this.#transaction.changes.push(...changes);
    else if (isWrite) database.commit(changes, statement.isSynced === true);
    else if (changes.length > 0) throw new Error('a change outside of a transaction');
    return rows;
  }

  #transact(text: string): void {
    const { database, random } = this.#ports;
    const transaction = this.#transaction;
    this.#transaction = text === 'BEGIN' ? { changes: [], hasFailed: false } : undefined;
    if (text === 'BEGIN') return;
    if (text === 'COMMIT' && transaction?.hasFailed === false) {
      if (random.chance(database.conflicts)) {
        database.letGo(this);
        throw failure('40001', 'could not serialize access');
      }
      if (database.isFull && transaction.changes.length > 0) {
        database.letGo(this);
        throw failure('53100', 'No space left on device');
      }
      database.commit(transaction.changes, true);
    }
    database.letGo(this);
  }

  #fail(error: Error): void {
    if (this.#transaction !== undefined) this.#transaction.hasFailed = true;
    this.#reply({ error });
  }

  #done(rows: readonly Row[]): void {
    this.#reply({ rows });
  }

  #reply(reply: Reply): void {
    this.#isBusy = false;
    this.#events.answer(reply);
    if (this.#isLeft) {
      this.#leave();
      return;
    }
    this.#watchIdle();
    this.#next();
  }

  /** A transaction whose client says nothing for too long is ended, and so is its connection. */
  #watchIdle(): void {
    const { idleMs } = this.#settings;
    if (this.#transaction === undefined || idleMs === 0 || this.#queue.length > 0) return;
    const asked = this.#asked;
    this.#ports.scheduler.after(idleMs, () => {
      if (this.#isGone || this.#asked !== asked) return;
      this.reset();
    });
  }
}
