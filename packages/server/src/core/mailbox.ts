import { serverLimits } from '@hawser/protocol';
import type { Delivery } from './delivery.ts';
import { Elsewhere } from './elsewhere.ts';
import { Inlet } from './inlet.ts';
import { contentHash, type Hop, Message, stage } from './message.ts';
import type { Finished, Forward, Nudge } from './packets.ts';
import type { StoredMessage } from './ports.ts';
import type { Session } from './session.ts';
import { Window } from './window.ts';

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
 * - away: no session here; what comes goes to the store, or to the node that has the session (`Elsewhere`).
 * - behind: what comes goes to the store and is paged into the window in order.
 * - joining: the store has been read to its end, but commits for this receiver are on their way. What comes waits in
 *   memory until they have been paged too; it is then pushed, and the mailbox is live.
 * - live: every accepted message is in the window.
 */
export type Phase = 'away' | 'behind' | 'joining' | 'live';

/**
 * What became of a message offered to a mailbox: the message in memory that stands for it now (itself, or an earlier
 * copy still in the window), or why there is none: it is stored, or was acked by the receiver.
 */
export type Taken = Message | 'already stored' | 'conflict';

/** Of a mailbox with no session: a message to an away receiver makes one, so it takes no room that is not needed. */
const NO_WINDOW = new Window();
const NO_MESSAGES: Message[] = [];

/** One receiver's messages in memory: the window of unacked pushes, and the way to and from the store. */
export class Mailbox {
  readonly name: string;
  readonly #delivery: Delivery;
  phase: Phase = 'away';
  #session: Session | undefined;

  /** Pushed on this session and not acked, by msgId: an ack names nothing else. */
  #window = NO_WINDOW;
  /** They have a place in the window but are not pushed: their msgId, or an earlier one of their sender, is taken. */
  #held: Message[] = NO_MESSAGES;
  #windowBytes = 0;
  /** Something of the window may be gone. */
  #hasGone = false;
  /** In the window, to be pushed at the end of this turn. */
  #outbox: Message[] = NO_MESSAGES;
  /** While joining: accepted, not pushed, not queued. */
  #joiners: Message[] = NO_MESSAGES;

  /** Messages for this receiver in the committer, and who waits until there are none. */
  #committing = 0;
  /** How many have left the committer, and who waits until so many have. */
  #leftTotal = 0;
  #quiet: readonly Waiting[] | undefined;
  /** Those in the committer that were pushed here: they are in the window, or acked meanwhile. */
  #committingPushed = 0;
  /** Something lay in the store when the session came, or was stored since. */
  #hasStored = false;
  /** The login of the session has been answered. */
  #isStarted = false;

  /** Everything up to this position has been in the window. */
  #cursor = 0;
  /** A backlog is pushed only when asked for, or some time after login. */
  #gateOpen = false;
  #paging = false;
  /** Removed from the store since it is being read: the page that is on its way may still have them. */
  #removedMeanwhile: Set<number> | undefined;
  /** The last message of the store that has not been in the window; 0 when all have. */
  #unseenTo = 0;
  /** Counts what was stored and told: what came while the store was read may not be in what was read. */
  #news = 0;
  #nextRedeliveryAt = 0;
  /** Places in the window that have not moved for some time. */
  #stuck = 0;
  #stuckBytes = 0;

  // In a cluster.
  /** The way to the receiver when its session is on another node. */
  readonly elsewhere: Elsewhere | undefined;
  /** What comes from other nodes when its session is here. */
  #inlet: Inlet | undefined;
  /** When to look whether something was stored of which no news came. */
  #nextLookAt = 0;

  constructor(name: string, delivery: Delivery) {
    this.name = name;
    this.#delivery = delivery;
    const { routing } = delivery;
    this.elsewhere = routing && new Elsewhere(this, delivery, routing);
  }

  get isUnused(): boolean {
    return (
      this.phase === 'away' &&
      this.#committing === 0 &&
      this.elsewhere?.isUnused !== false &&
      this.#inlet?.isEmpty !== false
    );
  }

