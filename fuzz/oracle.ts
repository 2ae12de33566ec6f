/**
 * What the protocol allows a server to write, judged from both ends' bytes alone (docs/protocol.md). It knows who
 * registered with which password, who may write to whom, and what each connection has asked and not been answered.
 */

import {
  type Cipher,
  cmd,
  code,
  decodeEnvelope,
  type Envelope,
  Fault,
  FrameCutter,
  isName,
  isNeverEncrypted,
  normalPassword,
  type Role,
  readAuthenticate,
  readDevice,
  readLogin,
  readMessage,
  readPush,
  readRegister,
  refusals,
  wireLimits,
} from '@hawser/protocol';
import { textOf } from './json-model.ts';
import { expect } from './target.ts';

/** Codes that an answer of a logged-in client may have; before login it is 300 from 200 upward. */
const CODES: ReadonlyMap<number, readonly number[]> = new Map([
  [cmd.clientKey, [code.ok, code.exception]],
  [cmd.login, [code.ok, code.exception, code.wrongCredentials]],
  [cmd.authenticate, [code.ok, code.exception]],
  [cmd.register, [code.ok, code.exception, code.userExists]],
  [cmd.message, [code.exception]],
  [cmd.addDevice, [code.ok, code.exception, code.deviceAlreadyAdded]],
  [cmd.removeDevice, [code.ok, code.exception, code.deviceNotAdded]],
  [cmd.devices, [code.ok, code.exception]],
]);
const NOT_KNOWN = [code.exception];
const NOBODY = [code.notLoggedIn];
const FOR_APPS: readonly number[] = [cmd.login, cmd.register, cmd.addDevice, cmd.removeDevice, cmd.devices];
const SILENT: readonly number[] = [cmd.push, cmd.fetch, cmd.logout];

interface Request extends Envelope {
  /** Its data could not be read: it is answered by cmd 3. */
  readonly isUnreadable: boolean;
  /** It came encrypted: so it may be refused by cmd 3 when the key was. */
  readonly isSecret: boolean;
  /** Another message of the same msgId was answered: this one may have joined it. */
  mayHaveJoined: boolean;
}

interface Sent {
  readonly to: string;
  readonly msgId: string;
  readonly msg: string;
}

/** What all connections of a sequence have to do with one another. */
export class Oracle {
  readonly connections: ConnectionOracle[] = [];
  readonly passwords = new Map<string, string>();
  /** Those that somebody asked to register, with their names. */
  readonly passwordsAsked = new Set<string>();
  /** What is written to different connections is seen in the order in which it is written. Over sockets it is not. */
  readonly isOrdered: boolean;

  /**
   * Pushes of which it is not known yet whether they are right: in one turn, what a sender has asked may be pushed before
   * its own login is answered.
   */
  readonly doubts: { readonly isRight: () => boolean; readonly text: string }[] = [];

  constructor(isOrdered: boolean) {
    this.isOrdered = isOrdered;
  }

  mayLogIn(name: string, password: string): boolean {
    const normal = normalPassword(password);
    return this.passwords.get(name) === normal || (!this.isOrdered && this.passwordsAsked.has(`${name}\n${normal}`));
  }

  /** Who asked to be bound to whom, at any time. */
  readonly bound = new Set<string>();

  connect(isSecure: boolean): ConnectionOracle {
    const connection = new ConnectionOracle(this, isSecure);
    this.connections.push(connection);
    return connection;
  }

  /** Whether somebody under this name has sent that, and may. */
  mayCome(from: string, to: string, receiver: Role, msgId: string, msg: string): boolean {
    return this.connections.some((sender) => {
      const isThere = sender.sent.some((each) => each.to === to && each.msgId === msgId && each.msg === msg);
      // Of one that is gone, what it was told last is not known.
      const role = sender.name === from ? sender.role : sender.isDeaf ? sender.asked.get(from) : undefined;
      if (!isThere || role === undefined || (role === 'device' && receiver === 'device')) return false;
      if (role === 'app' && receiver === 'app') return true;
      return this.bound.has(role === 'app' ? `${from}\n${to}` : `${to}\n${from}`);
    });
  }

  /** Whether another connection of its name has sent a message under this id: its ack goes to the newest. */
  hasSent(session: ConnectionOracle, msgId: string): boolean {
    return this.connections.some((each) => {
      const isBy = each !== session && [...each.asked.keys()].some((name) => session.asked.has(name));
      return isBy && each.sent.some((sent) => sent.msgId === msgId);
    });
  }

  /** Whether `expectQuiet` has nothing to say. */
  get isQuiet(): boolean {
    try {
      this.expectQuiet();
      return true;
    } catch {
      return false;
    }
  }

