import { serverLimits } from '@hawser/protocol';
import type { Delivery } from './delivery.ts';
import { type Message, stage } from './message.ts';
import type { StoredMessage } from './ports.ts';
import type { Session } from './session.ts';

/**
 * Where a receiver stands.
 *
 *     away ──login──▶ behind ──nothing stored──▶ live
 *      ▲               │  ▲                       │
 *      │         store read to its end,           │ no room in the window
 *      │         commits on their way             │
 *      │               ▼  │ no room, or overdue   │
 *      └──session ends── joining ◀────────────────┘ (by way of behind)
 *
 * - away: no session; what comes goes to the store.
 * - behind: what comes goes to the store and is paged into the window in order.
 * - joining: the store has been read to its end, but commits for this receiver are on their way. What comes waits in
 *   memory until they have been paged too; it is then pushed, and the mailbox is live.
 * - live: every accepted message is in the window.
 */
export type Phase = 'away' | 'behind' | 'joining' | 'live';

/**
 * What became of a message offered to a mailbox: the message in memory that stands for it now (itself, or an earlier
 * copy still in the window), or why there is none.
 */
export type Taken = Message | 'already stored' | 'conflict';

/** One receiver's messages in memory: the window of unacked pushes, and the way to and from the store. */
export class Mailbox {
  readonly name: string;
  readonly #delivery: Delivery;
  phase: Phase = 'away';
  #session: Session | undefined;

  /** Pushed on this session and not acked, by msgId: an ack names nothing else. */
  #window = new Map<string, Message>();
  /** They have a place in the window but are not pushed: their msgId, or an earlier one of their sender, is taken. */
  #held: Message[] = [];
  #windowBytes = 0;
  /** In the window, to be pushed at the end of this turn. */
  #outbox: Message[] = [];
  /** While joining: accepted, not pushed, not queued. */
  #joiners: Message[] = [];

  /** Messages for this receiver in the committer, and who waits until there are none. */
  #committing = 0;
  #quiet: (() => void)[] = [];
  /** Those of them that are in the window, and those that were acked meanwhile. */
  #committingInWindow = 0;
  #committingAcked = 0;
  /** Something lay in the store when the session came, or was stored since. */
  #hasStored = false;
  /** The login of the session has been answered. */
  #isStarted = false;

  /** Everything up to this position has been in the window. */
  #cursor = 0;
  /** A backlog is pushed only when asked for, or some time after login. */
  #gateOpen = false;
  #paging = false;
  /** The last message of the store that has not been in the window; 0 when all have. */
  #unseenTo = 0;
  #nextRedeliveryAt = 0;
  /** Places in the window that have not moved for some time. */
  #stuck = 0;
  #stuckBytes = 0;

  constructor(name: string, delivery: Delivery) {
    this.name = name;
    this.#delivery = delivery;
  }

  get isUnused(): boolean {
    return this.phase === 'away' && this.#committing === 0;
  }

  // ---- what comes in

  /** Places an accepted message. */
  take(message: Message): Taken {
    if (this.phase !== 'away') {
      const twin = this.#twin(message);
      if (twin !== undefined) return this.#join(twin, message);
    }
    switch (this.phase) {
      case 'live':
        if (this.#hasRoom(message.size)) {
          this.#enter(message);
          this.#delivery.persistLater(message);
          return message;
        }
        this.#fallBehind();
        break;
      case 'joining':
        if (this.#joiners.length < serverLimits.windowMessagesMax) {
          this.#joiners.push(message);
          this.#delivery.persistLater(message);
          return message;
        }
        this.#fallBehind();
        break;
      default:
    }
    this.#commit(message);
    return message;
  }

  /** The same sender's msgId in the window: sent again after the sender's own memory of it was lost. */
  #twin(message: { readonly from: string; readonly msgId: string }): Message | undefined {
    const twin = this.#window.get(message.msgId);
    if (twin !== undefined && twin.from === message.from) return twin.acked ? undefined : twin;
    if (this.#held.length === 0) return undefined;
    return this.#held.find((held) => held.msgId === message.msgId && held.from === message.from);
  }