  // ---- what comes in

  /**
   * Places an accepted message.
   *
   * @param isFirst in a cluster: of its sender's session to this receiver. It goes through the store, behind all that
   *   the sender's earlier sessions on other nodes may have left there
   */
  take(message: Message, isFirst: boolean): Taken {
    if (this.phase !== 'away') {
      const twin = this.#twin(message);
      if (twin !== undefined) return this.#join(twin, message);
      if (this.#inlet?.hasFinished(message) === true) return 'already stored';
    }
    if (isFirst) this.#makeWay();
    else if (this.#place(message)) {
      this.#delivery.persistLater(message);
      return message;
    }
    this.commit(message);
    return message;
  }

  /** Has the message pushed, or wait for that; false when it must go to the store. */
  #place(message: Message): boolean {
    switch (this.phase) {
      case 'live':
        if (this.#hasRoom(message.size)) {
          this.#enter(message);
          return true;
        }
        break;
      case 'joining':
        if (this.#joiners.length < serverLimits.windowMessagesMax) {
          this.#joiners.push(message);
          return true;
        }
        break;
      case 'away':
        if (this.elsewhere?.forward(message)) return true;
        this.elsewhere?.endStream();
        return false;
      default:
        return false;
    }
    this.#fallBehind();
    return false;
  }

