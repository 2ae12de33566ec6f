import { CMD, Keys } from '../bench/wire.ts';
import { Connection } from '../sim/connection.ts';
import type { Messages, SentMessage } from '../sim/message.ts';
import type { Party } from '../sim/party.ts';
import { PASSWORD } from '../sim/party.ts';
import type { Random } from '../sim/random.ts';
import type { Habits } from './habits.ts';
import { Line, type LineOwner } from './line.ts';
import type { Witness } from './witness.ts';

/** Messages between the oldest that is not answered and the newest: the server knows 1,000 ids for certain. */
const SPAN_MAX = 900;
/** A socket that has so much to send takes no more messages. */
const UNSENT_BYTES_MAX = 1024 * 1024;
const RECONNECT_MS = 100;
/** An older connection that brings nothing is closed after this. */
const OLDER_MS = 5000;
const RESEND_MS = 2000;
const FENCE_MS = 150;
const HEARTBEAT_MS = 500;

export interface ClientPorts {
  readonly witness: Witness;
  readonly messages: Messages;
  readonly random: Random;
  /** Where to connect to. */
  readonly server: () => Reached;
  /** A number for a connection. */
  readonly nextConnection: () => number;
}

/** A server that is there. */
export interface Reached {
  readonly port: number;
  /** Its run has ended since, or may have. */
  readonly isVoid: () => boolean;
}

interface Pending {
  readonly message: SentMessage;
  sentAt: number;
}

/** One name and whoever uses it: at most one connection that it sends on, and older ones that are not closed yet. */
export class Client implements LineOwner {
  readonly party: Party;
  habits: Habits;
  /** Sent, and neither acked nor refused, in the order made. */
  readonly pending = new Map<string, Pending>();
  /** What it still may want to write to: those it may not. */
  readonly strangers: readonly Party[];
  readonly #ports: ClientPorts;
  readonly #keys: Keys;
  #line: Line | undefined;
  readonly #older = new Set<Line>();
  #connectAt = 0;
  #leaveAt = Number.POSITIVE_INFINITY;
  #freezeAt = Number.POSITIVE_INFINITY;
  #ackAt = Number.POSITIVE_INFINITY;
  #resendAt = Number.POSITIVE_INFINITY;
  /** Pushed on the present connection and not acked. */
  #toAck = new Set<SentMessage>();
  #made = 0;
  #isGone = false;

  constructor(party: Party, strangers: readonly Party[], habits: Habits, aes: Buffer, ports: ClientPorts) {
    this.party = party;
    this.strangers = strangers;
    this.habits = habits;
    this.#keys = new Keys(aes);
    this.#ports = ports;
  }

  get isOnline(): boolean {
    return this.#line?.state === 'online';
  }

  /** Everything that it was pushed is acked, and the server has counted that. */
  get isQuiet(): boolean {
    const line = this.#line;
    return this.isOnline && this.#toAck.size === 0 && line?.fences.length === 0 && line.unfenced.length === 0;
  }

  adopt(habits: Habits, now: number): void {
    const { random } = this.#ports;
    this.habits = habits;
    this.#connectAt = now + random.between(0, 300);
    this.#leaveAt = now + random.wait(habits.leaveEveryMs);
    this.#freezeAt = now + random.wait(habits.freezeEveryMs);
    this.#resendAt = now + RESEND_MS;
    if (habits.isAway) this.#leave(random.chance(0.5) ? 'fin' : 'reset', Number.POSITIVE_INFINITY);
    else if (this.isOnline) this.#ackAt = now;
  }