  /** When nothing more is to come: every request has been answered, and each name has one connection at most. */
  expectQuiet(): void {
    for (const { isRight, text } of this.doubts) expect(isRight(), () => text);
    const names = new Set<string>();
    for (const connection of this.connections) {
      connection.expectAnswered();
      if (connection.isClosed || connection.isGone || connection.name === undefined) continue;
      expect(!names.has(connection.name), () => `two connections are logged in as ${connection.name}`);
      names.add(connection.name);
    }
  }
}

export class ConnectionOracle {
  readonly #all: Oracle;
  readonly #isSecure: boolean;
  readonly #up = new FrameCutter();
  readonly #down = new FrameCutter();
  /** Asked and not answered, in order. */
  #requests: Request[] = [];
  readonly sent: Sent[] = [];
  readonly #pushedIds: { readonly from: string; readonly msgid: string }[] = [];
  /** Who it asked to be. */
  readonly asked = new Map<string, Role>();
  /** Who it is, from the answer to its login on. */
  role: Role | undefined;
  name: string | undefined;
  /** The cipher that its key makes, until and since the server has taken it. */
  cipher: Cipher | undefined;
  #hasKey = false;
  #frames = 0;
  /** It has sent what ends a connection. */
  #isBroken = false;
  /** It takes nothing, or has gone: what it asked need not be answered. */
  isDeaf = false;
  isGone = false;
  isClosed = false;
  /** The server's key, its first frame. */
  serverKey: Uint8Array | undefined;
  #isSuperseded = false;

  constructor(all: Oracle, isSecure: boolean) {
    this.#all = all;
    this.#isSecure = isSecure;
  }

  get hasKey(): boolean {
    return this.#hasKey;
  }

  // ---- what the client writes

  wrote(bytes: Uint8Array): void {
    if (this.#isBroken || this.isClosed) return;
    this.#up.push(bytes.slice());
    for (;;) {
      const body = this.#up.next(wireLimits.frameBytesMax);
      if (body === undefined) break;
      const request = body === 'too long' ? undefined : decodeEnvelope(body);
      if (request === undefined) {
        this.#isBroken = true;
        return;
      }
      this.#ask(request);
    }
  }

  #ask(request: Envelope): void {
    const isSecret = request.isEncrypt && request.data.length > 0;
    const plain = isSecret ? this.cipher?.decrypt(request.data) : request.data;
    const isUnreadable = plain === undefined;
    const asked: Request = { ...request, data: plain ?? request.data, isUnreadable, isSecret, mayHaveJoined: false };
    this.#requests.push(asked);
    if (isUnreadable) return;
    if (request.cmd === cmd.login) {
      const body = readLogin(asked.data);
      if (!(body instanceof Fault)) this.asked.set(body.username, 'app');
    } else if (request.cmd === cmd.authenticate) {
      const body = readAuthenticate(asked.data);
      if (!(body instanceof Fault)) this.asked.set(body.id, 'device');
    } else if (request.cmd === cmd.register) {
      const body = readRegister(asked.data);
      const isOne = !(body instanceof Fault);
      if (isOne) this.#all.passwordsAsked.add(`${body.username}\n${normalPassword(body.password)}`);
    } else if (request.cmd === cmd.addDevice) this.#bindable(asked);
    if (request.cmd === cmd.message) {
      const body = readMessage(asked.data);
      if (!(body instanceof Fault)) this.sent.push({ to: body.to, msgId: request.msgId, msg: textOf(body.msg) ?? '' });
    }
    if (request.cmd === cmd.logout) this.#isBroken = true;
  }

  // ---- what the server writes

  received(bytes: Uint8Array): void {
    expect(!this.isClosed, () => 'the server writes after it has closed');
    this.#down.push(bytes.slice());
    for (;;) {
      const body = this.#down.next(wireLimits.frameBytesMax);
      if (body === undefined) return;
      expect(body !== 'too long', () => 'the server wrote a frame that is too long');
      const frame = decodeEnvelope(body);
      expect(frame !== undefined, () => 'the server wrote what is no protobuf');
      this.#frame(frame);
    }
  }

