import { cmd, encodeFrame, encodeText } from '@hawser/protocol';
import type { Checker } from './checker.ts';
import type { Connection } from './connection.ts';
import { FakeCipher, fakeCiphertext, fakeSecret } from './fakes.ts';
import type { ServerFrame } from './frames.ts';
import type { Habits } from './habits.ts';
import type { Host } from './host.ts';
import type { Member } from './member.ts';
import type { Messages, SentMessage } from './message.ts';
import { PASSWORD, type Party } from './party.ts';
import type { Random } from './random.ts';
import type { Event, Scheduler } from './scheduler.ts';
import type { Trace } from './trace.ts';
import type { Peer, SimWire } from './wire.ts';

const HEARTBEAT_MS = 30_000;
const HEARTBEATS_UNANSWERED_MAX = 4;
const ANSWER_TIMEOUT_MS = 20_000;
const RESEND_MS = 6000;
/** Messages that a client has on their way at most. */
const PENDING_MAX = 800;
const EMPTY = new Uint8Array(0);

export interface ClientPorts {
  readonly scheduler: Scheduler;
  readonly random: Random;
  readonly hosts: readonly Host[];
  readonly checker: Checker;
  readonly messages: Messages;
  readonly trace: Trace;
}

interface Pending {
  readonly message: SentMessage;
  sentAt: number;
}

type State = 'offline' | 'greeted' | 'keying' | 'logging in' | 'online';
type Action = 'send' | 'crash' | 'reconnect' | 'log out' | 'half-close' | 'malform' | 'bind' | 'log in again' | 'fetch';

/** A client with habits, good and bad. */
export class Client implements Member, Peer {
  readonly party: Party;
  readonly habits: Habits;
  readonly #ports: ClientPorts;
  /** It goes on to the end; the others of its name leave when all is to be delivered. */
  readonly #isMain: boolean;
  #isDraining = false;
  #isDone = false;
  #state: State = 'offline';
  #wire: SimWire | undefined;
  #connection: Connection | undefined;
  #isEncrypted = false;
  #heardAt = 0;
  #askedAt = 0;
  #unanswered = 0;
  #nextAction: Event | undefined;
  #ackTimer: Event | undefined;
  #made = 0;
  /** Sent, and neither acked nor refused. */
  readonly pending = new Map<string, Pending>();
  /** Pushed here and not acked yet. */
  #toAck = new Set<SentMessage>();
  #recentIds: string[] = [];
  #mustRegister = false;
  #home: Host | undefined;

  constructor(party: Party, habits: Habits, isMain: boolean, ports: ClientPorts) {
    this.party = party;
    this.habits = habits;
    this.#isMain = isMain;
    this.#ports = ports;
  }

  get wire(): SimWire | undefined {
    return this.#wire;
  }

  get hasLeft(): boolean {
    return this.#isDone;
  }

  get isOnline(): boolean {
    return this.#state === 'online';
  }

