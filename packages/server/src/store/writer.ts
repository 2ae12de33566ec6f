import type { ClassicLevel } from 'classic-level';

export type LevelDb = ClassicLevel<Uint8Array, Uint8Array>;

export type Operation =
  | { readonly type: 'put'; readonly key: Uint8Array; readonly value: Uint8Array }
  | { readonly type: 'del'; readonly key: Uint8Array };

/** Unsynced operations wait this long for a synced one to take them along. */
const LAZY_MS = 20;
/** Unsynced operations that wait, at most; then they are written at once. */
const LAZY_MAX = 2_000;

/** Operations that take their form only when they are written. */
export interface Late {
  readonly operations: readonly Operation[];
  done(): void;
}

interface Group {
  readonly operations: Operation[];
  /** Called when the group is written, in the order of the calls that formed it. */
  readonly done: ((error: unknown) => void)[];
  isSynced: boolean;
}

/**
 * Writes to LevelDB in groups: one batch at a time, holding all that came while the last one was synced, in order.
 * Each group is atomic.
 */
export class Writer {
  readonly #db: LevelDb;
  readonly #onError: (error: unknown) => void;
  #late: () => Late | undefined = () => undefined;
  #seen: (operations: readonly Operation[]) => void = () => {};
  #next: Group = newGroup();
  #isWriting = false;
  #isAboutToStart = false;
  #lazyTimer: NodeJS.Timeout | undefined;
  #hasLate = false;
  #hasFailed = false;
  #idle: (() => void)[] = [];
  /** Batches and operations written since start. */
  batches = 0;
  operations = 0;

  /** @param onError is told, once, that a write failed: from then on nothing is written */
  constructor(db: LevelDb, onError: (error: unknown) => void) {
    this.#db = db;
    this.#onError = onError;
  }

  /** Asks `late` for more operations whenever a group is about to be written. */
  addLate(late: () => Late | undefined): void {
    this.#late = late;
  }

  /** Shows to `seen` from now on whatever is to be written, before it is. */
  watch(seen: (operations: readonly Operation[]) => void): void {
    this.#seen = seen;
  }

  /** There are late operations: they are written soon, without sync. */
  lateSoon(): void {
    this.#hasLate = true;
    if (!this.#isWriting) this.#startSoon();
  }

  /** Resolves when the operations are synced to disk. */
  write(operations: readonly Operation[]): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#add(operations, true, (error) => {
        if (error === undefined) resolve();
        else reject(error);
      });
      this.#startAfterThese();
    });
  }

  /** What comes of one read, or of one commit, is written together. */
  #startAfterThese(): void {
    if (this.#isWriting || this.#isAboutToStart) return;
    this.#isAboutToStart = true;
    queueMicrotask(() => {
      this.#isAboutToStart = false;
      this.#start();
    });
  }

  /** Writes soon, without sync; `done` is called when that happened. */
  writeLazily(operations: readonly Operation[], done?: () => void): void {
    this.#add(operations, false, (error) => {
      if (error === undefined) done?.();
    });
    if (this.#next.operations.length >= LAZY_MAX) this.#start();
    else this.#startSoon();
  }

  #startSoon(): void {
    this.#lazyTimer ??= setTimeout(() => {
      this.#lazyTimer = undefined;
      this.#start();
    }, LAZY_MS);
  }

  #add(operations: readonly Operation[], isSynced: boolean, done: (error: unknown) => void): void {
    this.#seen(operations);
    const group = this.#next;
    for (const operation of operations) group.operations.push(operation);
    group.done.push(done);
    group.isSynced ||= isSynced;
  }

  #start(): void {
    if (this.#isWriting) return;
    if (this.#hasFailed) {
      this.#failNext();
      return;
    }
    clearTimeout(this.#lazyTimer);
    this.#lazyTimer = undefined;
    const group = this.#next;
    if (this.#hasLate) this.#addLate(group);
    if (group.done.length === 0) {
      for (const resolve of this.#idle.splice(0)) resolve();
      return;
    }
    this.#next = newGroup();
    this.#isWriting = true;
    this.batches++;
    this.operations += group.operations.length;
    this.#db.batch(group.operations, { sync: group.isSynced }).then(
      () => this.#finish(group, undefined),
      (error: unknown) => this.#finish(group, error),
    );
  }

  /** After a failure nothing is written any more. */
  #failNext(): void {
    const group = this.#next;
    this.#next = newGroup();
    for (const done of group.done) done(new Error('a write failed before'));
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  #addLate(group: Group): void {
    this.#hasLate = false;
    const late = this.#late();
    if (late === undefined) return;
    for (const operation of late.operations) group.operations.push(operation);
    group.done.push((error) => {
      if (error === undefined) late.done();
    });
  }

  #finish(group: Group, error: unknown): void {
    this.#isWriting = false;
    // Behind a failed write nothing can be relied on, whatever it was for: LevelDB may lose at recovery what comes after
    // it in its log. The server ends before it acks anything more.
    if (error !== undefined && !this.#hasFailed) {
      this.#hasFailed = true;
      this.#onError(error);
    }
    for (const done of group.done) done(error);
    // Lazy operations alone may wait on; anything else goes at once.
    if (this.#next.isSynced || this.#idle.length > 0 || this.#next.operations.length >= LAZY_MAX) this.#start();
    else if (this.#next.done.length > 0 || this.#hasLate) this.#startSoon();
  }

  /** Resolves when everything is written. */
  flush(): Promise<void> {
    return new Promise((resolve) => {
      this.#idle.push(resolve);
      this.#start();
    });
  }
}

function newGroup(): Group {
  return { operations: [], done: [], isSynced: false };
}