  leaveForGood(): void {
    this.#isGone = true;
    this.#line?.close('reset');
    for (const line of this.#older) line.close('reset');
  }

  // ---- as time goes by

  /** About a hundred times a second. */
  tick(now: number): void {
    if (this.#isGone) return;
    for (const older of this.#older) if (now - older.heardAt > OLDER_MS) older.close('reset');
    const line = this.#line;
    if (line === undefined) {
      if (now >= this.#connectAt && !this.habits.isAway) this.#connect();
      return;
    }
    if (now - line.heardAt > this.habits.patienceMs && (line.state !== 'online' || line.fences.length > 0)) {
      // Nobody is told: the other side finds out.
      this.#leave('reset', RECONNECT_MS);
      return;
    }
    if (line.state !== 'online') return;
    if (now >= this.#leaveAt) {
      this.#leaveAt = now + this.#ports.random.wait(this.habits.leaveEveryMs);
      this.#leave(this.habits.leave, this.habits.awayMs);
      return;
    }
    if (now >= this.#freezeAt) {
      this.#freezeAt = now + this.#ports.random.wait(this.habits.freezeEveryMs);
      line.pauseFor(this.#ports.random.magnitude(50, 1500));
    }
    if (now >= this.#ackAt) this.#ackAll();
    if (now >= this.#resendAt) this.#resend(now - RESEND_MS);
    const isDue = line.unfenced.length > 0 || now - line.heardAt > HEARTBEAT_MS;
    if (isDue && now - line.fencedAt > FENCE_MS) this.#fence(line, now);
  }

  #fence(line: Line, now: number): void {
    line.fences.push({ sentAt: now, acked: line.unfenced });
    line.unfenced = [];
    line.fencedAt = now;
    line.send(CMD.heartbeat, '', '');
  }

  // ---- coming and going

  #connect(): void {
    const { witness, server, nextConnection } = this.#ports;
    const { name, role } = this.party;
    const { nack, encrypts } = this.habits;
    const { port, isVoid } = server();
    const connection = new Connection(nextConnection(), witness.number, { name, role, nack }, isVoid);
    witness.opened(connection);
    this.#toAck.clear();
    this.#line = new Line(port, connection, encrypts ? this.#keys : undefined, this);
  }

  #leave(how: Habits['leave'], awayMs: number): void {
    const line = this.#line;
    this.#connectAt = performance.now() + awayMs;
    if (line === undefined) return;
    this.#line = undefined;
    line.connection.isLeft = true;
    this.#older.add(line);
    if (how === 'takeover') {
      this.#connect();
      return;
    }
    if (how === 'log out') line.send(CMD.logout, '', '');
    else line.close(how);
  }

  closed(line: Line): void {
    this.#ports.witness.closed(line.connection);
    this.#older.delete(line);
    if (this.#line !== line) return;
    this.#line = undefined;
    this.#connectAt = performance.now() + this.#ports.random.magnitude(5, RECONNECT_MS);
  }

  unreadable(line: Line, what: string): void {
    this.#ports.witness.broken('server error', `connection ${line.connection.id} was sent ${what}`);
  }

  #logIn(line: Line): void {
    const { name, role } = this.party;
    const nack = line.connection.nack ? { nack: true } : {};
    line.state = 'logging in';
    line.loginAt = performance.now();
    if (role === 'app') line.send(CMD.login, 'in', JSON.stringify({ username: name, password: PASSWORD, ...nack }));
    else line.send(CMD.auth, 'in', JSON.stringify({ version: '1', id: name, abilities: [], ...nack }));
    if (this.habits.pipelines) this.#begin(line);
  }

  #begin(line: Line): void {
    if (this.habits.fetches) line.send(CMD.fetch, '', '');
    if (this.habits.resend === 'yes') this.#resend(Number.POSITIVE_INFINITY);
    else this.#resendAt = performance.now() + RESEND_MS;
  }

  // ---- what comes

  frame(line: Line, cmd: number, msgId: string, data: Buffer): void {
    const { witness } = this.#ports;
    const { connection } = line;
    switch (cmd) {
      case CMD.heartbeat: {
        const fence = line.fences.shift();
        if (fence !== undefined) witness.answered(connection, fence.sentAt, fence.acked);
        break;
      }
      case CMD.publicKey:
        // Greeted by a server that has been started since it was reached.
        if (!witness.isServed(connection)) line.close('reset');
        else if (line.encrypts) line.agree(data);
        else this.#logIn(line);
        break;
      case CMD.negotiate:
        if (codeOf(data) === 100) {
          line.keyed();
          this.#logIn(line);
        } else line.close('reset');
        break;
      case CMD.login:
      case CMD.auth:
        if (codeOf(data) === 100) this.#loggedIn(line);
        else line.close('reset');
        break;
      case CMD.conflict:
        witness.superseded(connection);
        line.close('fin');
        break;
      case CMD.message:
        this.#answered(line, msgId, data);
        break;
      case CMD.push:
        this.#pushed(line, data);
        break;
      case CMD.fetch:
        // Else it was sent along with a login that was refused for now.
        if (codeOf(data) !== 300 || line.state === 'online') this.#unexpected(line, cmd, data);
        break;
      default:
        this.#unexpected(line, cmd, data);
    }
  }

  #unexpected({ connection }: Line, cmd: number, data: Buffer): void {
    const text = `connection ${connection.id} was sent cmd ${cmd}: ${data.toString()}`;
    this.#ports.witness.broken('server error', text);
  }

  #loggedIn(line: Line): void {
    if (line.state !== 'logging in') return;
    line.state = 'online';
    this.#ports.witness.loggedIn(line.connection, line.loginAt);
    if (line === this.#line && !this.habits.pipelines) this.#begin(line);
  }

  #answered(line: Line, msgId: string, data: Buffer): void {
    const { witness } = this.#ports;
    if (data.length === 0) {
      witness.acked(line.connection, msgId);
      this.pending.delete(msgId);
      return;
    }
    const { code, msg, retry } = JSON.parse(data.toString()) as { code: number; msg: string; retry?: boolean };
    if (code === 300) return;
    witness.refused(line.connection, msgId, retry === true, msg);
    if (retry !== true) this.pending.delete(msgId);
  }

  #pushed(line: Line, data: Buffer): void {
    const { witness, random } = this.#ports;
    const elements: unknown = JSON.parse(data.toString());
    if (!Array.isArray(elements)) return;
    for (const { from, to, msgid, msg } of elements as Pushed[]) {
      const message = witness.pushed(line.connection, from, to, msgid, msg?.n, JSON.stringify(msg));
      if (message === undefined) continue;
      if (line === this.#line) this.#toAck.add(message);
      // Pushed before a newer session took over: whoever reads it does not know that yet.
      else if (!line.connection.isSuperseded) this.#sendAcks(line, [message]);
    }
    const { ack } = this.habits;
    if (line !== this.#line || ack === 'never') return;
    if (ack === 'at once' || ack === 'twice') this.#ackAll();
    else if (this.#ackAt === Number.POSITIVE_INFINITY) this.#ackAt = performance.now() + random.magnitude(5, 800);
  }

  #ackAll(): void {
    this.#ackAt = Number.POSITIVE_INFINITY;
    const line = this.#line;
    if (line === undefined || this.#toAck.size === 0) return;
    const { ack } = this.habits;
    const acked = [...this.#toAck].filter(() => ack !== 'some' || this.#ports.random.chance(0.7));
    for (const message of acked) this.#toAck.delete(message);
    this.#sendAcks(line, acked);
    // Not where it could count for the message of another sender that has waited for this id.
    if (ack === 'twice') line.send(CMD.push, '', acksOf(acked.filter(({ msgId }) => msgId.includes('-'))));
  }

  #sendAcks(line: Line, messages: readonly SentMessage[]): void {
    if (messages.length === 0 || !line.isOpen) return;
    this.#ports.witness.ackHanded(
      line.connection,
      messages.map(({ msgId }) => msgId),
    );
    for (const message of messages) line.unfenced.push(message);
    line.send(CMD.push, '', acksOf(messages));
  }

  // ---- what goes

  get canSend(): boolean {
    const line = this.#line;
    if (line?.state !== 'online' || line.unsentBytes > UNSENT_BYTES_MAX) return false;
    if (this.pending.size >= this.habits.windowMessages) return false;
    const oldest = this.pending.values().next().value;
    return oldest === undefined || this.#made - Number(oldest.message.msgId.split('-').at(-1)) < SPAN_MAX;
  }

  /** One new message. */
  send(now: number): void {
    const { random, messages } = this.#ports;
    const { party, habits } = this;
    const isStray = this.strangers.length > 0 && random.chance(habits.stray);
    const to = random.pick(isStray ? this.strangers : party.friends);
    const made = ++this.#made;
    const msgId = habits.ids === 'unique' ? `${party.name}-${made}` : String(made);
    const bytes = random.chance(0.9) ? random.below(60) : Math.floor(random.magnitude(1, habits.bytesMax));
    const ttl = random.chance(habits.ttl) ? random.pick([1, 2, 5, 1000]) : 0;
    const message = messages.make(party.name, to.name, msgId, bytes, ttl);
    this.pending.set(msgId, { message, sentAt: now });
    this.#sendMessage(message, isStray);
  }

  #sendMessage(message: SentMessage, isStray: boolean): void {
    const line = this.#line;
    if (line === undefined) return;
    this.#ports.witness.sent(line.connection, message, isStray);
    const ttl = message.ttl === 0 ? '' : `,"ttl":${message.ttl}`;
    line.send(CMD.message, message.msgId, `{"to":${JSON.stringify(message.to)},"msg":${message.text}${ttl}}`);
  }

  /** All that was sent before a time and is not answered. */
  #resend(before: number): void {
    const now = performance.now();
    this.#resendAt = now + RESEND_MS;
    for (const pending of this.pending.values()) {
      if (pending.sentAt > before) continue;
      pending.sentAt = now;
      this.#sendMessage(pending.message, this.#ports.witness.isStray(pending.message));
    }
  }
}

interface Pushed {
  readonly from: string;
  readonly to: string;
  readonly msgid: string;
  readonly msg?: { readonly n?: unknown };
}

function acksOf(messages: readonly SentMessage[]): string {
  return JSON.stringify(messages.map(({ msgId }) => ({ msgid: msgId })));
}

function codeOf(data: Buffer): number | undefined {
  return (JSON.parse(data.toString()) as { code?: number }).code;
}
