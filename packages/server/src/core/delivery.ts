import { type RefusalName, refusals, serverLimits } from '@hawser/protocol';
import { type CommitOutcome, Committer } from './committer.ts';
import type { Counters } from './counters.ts';
import { Expiries } from './expiries.ts';
import { Mailbox } from './mailbox.ts';
import { contentHash, Message, stage } from './message.ts';
import type { Memory } from './packets.ts';
import { APPEND, type Cluster, type Log, type Store, StoreAway, type StoredMessage, type Time } from './ports.ts';
import { Routing } from './routing.ts';
import { Sender } from './sender.ts';
import type { Session } from './session.ts';
import { Unsafe } from './unsafe.ts';

/** What an operator may change of delivery; the defaults are in `serverLimits`. Milliseconds. */
export interface DeliveryOptions {
  readonly persistAfterMs: number;
  readonly redeliveryAfterMs: number;
  readonly backlogAfterMs: number;
  readonly inboxAgeMsMax: number;
}

export interface DeliveryPorts {
  readonly store: Store;
  readonly time: Time;
  readonly log: Log;
  readonly counters: Counters;
  readonly options: DeliveryOptions;
  /** The other nodes, if there are any. */
  readonly cluster?: Cluster | undefined;
  /** The store failed for good: the server must not go on. */
  readonly onFatal: (error: unknown) => void;
}

/** Messages that fall due within this time of each other are persisted together. */
const PERSIST_GRAIN_MS = 5;

/** Senders looked at each time, at most, for ids that may be forgotten. */
const FORGETTING_TURNS = 4;

/** What the sweep for old messages reads at once. */
const SWEEP_INBOXES = 100;
const SWEEP_MESSAGES = 256;
const SWEEP_BYTES = 1024 * 1024;

/** What a message's age and `ttl` are told by. */
type Timed = Pick<StoredMessage, 'wall' | 'ran' | 'ttl'>;

const NO_IDS = new Int32Array(0);

/** What became of a message that a client sent. */
export type Accepted = 'pending' | 'acked' | RefusalName;

/**
 * Takes messages from senders to receivers. The sender is acked when the receiver has acked, or when the message is
 * synced to disk, whichever comes first, and for no other reason.
 */
export class Delivery {
  readonly store: Store;
  readonly time: Time;
  readonly counters: Counters;
  readonly options: DeliveryOptions;
  /** The way to receivers on other nodes, if there are any. */
  readonly routing: Routing | undefined;
  readonly #log: Log;
  readonly #expiries: Expiries;
  readonly #onFatal: (error: unknown) => void;
  readonly #committer: Committer;
  readonly #mailboxes = new Map<string, Mailbox>();
  readonly #senders = new Map<string, Sender>();
  /** When there are so many, those that nothing needs are forgotten. */
  #mailboxesMax: number = serverLimits.mailboxesUnusedMax;
  #rememberedIds = 0;

  readonly #unsafe = new Unsafe();
  #persistTimerSet = false;

  readonly #toRedeliver = new Set<Mailbox>();
  #pendingBytes = 0;
  #isMemoryShort = false;
  readonly #waitingForMemory = new Set<Session>();
  #stopping = false;
  #isSweeping = false;
  /** When inboxes that were full were last looked through for what has expired; one at a time. */
  readonly #clearedAt = new Map<string, number>();
  #clearing: Promise<void> = Promise.resolve();
  #isStopped = false;

  constructor(ports: DeliveryPorts) {
    this.store = ports.store;
    this.time = ports.time;
    this.counters = ports.counters;
    this.options = ports.options;
    this.#log = ports.log;
    this.#expiries = new Expiries(ports.time, ports.log);
    this.#onFatal = ports.onFatal;
    const { cluster } = ports;
    this.routing = cluster && new Routing(cluster, ports.time, (name) => this.#mailboxes.get(name));
    const outcome: CommitOutcome = {
      committed: (message, result) => this.#committed(message, result),
      cancelled: (message) => message.mailbox.notStored(message),
      failed: (messages, error) => this.#commitFailed(messages, error),
    };
    this.#committer = new Committer(ports.store, ports.time, outcome, cluster);
  }

  // ---- sessions

  /** The sender's memory, for a session that logged in under its name. */
  sender(name: string, session: Session): Sender {
    let sender = this.#senders.get(name);
    if (sender === undefined) {
      sender = new Sender(name);
      this.#senders.set(name, sender);
    }
    sender.session = session;
    if (this.routing !== undefined) this.#arrive(sender);
    return sender;
  }

  /** In a cluster a session's first messages go to the store: what the one before sent, and is in memory, before them. */
  #arrive(sender: Sender): void {
    sender.arrive();
    for (const message of sender.pending()) message.mailbox.persist(message);
  }

