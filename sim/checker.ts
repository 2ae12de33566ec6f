import type { NewMessage, StoredMessage } from '@hawser/server/core/ports';
import type { WallClock } from './clock.ts';
import type { Connection } from './connection.ts';
import type { Disk } from './disk.ts';
import type { Messages, SentMessage } from './message.ts';
import type { Scheduler } from './scheduler.ts';
import type { Trace } from './trace.ts';

/** Each promise of PROTOCOL.md that is checked, by a short name. */
export const rules = {
  'unsafe ack': 'The ack of a message means: the receiver has acknowledged it, or it is synced to disk.',
  lost: 'What was acked is never dropped, except by age or ttl.',
  'delivered again': 'An acked push does not come again, but once more after a crash.',
  'accepted again': "The same sender's msgId again is not delivered again (1,000 ids, 10 minutes, until a restart).",
  order: 'Messages of one sender to one receiver are pushed in the order accepted.',
  'accepted out of order': 'The frames of one connection take effect in order.',
  'wrong party': 'A message goes to its receiver only, unchanged.',
  'not allowed': 'Who may write to whom is decided when the message is accepted.',
  'refused without reason': 'Permanent refusals are for what is malformed, unknown, not allowed or reused.',
  'refusal told': 'Temporary refusals are told only to clients that asked for it.',
  superseded: 'A newer login wins: the older session gets cmd 103, and nothing more.',
  'not logged in': 'Pushes go to sessions that are logged in.',
  'window of ids': 'A session never has two outstanding pushes with the same msgid.',
  window: 'At most 256 unacked pushes a session.',
  'too soon again': 'A push is repeated on one connection after 5 s at the earliest.',
  'ttl late': 'A message is not delivered after its ttl.',
  memory: 'Everything has a limit.',
  'no answer': 'A message is acked or refused once all is well.',
  'not drained': 'What is stored is delivered once all is well.',
  'left over': 'Nothing is kept of connections and messages that are gone.',
  misuse: 'The core keeps to the contract of its ports.',
  'server error': 'The server does not fail.',
} as const;

export type Rule = keyof typeof rules;

export interface Violation {
  readonly at: number;
  readonly rule: Rule;
  readonly text: string;
  readonly message: SentMessage | undefined;
}

const WINDOW_MAX = 256;
const REMEMBERED_IDS = 1000;
const REMEMBERED_MS = 600_000;
const SENDER_PENDING_MAX = 1000;
const REPUSH_MS = 5000;
/** From the decision to push to the bytes written. */
const TTL_SLACK_MS = 100;

/** Compares what the server does with what PROTOCOL.md promises. It knows bytes, clients and the disk, not the core. */
export class Checker {
  readonly violations: Violation[] = [];
  readonly figures = { accepted: 0, acked: 0, refused: 0, pushed: 0, repushed: 0, taken: 0, durable: 0 };
  readonly #scheduler: Scheduler;
  readonly #wall: WallClock;
  readonly #disk: Disk;
  readonly #messages: Messages;
  readonly #trace: Trace;
  #crashes = 0;
  #run = 0;
  #places = 0;
  #wallJumpedAt = -1e9;
  /** Sessions in force, by name. */
  readonly #current = new Map<string, Connection>();
  /** What each sender's msgId stands for at present. */
  readonly #accepted = new Map<string, SentMessage>();
  readonly #senders = new Map<string, { accepted: number; pending: Set<SentMessage> }>();
  readonly #firstPushes = new Map<string, number>();

  constructor(scheduler: Scheduler, wall: WallClock, disk: Disk, messages: Messages, trace: Trace) {
    this.#scheduler = scheduler;
    this.#wall = wall;
    this.#disk = disk;
    this.#messages = messages;
    this.#trace = trace;
  }

  get hasFailed(): boolean {
    return this.violations.length > 0;
  }