  /** What is about to be stored must be read before anything that comes after it is pushed. */
  #makeWay(): void {
    if (this.phase === 'live') this.phase = 'joining';
    else if (this.phase === 'away') this.elsewhere?.endStream();
  }

  /** The same sender's msgId in the window: sent again after the sender's own memory of it was lost. */
  #twin(message: { readonly from: string; readonly msgId: string }): Message | undefined {
    const twin = this.#window.get(message.msgId);
    // One that has expired keeps its msgId taken: what else is sent under it is held.
    if (twin?.from === message.from && !twin.acked) return twin;
    if (this.#held.length === 0) return undefined;
    return this.#held.find((held) => held.msgId === message.msgId && held.from === message.from);
  }

  #join(twin: Message, message: Message): Taken {
    if (twin.hash !== message.hash) return 'conflict';
    if (twin.stage === stage.stored) return 'already stored';
    // It came from another node, which may have ended: now it is this one's, and comes before what its sender sends next.
    if (twin.hop !== undefined && twin.stage === stage.accepted) this.commit(twin);
    return twin;
  }

  /** It was not acked in time. */
  persist(message: Message): void {
    if (message.stage !== stage.accepted || message.acked) return;
    if (message.inWindow) this.commit(message);
    else if (this.phase === 'joining') this.#fallBehind();
    else if (this.phase === 'away') this.elsewhere?.persist(message);
  }

  /** From now on everything goes to the store, in the order accepted: first what is only in memory. */
  #fallBehind(): void {
    this.phase = 'behind';
    for (const message of this.#window.inOrder()) {
      if (isOursToStore(message) && !message.acked) this.commit(message);
    }
    for (const message of this.#held) if (isOursToStore(message)) this.commit(message);
    if (this.#joiners.length === 0) return;
    for (const message of this.#joiners.splice(0)) {
      if (isOursToStore(message)) this.commit(message);
      else if (message.hop !== undefined) this.#refuse(message.hop);
    }
  }

  /** The server stops: what is only in memory goes to the store. Acks still count. */
  commitAll(): void {
    if (this.phase === 'away') this.elsewhere?.endStream();
    else this.#fallBehind();
  }

  get isCommitting(): boolean {
    return this.#committing > 0;
  }

  commit(message: Message): void {
    this.#committing++;
    if (message.inWindow) {
      message.isCommittingPushed = true;
      this.#committingPushed++;
    }
    this.#delivery.commit(message);
    if (this.phase === 'joining') this.#delivery.hurry();
  }

  // ---- what the committer says

  stored(message: Message, position: number): void {
    message.stage = stage.stored;
    message.position = position;
    this.#hasStored = true;
    if (message.inWindow || message.acked) {
      // In a cluster others store, too: what lies before this one may not have been read.
      const isAlone = this.#delivery.routing === undefined;
      if (isAlone && position > this.#cursor && this.#unseenTo <= this.#cursor) this.#cursor = position;
      if (message.pushedAt > 0) message.msg = undefined;
    } else {
      message.msg = undefined;
      this.#unseenTo = position;
      this.#news++;
    }
    if (this.phase === 'away') this.elsewhere?.hasNews(position);
    this.#left(message);
  }

  /** It was not stored: acked before, or refused. It may still be in the window. */
  notStored(message: Message): void {
    message.stage = stage.accepted;
    if (message.isGone) message.msg = undefined;
    // It tells no position up to which the receiver's node is to read: so it is to read all.
    if (this.phase === 'away' && !message.acked) this.elsewhere?.hasNews(Number.MAX_SAFE_INTEGER);
    this.#left(message);
  }

  /** The store is away, and whether the message was stored before it went nobody knows. */
  notKnownToBeStored(message: Message): void {
    message.mayBeStored = true;
    // One that has expired is none that its receiver has: if its sender repeats it, it is taken anew.
    if (message.acked && !message.isGone) this.#finishUnsure(message);
    this.notStored(message);
  }

  /** Whether the receiver may yet ack a message that could not be stored. */
  mayBeAcked(message: Message): boolean {
    return message.inWindow || this.elsewhere?.expects(message) === true;
  }

  /** Its sender does not wait for it any more, or it was in the store already. */
  dropped(message: Message): void {
    this.elsewhere?.left(message);
  }

  /** Resolves when what is in the committer for this receiver has left it; more may come meanwhile. */
  whenQuiet(): Promise<void> {
    if (this.#committing === 0) return Promise.resolve();
    const total = this.#leftTotal + this.#committing;
    return new Promise((resolve) => {
      this.#quiet = [...(this.#quiet ?? []), { total, resolve }];
    });
  }

  #left(message: Message): void {
    this.#committing--;
    this.#leftTotal++;
    if (this.#quiet !== undefined) this.#tellQuiet(this.#quiet);
    this.#notCommittingPushed(message);
    if (message.stage === stage.stored || message.acked) this.elsewhere?.left(message);
    this.#page();
  }

  #tellQuiet(waiting: readonly Waiting[]): void {
    for (const { total, resolve } of waiting) if (total <= this.#leftTotal) resolve();
    const left = waiting.filter(({ total }) => total > this.#leftTotal);
    this.#quiet = left.length > 0 ? left : undefined;
  }

  #notCommittingPushed(message: Message): void {
    if (!message.isCommittingPushed) return;
    message.isCommittingPushed = false;
    this.#committingPushed--;
  }

  // ---- sessions

  /** The receiver logged in. Until `start` what comes goes to the store. */
  attach(session: Session): void {
    this.elsewhere?.endStream();
    this.elsewhere?.end();
    this.#session = session;
    this.#window = new Window();
    this.#held = [];
    this.#hasGone = false;
    this.#outbox = [];
    this.#joiners = [];
    this.phase = 'behind';
    this.#cursor = 0;
    this.#unseenTo = 0;
    this.#gateOpen = false;
    this.#paging = false;
    this.#stuck = 0;
    this.#stuckBytes = 0;
    this.#hasStored = false;
    this.#isStarted = false;
    const now = this.#delivery.time.now();
    this.#nextRedeliveryAt = now + this.#delivery.options.redeliveryAfterMs;
    this.#nextLookAt = now + serverLimits.storeLookEveryMs;
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
    for (const message of [...this.#window.inOrder(), ...this.#held]) {
      message.inWindow = false;
      // The next session is to read it. What was acked is to be removed first.
      if (!message.acked) this.#notCommittingPushed(message);
    }
    this.#fallBehind();
    this.phase = 'away';
    for (const [node, stream] of this.#inlet?.end() ?? []) this.#delivery.routing?.refuse(node, this.name, stream, 0);
    this.#window = NO_WINDOW;
    this.#held = NO_MESSAGES;
    this.#outbox = NO_MESSAGES;
    this.#joiners = NO_MESSAGES;
    this.#windowBytes = 0;
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
    if (this.#mustWait(message)) this.#held.push(message);
    else this.#send(message);
  }

  /** Its msgId is taken, or an earlier message of its sender waits. */
  #mustWait(message: Message): boolean {
    const isTaken = this.#window.has(message.msgId) && this.#goneLike(message) === undefined;
    return isTaken || this.#held.some((held) => held.from === message.from);
  }

  /** What is gone, and has come again as this message: an ack of the one is an ack of the other. */
  #goneLike({ from, msgId, hash }: Message): Message | undefined {
    if (!this.#hasGone) return undefined;
    const other = this.#window.get(msgId);
    return other?.isGone && other.from === from && other.hash === hash ? other : undefined;
  }

  #send(message: Message): void {
    const gone = this.#goneLike(message);
    if (gone !== undefined) this.#takeOut(gone);
    this.#window.add(message);
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
    message.acked = true;
    this.#leaveWindow(message);
    if (message.hop !== undefined) this.#delivery.routing?.acked(message.hop, this.name);
    // Also where it is being stored: what is read from the store meanwhile may have it. And where its sender was told that
    // it could not be, and has gone to another node: from there it comes again.
    if (
      message.hop !== undefined ||
      message.mayBeStored ||
      message.stage !== stage.accepted ||
      message.sender === undefined
    )
      this.#finishUnsure(message);
    if (this.#paging && message.stage === stage.stored) {
      this.#removedMeanwhile ??= new Set();
      this.#removedMeanwhile.add(message.position);
    }
    this.#delivery.acked(message);
    if (this.phase !== 'live') this.#page();
  }

  #leaveWindow(message: Message): void {
    this.#takeOut(message);
    if (this.#held.length > 0) this.#releaseHeld();
  }

  #takeOut(message: Message): void {
    this.#window.delete(message);
    this.#windowBytes -= message.size;
    message.inWindow = false;
  }

  #releaseHeld(): void {
    const waiting = this.#held;
    this.#held = [];
    for (const message of waiting) {
      if (this.#mustWait(message)) this.#held.push(message);
      else if (this.#dropIfExpired(message)) {
        this.#windowBytes -= message.size;
        message.inWindow = false;
      } else this.#send(message);
    }
  }

  /** As if it had been acked: it is not to be stored, or to be deleted when it has been. */
  #dropIfExpired(message: Message): boolean {
    if (!this.#delivery.dropIfExpired(message)) return false;
    message.acked = true;
    message.isGone = true;
    return true;
  }

  /**
   * It is in the window, and is not pushed again. Its msgId stays taken: an ack of it may be on its way, and must not count
   * for another message.
   */
  #pushNoMore(message: Message): void {
    message.acked = true;
    message.isGone = true;
    message.pushedAt = Number.POSITIVE_INFINITY;
    this.#hasGone = true;
    // What is on its way to the store may have to be written once more.
    if (message.stage === stage.accepted || message.stage === stage.stored) message.msg = undefined;
  }

  // ---- from the store

  /** 202: the backlog may come; and again what was pushed some time ago. */
  fetch(): void {
    this.#openGate();
    const before = this.#delivery.time.now() - serverLimits.refetchAfterMs;
    const isLongAgo = (pushedAt: number): boolean => pushedAt > 0 && pushedAt <= before;
    const again = this.#window.inOrder().filter(({ pushedAt }) => isLongAgo(pushedAt));
    this.#pushAgain(again, this.#window.parkedDue(isLongAgo));
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
    if (this.#committingPushed > 0 || session.isCongested) return;
    if (this.phase === 'joining' && this.#committing > 0) {
      this.#delivery.hurry();
      return;
    }
    const count = serverLimits.windowMessagesMax - this.#window.size - this.#held.length;
    const bytes = serverLimits.windowBytesMax - this.#movingBytes;
    // Not for every single ack, but for a part of what moves: places held by what is never acked do not count.
    const isEmpty = count === serverLimits.windowMessagesMax;
    const moving = serverLimits.windowMessagesMax - this.#stuck;
    if (!isEmpty && (count < Math.max(1, moving / 4) || bytes <= 0)) return;
    this.#paging = true;
    this.#removedMeanwhile = undefined;
    const news = this.#news;
    this.#delivery.store.page(this.name, this.#cursor, count, bytes).then(
      (page) => {
        if (this.#session !== session) return;
        this.#paging = false;
        for (const stored of page.messages) this.#enterStored(stored);
        if (!page.end) {
          if (this.phase === 'joining') this.#fallBehind();
        } else if (this.#news === news) this.#reachedEnd();
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
    if (this.#removedMeanwhile?.has(stored.position)) return;
    this.#inlet?.read(stored.from);
    const twin = this.#twin(stored);
    if (twin !== undefined && this.#isSame(twin, stored)) return;
    if (this.#isFinished(stored)) {
      this.#delivery.removeStored(stored);
      return;
    }
    const message = this.#delivery.fromStore(this, stored);
    const joiner = this.#delivery.routing && this.#takeJoiner(stored);
    if (message === undefined) return;
    message.hop = joiner?.hop;
    this.#enter(message);
  }

  /** The store held nothing behind the cursor when it was read. */
  #reachedEnd(): void {
    this.#unseenTo = 0;
    if (this.#committing > 0) {
      if (this.phase === 'behind') this.phase = 'joining';
      return;
    }
    this.phase = 'live';
    this.#tellNudgers();
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

  /** Asks for a turn to push again what has been unacked for long: called about once a second. */
  redeliver(now: number): void {
    this.#window.park(now);
    if (this.phase !== 'live') this.#countStuck(now);
    else if (this.#delivery.routing !== undefined && now >= this.#nextLookAt) this.#look(now);
    if (now >= this.#nextRedeliveryAt) this.#delivery.redeliverInTurn(this);
  }

  /** Its turn has come. Returns how many bytes are pushed again. */
  redeliverDue(now: number): number {
    this.#nextRedeliveryAt = now + this.#delivery.options.redeliveryAfterMs;
    let due = 0;
    const isDue = (pushedAt: number, pushes: number, bytes: number): boolean => {
      const dueAt = pushedAt + this.#delivery.redeliveryDelayMs(pushes);
      if (dueAt <= now) due += bytes + serverLimits.pendingOverheadBytes;
      else if (dueAt < this.#nextRedeliveryAt) this.#nextRedeliveryAt = dueAt;
      return dueAt <= now;
    };
    const parked = this.#window.parkedDue(isDue);
    const again = this.#window.inOrder().filter(({ pushedAt, pushes, size }) => {
      return pushedAt > 0 && isDue(pushedAt, pushes, size);
    });
    return this.#pushAgain(again, parked) ? due : 0;
  }

  #countStuck(now: number): void {
    const { count, bytes } = this.#window.stuck(now);
    this.#stuck = this.#held.length + count;
    this.#stuckBytes = bytes;
    this.#page();
  }

  /**
   * @param parked positions of parked messages
   * @returns false when there is nothing to push, or the peer does not take it now
   */
  #pushAgain(messages: readonly Message[], parked: readonly number[]): boolean {
    const session = this.#session;
    if (messages.length + parked.length === 0 || session === undefined || session.isCongested) return false;
    const inStore: Message[] = [];
    const now = this.#delivery.time.now();
    for (const message of messages) {
      message.pushedAt = now;
      if (this.#dropIfExpired(message)) this.#pushNoMore(message);
      else if (message.msg === undefined) inStore.push(message);
      else this.#pushOnceMore(message);
    }
    if (inStore.length + parked.length === 0) return true;
    this.#window.parkedPushed(parked, now);
    const positions = [...parked, ...inStore.map((message) => message.position)];
    this.#delivery.store.read(this.name, positions).then(
      (found) => {
        if (this.#session !== session) return;
        const byPosition = new Map(found.map((stored) => [stored.position, stored]));
        // What was read for again since, the store being slow, is pushed when that has been read.
        const stillWaiting = inStore.filter(({ pushedAt }) => pushedAt === now);
        for (const message of [...this.#unpark(parked), ...stillWaiting]) {
          if (!message.inWindow) continue;
          message.msg = byPosition.get(message.position)?.msg;
          // Its time may have passed while it was read.
          if (message.msg === undefined || this.#dropIfExpired(message)) this.#pushNoMore(message);
          else this.#pushOnceMore(message);
        }
        this.#page();
      },
      (error: unknown) => this.#delivery.storeFailed(error),
    );
    return true;
  }

  #unpark(positions: readonly number[]): Message[] {
    const messages: Message[] = [];
    for (const position of positions) {
      const message = this.#window.unpark(position);
      if (message !== undefined) messages.push(message);
    }
    return messages;
  }

  #pushOnceMore(message: Message): void {
    this.#delivery.counters.redelivered++;
    this.#push(message);
  }

  // ---- in a cluster, the receiver here

  /** A message that another node accepted. */
  forwarded(node: string, packet: Forward): void {
    const { routing } = this.#delivery;
    if (routing === undefined) return;
    if (this.#session === undefined) {
      routing.refuse(node, this.name, packet.stream, 0);
      return;
    }
    this.#inlet ??= new Inlet();
    const { stream } = packet;
    const admitted = this.#inlet.admit(packet, node);
    if (admitted === 'next') this.#takeForwarded(node, packet);
    else if (admitted === 'refuse') routing.refuse(node, this.name, stream, this.#inlet.taken(node, stream));
  }

  #takeForwarded(node: string, packet: Forward): void {
    const { from, msgId, msg, wall, ran, ttl, stream, seq } = packet;
    const hash = contentHash(this.name, msg);
    const hop = { node, stream, seq };
    const message = new Message(this, from, msgId, msg, hash, wall, ran, ttl);
    message.hop = hop;
    if (this.#delivery.hasExpired(message)) {
      // The node that accepted it stores it, and so it is found to have expired.
      this.#refuse(hop);
      return;
    }
    if (this.#inlet?.hasFinished(message) === true) {
      this.#inlet.finish(message, this.#delivery.time.now());
      this.#delivery.routing?.acked(hop, this.name);
      return;
    }
    const twin = this.#twin(message) ?? this.#joinerLike(message);
    if (twin !== undefined && twin.hash === hash) twin.hop = hop;
    else if (twin !== undefined || !this.#placeForwarded(message)) this.#refuse(hop);
  }

  #placeForwarded(message: Message): boolean {
    if (this.phase === 'live' && this.#hasRoom(message.size)) {
      this.#enter(message);
      return true;
    }
    if (this.phase !== 'joining' || this.#joiners.length >= serverLimits.windowMessagesMax) return false;
    this.#joiners.push(message);
    return true;
  }

  #refuse(hop: Hop): void {
    if (this.#inlet?.refuse(hop)) this.#delivery.routing?.refuse(hop.node, this.name, hop.stream, hop.seq);
  }

  /** It was acked, and may lie in the store, or come there: then it is to be removed, and not pushed again. */
  #finishUnsure(message: Message): void {
    if (message.stage === stage.stored || this.#delivery.routing === undefined) return;
    this.#inlet ??= new Inlet();
    this.#inlet.finish(message, this.#delivery.time.now());
    if (message.mayBeStored && this.phase !== 'away') this.#readAgain();
  }

  /** Whether what was read from the store is this message of the window, which has the same sender and msgId. */
  #isSame(message: Message, stored: StoredMessage): boolean {
    // Its own place, read again: it was stored while something before it was not yet read.
    if (message.stage === stage.stored) return message.position === stored.position;
    // This node's own commit tells the place. Alone there is no other, and what differs would not have been stored.
    if (this.#delivery.routing === undefined || message.stage !== stage.accepted) return true;
    if (message.hash !== contentHash(stored.to, stored.msg)) return false;
    // Another node has stored it.
    message.stage = stage.stored;
    message.position = stored.position;
    if (message.pushedAt > 0) message.msg = undefined;
    this.#delivery.settled(message);
    return true;
  }

  /** A message that waited to be pushed and was found in the store, where another node had put it: that is its place. */
  #takeJoiner(stored: StoredMessage): Message | undefined {
    const joiner = this.#joinerLike(stored);
    if (joiner === undefined || joiner.hash !== contentHash(stored.to, stored.msg)) return undefined;
    this.#joiners.splice(this.#joiners.indexOf(joiner), 1);
    joiner.acked = true;
    this.#delivery.settled(joiner);
    return joiner;
  }

  #joinerLike({ from, msgId }: { readonly from: string; readonly msgId: string }): Message | undefined {
    return this.#joiners.find((joiner) => joiner.msgId === msgId && joiner.from === from);
  }

  #isFinished({ from, msgId, to, msg }: StoredMessage): boolean {
    const inlet = this.#inlet;
    if (inlet === undefined || inlet.isEmpty) return false;
    return inlet.hasFinished({ from, msgId, hash: contentHash(to, msg) });
  }

  /** Another node has stored something. False when the receiver is not here. */
  nudged(node: string, { position, news }: Nudge): boolean {
    if (this.#delivery.routing === undefined || this.#session === undefined) return false;
    if (this.phase === 'live' && position <= this.#cursor) {
      this.#caughtUpFor(node, news);
      return true;
    }
    this.#inlet ??= new Inlet();
    this.#inlet.nudged(node, news);
    this.#readAgain();
    return true;
  }

  /** Something may lie in the store that has not been read. */
  #readAgain(): void {
    this.#hasStored = true;
    this.#unseenTo = Number.POSITIVE_INFINITY;
    this.#news++;
    if (this.phase === 'live') this.phase = 'joining';
    this.#page();
  }

  /** All that was stored has been in the window. */
  #tellNudgers(): void {
    for (const [node, news] of this.#inlet?.takeNudges() ?? []) this.#caughtUpFor(node, news);
  }

  #caughtUpFor(node: string, news: number): void {
    const { routing } = this.#delivery;
    if (routing === undefined) return;
    this.#inlet ??= new Inlet();
    const stream = this.#inlet.grant(node, () => routing.nextNumber());
    routing.send(node, { type: 'caughtUp', to: this.name, news, stream });
  }

  /** A node may have stored something and ended before it could tell. */
  #look(now: number): void {
    this.#nextLookAt = now + serverLimits.storeLookEveryMs;
    this.#inlet?.age(now);
    this.#readAgain();
  }

  // ---- in a cluster, from node to node

  /** What this node knows of pushes that the receiver acked: for the node that has the receiver next. */
  get finished(): readonly Finished[] {
    return this.#inlet?.finished(this.#delivery.time.now()) ?? [];
  }

  inherit(finished: readonly Finished[]): void {
    if (finished.length === 0) return;
    this.#inlet ??= new Inlet();
    this.#inlet.inherit(finished, this.#delivery.time.now());
  }

  /** Forgets what has become pointless to remember of a receiver that is not here. */
  age(now: number): void {
    this.#inlet?.age(now);
    this.elsewhere?.age(now);
  }
}

/** Until so many messages have left the committer. */
interface Waiting {
  readonly total: number;
  readonly resolve: () => void;
}

/**
 * In memory only, and accepted here: the node that accepted a message stores it. Not where its sender was told that it could
 * not be stored, and has gone: it sends the message again, elsewhere, and there nothing is known of this one.
 */
function isOursToStore(message: Message): boolean {
  return message.stage === stage.accepted && message.sender !== undefined;
}