  /** Forgets what was sent under a name: whoever has it next is somebody else. */
  forgetSender(name: string): void {
    this.#rememberedIds -= this.#senders.get(name)?.ids ?? 0;
    this.#senders.delete(name);
  }

  /** The mailbox of a receiver that is online or has messages on their way to the store; made when there is none. */
  mailbox(name: string): Mailbox {
    let mailbox = this.#mailboxes.get(name);
    if (mailbox === undefined) {
      if (this.#mailboxes.size >= this.#mailboxesMax) this.#sweepMailboxes();
      mailbox = new Mailbox(name, this);
      this.#mailboxes.set(name, mailbox);
    }
    return mailbox;
  }

  /**
   * Forgets mailboxes that nothing needs. Not each at once: a receiver that is away and written to steadily would have
   * a new one for every message, and a map from which much is taken keeps much garbage alive.
   */
  #sweepMailboxes(): void {
    for (const mailbox of this.#mailboxes.values()) if (mailbox.isUnused) this.#mailboxes.delete(mailbox.name);
    this.#mailboxesMax = this.#mailboxes.size * 2 + serverLimits.mailboxesUnusedMax;
  }

  // ---- from the sender

  /** Accepts a message that its sender may send. `msg` must stay unchanged. */
  accept(sender: Sender, msgId: string, isEncrypt: boolean, to: string, msg: Uint8Array, ttl: number): Accepted {
    const hash = contentHash(to, msg);
    const known = sender.find(msgId);
    if (typeof known === 'number') return known === hash ? 'acked' : 'msgIdReused';
    if (known !== undefined) {
      if (known.to !== to || known.hash !== hash) return 'msgIdReused';
      known.isEncrypt = isEncrypt;
      return this.#join(known);
    }
    if (this.#stopping) return 'stopping';

    const message = new Message(
      this.mailbox(to),
      sender.name,
      msgId,
      msg,
      hash,
      this.time.wall(),
      this.time.ran(),
      ttl,
    );
    this.#expect(message, sender, isEncrypt);
    const isFirst = this.routing !== undefined && sender.isFirstTo(to);
    const taken = message.mailbox.take(message, isFirst);
    if (taken === 'already stored') {
      message.sender = undefined;
      this.#countIds(sender, sender.settle(message, this.time.now()));
      this.#endPending(message, sender);
      return 'acked';
    }
    if (taken !== message) {
      this.#drop(message);
      if (taken === 'conflict') return 'msgIdReused';
      this.#expect(taken, sender, isEncrypt);
      return this.#join(taken);
    }
    this.counters.accepted++;
    if (isFirst) sender.hasWrittenTo(to);
    if (sender.isLeaving) message.mailbox.persist(message);
    return 'pending';
  }

  /** It has come again. If there was no place for it in the store, there may be now. */
  #join(message: Message): Accepted {
    if (message.isRefused) this.persistLater(message);
    this.counters.joined++;
    return 'pending';
  }

  /** The sender waits for the ack of this message. */
  #expect(message: Message, sender: Sender, isEncrypt: boolean): void {
    message.sender = sender;
    message.isEncrypt = isEncrypt;
    sender.expect(message);
    this.#countIds(sender, 1);
    this.#pendingBytes += message.size + serverLimits.pendingOverheadBytes;
    if (this.#rememberedIds > serverLimits.rememberedIdsMax) this.#forgetOldest();
  }

  /** The promise holds: the receiver has the message, or the disk. */
  #settle(message: Message): void {
    const sender = message.sender;
    if (sender === undefined) return;
    message.sender = undefined;
    this.#unsafe.remove(message);
    this.#countIds(sender, sender.settle(message, this.time.now()));
    this.#endPending(message, sender);
    sender.session?.ack(message);
  }

