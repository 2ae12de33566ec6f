import { serverLimits } from '@hawser/protocol';
import { DatabaseError } from 'pg';
import type { Change, Contents } from '../contents.ts';
import type { Disk } from '../disk.ts';
import type { Random } from '../random.ts';
import type { Scheduler } from '../scheduler.ts';
import type { Trace } from '../trace.ts';

/** A row of the table `runs`. */
export interface RunRow {
  isVoid: boolean;
  appended: number;
  first: number | null;
  refused: number[];
  reasons: number[];
}

/** What is asynchronous is on the disk after this, at most. */
const FLUSH_MS = 600;

export function failure(code: string, text: string, severity = 'ERROR'): DatabaseError {
  return Object.assign(new DatabaseError(text, 0, 'error'), { code, severity });
}

/**
 * A PostgreSQL server: what is committed, who holds which lock, and what befalls the process. Each statement has its
 * effect at one moment, which is that of its commit where it is not in a transaction.
 */
export class Database {
  readonly disk: Disk;
  readonly #scheduler: Scheduler;
  readonly #random: Random;
  readonly #trace: Trace;
  readonly runs = new Map<string, RunRow>();
  /** Receivers that have a row in `inboxes`, by what it is called. */
  readonly inboxes = new Map<string, number>();
  readonly service = { ran: 0, notedAt: Number.NEGATIVE_INFINITY };
  #inboxIds = 0;
  #clockAheadMs = 1_790_000_000_000;
  /** Told of each run that nothing is stored of any more. */
  onVoid: (run: string) => void = () => {};
  onCrash: () => void = () => {};
  onClockSet: (ms: number) => void = () => {};
  onRemoved: (name: string) => void = () => {};

  /** It cannot write: the disk is full. */
  isFull = false;
  /** How likely a transaction finds another in its way. */
  conflicts = 0;
  #frozenTo = 0;
  #thaw: (() => void)[] = [];
  #downTo = 0;
  /** Counts the starts of the server. */
  generation = 0;
  readonly #sessions = new Set<{ reset(): void }>();
  readonly #locks = new Map<string, { readonly holder: object; readonly waiting: (() => void)[] }>();

  constructor(scheduler: Scheduler, random: Random, trace: Trace, disk: Disk) {
    this.#scheduler = scheduler;
    this.#random = random;
    this.#trace = trace;
    this.disk = disk;
  }

  get seen(): Contents {
    return this.disk.seen;
  }

  /** Of its machine, ms since 1970. */
  clock(): number {
    return this.#clockAheadMs + this.#scheduler.now;
  }

  nextInboxId(): number {
    return ++this.#inboxIds;
  }

  // ---- commits

  /** What is not synced a crash may take; everybody sees it at once. */
  commit(changes: readonly Change[], isSynced: boolean): void {
    if (changes.length > 0) {
      this.disk.write(changes);
      for (const change of changes) {
        this.#note(change);
        this.disk.seen.apply(change);
      }
    }
    if (isSynced) this.disk.sync();
    else this.#scheduler.after(this.#random.between(1, FLUSH_MS), () => this.disk.sync());
  }

  /** For the checker: what changed when. */
  #note(change: Change): void {
    const { now } = this.#scheduler;
    if (change.type === 'bind' || change.type === 'unbind') this.disk.changed(change.user, change.device, now);
    if (change.type === 'name' && !this.seen.names.has(change.name)) this.disk.nameChanged(change.name, now);
    if (change.type !== 'forget') return;
    const { name } = change;
    this.inboxes.delete(name);
    for (const peer of this.seen.peers.get(name) ?? []) {
      this.disk.changed(name, peer, now);
      this.disk.changed(peer, name, now);
    }
    this.disk.nameChanged(name, now);
    this.onRemoved(name);
  }

  makeVoid(run: string): void {
    const row = this.runs.get(run);
    if (row?.isVoid === true) return;
    if (row === undefined) this.runs.set(run, { isVoid: true, appended: 0, first: null, refused: [], reasons: [] });
    else row.isVoid = true;
    this.onVoid(run);
  }

  /** The time in service, which counts on by this clock unless it was not noted for long. */
  noteRan(ran: number): number {
    const { service } = this;
    const ago = this.clock() - service.notedAt;
    const rested = ago >= 0 && ago <= serverLimits.postgresRanRestMs ? ago : 0;
    service.ran = Math.max(service.ran + rested, ran);
    service.notedAt = this.clock();
    return service.ran;
  }

  // ---- locks

  /** Whether none of these is held by another; if not, `again` is called when one of them is free. */
  isFree(keys: readonly string[], holder: object, again: () => void): boolean {
    for (const key of keys) {
      const lock = this.#locks.get(key);
      if (lock === undefined || lock.holder === holder) continue;
      lock.waiting.push(again);
      return false;
    }
    return true;
  }

  hold(keys: readonly string[], holder: object): void {
    for (const key of keys) if (!this.#locks.has(key)) this.#locks.set(key, { holder, waiting: [] });
  }

  letGo(holder: object): void {
    const waiting: (() => void)[] = [];
    for (const [key, lock] of this.#locks) {
      if (lock.holder !== holder) continue;
      this.#locks.delete(key);
      waiting.push(...lock.waiting);
    }
    for (const again of waiting) this.#scheduler.after(0, again);
  }

  // ---- what befalls it

  get isDown(): boolean {
    return this.#scheduler.now < this.#downTo;
  }

  get isFrozen(): boolean {
    return this.#scheduler.now < this.#frozenTo;
  }

  /** Nothing happens for so long. */
  freeze(ms: number): void {
    this.#trace.note('disk', Math.round(ms), -1, 'PostgreSQL is frozen');
    this.#frozenTo = Math.max(this.#frozenTo, this.#scheduler.now + ms);
    this.#scheduler.at(this.#frozenTo, () => this.#thawed());
  }

  whenThawed(call: () => void): void {
    this.#thaw.push(call);
  }

  #thawed(): void {
    if (this.isFrozen) return;
    for (const call of this.#thaw.splice(0)) call();
  }

  /** It crashes: what was not committed is gone, and the last of what was not synced; so many ms later it is back. */
  crash(downMs: number): void {
    const lost = this.disk.crash('power', this.#scheduler.now);
    this.#trace.note('disk', Math.round(downMs), lost, 'PostgreSQL crashes');
    this.onCrash();
    this.generation++;
    this.#downTo = this.#scheduler.now + downMs;
    this.#frozenTo = 0;
    this.#thaw = [];
    this.#locks.clear();
    for (const session of [...this.#sessions]) session.reset();
    this.#sessions.clear();
  }

  /** Some connections break, on whatever lies between. */
  breakConnections(share: number): void {
    for (const session of [...this.#sessions]) if (this.#random.chance(share)) session.reset();
  }

  jump(ms: number): void {
    this.#trace.note('disk', Math.round(ms), -1, "PostgreSQL's clock is set");
    this.onClockSet(ms);
    this.#clockAheadMs += ms;
  }

  heal(): void {
    this.isFull = false;
    this.conflicts = 0;
    this.#frozenTo = 0;
    this.#downTo = 0;
    this.#thawed();
  }

  entered(session: { reset(): void }): void {
    this.#sessions.add(session);
  }

  left(session: { reset(): void }): void {
    this.#sessions.delete(session);
  }
}
