import type { Connection } from './connection.ts';

/** One message as a client meant it: its content is its own, so that every copy of it is told from every other. */
export class SentMessage {
  readonly id: number;
  readonly from: string;
  readonly to: string;
  readonly msgId: string;
  /** The JSON text of `msg`. */
  readonly text: string;
  /** Seconds; 0 when it has none. */
  readonly ttl: number;

  // What the checker knows of it.
  /** When it was last handed to the server whole; -1 before. */
  handedAt = -1;
  /** The connections that it came in on. */
  readonly handedOn: Connection[] = [];
  /** Places in the order of all acceptances: of the first and the last one. */
  firstPlace = 0;
  lastPlace = 0;
  acceptances = 0;
  /** The same, as acceptances of its sender. */
  senderPlace = 0;
  /** Its sender repeated it so late that its id was not known any more. */
  idForgotten = false;
  firstAcceptedAt = 0;
  /** The earliest and the latest time of acceptance that the wall clock showed. */
  leastWall = Number.POSITIVE_INFINITY;
  acceptedAt = 0;
  mostWall = 0;
  /** When a client knew that it had been accepted. */
  takenBy = Number.POSITIVE_INFINITY;
  /** In which runs of the server it was accepted first and last. */
  firstRun = 0;
  acceptedRun = 0;
  /** It has been on the disk, synced. */
  isDurable = false;
  /** The store refused it, so the sender was told to try again or nothing. */
  isStoreRefused = false;
  /** The server has refused it, for now or for good, or would have told so. */
  isTurnedAway = false;
  pushes = 0;
  /** The receiver has it: its client sent the ack. */
  receiverHasIt = false;
  /** An ack of it came in on the session that it was pushed to. */
  ackCame = false;
  /** How often it may still be delivered to its end: once for each time that it was accepted. */
  deliveriesLeft = 0;
  /** How many crashes there had been when the server last took such an ack; -1 when it never did. */
  ackTakenCrashes = -1;
  /** Where, and when it was so at the latest. */
  ackTakenOn: Connection | undefined;
  ackTakenAt = 0;
  /** Where in the inbox it was, and was taken out; and how many crashes there had been by then. */
  readonly removedFrom = new Map<number, number>();
  /** The sender was acked; and since it was last accepted. */
  isAcked = false;
  isSettled = false;

  constructor(id: number, from: string, to: string, msgId: string, text: string, ttl: number) {
    this.id = id;
    this.from = from;
    this.to = to;
    this.msgId = msgId;
    this.text = text;
    this.ttl = ttl;
  }

  toString(): string {
    const ttl = this.ttl === 0 ? '' : ` ttl ${this.ttl}`;
    return `message ${this.id} (${this.from} → ${this.to}, msgId ${JSON.stringify(this.msgId)}, ${this.text.length} bytes${ttl})`;
  }
}

/** All messages that clients made. */
export class Messages {
  readonly all: SentMessage[] = [];
  readonly #byName = new Map<string, SentMessage[]>();

  make(from: string, to: string, msgId: string, bytes: number, ttl: number): SentMessage {
    const id = this.all.length;
    const text = `{"n":${id},"p":"${'x'.repeat(bytes)}"}`;
    const message = new SentMessage(id, from, to, msgId, text, ttl);
    this.all.push(message);
    const key = nameOf(from, msgId);
    const same = this.#byName.get(key);
    if (same === undefined) this.#byName.set(key, [message]);
    else same.push(message);
    return message;
  }

  /** All that were sent under this id by this sender. */
  named(from: string, msgId: string): readonly SentMessage[] {
    return this.#byName.get(nameOf(from, msgId)) ?? [];
  }

  /** The message that has this content; `undefined` when no client made such. */
  ofBytes(msg: Uint8Array): SentMessage | undefined {
    let id = 0;
    let at = 5;
    for (; at < msg.length; at++) {
      const digit = msg[at]! - 48;
      if (digit < 0 || digit > 9) break;
      id = id * 10 + digit;
    }
    return at > 5 ? this.all[id] : undefined;
  }
}

function nameOf(from: string, msgId: string): string {
  return `${from}\n${msgId}`;
}
