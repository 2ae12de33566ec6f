import { serverLimits } from '@hawser/protocol';
import type { Connection } from '../sim/connection.ts';
import type { SentMessage } from '../sim/message.ts';
import { Witness } from './witness.ts';

/**
 * What was asked of a database that was away has failed so long after it is back, at the latest: a connection that leads
 * nowhere any more is not waited for beyond that.
 */
const REFUSED_AFTER_MS = serverLimits.postgresStatementMs;
/** Of an append that takes less its node knows for certain what came of it. */
const UNKNOWN_AFTER_MS = serverLimits.postgresAppendMs;

/** A time in which nodes may not have reached the database, or not in time. */
interface Trouble {
  readonly from: number;
  to: number;
}

/**
 * Judges several nodes by what clients sent and saw. Three things are otherwise than with one server.
 *
 * While one node ends the others go on: what is sent to any may be taken. What only the one knew is lost, as after a crash
 * of a server, so that each end of a node begins another run of all of them. A node that has ended is void when it is back
 * at the latest; until then others may act for it, which is one more crash.
 *
 * While the database cannot be reached, a message is refused for now: clients that did not ask for it are not told. What
 * was sent behind it comes before it then, and that is as it should be. So one that was on its way at such a time and comes
 * late is a suspect. It was not refused for certain when it is acked on the connection that it was sent on, to a client that
 * is there, and was sent once, or its client is told of refusals and was not: then the order was broken.
 *
 * An append of which nobody knows what came of it may deliver a message once more when its sender repeats it. That takes
 * `postgresAppendMs`: what is answered sooner is known.
 */
export class ClusterWitness extends Witness {
  readonly #troubles: Trouble[] = [];
  /** How often each message was sent, also on one connection. */
  readonly #sendings = new Map<SentMessage, number>();
  /** How often it was acked: an ack on one connection says nothing of what waits behind a login on another. */
  readonly #answers = new Map<SentMessage, number>();
  /** Acked, and not refused before, for certain. */
  readonly #accepted = new Set<SentMessage>();
  /** Came late or not yet, and are not acked: what is to be said if they were not refused. */
  readonly #suspects = new Map<SentMessage, string>();
  readonly #undecided = new Set<SentMessage>();
  /** Deliveries more than acceptances, for appends of which nobody knows. */
  readonly #unknownAppends = new Map<SentMessage, number>();
  /** Acks that have been sent and are not known to be counted: how many crashes there had been then. */
  readonly #ackedAfter = new Map<SentMessage, number>();
  /** Messages that came late: those that had been refused, and those of which it is not known whether they had. */
  readonly doubts = { refused: 0, unknown: 0 };

  // ---- nodes and the database

