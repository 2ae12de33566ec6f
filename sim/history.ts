import type { Connection } from './connection.ts';
import type { Messages, SentMessage } from './message.ts';
import type { Rule, Violation } from './rules.ts';
import type { Trace } from './trace.ts';

const WINDOW_MAX = 256;
const REPUSH_MS = 5000;
/** From the decision to push to the bytes written. */
const SLACK_MS = 100;

/**
 * The rules that clients can judge: who was pushed what, when, in which order, how often, and what was lost.
 *
 * Whoever watches the server's end of the wires knows when something is written; whoever watches the client's end only
 * knows that it was before now, and after what it answers. So a push is written between `Connection.notBefore` and now,
 * a message is accepted between its sending and `SentMessage.takenBy`, and a rule is broken only where it is in each case.
 */
export abstract class History {
  readonly violations: Violation[] = [];
  readonly figures = { accepted: 0, acked: 0, conflicts: 0, refused: 0, pushed: 0, repushed: 0, taken: 0, durable: 0 };
  /** First pushes whose order was judged, and those that may come at any time. */
  readonly judged = { order: 0, excused: 0 };
  protected readonly now: () => number;
  protected readonly messages: Messages;
  protected readonly trace: Trace;
  /** Crashes and starts of the server so far. */
  protected crashes = 0;
  /** When the database last crashed, which may have brought back what had just been removed. */
  protected broughtBackAt = Number.NEGATIVE_INFINITY;
  protected run = 0;
  #places = 0;
  readonly #firstPushes = new Map<string, number>();

  constructor(now: () => number, messages: Messages, trace: Trace) {
    this.now = now;
    this.messages = messages;
    this.trace = trace;
  }

  get hasFailed(): boolean {
    return this.violations.length > 0;
  }

  broken(rule: Rule, text: string, message?: SentMessage): void {
    if (this.violations.length < 20) this.violations.push({ at: this.now(), rule, text, message });
  }

  serverStarted(): void {
    this.run++;
  }

  serverEnded(how: 'crash' | 'stop', _run: number): void {
    if (how === 'crash') this.crashes++;
  }

  /** By how much a push that is written on this connection now is later than the message's `ttl` allows. */
  protected abstract overdueMs(connection: Connection, message: SentMessage): number;

  /** How old it may be by some clock. */
  protected ageMsMost(message: SentMessage): number {
    return this.now() - message.firstAcceptedAt;
  }

  /** Whether by some clock its `ttl` has passed. */
  mayHaveExpired(message: SentMessage): boolean {
    return message.ttl > 0 && this.ageMsMost(message) >= message.ttl * 1000;
  }

  // ---- sessions

  superseded(connection: Connection): void {
    this.trace.note('superseded', connection.id);
    this.supersede(connection);
  }

  protected supersede(connection: Connection): void {
    connection.isSuperseded = true;
    connection.supersededAt = Math.min(connection.supersededAt, this.now());
  }

  // ---- from the sender

  /** The server took the message, or may have: it has its place, and may be delivered. */
  protected take(message: SentMessage): void {
    if (message.acceptances++ === 0) {
      message.firstPlace = this.#places + 1;
      message.firstAcceptedAt = this.now();
      message.firstRun = this.run;
    }
    this.place(message);
    message.acceptedAt = this.now();
    message.acceptedRun = this.run;
    message.isSettled = false;
    message.deliveriesLeft++;
    // A crash may have brought back what was acked, and that may come as well.
    if (message.ackTakenCrashes >= 0 && message.ackTakenCrashes < this.crashes) message.deliveriesLeft++;
  }

  /** It may have been taken here, and not before. */
  protected place(message: SentMessage): void {
    message.lastPlace = ++this.#places;
  }

  // ---- to the receiver

  /** A push of `msg.n` = `id`, with all of `msg` as text. */
  pushed(
    connection: Connection,
    from: string,
    to: string,
    msgId: string,
    id: unknown,
    text: string,
  ): SentMessage | undefined {
    const message = typeof id === 'number' ? this.messages.all[id] : undefined;
    this.trace.note('pushed', connection.id, message?.id ?? -1, msgId);
    this.figures.pushed++;
    if (message === undefined || message.from !== from || message.to !== to || message.msgId !== msgId) {
      this.broken('wrong party', `connection ${connection.id} was pushed what nobody sent: ${from} → ${to}, ${msgId}`);
      return undefined;
    }
    if (message.text !== text) this.broken('wrong party', `${message} was changed on its way`, message);
    this.#checkReceiver(connection, message);
    this.checkAgain(connection, message);
    this.#checkOrder(connection, message);
    this.#checkWindow(connection, message);
    this.#checkTtl(connection, message);
    this.checkMore(message, connection);
    message.pushes++;
    connection.pushedAt.set(message, this.#writtenFrom(connection, message));
    connection.lastPushed.set(msgId, message);
    return message;
  }

  /** What else is to be judged of a push. */
  protected checkMore(_message: SentMessage, _connection: Connection): void {}

  /** Its receiver was removed after it was accepted. */
  protected isForRemoved(_message: SentMessage): boolean {
    return false;
  }

  /** The earliest time at which a push that is seen now may have been written. */
  #writtenFrom(connection: Connection, message: SentMessage): number {
    return Math.min(this.now(), Math.max(connection.notBefore, message.firstAcceptedAt));
  }