  broken(rule: Rule, text: string, message?: SentMessage): void {
    if (this.violations.length < 20) this.violations.push({ at: this.#scheduler.now, rule, text, message });
  }

  misused(text: string): void {
    this.broken('misuse', text);
  }

  // ---- the server as a whole

  serverStarted(): void {
    this.#run++;
  }

  serverEnded(how: 'crash' | 'stop'): void {
    if (how === 'crash') this.#crashes++;
    this.#current.clear();
    this.#accepted.clear();
    this.#senders.clear();
  }

  wallJumped(): void {
    this.#wallJumpedAt = this.#scheduler.now;
  }

  // ---- what the server writes

  loggedIn(connection: Connection): void {
    const { name } = connection;
    if (connection.isLoggedIn) return;
    connection.isLoggedIn = true;
    this.#trace.note('logged in', connection.id, -1, name);
    const older = this.#current.get(name);
    if (older !== undefined && older !== connection && !older.isClosed && !older.isSuperseded) {
      this.broken('superseded', `connection ${older.id} of ${name} is still served when ${connection.id} is`);
    }
    if (older !== undefined) older.isSuperseded = true;
    this.#current.set(name, connection);
  }

  superseded(connection: Connection): void {
    this.#trace.note('superseded', connection.id);
    connection.isSuperseded = true;
  }

  closed(connection: Connection): void {
    connection.isClosed = true;
    if (this.#current.get(connection.name) === connection) this.#current.delete(connection.name);
  }

  ackWritten(connection: Connection, msgId: string): void {
    const { name } = connection;
    const message = this.#accepted.get(`${name}\n${msgId}`);
    this.#trace.note('acked to sender', connection.id, message?.id ?? -1);
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
    this.#trace.note('refused', connection.id, sent?.id ?? -1, text);
    this.figures.refused++;
    if (isRetry) {
      if (!connection.nack) this.broken('refusal told', `connection ${connection.id} did not ask for: ${text}`, sent);
      return;
    }
    if (sent === undefined || !connection.isLoggedIn || sent.from !== connection.name) return;
    if (this.#messages.named(sent.from, msgId).length > 1) return;
    if (this.#isAllowed(connection, sent) === 'yes') {
      this.broken('refused without reason', `${sent} was refused: ${text}`, sent);
    }
  }

  /** Whether a connection may send a message to its receiver; `perhaps` while that is being changed. */
  #isAllowed(connection: Connection, message: SentMessage): 'yes' | 'no' | 'perhaps' {
    const { seen } = this.#disk;
    const { from, to } = message;
    if (connection.role === 'app' && seen.isUser(to)) return 'yes';
    const [user, device] = connection.role === 'app' ? [from, to] : [to, from];
    const since = message.handedAt < 0 ? this.#scheduler.now : message.handedAt;
    if (!this.#disk.isSettled(user, device, since)) return 'perhaps';
    return seen.areBound(user, device) ? 'yes' : 'no';
  }

  pushed(
    connection: Connection,
    from: string,
    to: string,
    msgId: string,
    id: unknown,
    text: string,
  ): SentMessage | undefined {
    const message = typeof id === 'number' ? this.#messages.all[id] : undefined;
    this.#trace.note('pushed', connection.id, message?.id ?? -1, msgId);
    this.figures.pushed++;
    if (message === undefined || message.from !== from || message.to !== to || message.msgId !== msgId) {
      this.broken('wrong party', `connection ${connection.id} was pushed what nobody sent: ${from} → ${to}, ${msgId}`);
      return undefined;
    }
    if (message.text !== text) this.broken('wrong party', `${message} was changed on its way`, message);
    this.#checkReceiver(connection, message);
    this.#checkAgain(connection, message);
    this.#checkOrder(connection, message);
    this.#checkWindow(connection, message);
    this.#checkTtl(message);
    message.pushes++;
    connection.pushedAt.set(message, this.#scheduler.now);
    connection.lastPushed.set(msgId, message);
    return message;
  }

  #checkReceiver(connection: Connection, message: SentMessage): void {
    if (!connection.isLoggedIn) {
      this.broken('not logged in', `connection ${connection.id} was pushed ${message} before its login`, message);
    } else if (connection.name !== message.to) {
      this.broken('wrong party', `connection ${connection.id} of ${connection.name} was pushed ${message}`, message);
    } else if (connection.isSuperseded || this.#current.get(message.to) !== connection) {
      this.broken('superseded', `connection ${connection.id} is superseded and was pushed ${message}`, message);
    }
    if (message.acceptances === 0) {
      this.broken('not allowed', `${message} was pushed, but never accepted`, message);
    }
  }

  #checkAgain(connection: Connection, message: SentMessage): void {
    // Taken once more from its sender, which the page allows after a restart, it may also come once more.
    if (message.deliveriesLeft === 0 && message.ackTakenCrashes === this.#crashes) {
      this.broken('delivered again', `${message} was pushed again after its receiver had acked it`, message);
    }
    const before = connection.pushedAt.get(message);
    if (before === undefined || connection.outstanding.get(message.msgId) !== message) return;
    this.figures.repushed++;
    if (this.#scheduler.now - before < REPUSH_MS - TTL_SLACK_MS) {
      const ms = Math.round(this.#scheduler.now - before);
      this.broken('too soon again', `${message} was pushed again after ${ms} ms`, message);
    }
  }

  #checkOrder(connection: Connection, message: SentMessage): void {
    // What its sender was told to try again, or nothing, may come at any time.
    if (message.isStoreRefused || this.mayHaveExpired(message)) return;
    if (!connection.pushedAt.has(message)) {
      const place = connection.places.get(message.from) ?? 0;
      if (message.lastPlace < place) {
        this.broken('order', `${message} was pushed on connection ${connection.id} after a later one`, message);
      }
      connection.places.set(message.from, Math.max(place, message.firstPlace));
    }
    if (message.pushes > 0) return;
    const pair = `${message.from}\n${message.to}`;
    const place = this.#firstPushes.get(pair) ?? 0;
    if (message.lastPlace < place) {
      this.broken('order', `${message} was pushed for the first time after a later one`, message);
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

  #checkTtl(message: SentMessage): void {
    if (message.ttl === 0 || this.#scheduler.now - this.#wallJumpedAt < 1000) return;
    const byWall = this.#wall.now() - message.mostWall;
    // A copy from before a crash is as old as the clocks say that are left: the wall's, which may have jumped back.
    const byRun = message.firstRun === this.#run ? this.#scheduler.now - message.acceptedAt : 0;
    const late = Math.max(byWall, byRun) - message.ttl * 1000;
    if (late > TTL_SLACK_MS) this.broken('ttl late', `${message} was pushed ${Math.round(late)} ms too late`, message);
  }

  /** Whether by some clock its `ttl` has passed. */
  mayHaveExpired(message: SentMessage): boolean {
    if (message.ttl === 0) return false;
    const byWall = this.#wallMax - message.leastWall;
    const byTime = this.#scheduler.now - message.firstAcceptedAt;
    return Math.max(byWall, byTime) >= message.ttl * 1000;
  }

  get #wallMax(): number {
    this.#wallSeen = Math.max(this.#wallSeen, this.#wall.now());
    return this.#wallSeen;
  }
  #wallSeen = 0;

  /** The wall clock is about to jump, or has. */
  noteWall(): void {
    this.#wallSeen = Math.max(this.#wallSeen, this.#wall.now());
  }

  // ---- what comes in to the server

  handed(connection: Connection, message: SentMessage): void {
    message.handedAt = this.#scheduler.now;
    connection.handed.push(message);
    if (message.handedOn.at(-1) !== connection) message.handedOn.push(connection);
  }

  /** A receiver's ack was handed to the server. */
  ackHanded(connection: Connection, msgIds: readonly string[]): void {
    for (const msgId of msgIds) {
      const message = connection.outstanding.get(msgId);
      this.#trace.note('ack came', connection.id, message?.id ?? -1);
      if (message === undefined) connection.looseAcks.add(msgId);
      if (message === undefined || connection.isSuperseded || connection.isClosed) continue;
      message.ackCame = true;
      connection.acked.add(message);
      // Also when the client acked an id that it had not been pushed yet.
      message.receiverHasIt = true;
      connection.outstanding.delete(msgId);
    }
  }

  /** The server counts a receiver's ack. */
  ackTaken(to: string, msgId: string): void {
    const message = this.#current.get(to)?.lastPushed.get(msgId);
    this.#trace.note('ack taken', -1, message?.id ?? -1);
    if (message === undefined) return;
    this.figures.taken++;
    if (!message.ackCame && this.#current.get(to)?.looseAcks.has(msgId) === true) {
      // Sent for another message, or twice; but acks name only the msgId, and this one has it now.
      message.ackCame = true;
      message.receiverHasIt = true;
    }
    if (message.deliveriesLeft > 0) message.deliveriesLeft--;
    this.#current.get(to)?.acked.delete(message);
    message.ackTakenCrashes = this.#crashes;
    this.#senders.get(message.from)?.pending.delete(message);
  }

  /** The server took a message, or refused it where it could have taken it. */
  accepted(from: string, msgId: string, to: string, msg: Uint8Array, outcome: string, isNew: boolean): void {
    const message = this.#messages.ofBytes(msg);
    const connection = message?.handedOn.at(-1);
    this.#trace.note(
      'accepted',
      connection?.id,
      message?.id ?? -1,
      isNew || outcome !== 'pending' ? outcome : 'joined',
    );
    const isKnown = message !== undefined && connection !== undefined;
    if (!isKnown || message.from !== from || message.to !== to || message.msgId !== msgId) {
      this.broken('wrong party', `the server took what nobody sent: ${from} → ${to}, ${msgId}`);
      return;
    }
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
      if (this.#messages.named(from, msgId).length === 1) {
        this.broken('refused without reason', `${message} was refused as another under its msgId`, message);
      }
      return;
    }
    if (outcome !== 'pending' && outcome !== 'acked') return;
    const before = this.#accepted.get(key);
    this.#accepted.set(key, message);
    if (outcome === 'acked') return;
    if (isNew) this.#acceptedNew(message, before);
    else if (before !== undefined && before !== message && !before.isStoreRefused && !this.mayHaveExpired(before)) {
      this.broken('unsafe ack', `${message} joined ${before}`, message);
    }
  }

  #acceptedNew(message: SentMessage, before: SentMessage | undefined): void {
    const sender = this.#senders.get(message.from) ?? { accepted: 0, pending: new Set() };
    this.#senders.set(message.from, sender);
    if (before?.isSettled && before.acceptedRun === this.#run) {
      const since = sender.accepted - before.senderPlace;
      const isRemembered = since < REMEMBERED_IDS && this.#scheduler.now - before.acceptedAt < REMEMBERED_MS;
      if (isRemembered) this.broken('accepted again', `${message} was taken again after ${since} others`, message);
    }
    this.figures.accepted++;
    this.#places++;
    sender.accepted++;
    sender.pending.add(message);
    if (sender.pending.size > SENDER_PENDING_MAX) this.#checkPending(message.from, sender.pending);
    const wall = this.#wall.now();
    if (message.acceptances++ === 0) {
      message.firstPlace = this.#places;
      message.firstAcceptedAt = this.#scheduler.now;
      message.firstRun = this.#run;
    }
    message.leastWall = Math.min(wall, message.leastWall);
    message.lastPlace = this.#places;
    message.senderPlace = sender.accepted;
    message.acceptedAt = this.#scheduler.now;
    message.mostWall = Math.max(wall, message.mostWall);
    message.acceptedRun = this.#run;
    message.isSettled = false;
    message.deliveriesLeft++;
    // A crash may have brought back what was acked, and that may come as well.
    if (message.ackTakenCrashes >= 0 && message.ackTakenCrashes < this.#crashes) message.deliveriesLeft++;
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
    const message = this.#messages.ofBytes(stored.msg);
    this.#trace.note('durable', message?.id ?? -1, stored.position);
    this.figures.durable++;
    if (message === undefined || message.from !== stored.from || message.to !== stored.to) {
      this.misused(`what nobody sent was stored: ${stored.from} → ${stored.to}, ${stored.msgId}`);
      return;
    }
    message.isDurable = true;
    this.#senders.get(message.from)?.pending.delete(message);
  }

  notStored(stored: NewMessage, why: string): void {
    const message = stored.msg && this.#messages.ofBytes(stored.msg);
    if (message === undefined) return;
    this.#trace.note('not stored', message.id, -1, why);
    message.isStoreRefused = true;
    this.#senders.get(message.from)?.pending.delete(message);
  }

  removed(stored: StoredMessage): void {
    const message = this.#messages.ofBytes(stored.msg);
    this.#trace.note('removed', message?.id ?? -1, stored.position);
    if (message === undefined || message.ackCame || this.mayHaveExpired(message)) return;
    this.broken('lost', `${message} was deleted, but its receiver has not acked it`, message);
  }

  // ---- the end

  /** All is well and everybody has come for what was theirs. */
  checkDelivered(): void {
    for (const message of this.#messages.all) {
      if (!message.isAcked || message.receiverHasIt || this.mayHaveExpired(message)) continue;
      this.broken('lost', `${message} was acked and never delivered`, message);
    }
  }
}