  /**
   * A node has ended, or may have: what is repeated from now on, elsewhere, may be taken once more. So may what has been
   * repeated and waits there behind a login, which ends when the name is free. From one connection a message is taken once
   * at most: its node knows it again, and ends with it.
   */
  ended(): void {
    this.serverEnded('crash');
    this.serverStarted();
    for (const message of this.messages.all) {
      const waiting = message.handedOn.length - (this.#answers.get(message) ?? 0);
      if (waiting > 0 && message.acceptances < message.handedOn.length) this.take(message);
    }
  }

  /** A node that had ended is back, and the run that ended void for all others. */
  isBack(): void {
    this.crashes++;
    this.trace.note('server started', this.run);
  }

  /** From now on a node may not reach the database, or not in time. */
  storeGoes(): void {
    this.#troubles.push({ from: this.now(), to: Number.POSITIVE_INFINITY });
  }

  /** All nodes reach it. */
  storeIsBack(): void {
    for (const trouble of this.#troubles) trouble.to = Math.min(trouble.to, this.now());
  }

  /** The database has crashed. Deletions are not synced: what a receiver acked shortly before may come once more. */
  storeCrashed(): void {
    this.crashes++;
    this.broughtBackAt = this.now();
    this.trace.note('server crashed', this.run, -1, 'the database');
  }

  /** Nothing is on its way any more: of what is not known by now nothing more is heard. */
  settle(): void {
    this.doubts.unknown += this.#undecided.size + this.#suspects.size;
    this.#undecided.clear();
    this.#suspects.clear();
  }

  /** A connection ends with its node: what happens to others does not concern it. */
  override isServed(connection: Connection): boolean {
    return !connection.isVoid();
  }

  protected override mayBeTaken(_connection: Connection): boolean {
    return true;
  }

  // ---- senders

  override sent(connection: Connection, message: SentMessage, isStray: boolean): void {
    this.#sendings.set(message, 1 + (this.#sendings.get(message) ?? 0));
    super.sent(connection, message, isStray);
  }

  override acked(connection: Connection, msgId: string): SentMessage | undefined {
    const message = super.acked(connection, msgId);
    if (message === undefined) return message;
    this.#answers.set(message, 1 + (this.#answers.get(message) ?? 0));
    if (this.#isAcceptedAsSent(connection, message)) this.#accepted.add(message);
    const suspicion = this.#suspects.get(message);
    if (suspicion === undefined) return message;
    this.#suspects.delete(message);
    if (message.isStoreRefused) this.doubts.refused++;
    else if (!this.#accepted.has(message)) this.#undecided.add(message);
    else if (!this.mayHaveExpired(message)) this.broken('order', suspicion, message);
    return message;
  }

  /**
   * What is refused silently may be acked all the same when its client goes, and what waits for an ack of its receiver is
   * stored in another place.
   */
  #isAcceptedAsSent(connection: Connection, message: SentMessage): boolean {
    const [on, another] = message.handedOn;
    if (on !== connection || another !== undefined || on.isLeft || message.isStoreRefused) return false;
    return on.nack || this.#sendings.get(message) === 1;
  }

  // ---- receivers

  override ackHanded(connection: Connection, msgIds: readonly string[]): void {
    for (const msgId of msgIds) {
      const message = connection.outstanding.get(msgId);
      if (message !== undefined) this.#ackedAfter.set(message, this.crashes);
    }
    super.ackHanded(connection, msgIds);
  }

  /** An ack that was sent before a crash may have been counted, and its deletion lost, before it, too. */
  override answered(connection: Connection, sentAt: number, acked: readonly SentMessage[]): void {
    const certain = acked.filter((message) => this.#ackedAfter.get(message) === this.crashes);
    for (const message of acked) this.#ackedAfter.delete(message);
    super.answered(connection, sentAt, certain);
  }

  protected override checkAgain(connection: Connection, message: SentMessage): void {
    this.#allowUnknownAppends(message);
    super.checkAgain(connection, message);
  }

  /** Each of them takes its time, and the message is sent once more behind it. */
  #allowUnknownAppends(message: SentMessage): void {
    const lasted = Math.min(this.now(), message.takenBy) - message.firstAcceptedAt;
    if (lasted < UNKNOWN_AFTER_MS || !this.#metTrouble(message)) return;
    const sendings = this.#sendings.get(message) ?? 0;
    const appends = Math.min(Math.floor(lasted / UNKNOWN_AFTER_MS), sendings - 1);
    const known = this.#unknownAppends.get(message) ?? 0;
    if (appends <= known) return;
    message.deliveriesLeft += appends - known;
    this.#unknownAppends.set(message, appends);
  }

  /** It was on its way while the database was away, or before all that had been asked of it was answered. */
  #metTrouble(message: SentMessage): boolean {
    return this.#troubles.some(
      ({ from, to }) => from <= message.takenBy && message.firstAcceptedAt <= to + REFUSED_AFTER_MS,
    );
  }

  #mayHaveBeenRefused(message: SentMessage): boolean {
    return !this.#accepted.has(message) && this.#metTrouble(message);
  }

  /** A push that is repeated may have been stored anew, behind others, if its client was not told of a refusal. */
  protected override late(message: SentMessage, text: string): void {
    const isStoredAnew = message.pushes > 0 && message.handedOn.some(({ nack }) => !nack) && this.#metTrouble(message);
    if (isStoredAnew) this.#undecided.add(message);
    else if (this.#mayHaveBeenRefused(message)) this.#suspect(message, text);
    else super.late(message, text);
  }

  protected override missing(gaps: readonly SentMessage[], message: SentMessage): void {
    const doubtful = gaps.filter((gap) => this.#mayHaveBeenRefused(gap));
    const [gap, another] = doubtful;
    if (gap === undefined) super.missing(gaps, message);
    else if (another === undefined && gaps.length === 1)
      this.#suspect(gap, `${message} was pushed, but not yet ${gap}, sent before it and not refused`);
    else for (const each of doubtful) this.#undecided.add(each);
  }

  /** What has been acked says nothing more. */
  #suspect(message: SentMessage, text: string): void {
    if (message.isAcked) this.#undecided.add(message);
    else if (!this.#suspects.has(message)) this.#suspects.set(message, text);
  }
}