  #join(twin: Message, message: Message): Taken {
    if (twin.hash !== message.hash) return 'conflict';
    return twin.stage === stage.stored ? 'already stored' : twin;
  }

  /** It was not acked in time. */
  persist(message: Message): void {
    if (message.stage !== stage.accepted || message.acked) return;
    if (message.inWindow) this.#commit(message);
    else if (this.phase === 'joining') this.#fallBehind();
  }

  /** From now on everything goes to the store, in the order accepted: first what is only in memory. */
  #fallBehind(): void {
    this.phase = 'behind';
    for (const message of this.#window.values()) {
      if (message.stage === stage.accepted && !message.acked) this.#commit(message);
    }
    for (const message of this.#held) if (message.stage === stage.accepted) this.#commit(message);
    for (const message of this.#joiners.splice(0)) this.#commit(message);
  }

  /** The server stops: what is only in memory goes to the store. Acks still count. */
  commitAll(): void {
    if (this.phase !== 'away') this.#fallBehind();
  }

  #commit(message: Message): void {
    this.#committing++;
    if (message.inWindow) this.#committingInWindow++;
    this.#delivery.commit(message);
  }

  // ---- what the committer says

  stored(message: Message, position: number): void {
    message.stage = stage.stored;
    message.position = position;
    this.#hasStored = true;
    if (message.inWindow || message.acked) {
      if (position > this.#cursor && this.#unseenTo <= this.#cursor) this.#cursor = position;
      if (message.pushedAt > 0) message.msg = undefined;
    } else {
      message.msg = undefined;
      this.#unseenTo = position;
    }
    this.#left(message);
  }

  /** It was not stored: acked before, refused, or the store is away. It may still be in the window. */
  notStored(message: Message): void {
    message.stage = stage.accepted;
    this.#left(message);
  }

  /** Resolves when nothing for this receiver is in the committer. */
  whenQuiet(): Promise<void> {
    return this.#committing === 0 ? Promise.resolve() : new Promise((resolve) => this.#quiet.push(resolve));
  }

  #left(message: Message): void {
    this.#committing--;
    if (this.#committing === 0) for (const resolve of this.#quiet.splice(0)) resolve();
    if (message.acked) this.#committingAcked--;
    else if (message.inWindow) this.#committingInWindow--;
    if (this.phase === 'away') this.#delivery.release(this);
    else this.#page();
  }

  // ---- sessions

  /** The receiver logged in. Until `start` what comes goes to the store. */
  attach(session: Session): void {
    this.#session = session;
    this.phase = 'behind';
    this.#cursor = 0;
    this.#unseenTo = 0;
    this.#gateOpen = false;
    this.#paging = false;
    this.#stuck = 0;
    this.#stuckBytes = 0;
    this.#hasStored = false;
    this.#isStarted = false;
    this.#nextRedeliveryAt = this.#delivery.time.now() + this.#delivery.options.redeliveryAfterMs;
  }

  /** Something lay in the store at login. */
  hasBacklog(): void {
    this.#hasStored = true;
    this.#unseenTo = Number.POSITIVE_INFINITY;
  }

  /** The login has been answered: live when nothing is stored, else the backlog waits for 202 or its time. */
  start(): void {
    const session = this.#session;
    if (session === undefined || this.#isStarted) return;
    this.#isStarted = true;
    if (!this.#hasStored && this.#committing === 0) {
      this.phase = 'live';
      this.#gateOpen = true;
      return;
    }
    this.#delivery.time.after(this.#delivery.options.backlogAfterMs, () => {
      if (this.#session === session) this.#openGate();
    });
  }

  /** The session ended: what was not acked is committed, in order. */
  detach(session: Session): void {
    if (this.#session !== session) return;
    this.#session = undefined;
    this.#committingInWindow = 0;
    const unacked = [...this.#window.values(), ...this.#held];
    for (const message of unacked) message.inWindow = false;
    this.#fallBehind();
    this.phase = 'away';
    this.#window.clear();
    this.#held = [];
    this.#outbox = [];
    this.#windowBytes = 0;
    this.#delivery.release(this);
  }

  // ---- the window

  #hasRoom(bytes: number): boolean {
    if (this.#session === undefined || this.#session.isCongested) return false;
    const count = this.#window.size + this.#held.length;
    if (count === 0) return true;
    return count < serverLimits.windowMessagesMax && this.#movingBytes + bytes <= serverLimits.windowBytesMax;
  }

  /** Bytes of the window, less those that have not moved for some time: one large push must not hold up the inbox. */
  get #movingBytes(): number {
    return Math.max(0, this.#windowBytes - this.#stuckBytes);
  }

  #enter(message: Message): void {
    message.inWindow = true;
    this.#windowBytes += message.size;
    if (this.#window.has(message.msgId) || this.#held.some((held) => held.from === message.from)) {
      this.#held.push(message);
    } else this.#send(message);
  }

  #send(message: Message): void {
    this.#window.set(message.msgId, message);
    this.#push(message);
  }

  #push(message: Message): void {
    this.#outbox.push(message);
    this.#session?.hasPushes();
  }

  /** What is to be pushed now; the caller encodes it in this turn. */
  takeOutbox(): readonly Message[] {
    const outbox = this.#outbox;
    if (outbox.length > 0) this.#outbox = [];
    return outbox;
  }

  /** The session has written the push. */
  pushed(message: Message, now: number): void {
    message.pushedAt = now;
    message.pushes++;
    if (message.stage === stage.stored) message.msg = undefined;
  }

  /** The receiver acked. Ids that are not outstanding on this session are ignored. */
  ack(msgId: string): void {
    const message = this.#window.get(msgId);
    if (message === undefined || message.pushedAt === 0) return;
    if (!message.acked) this.#takeAsAcked(message);
    this.#leaveWindow(message);
    this.#delivery.acked(message);
    if (this.phase !== 'live') this.#page();
  }

  #leaveWindow(message: Message): void {
    this.#window.delete(message.msgId);
    this.#windowBytes -= message.size;
    message.inWindow = false;
    if (this.#held.length > 0) this.#releaseHeld();
  }

  #releaseHeld(): void {
    const waiting = this.#held;
    this.#held = [];
    for (const message of waiting) {
      if (this.#window.has(message.msgId) || this.#held.some((held) => held.from === message.from)) {
        this.#held.push(message);
      } else if (this.#dropIfExpired(message)) {
        this.#windowBytes -= message.size;
        message.inWindow = false;
      } else this.#send(message);
    }
  }

  /** As if it had been acked: it is not to be stored, or to be deleted when it has been. */
  #dropIfExpired(message: Message): boolean {
    if (!this.#delivery.dropIfExpired(message)) return false;
    this.#takeAsAcked(message);
    return true;
  }

  #takeAsAcked(message: Message): void {
    message.acked = true;
    if (message.inWindow && (message.stage === stage.queued || message.stage === stage.writing)) {
      this.#committingInWindow--;
      this.#committingAcked++;
    }
  }

  // ---- from the store

  /** 202: the backlog may come; and again what was pushed some time ago. */
  fetch(): void {
    this.#openGate();
    const before = this.#delivery.time.now() - serverLimits.refetchAfterMs;
    const again: Message[] = [];
    for (const message of this.#window.values()) {
      if (message.pushedAt > 0 && message.pushedAt <= before) again.push(message);
    }
    this.#pushAgain(again);
  }

  #openGate(): void {
    this.#gateOpen = true;
    this.#page();
  }

  /** The peer has taken what was written to it. */
  drained(): void {
    if (this.phase !== 'live') this.#page();
  }

  /**
   * Reads on in the store. Not while messages that were pushed are being committed: their positions are not known yet,
   * and they must not come a second time.
   */
  #page(): void {
    const session = this.#session;
    if (session === undefined || this.phase === 'live' || this.#paging || !this.#gateOpen) return;
    if (this.#committingInWindow > 0 || this.#committingAcked > 0 || session.isCongested) return;
    if (this.phase === 'joining' && this.#committing > 0) return;
    const count = serverLimits.windowMessagesMax - this.#window.size - this.#held.length;
    const bytes = serverLimits.windowBytesMax - this.#movingBytes;
    // Not for every single ack, but for a part of what moves: places held by what is never acked do not count.
    const isEmpty = count === serverLimits.windowMessagesMax;
    const moving = serverLimits.windowMessagesMax - this.#stuck;
    if (!isEmpty && (count < Math.max(1, moving / 4) || bytes <= 0)) return;
    this.#paging = true;
    const unseenTo = this.#unseenTo;
    this.#delivery.store.page(this.name, this.#cursor, count, bytes).then(
      (page) => {
        if (this.#session !== session) return;
        this.#paging = false;
        for (const stored of page.messages) this.#enterStored(stored);
        if (!page.end) {
          if (this.phase === 'joining') this.#fallBehind();
        } else if (this.#unseenTo === unseenTo) this.#reachedEnd();
        // What was stored since may not be in what was read. From now on nothing more is, and it is read again.
        else this.phase = 'joining';
        this.#page();
      },
      (error: unknown) => {
        if (this.#session !== session) return;
        this.#delivery.storeFailed(error);
        this.#delivery.time.after(this.#delivery.options.backlogAfterMs, () => {
          if (this.#session !== session) return;
          this.#paging = false;
          this.#page();
        });
      },
    );
  }

  #enterStored(stored: StoredMessage): void {
    this.#cursor = stored.position;
    const twin = this.#twin(stored);
    // Only this one's own place in the store, read again: it was stored while something before it was not yet read.
    if (twin !== undefined && (twin.stage !== stage.stored || twin.position === stored.position)) return;
    const message = this.#delivery.fromStore(this, stored);
    if (message !== undefined) this.#enter(message);
  }

  /** The store held nothing behind the cursor when it was read. */
  #reachedEnd(): void {
    this.#unseenTo = 0;
    if (this.#committing > 0) {
      if (this.phase === 'behind') this.phase = 'joining';
      return;
    }
    this.phase = 'live';
    const joiners = this.#joiners;
    this.#joiners = [];
    for (let i = 0; i < joiners.length; i++) {
      const message = joiners[i]!;
      if (this.#dropIfExpired(message)) continue;
      if (!this.#hasRoom(message.size)) {
        this.#joiners = joiners.slice(i);
        this.#fallBehind();
        return;
      }
      this.#enter(message);
    }
  }

  // ---- again

  /** Pushes again what has been unacked for long: called about once a second. */
  redeliver(now: number): void {
    if (this.phase !== 'live') this.#countStuck(now);
    if (now < this.#nextRedeliveryAt) return;
    this.#nextRedeliveryAt = now + this.#delivery.options.redeliveryAfterMs;
    if (this.#window.size === 0) return;
    const again: Message[] = [];
    for (const message of this.#window.values()) {
      if (message.pushedAt === 0) continue;
      const dueAt = message.pushedAt + this.#delivery.redeliveryDelayMs(message.pushes);
      if (dueAt <= now) again.push(message);
      else if (dueAt < this.#nextRedeliveryAt) this.#nextRedeliveryAt = dueAt;
    }
    this.#pushAgain(again);
  }

  #countStuck(now: number): void {
    let stuck = this.#held.length;
    let bytes = 0;
    for (const message of this.#window.values()) {
      if (!message.acked && (message.pushedAt === 0 || now - message.pushedAt < serverLimits.stuckAfterMs)) continue;
      stuck++;
      // What is still in memory counts in any case.
      if (message.msg === undefined) bytes += message.size;
    }
    this.#stuck = stuck;
    this.#stuckBytes = bytes;
    this.#page();
  }

  #pushAgain(messages: readonly Message[]): void {
    const session = this.#session;
    if (messages.length === 0 || session === undefined || session.isCongested) return;
    const inStore: Message[] = [];
    const now = this.#delivery.time.now();
    for (const message of messages) {
      message.pushedAt = now;
      // Its msgId stays taken: an ack of it may be on its way, and must not count for another message.
      if (this.#dropIfExpired(message)) message.pushedAt = Number.POSITIVE_INFINITY;
      else if (message.msg === undefined) inStore.push(message);
      else this.#pushOnceMore(message);
    }
    if (inStore.length === 0) return;
    const positions = inStore.map((message) => message.position);
    this.#delivery.store.read(this.name, positions).then(
      (found) => {
        if (this.#session !== session) return;
        const byPosition = new Map(found.map((stored) => [stored.position, stored]));
        for (const message of inStore) {
          if (!message.inWindow) continue;
          message.msg = byPosition.get(message.position)?.msg;
          // Its time may have passed while it was read.
          if (this.#dropIfExpired(message)) message.pushedAt = Number.POSITIVE_INFINITY;
          else if (message.msg === undefined) this.#leaveWindow(message);
          else this.#pushOnceMore(message);
        }
        this.#page();
      },
      (error: unknown) => this.#delivery.storeFailed(error),
    );
  }

  #pushOnceMore(message: Message): void {
    this.#delivery.counters.redelivered++;
    this.#push(message);
  }
}