  start(): void {
    const { scheduler, random } = this.#ports;
    scheduler.after(random.between(0, 2000), () => this.#connect());
    scheduler.after(random.between(0, HEARTBEAT_MS), () => this.#pulse());
  }

  /** Trouble is over: no more messages, everything acked, what is pending is sent until it is answered. */
  drain(reconnects: boolean): void {
    const { scheduler, random } = this.#ports;
    this.#isDraining = true;
    this.#nextAction = undefined;
    if (!this.#isMain) {
      this.pending.clear();
      this.leave();
      return;
    }
    if (reconnects || this.#wire?.canSend !== true) {
      this.#drop('reset');
      scheduler.after(random.between(0, 2000), () => this.#connect());
    } else {
      this.#wire.thaw();
      this.#ackAll();
    }
    this.#resendLater();
  }

  /** Goes for good. */
  leave(): void {
    this.#isDone = true;
    if (this.#ports.random.chance(0.5)) this.#drop('fin');
    else this.#drop('reset');
  }

  // ---- connecting

  #connect(): void {
    if (this.#isDone || this.#wire !== undefined) return;
    const { scheduler, random } = this.#ports;
    const host = this.#dispatched();
    const isSecure = !this.habits.encrypt;
    const { name, role } = this.party;
    const { nack, latencyMs } = this.habits;
    const connected = host.connect(this, { name, role, nack }, latencyMs, isSecure || role === 'device');
    if (connected === undefined) {
      scheduler.after(random.between(200, 2000), () => this.#connect());
      return;
    }
    this.#wire = connected.wire;
    this.#connection = connected.connection;
    this.#state = 'greeted';
    this.#isEncrypted = false;
    this.#heardAt = scheduler.now;
    this.#askedAt = scheduler.now;
    this.#unanswered = 0;
  }

  /** The server that the dispatcher tells: mostly the same one, and another when that is gone. */
  #dispatched(): Host {
    const { hosts, random } = this.#ports;
    if (hosts.length === 1) return hosts[0]!;
    if (this.#home?.isListening !== true || random.chance(0.2)) {
      const listening = hosts.filter((host) => host.isListening);
      this.#home = random.pick(listening.length > 0 ? listening : hosts);
    }
    return this.#home;
  }

  #reconnectLater(ms: number): void {
    if (!this.#isDone) this.#ports.scheduler.after(ms, () => this.#connect());
  }

  /** Lets go of the connection. */
  #drop(how: 'fin' | 'reset' | 'vanish'): void {
    const wire = this.#wire;
    this.#wire = undefined;
    this.#connection = undefined;
    this.#state = 'offline';
    this.#toAck.clear();
    if (this.#nextAction !== undefined) this.#nextAction.call = undefined;
    this.#nextAction = undefined;
    if (wire === undefined) return;
    if (how === 'vanish') wire.vanish();
    else wire.close(how);
  }

  ended(): void {
    this.#drop('reset');
    this.#reconnectLater(this.#isDraining ? 500 : this.#ports.random.magnitude(20, 3000));
  }

  /** The network took it away without a word. */
  vanish(): void {
    this.#drop('vanish');
    this.#reconnectLater(this.#ports.random.magnitude(20, 20_000));
  }

  #logIn(): void {
    const { party, habits } = this;
    this.#state = 'logging in';
    this.#askedAt = this.#ports.scheduler.now;
    if (this.#mustRegister) {
      this.#mustRegister = false;
      this.#send(cmd.register, '', { username: party.name, password: PASSWORD });
    }
    const nack = habits.nack ? { nack: true } : {};
    if (party.role === 'app') {
      this.#send(cmd.login, '', { version: '1', username: party.name, password: PASSWORD, ...nack });
    } else {
      const secret = this.habits.sendsSecret ? { secret: `secret of ${party.name}` } : {};
      this.#send(cmd.authenticate, '', { version: '1', id: party.name, abilities: [], ...secret, ...nack });
    }
    // Some do not wait for the answer.
    if (habits.pipelines && habits.fetch !== 'never') this.#send(cmd.fetch, '', undefined);
    if (habits.pipelines) this.#resend();
  }

  #nowOnline(): void {
    if (this.#state === 'online') return;
    this.#state = 'online';
    if (!this.habits.pipelines) {
      if (this.habits.fetch !== 'never') this.#send(cmd.fetch, '', undefined);
      this.#resend();
    }
    if (!this.#isDraining) this.#planAction();
  }

  // ---- what comes

  received(frames: readonly ServerFrame[]): void {
    this.#heardAt = this.#ports.scheduler.now;
    this.#unanswered = 0;
    for (const frame of frames) {
      if (this.#wire === undefined) return;
      this.#receive(frame);
    }
  }

  #receive(frame: ServerFrame): void {
    switch (frame.cmd) {
      case cmd.serverKey:
        // Another one answers a client that sent one itself.
        if (this.#state !== 'greeted') break;
        if (this.habits.encrypt) this.#agree();
        else this.#logIn();
        break;
      case cmd.clientKey:
        if (this.#state !== 'keying') break;
        if (frame.code !== 100) this.ended();
        else {
          this.#isEncrypted = true;
          this.#logIn();
        }
        break;
      case cmd.login:
      case cmd.authenticate:
        if (frame.code === 100) this.#nowOnline();
        else {
          this.#mustRegister = frame.code === 1002;
          this.ended();
        }
        break;
      case cmd.conflict:
        if (!frame.isEmpty) break;
        this.#ports.checker.figures.conflicts++;
        this.#drop('fin');
        if (!this.#isDraining) this.#reconnectLater(this.habits.fights ? this.#ports.random.between(50, 2000) : 10_000);
        else if (this.#isMain) this.#reconnectLater(1000);
        break;
      case cmd.message:
        this.#answered(frame);
        break;
      case cmd.push:
        this.#pushed(frame);
        break;
      default:
    }
  }

  #agree(): void {
    const secret = fakeSecret(this.#ports.random);
    this.#state = 'keying';
    this.#askedAt = this.#ports.scheduler.now;
    const wire = this.#wire;
    if (wire !== undefined) wire.cipher = new FakeCipher(secret);
    wire?.send(encodeFrame(cmd.clientKey, '', false, fakeCiphertext(secret, this.#ports.random)));
  }

  #answered(frame: ServerFrame): void {
    const pending = this.pending.get(frame.msgId);
    if (pending === undefined) return;
    if (!frame.isRetry) this.pending.delete(frame.msgId);
    else pending.sentAt = this.#ports.scheduler.now - RESEND_MS + 1000;
  }

  #pushed(frame: ServerFrame): void {
    const { random, scheduler, trace } = this.#ports;
    for (const message of frame.pushes) {
      if (message === undefined) continue;
      trace.note('received', this.#connection?.id, message.id);
      this.#toAck.add(message);
    }
    if (this.#isDraining) {
      this.#ackAll();
      return;
    }
    switch (this.habits.ack) {
      case 'at once':
        this.#ackAll();
        break;
      case 'never':
        break;
      default:
        if (this.#ackTimer?.call !== undefined) return;
        this.#ackTimer = scheduler.after(random.magnitude(1, this.habits.ack === 'late' ? 30_000 : 200), () => {
          if (this.#ackTimer !== undefined) this.#ackTimer.call = undefined;
          this.#ackAll();
        });
    }
  }

  #ackAll(): void {
    if (this.#state !== 'online' && this.#state !== 'logging in') return;
    const { random } = this.#ports;
    const ids: string[] = [];
    const habit = this.#isDraining ? 'at once' : this.habits.ack;
    for (const message of this.#toAck) {
      if (habit === 'some' && random.chance(0.3)) continue;
      this.#ports.trace.note('receiver acks', this.#connection?.id, message.id);
      message.receiverHasIt = true;
      this.#toAck.delete(message);
      ids.push(message.msgId);
    }
    if (habit === 'foreign') {
      if (this.#recentIds.length > 0) ids.push(random.pick(this.#recentIds));
      ids.push(String(random.below(Math.max(1, this.#made * 2))), 'unknown');
    }
    this.#recentIds = [...this.#recentIds, ...ids].slice(-20);
    if (ids.length === 0) return;
    this.#sendAcks(ids);
    if (habit === 'twice') this.#sendAcks(ids);
  }

  #sendAcks(ids: readonly string[]): void {
    const { checker } = this.#ports;
    const connection = this.#connection;
    const data = encodeText(JSON.stringify(ids.map((msgid) => ({ msgid }))));
    this.#sendBytes(cmd.push, '', data, () => {
      if (connection !== undefined) checker.ackHanded(connection, ids);
    });
  }

  // ---- what goes

  #send(number: number, msgId: string, body: object | undefined, handed?: () => void): void {
    this.#sendBytes(number, msgId, body === undefined ? EMPTY : encodeText(JSON.stringify(body)), handed);
  }

  #sendBytes(number: number, msgId: string, data: Uint8Array, handed?: () => void): void {
    const wire = this.#wire;
    if (wire === undefined) return;
    const isSecret = this.#isEncrypted && data.length > 0 && number !== cmd.fetch;
    let body = data;
    if (isSecret) {
      const space = new Uint8Array(data.length + 16);
      space.set(data);
      body = wire.cipher?.encrypt(space, 0, data.length) ?? data;
    }
    wire.send(encodeFrame(number, msgId, isSecret, body), handed);
  }

  #sendMessage(message: SentMessage): void {
    const { scheduler, trace, checker } = this.#ports;
    const connection = this.#connection;
    if (this.#wire === undefined || connection === undefined) return;
    const pending = this.pending.get(message.msgId);
    if (pending === undefined) this.pending.set(message.msgId, { message, sentAt: scheduler.now });
    else pending.sentAt = scheduler.now;
    trace.note('sent', connection.id, message.id);
    const ttl = message.ttl === 0 ? '' : `,"ttl":${message.ttl}`;
    const data = encodeText(`{"to":${JSON.stringify(message.to)},"msg":${message.text}${ttl}}`);
    this.#sendBytes(cmd.message, message.msgId, data, () => checker.handed(connection, message));
  }

  #resend(): void {
    const { random, messages, scheduler } = this.#ports;
    if (this.habits.resend === 'no' && !this.#isDraining) {
      this.pending.clear();
      return;
    }
    for (const pending of this.pending.values()) {
      const { message } = pending;
      if (this.habits.resend === 'other content' && !this.#isDraining && random.chance(0.3)) {
        const other = messages.make(message.from, message.to, message.msgId, 5, 0);
        this.pending.set(message.msgId, { message: other, sentAt: scheduler.now });
        this.#sendMessage(other);
      } else this.#sendMessage(message);
    }
  }

  #resendLater(): void {
    const { scheduler } = this.#ports;
    scheduler.after(1000, () => {
      if (this.#isDone) return;
      if (this.#state === 'online') {
        for (const pending of this.pending.values()) {
          if (pending.sentAt + RESEND_MS <= scheduler.now) this.#sendMessage(pending.message);
        }
      }
      this.#resendLater();
    });
  }

  #newMessage(): void {
    const { random, messages } = this.#ports;
    const { party, habits } = this;
    if (this.pending.size >= PENDING_MAX || party.friends.length === 0) return;
    const strays = party.devices;
    const to = strays.length > 0 && random.chance(habits.stray) ? random.pick(strays) : random.pick(party.friends);
    this.#made++;
    const msgId = habits.ids === 'unique' ? `${party.name}-${messages.all.length}` : String(this.#made);
    if (this.pending.has(msgId)) return;
    const bytes = random.chance(0.8) ? random.below(30) : Math.floor(random.magnitude(1, habits.bytesMax));
    const ttl = random.chance(habits.ttl) ? random.pick([1, 2, 5, 20, 100_000]) : 0;
    this.#sendMessage(messages.make(party.name, to.name, msgId, bytes, ttl));
  }

  // ---- heartbeats

  #pulse(): void {
    if (this.#isDone) return;
    const { scheduler } = this.#ports;
    scheduler.after(HEARTBEAT_MS / 3, () => this.#pulse());
    if (this.#wire === undefined) return;
    const quietMs = scheduler.now - this.#heardAt;
    if (this.#state !== 'online') {
      if (scheduler.now - this.#askedAt > ANSWER_TIMEOUT_MS) this.ended();
    } else if (quietMs > HEARTBEAT_MS * (this.#unanswered + 1)) {
      if (++this.#unanswered > HEARTBEATS_UNANSWERED_MAX) this.ended();
      else this.#send(cmd.heartbeat, '', undefined);
    }
  }

  // ---- what it does of its own accord

  #planAction(): void {
    const { scheduler, random } = this.#ports;
    const { habits } = this;
    const rates: Record<Action, number> = {
      send: 1 / habits.sendEveryMs,
      crash: 1 / habits.crashEveryMs,
      reconnect: 1 / habits.reconnectEveryMs,
      'log out': 1 / habits.logoutEveryMs,
      'half-close': 1 / habits.halfCloseEveryMs,
      malform: 1 / habits.malformedEveryMs,
      bind: this.party.devices.length > 0 ? 1 / habits.bindEveryMs : 0,
      'log in again': 1 / habits.loginAgainEveryMs,
      fetch: habits.fetch === 'often' ? 1 / 3000 : 0,
    };
    const rate = Object.values(rates).reduce((sum, each) => sum + each, 0);
    if (rate === 0) return;
    this.#nextAction = scheduler.after(random.wait(1 / rate), () => {
      if (this.#state !== 'online' || this.#isDraining) return;
      this.#act(random.weighted(rates));
      if (this.#state === 'online') this.#planAction();
    });
  }

  #act(action: Action): void {
    const { random, trace } = this.#ports;
    const { habits } = this;
    if (action !== 'send') trace.note('command', this.#connection?.id, -1, action);
    switch (action) {
      case 'send': {
        const count = random.chance(habits.burst) ? habits.burstMessages : 1;
        for (let i = 0; i < count; i++) this.#newMessage();
        break;
      }
      case 'crash':
        if (habits.ids === 'reset') {
          this.#made = 0;
          this.pending.clear();
        }
        this.#drop(random.pick(['fin', 'reset', 'reset', 'vanish']));
        this.#reconnectLater(habits.awayMs);
        break;
      case 'reconnect':
        this.#drop(random.pick(['fin', 'reset', 'vanish']));
        this.#reconnectLater(random.chance(0.5) ? 0 : random.magnitude(1, 500));
        break;
      case 'log out':
        this.#send(cmd.logout, '', undefined);
        break;
      case 'half-close':
        this.#wire?.halfClose();
        break;
      case 'malform':
        this.#malform();
        break;
      case 'bind': {
        const deviceId = random.pick(this.party.devices).name;
        this.#send(random.chance(0.5) ? cmd.addDevice : cmd.removeDevice, 'b', { deviceId });
        break;
      }
      case 'log in again':
        this.#logIn();
        this.#state = 'online';
        break;
      case 'fetch':
        for (let i = random.below(3); i >= 0; i--) this.#send(cmd.fetch, '', undefined);
        break;
    }
  }

  #malform(): void {
    const { random } = this.#ports;
    const wire = this.#wire;
    const text = random.pick([
      '{',
      '[]',
      '{"to":1}',
      '{"to":"","msg":1}',
      '{"to":"nobody","msg":null}',
      '[{"msgid":1}]',
    ]);
    switch (random.below(5)) {
      case 0:
        wire?.send(new Uint8Array([0, 0, 0, 2, 0xff, 0xff]));
        break;
      case 1:
        wire?.send(new Uint8Array([0x7f, 0, 0, 0]));
        break;
      case 2:
        wire?.send(encodeFrame(random.pick([1, 3, 102, 103, 207, -1]), 'x', false, encodeText(text)));
        break;
      default:
        wire?.send(encodeFrame(random.pick([cmd.message, cmd.push]), 'malformed', false, encodeText(text)));
    }
  }
}
