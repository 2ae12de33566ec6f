// A client written from PROTOCOL.md alone: it shares no code with the server, and it can misbehave.

import assert from 'node:assert/strict';
import {
  constants,
  createCipheriv,
  createDecipheriv,
  createPublicKey,
  type KeyObject,
  publicEncrypt,
  randomBytes,
} from 'node:crypto';
import { connect as connectSocket, type Socket } from 'node:net';
import { connect as connectTls, type ConnectionOptions as TlsOptions } from 'node:tls';
import protobuf from 'protobufjs';

const envelopeProto = `
syntax = "proto3";
message BaseMsgPb {
  int32  cmd       = 1;
  string msgId     = 2;
  bool   isEncrypt = 3;   // data is AES-encrypted
  bytes  data      = 4;   // UTF-8 JSON unless said otherwise
}
`;
const envelopeType = protobuf.parse(envelopeProto, { keepCase: true }).root.lookupType('BaseMsgPb');

/** Long enough for a busy machine; only a failing test ever waits for it. */
export const defaultTimeoutMs = 10_000;
/** For commands behind which a slow password hash stands. */
export const hashTimeoutMs = 20_000;

export interface Envelope {
  readonly cmd: number;
  readonly msgId: string;
  readonly isEncrypt: boolean;
  readonly data: Buffer;
}

/** What goes into `data`: an object becomes JSON; a string and bytes go as they are. */
export type Body = object | string | Uint8Array;

export function encodeBody(envelope: Partial<Envelope>): Buffer {
  const fields: Record<string, unknown> = {};
  if (envelope.cmd) fields.cmd = envelope.cmd;
  if (envelope.msgId) fields.msgId = envelope.msgId;
  if (envelope.isEncrypt) fields.isEncrypt = true;
  if (envelope.data?.length) fields.data = envelope.data;
  return Buffer.from(envelopeType.encode(envelopeType.create(fields)).finish());
}

export function withLength(body: Uint8Array): Buffer {
  const frame = Buffer.alloc(4 + body.length);
  frame.writeUInt32BE(body.length);
  frame.set(body, 4);
  return frame;
}

export function encodeFrame(envelope: Partial<Envelope>): Buffer {
  return withLength(encodeBody(envelope));
}

export function decodeBody(body: Buffer): Envelope {
  const fields = envelopeType.toObject(envelopeType.decode(body), { defaults: true, bytes: Buffer });
  return {
    cmd: fields.cmd as number,
    msgId: fields.msgId as string,
    isEncrypt: fields.isEncrypt as boolean,
    data: fields.data as Buffer,
  };
}

export function bytesOf(body: Body | undefined): Buffer {
  if (body === undefined) return Buffer.alloc(0);
  if (typeof body === 'string') return Buffer.from(body);
  if (body instanceof Uint8Array) return Buffer.from(body);
  return Buffer.from(JSON.stringify(body));
}

export function aesEncrypt(key: Buffer, plain: Uint8Array): Buffer {
  const cipher = createCipheriv(`aes-${key.length * 8}-ecb`, key, null);
  return Buffer.concat([cipher.update(plain), cipher.final()]);
}

export function aesDecrypt(key: Buffer, secret: Uint8Array): Buffer {
  const cipher = createDecipheriv(`aes-${key.length * 8}-ecb`, key, null);
  return Buffer.concat([cipher.update(secret), cipher.final()]);
}

export function rsaEncrypt(key: KeyObject, plain: Uint8Array): Buffer {
  return publicEncrypt({ key, padding: constants.RSA_PKCS1_PADDING }, plain);
}

export class Frame implements Envelope {
  readonly cmd: number;
  readonly msgId: string;
  readonly isEncrypt: boolean;
  readonly data: Buffer;
  /** The protobuf message as it arrived. */
  readonly body: Buffer;
  /** `data`, decrypted when `isEncrypt`. */
  readonly plain: Buffer;
  /** performance.now() on arrival. */
  readonly at: number = performance.now();
  taken = false;

  constructor(body: Buffer, aesKey: Buffer | undefined) {
    const { cmd, msgId, isEncrypt, data } = decodeBody(body);
    this.body = body;
    this.cmd = cmd;
    this.msgId = msgId;
    this.isEncrypt = isEncrypt;
    this.data = data;
    if (isEncrypt && data.length > 0) {
      assert.ok(aesKey, `an encrypted frame (cmd ${cmd}) came to a client without a key`);
      this.plain = aesDecrypt(aesKey, data);
    } else {
      this.plain = data;
    }
  }

