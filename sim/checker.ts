import { serverLimits } from '@hawser/protocol';
import type { NewMessage, StoredMessage } from '@hawser/server/core/ports';
import type { WallClock } from './clock.ts';
import type { Connection } from './connection.ts';
import type { Disk } from './disk.ts';
import { History } from './history.ts';
import type { Messages, SentMessage } from './message.ts';
import type { Scheduler } from './scheduler.ts';
import type { Trace } from './trace.ts';

export { type Rule, rules, type Violation } from './rules.ts';

const REMEMBERED_IDS = 1000;
const REMEMBERED_MS = 600_000;
const SENDER_PENDING_MAX = 1000;
/** A binding removed takes effect on other nodes within this. */
const BINDING_KNOWN_MS = 5000;
/** A node that may store nothing any more ends what it has within this. */
const VOID_KNOWN_MS = 4000;
/** What a run was at when it was paused it has done by then. */
const PAUSE_OVER_MS = 5;
/** By how much nodes may disagree on the time in service: what the quickest of a few answers takes on a bad way. */
const RAN_AGREED_MS = 250;
/** The same where the disk is slow: of a few answers all may be. */
const RAN_AGREED_SLOW_MS = 1250;

/**
 * Compares what the server does with what PROTOCOL.md promises: the rules of `History`, and those for which one must see
 * the disk and what the core decides. It knows bytes, clients and the disk, not the core.
 */
export class Checker extends History {
  readonly #scheduler: Scheduler;
  readonly #wall: WallClock;
  readonly #disk: Disk;
  #wallJumpedAt = -1e9;
  #wallSeen = 0;
  /** Sessions in force, by name. */
  readonly #current = new Map<string, Connection>();
  /** What each sender's msgId stands for at present. */
  readonly #accepted = new Map<string, SentMessage>();
  readonly #senders = new Map<string, { accepted: number; pending: Set<SentMessage> }>();
  /** Which runs may know something of each name, and when something of that was last lost. */
  readonly #knowing = new Map<string, Set<number>>();
  readonly #forgottenAt = new Map<string, number>();
  /** When the one server there is forgot everything. */
  #allForgottenAt = -1;
  /** Until when each run was paused last, and for how long. */
  readonly #pauses = new Map<number, { until: number; ms: number }>();
  /** When each name was last removed. */
  readonly #removedAt = new Map<string, number>();

  #databaseClockSetMs = 0;
  #ranLeast = Number.POSITIVE_INFINITY;
  #ranMost = Number.NEGATIVE_INFINITY;
  #ranNotedAt = 0;

  /** There are several nodes: what one of them changes of bindings the others may know somewhat later. */
  readonly #isCluster: boolean;

  constructor(scheduler: Scheduler, wall: WallClock, disk: Disk, messages: Messages, trace: Trace, isCluster: boolean) {
    super(() => scheduler.now, messages, trace);
    this.#isCluster = isCluster;
    this.#scheduler = scheduler;
    this.#wall = wall;
    this.#disk = disk;
  }

  /** How long a node has it that its store has been in service, beside the simulation's time. */
  noteRan(aheadMs: number): void {
    this.#noteRest(this.now() - this.#ranNotedAt, aheadMs);
    this.#ranNotedAt = this.now();
    this.#ranLeast = Math.min(this.#ranLeast, aheadMs);
    this.#ranMost = Math.max(this.#ranMost, aheadMs);
    if (this.#databaseClockSetMs > 0 || this.#ranSkewMs <= this.#ranAgreedMs) return;
    this.broken('time in service', `nodes are ${Math.round(this.#ranSkewMs)} ms apart`);
  }

  /**
   * Nobody was at work for so long. The database counts on by itself for a while, from when it was last told, also by a node
   * that did not get to its work; where that was not long enough it has stood still since, and all begin there.
   */
  #noteRest(ms: number, aheadMs: number): void {
    const { postgresRanRestMs, postgresRanNotedEveryMs } = serverLimits;
    if (ms < postgresRanRestMs - postgresRanNotedEveryMs) return;
    const behindMs = this.#ranMost - aheadMs;
    if (behindMs <= this.#ranAgreedMs) return;
    // It may not have been told for some time before.
    if (behindMs > ms + postgresRanRestMs && this.#databaseClockSetMs === 0) {
      this.broken(
        'time in service',
        `after ${Math.round(ms)} ms it is ${Math.round(behindMs)} ms less than it would be`,
      );
    }
    this.#ranLeast = Number.POSITIVE_INFINITY;
    this.#ranMost = Number.NEGATIVE_INFINITY;
  }

  /** Nodes go by it, one after the other, so that for some seconds they do not agree. */
  databaseClockSet(ms: number): void {
    this.#databaseClockSetMs += Math.abs(ms);
  }

  get #ranAgreedMs(): number {
    return this.#disk.hasBeenSlow ? RAN_AGREED_SLOW_MS : RAN_AGREED_MS;
  }

