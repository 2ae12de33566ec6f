import type { Connection } from '../sim/connection.ts';
import { History } from '../sim/history.ts';
import type { SentMessage } from '../sim/message.ts';

/** Between the clocks of clients and server, and their rounding. */
const CLOCK_SLACK_MS = 50;

/** What one connection brought for one receiver, in the order sent; all before `checkedTo` have been pushed. */
interface Sequence {
  readonly messages: SentMessage[];
  checkedTo: number;
}

/**
 * Judges a real server by what its clients sent and saw. Where the server's end is not seen, the doubt is the server's:
 * what the client sent may have been lost on the way, what it sees may have been written long ago. Two things dispel it.
 * A run of the server ends for certain, and the answer to a heartbeat comes behind everything that was answered before.
 */
export class Witness extends History {
  /** Connections not yet known to be closed, by name. */
  readonly #open = new Map<string, Set<Connection>>();
  readonly #sequences = new Map<Connection, Map<string, Sequence>>();
  /** Messages that their senders may not send. */
  readonly #strays = new Set<SentMessage>();
  readonly counts = { acked: 0, again: 0, superseded: 0, connections: 0 };

  /** The present run of the server has ended. */
  #isDown = true;

  override serverStarted(): void {
    super.serverStarted();
    this.#isDown = false;
    this.trace.note('server started', this.run);
  }

  override serverEnded(how: 'crash' | 'stop', run = this.run): void {
    super.serverEnded(how, run);
    this.#isDown = true;
    this.trace.note(how === 'crash' ? 'server crashed' : 'server stopped', this.run);
  }

  /** Whether what is sent on it may still be heard. */
  isServed(connection: Connection): boolean {
    return connection.run === this.run && !this.#isDown;
  }

  /** Whether what is sent on it may be taken. */
  protected mayBeTaken(connection: Connection): boolean {
    return this.isServed(connection);
  }

  protected override overdueMs(connection: Connection, message: SentMessage): number {
    return Math.min(this.now(), connection.notBefore) - message.takenBy - message.ttl * 1000;
  }

  protected override ageMsMost(message: SentMessage): number {
    return super.ageMsMost(message) + CLOCK_SLACK_MS;
  }

  isStray(message: SentMessage): boolean {
    return this.#strays.has(message);
  }

  get number(): number {
    return this.run;
  }

  // ---- connections

  opened(connection: Connection): void {
    this.counts.connections++;
    connection.notBefore = this.now();
    const open = this.#open.get(connection.name) ?? new Set();
    this.#open.set(connection.name, open.add(connection));
    this.trace.note('connected', connection.id, -1, connection.name);
  }

  /** The answer to a login that was sent at a time. */
  loggedIn(connection: Connection, sentAt: number): void {
    this.trace.note('logged in', connection.id, -1, connection.name);
    connection.isLoggedIn = true;
    connection.loggedInAt = this.now();
    // It was answered some time between then and now.
    connection.servedFrom = sentAt;
    connection.notBefore = sentAt;
    for (const older of this.#open.get(connection.name) ?? []) {
      if (older !== connection && older.loggedInAt <= sentAt) {
        older.supersededAt = Math.min(older.supersededAt, this.now());
      }
    }
  }

  override superseded(connection: Connection): void {
    super.superseded(connection);
    this.counts.superseded++;
  }

  closed(connection: Connection): void {
    if (connection.isClosed) return;
    connection.isClosed = true;
    this.#open.get(connection.name)?.delete(connection);
    this.trace.note('gone', connection.id);
  }

  /** A heartbeat was answered: what comes now was written after it was sent, and these acks before it are counted. */
  answered(connection: Connection, sentAt: number, acked: readonly SentMessage[]): void {
    connection.notBefore = sentAt;
    // Of a run that is over it is not known any more whether a crash has brought back what was acked.
    if (!this.isServed(connection)) return;
    for (const message of acked) {
      this.trace.note('ack taken', -1, message.id);
      this.ackCounted(connection, message);
    }
  }

  // ---- senders