  get text(): string {
    return new TextDecoder('utf-8', { fatal: true }).decode(this.plain);
  }

  get json(): unknown {
    return JSON.parse(this.text);
  }

  get code(): number | undefined {
    return this.plain.length === 0 ? undefined : (this.json as { readonly code?: number }).code;
  }

  get msg(): string {
    return (this.json as { readonly msg: string }).msg;
  }

  toString(): string {
    const shown = this.cmd === 1 ? 'key' : this.plain.toString().slice(0, 100);
    return `${this.cmd}${this.isEncrypt ? ' enc' : ''} ${JSON.stringify(this.msgId.slice(0, 40))} <${shown}>`;
  }
}

export interface Message {
  readonly from: string;
  readonly to: string;
  readonly msg: unknown;
  readonly msgid: string;
  readonly ts?: number;
}

export interface Pushed extends Message {
  readonly frame: Frame;
}

export interface Closed {
  /** Who ended it and how: the server's FIN, a reset or other error, or this client itself. */
  readonly how: 'fin' | 'reset' | 'self';
  readonly error: string | undefined;
  readonly at: number;
}

export interface ConnectOptions {
  /** Answer every push with an ack at once. */
  readonly autoAck?: boolean;
  /** Keep our half open after the server's FIN. */
  readonly holdOpen?: boolean;
  /** Do not read anything. */
  readonly paused?: boolean;
  /** Do not keep frames and messages; `onPush` and `onFrame` still see them. */
  readonly forget?: boolean;
  readonly onPush?: (message: Message, client: Client) => void;
  readonly onFrame?: (frame: Frame, client: Client) => void;
  readonly localAddress?: string;
  /** What goes before everything, TLS included. */
  readonly preface?: Uint8Array;
  /** Come over TLS. */
  readonly tls?: TlsOptions;
}

export interface SendOptions {
  readonly msgId?: string;
  /** Encrypt this frame; by default whatever `client.encrypting` says. */
  readonly encrypt?: boolean;
  readonly timeoutMs?: number;
}

let serial = 0;

/** A text that no other call in this process returns. */
export function unique(prefix: string): string {
  serial += 1;
  return `${prefix}-${process.pid.toString(36)}-${serial}`;
}

export class Client implements Disposable {
  readonly socket: Socket;
  readonly frames: Frame[] = [];
  readonly messages: Pushed[] = [];
  /** The name of the session, once logged in. */
  name = '';
  serverKey: KeyObject | undefined;
  aesKey: Buffer | undefined;
  /** Whether frames are encrypted when `SendOptions.encrypt` does not say. */
  encrypting = false;
  autoAck: boolean;
  closed: Closed | undefined;
  readonly #options: ConnectOptions;
  readonly #probes = new Set<() => void>();
  #rest: Buffer = Buffer.alloc(0);
  #failure: Error | undefined;