  #checkReceiver(connection: Connection, message: SentMessage): void {
    if (!connection.isLoggedIn) {
      this.broken('not logged in', `connection ${connection.id} was pushed ${message} before its login`, message);
    } else if (connection.name !== message.to) {
      this.broken('wrong party', `connection ${connection.id} of ${connection.name} was pushed ${message}`, message);
    } else if (this.isOver(connection) || this.#writtenFrom(connection, message) >= connection.supersededAt) {
      this.broken('superseded', `connection ${connection.id} is superseded and was pushed ${message}`, message);
    }
    if (message.acceptances === 0) {
      this.broken('not allowed', `${message} was pushed, but never accepted`, message);
    }
  }

  /** Nothing may come on this connection any more. */
  protected isOver(connection: Connection): boolean {
    return connection.isSuperseded;
  }

  protected checkAgain(connection: Connection, message: SentMessage): void {
    // Taken once more from its sender, which the page allows after a restart, it may also come once more.
    const isDone = message.deliveriesLeft === 0 && message.ackTakenCrashes === this.crashes;
    const isLater = message.ackTakenOn === connection || this.#writtenFrom(connection, message) >= message.ackTakenAt;
    if (isDone && isLater) {
      this.broken('delivered again', `${message} was pushed again after its receiver had acked it`, message);
    }
    const before = connection.pushedAt.get(message);
    if (before === undefined || connection.outstanding.get(message.msgId) !== message) return;
    this.figures.repushed++;
    if (this.now() - before < REPUSH_MS - SLACK_MS) {
      const ms = Math.round(this.now() - before);
      this.broken('too soon again', `${message} was pushed again after ${ms} ms`, message);
    }
  }

  /** What its sender was told to try again, or nothing, may come at any time. */
  protected mayComeLate(message: SentMessage): boolean {
    return message.isStoreRefused;
  }

  /** It came after one that was accepted later, unless it was refused. */
  protected late(message: SentMessage, text: string): void {
    this.broken('order', text, message);
  }

  #checkOrder(connection: Connection, message: SentMessage): void {
    const isFirst = message.pushes === 0;
    if (this.mayComeLate(message) || this.mayHaveExpired(message)) {
      if (isFirst) this.judged.excused++;
      return;
    }
    // Its receiver had acked it, and has been served since: it is found again behind what has come meanwhile.
    const isBroughtBack = message.ackTakenCrashes >= 0 && message.ackTakenAt < this.broughtBackAt;
    if (isBroughtBack && connection.servedFrom < this.broughtBackAt) return;
    if (!connection.pushedAt.has(message)) {
      const place = connection.places.get(message.from) ?? 0;
      if (message.lastPlace < place) {
        this.late(message, `${message} was pushed on connection ${connection.id} after a later one`);
      }
      connection.places.set(message.from, Math.max(place, message.firstPlace));
    }
    if (!isFirst) return;
    this.judged.order++;
    const pair = `${message.from}\n${message.to}`;
    const place = this.#firstPushes.get(pair) ?? 0;
    if (message.lastPlace < place) {
      this.late(message, `${message} was pushed for the first time after a later one`);
    }
    this.#firstPushes.set(pair, Math.max(place, message.firstPlace));
  }

  #checkWindow(connection: Connection, message: SentMessage): void {
    const { outstanding } = connection;
    const same = outstanding.get(message.msgId);
    if (same !== undefined && same !== message && !this.mayHaveExpired(same)) {
      this.broken('window of ids', `${message} was pushed while ${same} was outstanding`, message);
    }
    // Its ack came in and waits behind a command: pushed again meanwhile, it is not outstanding any more.
    if (!connection.acked.has(message)) outstanding.set(message.msgId, message);
    if (outstanding.size <= WINDOW_MAX) return;
    for (const [msgId, each] of outstanding) if (this.mayHaveExpired(each)) outstanding.delete(msgId);
    if (outstanding.size > WINDOW_MAX) {
      this.broken('window', `connection ${connection.id} has ${outstanding.size} unacked pushes`, message);
    }
  }

  #checkTtl(connection: Connection, message: SentMessage): void {
    if (message.ttl === 0) return;
    const late = this.overdueMs(connection, message);
    if (late > SLACK_MS) this.broken('ttl late', `${message} was pushed ${Math.round(late)} ms too late`, message);
  }

  // ---- from the receiver

  /** A receiver's ack was handed over. */
  ackHanded(connection: Connection, msgIds: readonly string[]): void {
    for (const msgId of msgIds) {
      const message = connection.outstanding.get(msgId);
      this.trace.note('ack came', connection.id, message?.id ?? -1);
      if (message === undefined) connection.looseAcks.add(msgId);
      if (message === undefined || connection.isSuperseded || connection.isClosed) continue;
      message.ackCame = true;
      connection.acked.add(message);
      // Also when the client acked an id that it had not been pushed yet.
      message.receiverHasIt = true;
      connection.outstanding.delete(msgId);
    }
  }

  /** The server has counted the ack that came on this connection. */
  protected ackCounted(connection: Connection, message: SentMessage): void {
    this.figures.taken++;
    if (message.deliveriesLeft > 0) message.deliveriesLeft--;
    connection.acked.delete(message);
    message.ackTakenCrashes = this.crashes;
    message.ackTakenOn = connection;
    message.ackTakenAt = this.now();
  }

  // ---- the end

  /** All is well and everybody has come for what was theirs. */
  checkDelivered(): void {
    for (const message of this.messages.all) {
      if (!message.isAcked || message.receiverHasIt || this.mayHaveExpired(message)) continue;
      if (this.isForRemoved(message)) continue;
      this.broken('lost', `${message} was acked and never delivered`, message);
    }
  }

  /** All is well, and this one still waits for an answer. */
  unanswered(message: SentMessage): void {
    if (!this.mayHaveExpired(message)) this.broken('no answer', `${message} was not answered`, message);
  }
}