  /** The sender no longer waits, without an ack. */
  #drop(message: Message): Sender | undefined {
    const sender = message.sender;
    if (sender === undefined) return undefined;
    message.sender = undefined;
    this.#unsafe.remove(message);
    message.mailbox.dropped(message);
    sender.drop(message);
    this.#countIds(sender, -1);
    this.#endPending(message, sender);
    return sender;
  }

  /** One that has been forgotten meanwhile does not count any more. */
  #countIds(sender: Sender, change: number): void {
    if (change !== 0 && this.#senders.get(sender.name) === sender) this.#rememberedIds += change;
  }

  #endPending(message: Message, sender: Sender): void {
    this.#pendingBytes -= message.size + serverLimits.pendingOverheadBytes;
    sender.session?.senderHasRoom();
    if (this.#waitingForMemory.size > 0 && this.hasMemory) this.#endWaitForMemory();
  }

  /** Whether more messages may be taken into memory. */
  get hasMemory(): boolean {
    return this.#pendingBytes < serverLimits.pendingBytesMax && !this.#isMemoryShort;
  }

  /** The process is running out of memory, or no longer: nobody who sends messages is read from meanwhile. */
  set isMemoryShort(isShort: boolean) {
    this.#isMemoryShort = isShort;
    if (this.hasMemory) this.#endWaitForMemory();
  }

  /** The session stops reading until messages have left memory. */
  waitForMemory(session: Session): void {
    this.#waitingForMemory.add(session);
  }

  waitNoLonger(session: Session): void {
    this.#waitingForMemory.delete(session);
  }

  #endWaitForMemory(): void {
    const sessions = [...this.#waitingForMemory];
    this.#waitingForMemory.clear();
    for (const session of sessions) session.memoryHasRoom();
  }

  /** Forgets the settled ids of the sender whose turn it is; each comes to have its turn. */
  #forgetOldest(): void {
    for (let turns = Math.min(FORGETTING_TURNS, this.#senders.size); turns > 0; turns--) {
      const [sender] = this.#senders.values();
      if (sender === undefined) return;
      this.#senders.delete(sender.name);
      this.#senders.set(sender.name, sender);
      const forgotten = sender.forget();
      this.#rememberedIds -= forgotten;
      if (forgotten > 0) return;
    }
  }

  #refuse(message: Message, refusal: RefusalName): void {
    // The receiver may ack it yet: then so is the sender, who may as well send it again meanwhile.
    const wasRefused = message.isRefused;
    message.isRefused =
      refusals[refusal].retry && message.mailbox.mayBeAcked(message) && message.sender?.isLeaving !== true;
    if (message.refusedAt === 0) message.refusedAt = this.time.now();
    const sender = message.isRefused ? message.sender : this.#drop(message);
    if (wasRefused) {
      // Told before: its receiver has left meanwhile, and there was no place for it again. A sender that has ended its
      // side may have waited for just this.
      sender?.session?.pendingEnded();
      return;
    }
    this.counters.refused[refusal]++;
    sender?.session?.refuseMessage(message.msgId, message.isEncrypt, refusals[refusal]);
  }

  // ---- from the receiver

  /** The receiver acked a message of its window. */
  acked(message: Message): void {
    this.counters.acked++;
    if (message.stage === stage.stored) this.#remove(message);
    this.#settle(message);
  }

  #remove(message: Message): void {
    this.counters.removed++;
    this.store.remove(message);
  }

  /** Another node says that the receiver acked a message that was forwarded to it. */
  ackedElsewhere(message: Message): void {
    if (message.stage === stage.stored) this.#remove(message);
    this.#settle(message);
  }

  /** A message that the receiver had acked already was found in the store. */
  removeStored(stored: StoredMessage): void {
    this.counters.removed++;
    this.store.remove({ ...stored, size: stored.msg.length });
  }

  /** The receiver has not acked it in time, and there is no room for it in the inbox. */
  giveUp(message: Message): void {
    // Also where nobody waits for it any more.
    message.mailbox.dropped(message);
    // It was told so, unless it has sent it again since.
    const isTold = message.isRefused;
    const session = this.#drop(message)?.session;
    if (isTold || session === undefined) session?.pendingEnded();
    else {
      this.counters.refused.inboxFull++;
      session.refuseMessage(message.msgId, message.isEncrypt, refusals.inboxFull);
    }
  }

  /** Another node has stored it. */
  settled(message: Message): void {
    this.#settle(message);
  }

  // ---- to the store

  /** Commits the message unless it is acked within `persistAfterMs`. */
  persistLater(message: Message): void {
    message.isRefused = false;
    message.persistAt = this.time.now() + this.options.persistAfterMs;
    this.#unsafe.add(message);
    if (!this.#persistTimerSet) this.#setPersistTimer(this.options.persistAfterMs);
  }

  #setPersistTimer(ms: number): void {
    this.#persistTimerSet = true;
    this.time.after(ms, () => this.#persistDue());
  }

  #persistDue(): void {
    this.#persistTimerSet = false;
    const now = this.time.now();
    let oldest = this.#unsafe.oldest;
    for (; oldest !== undefined && oldest.persistAt <= now; oldest = this.#unsafe.oldest) {
      this.#unsafe.remove(oldest);
      oldest.mailbox.persist(oldest);
    }
    if (oldest !== undefined) this.#setPersistTimer(Math.max(PERSIST_GRAIN_MS, oldest.persistAt - now));
  }

  commit(message: Message): void {
    this.#unsafe.remove(message);
    this.#committer.add(message);
  }

  #committed(message: Message, result: number): void {
    if (result > 0) {
      this.counters.stored++;
      message.mailbox.stored(message, result);
      if (message.acked) this.#remove(message);
      else this.#settle(message);
      return;
    }
    message.mailbox.notStored(message);
    if (message.acked) return;
    switch (result) {
      case APPEND.duplicate:
        message.mailbox.dropped(message);
        this.#settle(message);
        break;
      case APPEND.conflict:
        this.#refuse(message, 'msgIdReused');
        break;
      default:
        this.#refuse(message, 'inboxFull');
        this.#clearLater(message.to);
    }
  }

  #commitFailed(messages: readonly Message[], error: unknown): void {
    this.storeFailed(error);
    for (const message of messages) {
      message.mailbox.notKnownToBeStored(message);
      if (!message.acked) this.#refuse(message, 'storeAway');
    }
  }

  /** A call of the store failed. */
  storeFailed(error: unknown): void {
    if (error instanceof StoreAway) this.#log.warn({ err: error }, 'the store is away');
    else if (!this.#isStopped) this.#onFatal(error);
  }

  // ---- from the store

  /** A stored message as it enters a window; `undefined` when it has expired. */
  fromStore(mailbox: Mailbox, stored: StoredMessage): Message | undefined {
    const { from, msgId, msg } = stored;
    const hash = contentHash(stored.to, msg);
    const message = new Message(mailbox, from, msgId, msg, hash, stored.wall, stored.ran, stored.ttl);
    message.stage = stage.stored;
    message.position = stored.position;
    return this.dropIfExpired(message) ? undefined : message;
  }

  /** Drops a message whose time has passed: by age, or by the `ttl` that its sender gave it. */
  dropIfExpired(message: Message): boolean {
    if (!this.hasExpired(message)) return false;
    const isOld = this.#isOld(message);
    if (isOld) this.counters.expiredByAge++;
    else this.counters.expiredByTtl++;
    this.#expiries.note(message.to, isOld ? 'age' : 'ttl', 1);
    if (message.stage === stage.stored) this.#remove(message);
    this.#drop(message)?.session?.pendingEnded();
    return true;
  }

  hasExpired(message: Timed): boolean {
    return this.#isOld(message) || this.#isStale(message);
  }

  /** `ttl` counts by the larger of the two clocks: never too late. */
  #isStale({ wall, ran, ttl }: Timed): boolean {
    return ttl > 0 && Math.max(this.time.wall() - wall, this.time.ran() - ran) >= ttl * 1000;
  }

  /** Drops messages past their age from inboxes that nobody reads. One sweep at a time. */
  async sweepInboxes(): Promise<void> {
    if (this.#isSweeping) return;
    this.#isSweeping = true;
    try {
      let after = '';
      for (;;) {
        const heads = await this.store.oldest(after, SWEEP_INBOXES);
        for (const head of heads) if (this.#isOld(head) && !this.#isOnline(head.to)) await this.#sweepInbox(head.to);
        const last = heads.at(-1);
        if (last === undefined) return;
        after = last.to;
      }
    } finally {
      this.#isSweeping = false;
    }
  }

  /** Whoever is online gets its inbox paged, and the check with it. */
  #isOnline(name: string): boolean {
    const phase = this.#mailboxes.get(name)?.phase;
    return phase !== undefined && phase !== 'away';
  }

  /** Messages whose `ttl` has run out take room in an inbox that is full: they go before what is worth more. */
  #clearLater(receiver: string): void {
    const now = this.time.now();
    const last = this.#clearedAt.get(receiver);
    if (last !== undefined && now - last < serverLimits.inboxClearEveryMs) return;
    this.#clearedAt.delete(receiver);
    this.#clearedAt.set(receiver, now);
    for (const oldest of this.#clearedAt.keys()) {
      if (this.#clearedAt.size <= serverLimits.inboxesClearedMax) break;
      this.#clearedAt.delete(oldest);
    }
    this.#clearing = this.#clearing
      .then(() => this.#clear(receiver))
      .catch((error: unknown) => this.storeFailed(error));
  }

  /** One inbox at a time, page by page. */
  async #clear(receiver: string): Promise<void> {
    let dropped = 0;
    let position = 0;
    let isEnd = this.#isStopped || this.#isOnline(receiver);
    while (!isEnd) {
      const { messages, end } = await this.store.page(receiver, position, SWEEP_MESSAGES, SWEEP_BYTES);
      for (const message of messages) {
        if (!this.#isStale(message)) continue;
        this.removeStored(message);
        dropped++;
      }
      position = messages.at(-1)?.position ?? position;
      isEnd = end || this.#isStopped || this.#isOnline(receiver);
    }
    this.counters.expiredByTtl += dropped;
    if (dropped > 0) this.#expiries.note(receiver, 'ttl', dropped);
  }

  async #sweepInbox(receiver: string): Promise<void> {
    let dropped = 0;
    let position = 0;
    for (;;) {
      const { messages, end } = await this.store.page(receiver, position, SWEEP_MESSAGES, SWEEP_BYTES);
      const old = messages.filter((message) => this.#isOld(message));
      for (const message of old) this.store.remove({ ...message, size: message.msg.length });
      dropped += old.length;
      position = messages.at(-1)?.position ?? position;
      // In order of acceptance: behind the first that is not old there is none that is.
      if (end || old.length < messages.length || this.#isOnline(receiver)) break;
    }
    this.counters.expiredByAge += dropped;
    this.counters.removed += dropped;
    if (dropped > 0) this.#expiries.note(receiver, 'age', dropped);
  }

  /** Age counts by the smaller of the two clocks: never too early. */
  #isOld(message: Timed): boolean {
    const { inboxAgeMsMax } = this.options;
    // Asking for the time costs more than all the rest.
    return this.time.ran() - message.ran >= inboxAgeMsMax && this.time.wall() - message.wall >= inboxAgeMsMax;
  }

  /** `redeliveryAfterMs`, doubled with each push of the same message. */
  redeliveryDelayMs(pushes: number): number {
    const most = Math.max(serverLimits.redeliveryAfterMsMax, this.options.redeliveryAfterMs);
    return Math.min(this.options.redeliveryAfterMs * 2 ** Math.max(0, pushes - 1), most);
  }

  // ---- from node to node

  /** A name is given up: resolves when nothing of it is on its way, with what is known of it. */
  async leave(name: string): Promise<Memory> {
    const sender = this.#senders.get(name);
    const unsure: string[] = [];
    sender?.leave();
    for (const message of sender?.pending() ?? []) {
      // One that was refused may be on its way to the store again, where its receiver has left.
      if (message.isRefused && message.stage === stage.accepted) this.#drop(message);
      else {
        unsure.push(message.msgId);
        message.mailbox.persist(message);
      }
    }
    await Promise.all([sender?.whenQuiet(), this.whenQuiet(name)]);
    // What the receiver has acked must not be read by the next node.
    await this.store.whenRemoved();
    return {
      settled: sender?.settledIds() ?? NO_IDS,
      hadUnder: sender?.hadUnder ?? 0,
      unsure: unsure.filter((msgId) => sender?.isSettled(msgId)),
      finished: this.#mailboxes.get(name)?.finished ?? [],
    };
  }

  /**
   * A name is to be removed, whose session has ended and to which nobody may write: resolves when nothing is on its way to
   * or from it.
   */
  async evict(name: string): Promise<void> {
    this.#mailboxes.get(name)?.commitAll();
    await this.leave(name);
    // For what found no room nobody waits any longer.
    this.#mailboxes.get(name)?.elsewhere?.end();
  }

  /** The name is removed, and nothing of it is on its way. */
  forget(name: string): void {
    if (this.#mailboxes.get(name)?.phase === 'away') this.#mailboxes.delete(name);
    this.forgetSender(name);
  }

  /** What another node knew of a name whose session is here now. */
  inherit(name: string, { settled, hadUnder, finished }: Memory): void {
    const sender = this.#senders.get(name);
    if (sender !== undefined) this.#rememberedIds += sender.inherit(settled, hadUnder, this.time.now());
    this.#mailboxes.get(name)?.inherit(finished);
  }

  /** All that other nodes knew of the name is here: what is settled from now on is newer. */
  hasAll(name: string, token: number): void {
    const sender = this.#senders.get(name);
    if (sender !== undefined) sender.hadUnder = token;
  }

  // ---- in turn

  /** The mailbox has pushes to repeat. Those that came first are first. */
  redeliverInTurn(mailbox: Mailbox): void {
    this.#toRedeliver.add(mailbox);
  }

  /**
   * Gives mailboxes their turns, about once a second. Windows that were filled together fall due together: all at once
   * they would take the memory and the time of everybody.
   */
  redeliver(now: number): void {
    let bytes = 0;
    for (const mailbox of this.#toRedeliver) {
      if (bytes >= serverLimits.redeliveryBytesMax) return;
      this.#toRedeliver.delete(mailbox);
      bytes += mailbox.redeliverDue(now);
    }
  }

  // ---- upkeep

  /** Forgets old ids, and mailboxes that nothing needs; called about twice a minute. */
  age(): void {
    const now = this.time.now();
    if (this.routing !== undefined) for (const mailbox of this.#mailboxes.values()) mailbox.age(now);
    this.#sweepMailboxes();
    for (const sender of this.#senders.values()) {
      this.#rememberedIds -= sender.age(now);
      if (sender.isIdle) this.#senders.delete(sender.name);
    }
  }

  /** Takes nothing more. Resolves when all that was taken is durable. */
  async stop(): Promise<void> {
    this.#stopping = true;
    for (const mailbox of this.#mailboxes.values()) mailbox.commitAll();
    await this.#committer.whenIdle();
  }

  /** The store may be closed from now on: what still reads from it fails, and that is no failure of the store. */
  end(): void {
    this.#isStopped = true;
    this.#expiries.tell();
  }

  /** Whether anything that this name has sent is on its way. */
  hasPending(sender: string): boolean {
    return (this.#senders.get(sender)?.pendingMessages ?? 0) > 0;
  }

  /** Whether anything of this receiver is in memory. */
  hasMailbox(receiver: string): boolean {
    return this.#mailboxes.get(receiver)?.isUnused === false;
  }

  /** Resolves when nothing is on its way to this receiver's inbox. */
  async whenQuiet(receiver: string): Promise<void> {
    await this.#mailboxes.get(receiver)?.whenQuiet();
  }

  /** A receiver waits for its commits to go live. */
  hurry(): void {
    this.#committer.hurry();
  }

  /** Resolves when nothing is on its way to the store. */
  whenCommitted(): Promise<void> {
    return this.#committer.whenIdle();
  }

  get stats(): { mailboxes: number; senders: number; rememberedIds: number; pendingBytes: number } {
    let mailboxes = 0;
    for (const mailbox of this.#mailboxes.values()) if (!mailbox.isUnused) mailboxes++;
    return {
      mailboxes,
      senders: this.#senders.size,
      rememberedIds: this.#rememberedIds,
      pendingBytes: this.#pendingBytes,
    };
  }
}