  constructor(socket: Socket, options: ConnectOptions) {
    this.socket = socket;
    this.#options = options;
    this.autoAck = options.autoAck ?? false;
    let error: string | undefined;
    socket.on('error', (cause: NodeJS.ErrnoException) => {
      error = cause.code ?? cause.message;
      this.#close('reset', error);
    });
    socket.on('end', () => {
      this.#close('fin', undefined);
      if (options.holdOpen !== true) socket.end();
    });
    socket.on('close', () => this.#close(error === undefined ? 'self' : 'reset', error));
    if (options.paused !== true) this.read();
  }

  static async connect(
    at: { readonly host: string; readonly port: number },
    options: ConnectOptions = {},
  ): Promise<Client> {
    const local = options.localAddress === undefined ? {} : { localAddress: options.localAddress };
    const to = { host: at.host, port: at.port, allowHalfOpen: true, noDelay: true, ...local };
    const { tls, preface } = options;
    const raw = tls === undefined || preface !== undefined ? connectSocket(to) : undefined;
    if (preface !== undefined) raw?.write(preface);
    const socket = tls !== undefined ? connectTls(raw ? { socket: raw, ...tls } : { ...to, ...tls }) : raw!;
    const client = new Client(socket, options);
    await new Promise<void>((resolve, reject) => {
      socket.once(options.tls === undefined ? 'connect' : 'secureConnect', resolve);
      socket.once('error', reject);
    });
    return client;
  }

  /** Starts reading (for `paused` clients). */
  read(): void {
    this.socket.on('data', (chunk: Buffer) => this.#receive(chunk));
  }

  destroy(): void {
    this.socket.destroy();
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }

  // Sending

  sendRaw(bytes: Uint8Array | string): void {
    this.socket.write(typeof bytes === 'string' ? Buffer.from(bytes) : bytes);
  }

  /** The frame that `send` would write. */
  frame(cmd: number, body?: Body, options: SendOptions = {}): Buffer {
    const plain = bytesOf(body);
    const isEncrypt = options.encrypt ?? this.encrypting;
    let data = plain;
    if (isEncrypt && plain.length > 0) {
      assert.ok(this.aesKey, 'negotiate first');
      data = aesEncrypt(this.aesKey, plain);
    }
    return encodeFrame({ cmd, msgId: options.msgId ?? '', isEncrypt, data });
  }

  send(cmd: number, body?: Body, options: SendOptions = {}): void {
    this.sendRaw(this.frame(cmd, body, options));
  }

  /** Sends under a fresh msgId and gives the next frame that carries it, whatever its cmd. */
  async request(cmd: number, body?: Body, options: SendOptions = {}): Promise<Frame> {
    const msgId = options.msgId ?? unique(`r${cmd}`);
    this.send(cmd, body, { ...options, msgId });
    return this.reply(msgId, options.timeoutMs);
  }

  // Waiting

  /** Waits until `probe` gives something; fails when the connection closes or the time is up. */
  until<T>(probe: () => T | undefined, what: string, timeoutMs = defaultTimeoutMs): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const timer = setTimeout(() => done(() => reject(this.#error(`no ${what} within ${timeoutMs} ms`))), timeoutMs);
      const check = () => {
        const found = probe();
        if (found !== undefined) return done(() => resolve(found));
        if (this.#failure !== undefined) return done(() => reject(this.#failure));
        if (this.closed !== undefined) {
          const { how, error } = this.closed;
          done(() => reject(this.#error(`closed (${how}${error === undefined ? '' : ` ${error}`}), no ${what}`)));
        }
      };
      const done = (settle: () => void) => {
        clearTimeout(timer);
        this.#probes.delete(check);
        settle();
      };
      this.#probes.add(check);
      check();
    });
  }

  /** The first frame not yet taken that matches. */
  take(match: (frame: Frame) => boolean, what: string, timeoutMs = defaultTimeoutMs): Promise<Frame> {
    return this.until(
      () => {
        const found = this.frames.find((frame) => !frame.taken && match(frame));
        if (found !== undefined) found.taken = true;
        return found;
      },
      what,
      timeoutMs,
    );
  }

  takeCmd(cmd: number, timeoutMs?: number): Promise<Frame> {
    return this.take((frame) => frame.cmd === cmd, `frame with cmd ${cmd}`, timeoutMs);
  }

  reply(msgId: string, timeoutMs?: number): Promise<Frame> {
    return this.take((frame) => frame.msgId === msgId, `answer to ${JSON.stringify(msgId)}`, timeoutMs);
  }

  /** The first `count` messages pushed on this connection, redeliveries included. */
  async received(count: number, timeoutMs?: number): Promise<Pushed[]> {
    await this.until(() => (this.messages.length >= count ? true : undefined), `${count} messages pushed`, timeoutMs);
    const found = this.messages.slice(0, count);
    for (const { frame } of found) frame.taken = true;
    return found;
  }

  /** The first push of this msgid on this connection. */
  async message(msgid: string, timeoutMs?: number): Promise<Pushed> {
    const find = () => this.messages.find((message) => message.msgid === msgid);
    const found = await this.until(find, `push of ${JSON.stringify(msgid)}`, timeoutMs);
    found.frame.taken = true;
    return found;
  }

  /** How often this msgid was pushed on this connection. */
  count(msgid: string): number {
    return this.messages.filter((message) => message.msgid === msgid).length;
  }

  waitClosed(timeoutMs = defaultTimeoutMs): Promise<Closed> {
    return this.until(() => this.closed, 'close', timeoutMs);
  }

  /** A heartbeat's round trip: whatever the server sent before it has arrived after. */
  async fence(): Promise<void> {
    const answer = await this.request(0, undefined, { encrypt: false });
    assert.equal(answer.cmd, 0, `a heartbeat was answered by ${answer}`);
  }

  /**
   * All frames that nobody has waited for, up to the end of a bounded time, as texts (to compare with []).
   * Heartbeats do not count.
   */
  async quiet(ms = 200): Promise<string[]> {
    await this.fence();
    await new Promise((resolve) => setTimeout(resolve, ms));
    await this.fence();
    const unexpected = this.frames.filter((frame) => !frame.taken && frame.cmd !== 0);
    for (const frame of unexpected) frame.taken = true;
    return unexpected.map(String);
  }

  // Correct use

  async awaitKey(): Promise<Frame> {
    const frame = await this.takeCmd(1);
    this.serverKey = createPublicKey({ key: frame.data, format: 'der', type: 'spki' });
    return frame;
  }

  async negotiate(keyBytes = 16): Promise<Frame> {
    if (this.serverKey === undefined) await this.awaitKey();
    assert.ok(this.serverKey);
    const key = randomBytes(keyBytes);
    const answer = await this.request(2, rsaEncrypt(this.serverKey, key), { encrypt: false });
    if (answer.code === 100) {
      this.aesKey = key;
      this.encrypting = true;
    }
    return answer;
  }

  register(username: string, password: string, options: SendOptions = {}): Promise<Frame> {
    return this.request(102, { username, password }, { timeoutMs: hashTimeoutMs, ...options });
  }

  async login(
    username: string,
    password: string,
    extra: Record<string, unknown> = {},
    options: SendOptions = {},
  ): Promise<Frame> {
    const body = { version: '1.0', username, password, ...extra };
    const answer = await this.request(100, body, { timeoutMs: hashTimeoutMs, ...options });
    if (answer.code === 100) this.name = username;
    return answer;
  }

  async auth(id: string, extra: Record<string, unknown> = {}, options: SendOptions = {}): Promise<Frame> {
    const body = { version: '1.0', id, abilities: ['switch'], ...extra };
    const answer = await this.request(101, body, { timeoutMs: hashTimeoutMs, ...options });
    if (answer.code === 100) this.name = id;
    return answer;
  }

  /** Sends a message and waits for what comes back under its msgId. */
  say(to: string, msg: unknown, options: SendOptions & { readonly extra?: object } = {}): Promise<Frame> {
    return this.request(200, { to, msg, ...options.extra }, options);
  }

  /** Sends a message without waiting; gives its msgId. */
  post(to: string, msg: unknown, options: SendOptions & { readonly extra?: object } = {}): string {
    const msgId = options.msgId ?? unique('m');
    this.send(200, { to, msg, ...options.extra }, { ...options, msgId });
    return msgId;
  }

  ack(msgids: readonly string[], options: SendOptions = {}): void {
    const body = msgids.map((msgid) => ({ msgid }));
    this.send(201, body, options);
  }

  fetch(options: SendOptions = {}): void {
    this.send(202, undefined, options);
  }

  bind(deviceId: string): Promise<Frame> {
    return this.request(203, { deviceId });
  }

  unbind(deviceId: string): Promise<Frame> {
    return this.request(204, { deviceId });
  }

  async logout(): Promise<Closed> {
    this.send(104);
    return this.waitClosed();
  }

  #receive(chunk: Buffer): void {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    try {
      while (this.#rest.length >= 4) {
        const length = this.#rest.readUInt32BE();
        assert.ok(length <= 1024 * 1024, `the server sent a frame of ${length} bytes`);
        if (this.#rest.length < 4 + length) break;
        const body = this.#rest.subarray(4, 4 + length);
        this.#rest = this.#rest.subarray(4 + length);
        this.#take(new Frame(body, this.aesKey));
      }
    } catch (error) {
      this.#failure = error as Error;
    }
    this.#wake();
  }

  #take(frame: Frame): void {
    if (this.#options.forget !== true) this.frames.push(frame);
    this.#options.onFrame?.(frame, this);
    if (frame.cmd !== 201) return;
    const messages = frame.json as Message[];
    // Before login an ack is answered by a code under the same cmd.
    if (!Array.isArray(messages)) return;
    for (const message of messages) {
      if (this.#options.forget !== true) this.messages.push({ ...message, frame });
      this.#options.onPush?.(message, this);
    }
    if (this.autoAck) this.ack(messages.map((message) => message.msgid));
  }

  #close(how: Closed['how'], error: string | undefined): void {
    this.closed ??= { how, error, at: performance.now() };
    this.#wake();
  }

  #wake(): void {
    for (const probe of [...this.#probes]) probe();
  }

  #error(reason: string): Error {
    const lines = this.frames.slice(-12).map((frame) => `\n  ${frame}`);
    return new Error(`${reason}; the last of ${this.frames.length} frames received:${lines.join('')}`);
  }
}