  sent(connection: Connection, message: SentMessage, isStray: boolean): void {
    this.trace.note('sent', connection.id, message.id);
    if (isStray) this.#strays.add(message);
    if (!this.mayBeTaken(connection)) return;
    const isSameWay = message.handedOn.at(-1) === connection;
    // Within a run it is known again by its msgId: clients send too few at once for that to be forgotten. So it is by the
    // server at the other end of the same connection.
    if (message.acceptances > 0 && (message.acceptedRun === this.run || isSameWay)) this.place(message);
    else this.take(message);
    if (isSameWay) return;
    message.handedOn.push(connection);
    const sequences = this.#sequences.get(connection) ?? new Map<string, Sequence>();
    this.#sequences.set(connection, sequences);
    const sequence = sequences.get(message.to) ?? { messages: [], checkedTo: 0 };
    sequences.set(message.to, sequence);
    sequence.messages.push(message);
  }

  acked(connection: Connection, msgId: string): SentMessage | undefined {
    const message = this.messages.named(connection.name, msgId).at(-1);
    this.trace.note('acked to sender', connection.id, message?.id ?? -1);
    this.figures.acked++;
    if (message === undefined || message.acceptances === 0) {
      this.broken(
        'unsafe ack',
        `connection ${connection.id} (${connection.name}) was acked ${msgId}, which never came`,
      );
      return undefined;
    }
    if (this.#strays.has(message)) {
      this.broken('not allowed', `${message} was acked, but ${message.from} may not write to ${message.to}`, message);
    }
    if (!message.isAcked) this.counts.acked++;
    message.isAcked = true;
    message.isSettled = true;
    message.takenBy = Math.min(message.takenBy, this.now());
    return message;
  }

  refused(connection: Connection, msgId: string, isRetry: boolean, text: string): void {
    const message = this.messages.named(connection.name, msgId).at(-1);
    this.trace.note('refused', connection.id, message?.id ?? -1, text);
    this.figures.refused++;
    if (message === undefined) return;
    if (isRetry) {
      message.isStoreRefused = true;
      if (!connection.nack)
        this.broken('refusal told', `connection ${connection.id} did not ask for: ${text}`, message);
    } else if (!this.#strays.has(message)) {
      this.broken('refused without reason', `${message} was refused: ${text}`, message);
    }
  }

  // ---- receivers

  protected override checkMore(message: SentMessage): void {
    const { from, to, pushes } = message;
    if (this.#strays.has(message)) {
      this.broken('not allowed', `${message} was pushed, but ${from} may not write to ${to}`, message);
    }
    if (pushes > 0) this.counts.again++;
    else if (!message.isStoreRefused && !this.mayHaveExpired(message)) this.#checkNothingBefore(message);
  }

  /** What was sent before it on the same connection was accepted before it, and has to come before it. */
  #checkNothingBefore(message: SentMessage): void {
    const gaps: SentMessage[] = [];
    for (const connection of message.handedOn) {
      const sequence = this.#sequences.get(connection)?.get(message.to);
      const missing = sequence === undefined ? undefined : this.#missingBefore(message, sequence);
      // It may have been accepted from any connection that it was sent on.
      if (missing === undefined) return;
      gaps.push(missing);
    }
    if (gaps.length > 0) this.missing(gaps, message);
  }

  /** A message came, and not yet one that was accepted before it: of each connection that it was sent on the first. */
  protected missing(gaps: readonly SentMessage[], message: SentMessage): void {
    this.broken('order', `${message} was pushed, but not yet ${gaps.join(' and ')}, sent before it`, message);
  }

  #missingBefore(message: SentMessage, sequence: Sequence): SentMessage | undefined {
    const { messages } = sequence;
    for (;;) {
      const next = messages[sequence.checkedTo];
      // On one connection what is pending comes first, then what is new: in the order made.
      if (next === undefined || next.id >= message.id) return undefined;
      const mayBeMissing = next.isStoreRefused || this.#strays.has(next) || this.mayHaveExpired(next);
      if (next.pushes === 0 && !mayBeMissing) return next;
      sequence.checkedTo++;
    }
  }
}
