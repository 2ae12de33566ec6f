import type { Connection } from '../sim/connection.ts';
import type { SentMessage } from '../sim/message.ts';
import { Witness } from './witness.ts';

/** A message that came before another, which its sender had sent ahead of it on the same connection. */
interface Overtaken {
  readonly by: SentMessage;
  readonly on: Connection;
}

/**
 * Judges several nodes by what clients sent and saw. Two things are otherwise than with one server.
 *
 * While one node ends the others go on: what is sent to any may be taken. What only the one knew is lost, as after a crash
 * of a server, so that each end of a node begins another run of all of them.
 *
 * While the database cannot be reached, a message is refused for now: clients that did not ask for it are not told. What
 * was sent behind it comes before it then, and that is as it should be. Whether it was so is known of clients that are
 * told: when such a message is acked on the connection that both came on, and was not refused before, it was overtaken.
 */
export class ClusterWitness extends Witness {
  readonly #overtaken = new Map<SentMessage, Overtaken>();
  #mayRefuse = false;
  /** Acks that have been sent and are not known to be counted: how many crashes there had been then. */
  readonly #ackedAfter = new Map<SentMessage, number>();
  /** Messages that came before others while the database was away; and those of which it is not known whether they might. */
  readonly doubts = { judged: 0, unknown: 0 };

  /**
   * A node has ended, or may have: what is repeated from now on, elsewhere, may be taken once more. So may what has been
   * repeated and waits there behind a login, which ends when the name is free. From one connection a message is taken once
   * at most: its node knows it again, and ends with it.
   */
  ended(): void {
    this.serverEnded('crash');
    this.serverStarted();
    for (const message of this.messages.all) {
      if (!message.isAcked && message.acceptances < message.handedOn.length) this.take(message);
    }
  }

  /** From now on a node may not reach the database, or not in time. */
  storeGoes(): void {
    this.#mayRefuse = true;
  }

  /** The database has crashed. Deletions are not synced: what a receiver acked shortly before may come once more. */
  storeCrashed(): void {
    this.crashes++;
    this.broughtBackAt = this.now();
    this.trace.note('server crashed', this.run, -1, 'the database');
  }

  override ackHanded(connection: Connection, msgIds: readonly string[]): void {
    for (const msgId of msgIds) {
      const message = connection.outstanding.get(msgId);
      if (message !== undefined) this.#ackedAfter.set(message, this.crashes);
    }
    super.ackHanded(connection, msgIds);
  }

  /** An ack that was sent before a crash of the database may have been counted, and its deletion lost, before it, too. */
  override answered(connection: Connection, sentAt: number, acked: readonly SentMessage[]): void {
    const certain = acked.filter((message) => this.#ackedAfter.get(message) === this.crashes);
    for (const message of acked) this.#ackedAfter.delete(message);
    super.answered(connection, sentAt, certain);
  }

  /** All nodes reach it, and nothing is on its way any more. */
  storeIsBack(): void {
    this.#mayRefuse = false;
    this.doubts.unknown += this.#overtaken.size;
    this.#overtaken.clear();
  }

  protected override mayBeTaken(_connection: Connection): boolean {
    return true;
  }

  /** Refused without a word, or told so by what has not arrived; and stored all the same, for nobody could say. */
  protected override mayComeLate(message: SentMessage): boolean {
    if (super.mayComeLate(message)) return true;
    return this.#mayRefuse && (!message.isAcked || message.handedOn.some(({ nack, isClosed }) => !nack || isClosed));
  }

  protected override missing(gap: SentMessage, message: SentMessage): void {
    if (!this.#mayRefuse) {
      super.missing(gap, message);
      return;
    }
    const [on, another] = message.handedOn;
    if (on?.nack === true && !on.isClosed && another === undefined) {
      if (!this.#overtaken.has(gap)) this.#overtaken.set(gap, { by: message, on });
    } else this.doubts.unknown++;
  }

  override acked(connection: Connection, msgId: string): SentMessage | undefined {
    const message = super.acked(connection, msgId);
    const overtaken = message && this.#overtaken.get(message);
    if (message === undefined || overtaken === undefined) return message;
    this.#overtaken.delete(message);
    if (overtaken.on !== connection) this.doubts.unknown++;
    else {
      this.doubts.judged++;
      if (!message.isStoreRefused && !this.mayHaveExpired(message)) super.missing(message, overtaken.by);
    }
    return message;
  }
}