  closed(): void {
    expect(!this.#down.midFrame, () => 'the server closed in the midst of a frame');
    this.isClosed = true;
  }

  #frame(frame: Envelope): void {
    const isFirst = this.#frames++ === 0;
    if (isFirst) {
      expect(frame.cmd === cmd.serverKey && frame.msgId === '' && !frame.isEncrypt, () => 'the first frame is no key');
      this.serverKey = frame.data;
      return;
    }
    expect(!this.#isSuperseded, () => `cmd ${frame.cmd} after cmd 103`);
    if (frame.cmd === cmd.conflict && frame.data.length === 0) {
      expect(this.#mayHaveLoggedIn, () => 'cmd 103 to a connection that never sent a login');
      this.#isSuperseded = true;
      return;
    }
    const data = this.#plain(frame);
    const answer = frame.data.length === 0 ? undefined : parsed(data);
    if (frame.cmd === cmd.push && Array.isArray(answer)) this.#pushed(frame, data);
    else this.#answered(frame, answer);
  }

  get #mayHaveLoggedIn(): boolean {
    const isLogin = (each: Envelope): boolean => each.cmd === cmd.login || each.cmd === cmd.authenticate;
    return this.role !== undefined || this.#requests.some(isLogin);
  }

  #plain(frame: Envelope): Uint8Array {
    if (!frame.isEncrypt || frame.data.length === 0) return frame.data;
    expect(this.#hasKey && !isNeverEncrypted(frame.cmd), () => `cmd ${frame.cmd} must not be encrypted`);
    const plain = this.cipher?.decrypt(frame.data);
    expect(plain !== undefined, () => `cmd ${frame.cmd} cannot be decrypted`);
    return plain;
  }

  #pushed(frame: Envelope, data: Uint8Array): void {
    const { role, name } = this;
    expect(role !== undefined && name !== undefined, () => 'a push before login');
    expect(frame.msgId === '' && (frame.isEncrypt || !this.#hasKey), () => 'a push in the clear, or with a msgId');
    const messages = readPush(data);
    expect(messages !== undefined && messages.length > 0, () => 'a push that cannot be read');
    for (const { from, to, msgId, msg } of messages) {
      expect(to === name, () => `a push for ${to} came to ${name}`);
      const text = textOf(msg) ?? '';
      const isRight = (): boolean => this.#all.mayCome(from, to, role, msgId, text);
      if (!isRight()) this.#all.doubts.push({ isRight, text: `${from} did not send ${text} to ${to}, or may not` });
      this.#pushedIds.push({ from, msgid: msgId });
    }
  }

  #answered(frame: Envelope, answer: unknown): void {
    const { code: number, msg } = (answer ?? {}) as { code?: unknown; msg?: unknown };
    const what = (): string => `cmd ${frame.cmd}, msgId "${frame.msgId}", ${JSON.stringify(answer)}`;
    expect(msg !== refusals.internalError.msg, () => `an error in the server: ${what()}`);
    if (answer !== undefined) {
      expect(typeof number === 'number' && typeof msg === 'string', () => `no common answer: ${what()}`);
    }
    if (frame.cmd === cmd.internalError && this.#takeFailed(frame, msg)) {
      expect(number === code.exception && !frame.isEncrypt, () => what());
      return;
    }
    const canHide = !isNeverEncrypted(frame.cmd) && (this.#hasKey || answer === undefined);
    const isIts = (each: Request): boolean =>
      each.cmd === frame.cmd &&
      each.msgId === frame.msgId &&
      !each.isUnreadable &&
      frame.isEncrypt === (each.isEncrypt && canHide);
    const at = this.#requests.findIndex(isIts);
    const request = this.#requests[at];
    if (frame.cmd === cmd.message) {
      // Which of several under one msgId is answered cannot be told: one may have joined another.
      for (const each of this.#requests) {
        if (each !== request && each.cmd === cmd.message && each.msgId === frame.msgId) each.mayHaveJoined = true;
      }
      // It may be for what an earlier session sent, also before the login is answered; or two of its own were mistaken.
      const isOwn = request === undefined && this.sent.some(({ msgId }) => msgId === frame.msgId);
      const mayBeOthers = request === undefined || (answer === undefined && this.role === undefined);
      if (isOwn || (mayBeOthers && this.#all.hasSent(this, frame.msgId))) return;
    }
    expect(request !== undefined, () => `nobody asked for this, or not so: ${what()}`);
    this.#requests.splice(at, 1);
    this.#expectCode(request, number as number | undefined, what);
    if (number === code.ok) this.#succeeded(request, what);
  }

  /** Cmd 3: takes the request that it refuses out of those that wait. */
  #takeFailed(frame: Envelope, msg: unknown): boolean {
    const isUndecrypted = msg === refusals.undecryptable.msg || msg === refusals.noKey.msg;
    const isIts = (each: Request): boolean => {
      if (msg === refusals.badMsgId.msg) return frame.msgId === '' && each.msgId.length > wireLimits.msgIdBytesMax;
      if (each.msgId !== frame.msgId) return false;
      if (isUndecrypted) return each.isUnreadable || (each.isSecret && !this.#hasKey);
      return !each.isUnreadable && (msg === refusals.badAck.msg ? each.cmd === cmd.push : each.cmd === frame.cmd);
    };
    const at = this.#requests.findIndex(isIts);
    if (at >= 0) this.#requests.splice(at, 1);
    return at >= 0 || (frame.msgId === '' && this.#isBroken && msg === refusals.notProtobuf.msg);
  }

  #expectCode(request: Request, number: number | undefined, what: () => string): void {
    const { role } = this;
    if (request.cmd === cmd.heartbeat) {
      expect(number === undefined, () => `a heartbeat with data: ${what()}`);
      return;
    }
    if (role === undefined && request.cmd >= cmd.message) {
      expect(number === code.notLoggedIn, () => `before login: ${what()}`);
      return;
    }
    if (request.cmd === cmd.message && number === undefined) return;
    const isOthers =
      role !== undefined &&
      (FOR_APPS.includes(request.cmd) ? 'app' : request.cmd === cmd.authenticate ? 'device' : role) !== role;
    const allowed = isOthers
      ? NOT_KNOWN
      : (CODES.get(request.cmd) ?? (role === undefined && request.cmd >= cmd.message ? NOBODY : NOT_KNOWN));
    expect(
      (allowed as readonly (number | undefined)[]).includes(number),
      () => `a code that is not allowed: ${what()}`,
    );
  }

  #succeeded(request: Request, what: () => string): void {
    switch (request.cmd) {
      case cmd.clientKey:
        expect(!this.#hasKey, () => 'a second key was taken');
        this.#hasKey = true;
        break;
      case cmd.login: {
        const body = readLogin(request.data);
        expect(!(body instanceof Fault), () => `a body that is none: ${what()}`);
        expect(this.#all.mayLogIn(body.username, body.password), () => `${body.username} got in with ${body.password}`);
        this.#expectHidden(request);
        this.#is('app', body.username);
        break;
      }
      case cmd.authenticate: {
        const body = readAuthenticate(request.data);
        expect(!(body instanceof Fault), () => `a body that is none: ${what()}`);
        expect(!this.#all.passwords.has(body.id), () => `${body.id} is a user, and came as a device`);
        this.#is('device', body.id);
        break;
      }
      case cmd.register: {
        const body = readRegister(request.data);
        expect(!(body instanceof Fault), () => `a body that is none: ${what()}`);
        expect(this.role === undefined && !this.#all.passwords.has(body.username), () => `registered: ${what()}`);
        this.#expectHidden(request);
        this.#all.passwords.set(body.username, normalPassword(body.password));
        break;
      }
      default:
    }
  }

  /** A binding takes effect before it is answered, so it counts from when it is asked for. */
  #bindable(request: Request): void {
    const body = readDevice(request.data);
    if (body instanceof Fault) return;
    for (const [name, role] of this.asked) if (role === 'app') this.#all.bound.add(`${name}\n${body.deviceId}`);
  }

  #expectHidden(request: Request): void {
    expect(this.#isSecure || request.isEncrypt, () => 'credentials in the clear were taken');
  }

  #is(role: Role, name: string): void {
    expect(isName(name), () => `logged in under what is no name: ${JSON.stringify(name)}`);
    expect(this.role === undefined || (this.role === role && this.name === name), () => `${this.name} became ${name}`);
    this.role = role;
    this.name = name;
  }

  /** What was pushed since it was last asked for. */
  takePushed(): readonly { readonly from: string; readonly msgid: string }[] {
    return this.#pushedIds.splice(0);
  }

  /** Whether nothing is awaited that must be answered. */
  get isAnswered(): boolean {
    return this.isClosed || this.isDeaf || this.#isBroken || this.#unanswered().length === 0;
  }

  #unanswered(): readonly Request[] {
    return this.#requests.filter((each) => !each.mayHaveJoined && (each.isUnreadable || !SILENT.includes(each.cmd)));
  }

  expectAnswered(): void {
    if (this.isClosed || this.isDeaf || this.#isBroken) return;
    const left = this.#unanswered();
    expect(left.length === 0, () => `not answered: cmd ${left[0]?.cmd}, msgId "${left[0]?.msgId}"`);
  }
}

function parsed(data: Uint8Array): unknown {
  const text = textOf(data);
  try {
    if (text !== undefined) return JSON.parse(text) as unknown;
  } catch {
    // said below
  }
  expect(false, () => `the server wrote what is no JSON: ${text ?? 'nor UTF-8'}`);
  return undefined;
}