  /** By how much nodes disagree on that, at most: each may be by all that the database's clock was set, at any moment. */
  get #ranSkewMs(): number {
    return Math.max(0, this.#ranMost - this.#ranLeast) + this.#databaseClockSetMs;
  }

  misused(text: string): void {
    this.broken('misuse', text);
  }

  // ---- the server as a whole

  /** A run of a server has ended. Of what other nodes accepted the ids go on to be known. */
  override serverEnded(how: 'crash' | 'stop', run: number): void {
    super.serverEnded(how, run);
    for (const [name, connection] of this.#current) if (connection.run === run) this.#current.delete(name);
    this.#forget(run);
    if (this.#isCluster) for (const { pending } of this.#senders.values()) pending.clear();
    else {
      this.#allForgottenAt = this.now();
      this.#accepted.clear();
      this.#senders.clear();
    }
  }

  /** This run has a name now, and is to be handed over what others know of it. */
  claimed(name: string, run: number): void {
    const runs = this.#knowing.get(name);
    if (runs === undefined) this.#knowing.set(name, new Set([run]));
    else runs.add(run);
  }

  /** What these runs knew of the name is with the one that has it now. */
  handedOver(name: string, previous: readonly number[]): void {
    for (const run of previous) this.#knowing.get(name)?.delete(run);
  }

  /** What only this run knew of names is lost. */
  #forget(run: number): void {
    for (const [name, runs] of this.#knowing) if (runs.delete(run)) this.#forgottenAt.set(name, this.#scheduler.now);
  }

  /** Others may have what a run of a node held: what only it knew is lost. */
  nodeVoid(run: number): void {
    this.crashes++;
    this.#forget(run);
  }

  /** The database crashed: it may have brought back what had just been removed. */
  databaseCrashed(): void {
    this.crashes++;
    this.broughtBackAt = this.now();
  }

  /**
   * Acked by its receiver, or expired, and back in the inbox since a crash of the database: the next session gets it once more,
   * or drops it.
   */
  isBroughtBack(stored: StoredMessage): boolean {
    const message = this.messages.ofBytes(stored.msg);
    if (message === undefined) return false;
    const isSince = (crashes: number | undefined): boolean =>
      crashes !== undefined && crashes >= 0 && crashes < this.crashes;
    return isSince(message.ackTakenCrashes) || isSince(message.removedFrom.get(stored.position));
  }

  /** A run has ended in good order, for others, though its process may not have yet: what it remembered is gone. */
  nodeLeft(run: number): void {
    this.#forget(run);
  }

  /** A name is gone, with all that was for it. */
  nameRemoved(name: string): void {
    const { now } = this.#scheduler;
    this.trace.note('node', -1, -1, `${name} is removed`);
    this.#removedAt.set(name, now);
    this.#forgottenAt.set(name, now);
  }

  /** It was accepted for one of that name who has been removed since. */
  protected override isForRemoved(message: SentMessage): boolean {
    return message.acceptances > 0 && message.acceptedAt <= (this.#removedAt.get(message.to) ?? -1);
  }

  /** No session that began after a removal gets what was accepted before it; nor do older ones, but where a node is void. */
  protected override checkMore(message: SentMessage, connection: Connection): void {
    this.#checkAckedBefore(message);
    if (!this.isForRemoved(message)) return;
    const removedAt = this.#removedAt.get(message.to) ?? 0;
    if (connection.servedFrom <= removedAt && this.#scheduler.now <= removedAt + VOID_KNOWN_MS) return;
    this.broken('removed', `${message}, which was for one who has been removed, was pushed to another`, message);
  }

  /**
   * Its receiver has acked it: where whoever knows of that lives on, it does not come again, however often its sender repeats it
   * and wherever.
   */
  #checkAckedBefore(message: SentMessage): void {
    if (message.ackTakenCrashes !== this.crashes || message.idForgotten || this.mayHaveExpired(message)) return;
    const forgottenAt = [message.from, message.to].map((name) => this.#forgottenAt.get(name) ?? -1);
    if (message.firstAcceptedAt <= Math.max(this.#allForgottenAt, ...forgottenAt)) return;
    this.broken('delivered again', `${message} was pushed again, and nobody ended who knew of the ack`, message);
  }

  wallJumped(): void {
    this.#wallJumpedAt = this.#scheduler.now;
  }

  /** The wall clock is about to jump, or has. */
  noteWall(): void {
    this.#wallSeen = Math.max(this.#wallSeen, this.#wall.now());
  }

  /** A run does nothing for so long, in the midst of whatever it does. */
  paused(run: number, ms: number): void {
    const now = this.now();
    const before = this.#pauses.get(run);
    const from = before !== undefined && before.until > now ? before.until - before.ms : now;
    const until = Math.max(now + ms, before?.until ?? 0);
    this.#pauses.set(run, { until, ms: until - from });
  }

  protected override overdueMs({ run }: Connection, message: SentMessage): number {
    if (this.#scheduler.now - this.#wallJumpedAt < 1000) return 0;
    const pause = this.#pauses.get(run);
    // It was in time when it was decided to push it.
    const pausedMs = pause !== undefined && this.now() - pause.until < PAUSE_OVER_MS ? pause.ms : 0;
    const byWall = this.#wall.now() - message.mostWall;
    // A copy from before a crash is as old as the clocks say that are left: the wall's, which may have jumped back.
    const byRun = message.firstRun === this.run ? this.#scheduler.now - message.acceptedAt : 0;
    // By the node that has it now it may be younger.
    return Math.max(byWall, byRun) - message.ttl * 1000 - this.#ranSkewMs - pausedMs;
  }

  protected override ageMsMost(message: SentMessage): number {
    this.noteWall();
    return Math.max(this.#wallSeen - message.leastWall, super.ageMsMost(message)) + this.#ranSkewMs;
  }

  // ---- what the server writes

  loggedIn(connection: Connection): void {
    const { name } = connection;
    if (connection.isLoggedIn) return;
    connection.isLoggedIn = true;
    connection.servedFrom = this.#scheduler.now;
    this.trace.note('logged in', connection.id, -1, name);
    const older = this.#current.get(name);
    const isServed = older !== undefined && !older.isClosed && !older.isSuperseded && !older.isVoid();
    if (isServed && older !== connection) {
      this.broken('superseded', `connection ${older.id} of ${name} is still served when ${connection.id} is`);
    }
    if (older !== undefined) this.supersede(older);
    this.#current.set(name, connection);
  }

  closed(connection: Connection): void {
    connection.isClosed = true;
    if (this.#current.get(connection.name) === connection) this.#current.delete(connection.name);
  }

  ackWritten(connection: Connection, msgId: string): void {
    const { name } = connection;
    const message = this.#accepted.get(`${name}\n${msgId}`);
    this.trace.note('acked to sender', connection.id, message?.id ?? -1);
    this.figures.acked++;
    if (message === undefined) {
      this.broken('unsafe ack', `connection ${connection.id} (${name}) was acked ${msgId}, which was never accepted`);
      return;
    }
    if (!message.ackCame && !message.isDurable) {
      this.broken('unsafe ack', `${message} was acked, but neither its receiver nor the disk has it`, message);
    }
    const current = this.#current.get(name);
    // A session takes over somewhat before its login is answered.
    if (current !== undefined && current !== connection && connection.isLoggedIn) {
      this.broken('superseded', `${message} was acked on connection ${connection.id}, not on ${current.id}`, message);
    }
    message.isAcked = true;
    message.isSettled = true;
    this.#senders.get(message.from)?.pending.delete(message);
  }

  refusalWritten(connection: Connection, msgId: string, isRetry: boolean, text: string): void {
    const sent = connection.lastHanded(msgId);
    this.trace.note('refused', connection.id, sent?.id ?? -1, text);
    this.figures.refused++;
    if (sent !== undefined) sent.isTurnedAway = true;
    if (isRetry) {
      if (!connection.nack) this.broken('refusal told', `connection ${connection.id} did not ask for: ${text}`, sent);
      return;
    }
    if (sent === undefined || !connection.isLoggedIn || sent.from !== connection.name) return;
    if (this.messages.named(sent.from, msgId).length > 1) return;
    if (this.#isAllowed(connection, sent) === 'yes') {
      this.broken('refused without reason', `${sent} was refused: ${text}`, sent);
    }
  }

  /** Whether a connection may send a message to its receiver; `perhaps` while that is being changed. */
  #isAllowed(connection: Connection, message: SentMessage): 'yes' | 'no' | 'perhaps' {
    const { seen } = this.#disk;
    const { from, to } = message;
    const tolerated = this.#isCluster ? BINDING_KNOWN_MS : 0;
    const handedAt = message.handedAt < 0 ? this.#scheduler.now : message.handedAt;
    if ([from, to].some((name) => !this.#disk.isNameSettled(name, handedAt - tolerated))) return 'perhaps';
    if (connection.role === 'app' && seen.isUser(to)) return 'yes';
    const [user, device] = connection.role === 'app' ? [from, to] : [to, from];
    if (!this.#disk.isSettled(user, device, handedAt - tolerated)) return 'perhaps';
    return seen.areBound(user, device) ? 'yes' : 'no';
  }

  protected override isOver(connection: Connection): boolean {
    return super.isOver(connection) || this.#current.get(connection.name) !== connection;
  }

  // ---- what comes in to the server

  handed(connection: Connection, message: SentMessage): void {
    message.handedAt = this.#scheduler.now;
    connection.handed.push(message);
    if (message.handedOn.at(-1) !== connection) message.handedOn.push(connection);
  }

  /** The server counts a receiver's ack. */
  ackTaken(run: number, to: string, msgId: string): void {
    const connection = this.#current.get(to);
    if (connection !== undefined && connection.run !== run) {
      this.broken('superseded', `an ack of ${msgId} to ${to} counted, which has a newer session elsewhere`);
    }
    if (connection?.isVoid()) this.broken('superseded', `an ack of ${msgId} to ${to} counted on a node that is void`);
    const message = connection?.lastPushed.get(msgId);
    this.trace.note('ack taken', -1, message?.id ?? -1);
    if (message === undefined || connection === undefined) return;
    if (!message.ackCame && connection.looseAcks.has(msgId)) {
      // Sent for another message, or twice; but acks name only the msgId, and this one has it now.
      message.ackCame = true;
      message.receiverHasIt = true;
      if (connection.outstanding.get(msgId) === message) connection.outstanding.delete(msgId);
    }
    this.ackCounted(connection, message);
    this.#senders.get(message.from)?.pending.delete(message);
  }

  /** The server took a message, or refused it where it could have taken it. */
  accepted(
    run: number,
    from: string,
    msgId: string,
    to: string,
    msg: Uint8Array,
    outcome: string,
    isNew: boolean,
  ): void {
    const message = this.messages.ofBytes(msg);
    const connection = message?.handedOn.findLast((each) => !this.#isCluster || each.run === run);
    this.trace.note('accepted', connection?.id, message?.id ?? -1, isNew || outcome !== 'pending' ? outcome : 'joined');
    const isKnown = message !== undefined && connection !== undefined;
    if (!isKnown || message.from !== from || message.to !== to || message.msgId !== msgId) {
      this.broken('wrong party', `the server took what nobody sent: ${from} → ${to}, ${msgId}`);
      return;
    }
    if (connection.isVoid()) this.broken('superseded', `${message} was taken by a node that is void`, message);
    // What came in on several connections may be taken from any of them.
    if (message.handedOn.length === 1) {
      const at = connection.handed.indexOf(message, connection.acceptedTo);
      if (at >= 0) connection.acceptedTo = at + 1;
      else this.broken('accepted out of order', `${message} was taken after one that came later`, message);
    }
    if (this.#isAllowed(connection, message) === 'no') {
      this.broken('not allowed', `${message} was taken, but ${from} may not write to ${to}`, message);
    }
    const key = `${from}\n${msgId}`;
    if (outcome === 'msgIdReused') {
      if (this.messages.named(from, msgId).length === 1) {
        this.broken('refused without reason', `${message} was refused as another under its msgId`, message);
      }
      return;
    }
    if (outcome !== 'pending' && outcome !== 'acked') {
      message.isTurnedAway = true;
      return;
    }
    const before = this.#accepted.get(key);
    this.#accepted.set(key, message);
    if (outcome === 'acked') return;
    // Its node has ended, and its sender repeats it: what another node has of it joins, and is stored in this place.
    if (!isNew && message.acceptedAt <= (this.#forgottenAt.get(from) ?? -1)) this.place(message);
    if (isNew) this.#acceptedNew(message, before);
    else if (before !== undefined && before !== message && this.#isRemembered(before)) {
      // One that is not remembered any more it may have passed by, to an older copy of its own in its receiver's window.
      if (!before.isStoreRefused && !this.mayHaveExpired(before)) {
        this.broken('unsafe ack', `${message} joined ${before}`, message);
      }
    }
  }

  /** Whether no run has ended since that alone may have known of this acceptance. */
  #isRemembered(message: SentMessage): boolean {
    if (!this.#isCluster) return message.acceptedRun === this.run;
    return message.acceptedAt > (this.#forgottenAt.get(message.from) ?? -1);
  }

  #acceptedNew(message: SentMessage, before: SentMessage | undefined): void {
    const sender = this.#senders.get(message.from) ?? { accepted: 0, pending: new Set() };
    this.#senders.set(message.from, sender);
    const isRecent = ({ senderPlace, acceptedAt }: SentMessage): boolean =>
      sender.accepted - senderPlace < REMEMBERED_IDS && this.now() - acceptedAt < REMEMBERED_MS;
    if (before?.isSettled && this.#isRemembered(before) && isRecent(before)) {
      const since = sender.accepted - before.senderPlace;
      this.broken('accepted again', `${message} was taken again after ${since} others`, message);
    }
    if (message.acceptances > 0 && !isRecent(message)) message.idForgotten = true;
    this.figures.accepted++;
    sender.accepted++;
    sender.pending.add(message);
    if (sender.pending.size > SENDER_PENDING_MAX) this.#checkPending(message.from, sender.pending);
    this.take(message);
    const wall = this.#wall.now();
    message.leastWall = Math.min(wall, message.leastWall);
    message.mostWall = Math.max(wall, message.mostWall);
    message.senderPlace = sender.accepted;
  }

  /** Those refused or expired no longer count, and are not seen to end. A takeover may add what came in meanwhile. */
  #checkPending(name: string, pending: Set<SentMessage>): void {
    for (const message of pending) {
      if (message.isStoreRefused || this.mayHaveExpired(message)) pending.delete(message);
    }
    if (pending.size > SENDER_PENDING_MAX + 10) this.broken('memory', `${name} has ${pending.size} messages pending`);
  }

  // ---- the disk

  durable(stored: StoredMessage): void {
    const message = this.messages.ofBytes(stored.msg);
    this.trace.note('durable', message?.id ?? -1, stored.position);
    this.figures.durable++;
    if (message === undefined || message.from !== stored.from || message.to !== stored.to) {
      this.misused(`what nobody sent was stored: ${stored.from} → ${stored.to}, ${stored.msgId}`);
      return;
    }
    message.isDurable = true;
    this.#senders.get(message.from)?.pending.delete(message);
  }

  notStored(stored: NewMessage, why: 'full' | 'failed', text: string = why): void {
    const message = stored.msg && this.messages.ofBytes(stored.msg);
    if (message === undefined) return;
    this.trace.note('not stored', message.id, -1, text);
    message.isStoreRefused = true;
    // Stored, and the answer was lost with the store: repeated by its sender, it may come twice, as after a crash.
    if (this.#isCluster && why === 'failed' && message.isDurable) message.deliveriesLeft++;
    this.#senders.get(message.from)?.pending.delete(message);
  }

  /** The inbox has it, or other content under its msgId: its sender is acked, or refused for good. */
  foundStored(message: NewMessage): void {
    const found = message.msg && this.messages.ofBytes(message.msg);
    if (found !== undefined) this.#senders.get(found.from)?.pending.delete(found);
  }

  removed(stored: StoredMessage): void {
    const message = this.messages.ofBytes(stored.msg);
    this.trace.note('removed', message?.id ?? -1, stored.position);
    if (message === undefined) return;
    message.removedFrom.set(stored.position, this.crashes);
    if (message.ackCame || this.mayHaveExpired(message)) return;
    this.broken('lost', `${message} was deleted, but its receiver has not acked it`, message);
  }
}
