import { serverLimits } from '@hawser/protocol';
import { type Message, stage } from './message.ts';
import { type Cluster, Fenced, type Store, type Time } from './ports.ts';

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
 */
export class Committer {
  readonly #store: Store;
  readonly #time: Time;
  readonly #cluster: Cluster | undefined;
  readonly #outcome: CommitOutcome;
  #queue: (Message | undefined)[] = [];
  #taken = 0;
  #busy = false;
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
    if (this.#busy) return;
    this.#busy = true;
    this.#time.endOfTurn(() => this.#write());
  }

  /** Resolves when nothing waits and nothing is being written. */
  whenIdle(): Promise<void> {
    return this.#busy ? new Promise((resolve) => this.#idle.push(resolve)) : Promise.resolve();
  }

  #write(): void {
    const batch = this.#batch();
    if (batch.length === 0) {
      this.#busy = false;
      for (const resolve of this.#idle.splice(0)) resolve();
      return;
    }
    this.#append(batch).then(
      (results) => {
        for (let i = 0; i < batch.length; i++) this.#outcome.committed(batch[i]!, results[i]!);
        this.#write();
      },
      (error: unknown) => {
        this.#outcome.failed(batch, error);
        this.#write();
      },
    );
  }

  #append(batch: readonly Message[]): Promise<readonly number[]> {
    const isFenced = this.#cluster !== undefined && this.#time.now() >= this.#cluster.heldUntil;
    return isFenced ? Promise.reject(new Fenced('this node may store nothing any more')) : this.#store.append(batch);
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
      if (message.acked) this.#outcome.cancelled(message);
    }
    this.#queue = [];
    this.#taken = 0;
    return batch;
  }
}
