import { serverLimits } from '@hawser/protocol';
import { type Message, stage } from './message.ts';
import { type Cluster, Fenced, type Store, type Time, type Timer } from './ports.ts';

/** What becomes of messages that left the committer. */
export interface CommitOutcome {
  /** `result`: the position, or one of `APPEND`. */
  committed(message: Message, result: number): void;
  /** It was acked while it waited, so it was not written. */
  cancelled(message: Message): void;
  /** The store failed; nothing of these is durable. */
  failed(messages: readonly Message[], error: unknown): void;
}

/**
 * Group commit: one append at a time, holding all that came while the last one was synced. Commits are in the order
 * of `add`, so a crash leaves a prefix.
 *
 * A commit costs much more than a message in it. So when small ones follow one another, each waits a few milliseconds
 * for more to go with it; a message that comes alone, or one of a few, never does. While the server has no time to spare
 * every small one keeps a longer distance from the one before.
 */
export class Committer {
  readonly #store: Store;
  readonly #time: Time;
  readonly #cluster: Cluster | undefined;
  readonly #outcome: CommitOutcome;
  #queue: (Message | undefined)[] = [];
  #taken = 0;
  #queuedBytes = 0;
  #state: 'idle' | 'beginning' | 'waiting' | 'writing' = 'idle';
  #timer: Timer | undefined;
  /** When the last commit began, and since when commits are counted, and how many there were. */
  #begunAt = Number.NEGATIVE_INFINITY;
  #countedFrom = Number.NEGATIVE_INFINITY;
  #counted = 0;
  /** The next commit is waited for by a receiver. */
  #isHurried = false;
  #idle: (() => void)[] = [];

  constructor(store: Store, time: Time, outcome: CommitOutcome, cluster?: Cluster) {
    this.#store = store;
    this.#time = time;
    this.#cluster = cluster;
    this.#outcome = outcome;
  }

  add(message: Message): void {
    message.stage = stage.queued;
    this.#queue.push(message);
    this.#queuedBytes += message.size;
    if (this.#state === 'idle') this.#beginSoon();
    else if (this.#state === 'waiting' && this.#isLarge) this.#waitNoLonger();
  }

  /** A receiver cannot go live before what waits is written: that waits as it does while the server has time to spare. */
  hurry(): void {
    if (this.#isHurried) return;
    this.#isHurried = true;
    if (this.#state === 'waiting') this.#waitNoLonger();
  }

  /** Resolves when nothing waits and nothing is being written. */
  whenIdle(): Promise<void> {
    if (this.#state === 'waiting') this.#waitNoLonger();
    return this.#state === 'idle' ? Promise.resolve() : new Promise((resolve) => this.#idle.push(resolve));
  }

  /** Begins at the end of the turn, so that a commit has all that a turn brings. */
  #beginSoon(): void {
    this.#state = 'beginning';
    this.#time.endOfTurn(() => this.#begin());
  }

  #waitNoLonger(): void {
    this.#timer?.cancel();
    this.#beginSoon();
  }

  #begin(): void {
    if (this.#taken === this.#queue.length) {
      this.#end();
      return;
    }
    const ms = this.#waitMs;
    if (ms <= 0) {
      this.#write();
      return;
    }
    this.#state = 'waiting';
    this.#timer = this.#time.after(ms, () => this.#write());
  }

  get #isLarge(): boolean {
    const { commitSmallMessagesMax, commitSmallBytesMax } = serverLimits;
    return this.#queue.length - this.#taken >= commitSmallMessagesMax || this.#queuedBytes >= commitSmallBytesMax;
  }

  /** How long the next commit is to wait for more to go with it. */
  get #waitMs(): number {
    if (this.#isLarge || this.#idle.length > 0) return 0;
    const now = this.#time.now();
    if (this.#time.isBusy() && !this.#isHurried) return this.#begunAt + serverLimits.commitSpacingBusyMs - now;
    if (now - this.#countedFrom >= serverLimits.commitsCountedForMs) {
      this.#countedFrom = now;
      this.#counted = 0;
    }
    if (this.#counted < serverLimits.commitsAtOnceMax) return 0;
    return this.#begunAt + serverLimits.commitSpacingMs - now;
  }

  #write(): void {
    const batch = this.#batch();
    if (batch.length === 0) {
      this.#end();
      return;
    }
    this.#state = 'writing';
    this.#isHurried = false;
    this.#begunAt = this.#time.now();
    this.#counted++;
    this.#append(batch).then(
      (results) => {
        for (let i = 0; i < batch.length; i++) this.#outcome.committed(batch[i]!, results[i]!);
        this.#begin();
      },
      (error: unknown) => {
        this.#outcome.failed(batch, error);
        this.#begin();
      },
    );
  }

  #append(batch: readonly Message[]): Promise<readonly number[]> {
    const isFenced = this.#cluster !== undefined && this.#time.now() >= this.#cluster.heldUntil;
    return isFenced ? Promise.reject(new Fenced('this node may store nothing any more')) : this.#store.append(batch);
  }

  #end(): void {
    this.#state = 'idle';
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  /** The next messages to write; those acked meanwhile are passed over. */
  #batch(): Message[] {
    const batch: Message[] = [];
    let bytes = 0;
    while (this.#taken < this.#queue.length) {
      const message = this.#queue[this.#taken]!;
      if (!message.acked) {
        bytes += message.size;
        const full = batch.length === serverLimits.commitMessagesMax || bytes > serverLimits.commitBytesMax;
        if (full && batch.length > 0) return batch;
        message.stage = stage.writing;
        batch.push(message);
      }
      // The queue may have grown old: what it still named would grow old with it.
      this.#queue[this.#taken++] = undefined;
      this.#queuedBytes -= message.size;
      if (message.acked) this.#outcome.cancelled(message);
    }
    this.#queue = [];
    this.#taken = 0;
    return batch;
  }
}
