/** The JSON bodies of the commands: reading them with every check, and writing those that the server sends. */

import { type Code, code } from './code.ts';
import { type Refusal, type RefusalName, refusals } from './codes.ts';
import { FieldSet, NOT_FOUND, skipSpace, stringValue } from './json.ts';
import { wireLimits } from './limits.ts';
import { isWithin } from './names.ts';
import { decodeText, encodeText, writeText } from './text.ts';

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const CLOSING_BRACE = 0x7d;

/** Why a body was refused; `refusal.msg` says which field. */
export class Fault {
  readonly name: RefusalName;
  readonly refusal: Refusal;

  constructor(name: RefusalName, msg: string = refusals[name].msg) {
    this.name = name;
    this.refusal = { ...refusals[name], msg };
  }
}

const NOT_JSON = new Fault('notJson');
const BAD_ACK = new Fault('badAck');

export interface LoginBody {
  readonly username: string;
  readonly password: string;
  /** The client can be told that a message was refused for now (extension `nack`). */
  readonly nack: boolean;
}

export interface RegisterBody {
  readonly username: string;
  readonly password: string;
}

export interface AuthenticateBody {
  readonly id: string;
  /** What the device says of itself, as JSON text; `undefined` when it says nothing. */
  readonly version: string | undefined;
  readonly abilities: string | undefined;
  readonly nack: boolean;
  /** What only this device knows, and the pairing code that it gives itself (extensions). */
  readonly secret: string | undefined;
  readonly code: string | undefined;
}

export interface DeviceBody {
  readonly deviceId: string;
}

export interface AddDeviceBody extends DeviceBody {
  /** The pairing code that the person was given (extension). Any text: what is no code is a wrong one. */
  readonly code: string | undefined;
}

export interface DevicesBody {
  /** The id behind which the page begins; `undefined` for the first page. */
  readonly after: string | undefined;
}

export interface MessageBody {
  to: string;
  /** The value of `msg` as JSON text: a view into the data. */
  readonly msg: Uint8Array;
  /** Seconds; 0 when the message has none. */
  readonly ttl: number;
}

/** One field set and the data it was last filled from: reads the fields of one body. */
class Fields {
  readonly #set: FieldSet;
  #data: Uint8Array = new Uint8Array(0);

  constructor(...names: string[]) {
    this.#set = new FieldSet(names);
  }

  read(data: Uint8Array): Fault | undefined {
    this.#data = data;
    const end = this.#set.find(data, skipSpace(data, 0));
    return end >= 0 && skipSpace(data, end) === data.length ? undefined : NOT_JSON;
  }

  from(field: number): number {
    return this.#set.spans[2 * field]!;
  }

  to(field: number): number {
    return this.#set.spans[2 * field + 1]!;
  }

  string(field: number): string | Fault {
    const from = this.from(field);
    if (from === NOT_FOUND) return this.fault(field, 'is missing');
    return stringValue(this.#data, from, this.to(field)) ?? this.fault(field, 'must be a string');
  }

  /** The JSON text of an optional field; `undefined` when it is absent or null. */
  optional(field: number): string | undefined {
    const from = this.from(field);
    if (from === NOT_FOUND) return undefined;
    const text = decodeText(this.#data, from, this.to(field));
    return text === 'null' ? undefined : text;
  }

  /** An optional text; `undefined` when it is absent or null. */
  optionalString(field: number): string | undefined | Fault {
    return this.optional(field) === undefined ? undefined : this.string(field);
  }

  flag(field: number): boolean | Fault {
    const text = this.optional(field);
    if (text === undefined || text === 'false') return false;
    return text === 'true' ? true : this.fault(field, 'must be true or false');
  }

  fault(field: number, what: string): Fault {
    return new Fault('badBody', `"${this.#set.names[field]}" ${what}`);
  }
}

const loginFields = new Fields('username', 'password', 'nack', 'version');

/** cmd 100 */
export function readLogin(data: Uint8Array): LoginBody | Fault {
  const credentials = readCredentials(loginFields, data);
  if (credentials instanceof Fault) return credentials;
  const nack = loginFields.flag(2);
  if (nack instanceof Fault) return nack;
  const version = readVersion(loginFields, 3);
  if (version instanceof Fault) return version;
  return { username: credentials.username, password: credentials.password, nack };
}

const registerFields = new Fields('username', 'password');

/** cmd 102 */
export function readRegister(data: Uint8Array): RegisterBody | Fault {
  return readCredentials(registerFields, data);
}

function readCredentials(fields: Fields, data: Uint8Array): RegisterBody | Fault {
  const fault = fields.read(data);
  if (fault) return fault;
  const username = fields.string(0);
  if (username instanceof Fault) return username;
  const password = fields.string(1);
  if (password instanceof Fault) return password;
  return { username, password };
}

function readVersion(fields: Fields, field: number): string | undefined | Fault {
  const version = fields.optional(field);
  if (version !== undefined && !/^["\d-]/.test(version)) return fields.fault(field, 'must be a string or a number');
  return version;
}

const authenticateFields = new Fields('id', 'version', 'abilities', 'nack', 'secret', 'code');

/** cmd 101 */
export function readAuthenticate(data: Uint8Array): AuthenticateBody | Fault {
  const fields = authenticateFields;
  const fault = fields.read(data);
  if (fault) return fault;
  const id = fields.string(0);
  if (id instanceof Fault) return id;
  const version = readVersion(fields, 1);
  if (version instanceof Fault) return version;
  const abilities = fields.optional(2);
  if (abilities !== undefined && !abilities.startsWith('[')) return fields.fault(2, 'must be an array');
  const nack = fields.flag(3);
  if (nack instanceof Fault) return nack;
  const secret = readWithin(fields, 4, 1, wireLimits.secretBytesMax);
  if (secret instanceof Fault) return secret;
  const code = readWithin(fields, 5, wireLimits.codeBytesMin, wireLimits.codeBytesMax);
  if (code instanceof Fault) return code;
  return { id, version, abilities, nack, secret, code };
}

function readWithin(fields: Fields, field: number, bytesMin: number, bytesMax: number): string | undefined | Fault {
  const text = fields.optionalString(field);
  if (text === undefined || text instanceof Fault || isWithin(text, bytesMin, bytesMax)) return text;
  return fields.fault(field, `must have ${bytesMin} to ${bytesMax} bytes`);
}

const deviceFields = new Fields('deviceId');

/** cmd 204 */
export function readDevice(data: Uint8Array): DeviceBody | Fault {
  const fault = deviceFields.read(data);
  if (fault) return fault;
  const deviceId = deviceFields.string(0);
  return deviceId instanceof Fault ? deviceId : { deviceId };
}

const addDeviceFields = new Fields('deviceId', 'code');

/** cmd 203 */
export function readAddDevice(data: Uint8Array): AddDeviceBody | Fault {
  const fields = addDeviceFields;
  const fault = fields.read(data);
  if (fault) return fault;
  const deviceId = fields.string(0);
  if (deviceId instanceof Fault) return deviceId;
  const code = fields.optionalString(1);
  return code instanceof Fault ? code : { deviceId, code };
}

const devicesFields = new Fields('after');

/** cmd 205, whose data may be empty. */
export function readDevices(data: Uint8Array): DevicesBody | Fault {
  const fault = data.length === 0 ? undefined : devicesFields.read(data);
  if (fault) return fault;
  if (data.length === 0 || devicesFields.optional(0) === undefined) return { after: undefined };
  const after = devicesFields.string(0);
  return after instanceof Fault ? after : { after };
}

const messageFields = new Fields('to', 'msg', 'ttl');

/** cmd 200 */
export function readMessage(data: Uint8Array): MessageBody | Fault {
  const fields = messageFields;
  const fault = fields.read(data);
  if (fault) return fault;
  const to = fields.string(0);
  if (to instanceof Fault) return to;
  const from = fields.from(1);
  if (from === NOT_FOUND) return fields.fault(1, 'is missing');
  if (fields.to(1) - from > wireLimits.msgBytesMax) return new Fault('msgTooLarge');
  const ttl = fields.from(2) === NOT_FOUND ? 0 : readTtl(fields);
  if (ttl instanceof Fault) return ttl;
  return { to, msg: data.subarray(from, fields.to(1)), ttl };
}

function readTtl(fields: Fields): number | Fault {
  const text = fields.optional(2);
  if (text === undefined) return 0;
  const seconds = Number(text);
  const valid = Number.isInteger(seconds) && seconds >= 1 && seconds <= wireLimits.ttlSecondsMax;
  return valid ? seconds : fields.fault(2, `must be a whole number from 1 to ${wireLimits.ttlSecondsMax}`);
}

const ackFields = new FieldSet(['msgid']);

/** cmd 201 from a receiver: the ids that it acks. */
export function readAcks(data: Uint8Array): string[] | Fault {
  const ids: string[] = [];
  let at = skipSpace(data, 0);
  if (data[at] !== 0x5b) return BAD_ACK;
  at = skipSpace(data, at + 1);
  if (data[at] === 0x5d) return skipSpace(data, at + 1) === data.length ? ids : BAD_ACK;
  for (;;) {
    const end = plainAckEnd(data, at);
    if (end !== NOT_FOUND) {
      ids.push(decodeText(data, at + PLAIN_ACK.length, end) ?? '');
      at = end + PLAIN_ACK_REST;
    } else {
      // The array around the objects is a level too.
      at = ackFields.find(data, at, wireLimits.jsonDepthMax - 1);
      if (at < 0 || ackFields.spans[0] === NOT_FOUND) return BAD_ACK;
      const id = stringValue(data, ackFields.spans[0]!, ackFields.spans[1]!);
      if (id === undefined) return BAD_ACK;
      ids.push(id);
      at = skipSpace(data, at);
    }
    if (data[at] === 0x5d) return skipSpace(data, at + 1) === data.length ? ids : BAD_ACK;
    if (data[at] !== 0x2c) return BAD_ACK;
    at = skipSpace(data, at + 1);
  }
}

/** How nearly all clients write the ack of a message, up to its id; `"}` is behind. */
const PLAIN_ACK = encodeText('{"msgid":"');
const PLAIN_ACK_REST = 2;

/** Where the id ends, if at `at` is an ack as nearly all clients write it, with an id of plain ASCII. */
function plainAckEnd(data: Uint8Array, at: number): number {
  for (let i = 0; i < PLAIN_ACK.length; i++) if (data[at + i] !== PLAIN_ACK[i]) return NOT_FOUND;
  let end = at + PLAIN_ACK.length;
  while (isPlain(data[end])) end++;
  return data[end] === QUOTE && data[end + 1] === CLOSING_BRACE ? end : NOT_FOUND;
}

/** A character that stands for itself within a JSON string, and is one byte. Beyond the end there is none. */
function isPlain(unit: number | undefined): boolean {
  return unit !== undefined && unit >= 0x20 && unit < 0x7f && unit !== QUOTE && unit !== BACKSLASH;
}

/** The common answer `{"code":…,"msg":…}`. */
export function answerBody(answer: Code, msg: string): Uint8Array {
  return encodeText(JSON.stringify({ code: answer, msg }));
}

export const OK_BODY: Uint8Array = answerBody(code.ok, 'ok');

/** A refusal for now, for clients that asked to be told (extension `nack`). */
export function retryBody(refusal: Refusal): Uint8Array {
  return encodeText(JSON.stringify({ code: refusal.code, msg: refusal.msg, retry: true }));
}

const FIRST_ROOM_BYTES = 16 * 1024;
const ID_HEAD = encodeText(',"msgid":"');
/** Room for `,{"from":,"to":,"msg":,"msgid":,"ts":…}]`, and for the padding of a cipher behind it. */
const ELEMENT_OVERHEAD_BYTES = 96;

/**
 * Builds the array of a push (cmd 201) in a buffer that is used again and again: `begin`, `add` each message, `end`,
 * then take `bytes[0..length)`, behind which 16 bytes are free for padding.
 */
export class PushWriter {
  bytes: Uint8Array = new Uint8Array(FIRST_ROOM_BYTES);
  length = 0;

  begin(): void {
    this.length = 0;
  }

  /**
   * @param head `{"from":…,"to":…,"msg":` as text, from `pushHead`
   * @param msg the sender's JSON text, copied as it is
   * @param ts time of acceptance in ms since 1970 (extension `ts`); 0 leaves it out
   */
  add(head: string, msg: Uint8Array, msgId: string, ts: number): void {
    this.#reserve(ELEMENT_OVERHEAD_BYTES + (head.length + msgId.length * 6) * 3 + msg.length);
    const bytes = this.bytes;
    let at = this.length;
    bytes[at] = at === 0 ? 0x5b : 0x2c;
    at = writeText(bytes, at + 1, head);
    bytes.set(msg, at);
    at = this.#writeId(at + msg.length, msgId);
    if (ts === 0) bytes[at++] = CLOSING_BRACE;
    else at = writeText(bytes, at, `,"ts":${ts}}`);
    this.length = at;
  }

  /** `,"msgid":…`; returns the offset behind it. A plain id is written unit by unit: a call and a string would cost more. */
  #writeId(from: number, msgId: string): number {
    const bytes = this.bytes;
    let at = from;
    for (let i = 0; i < ID_HEAD.length; i++) bytes[at++] = ID_HEAD[i]!;
    for (let i = 0; i < msgId.length; i++) {
      const unit = msgId.charCodeAt(i);
      if (!isPlain(unit)) return writeText(bytes, from, `,"msgid":${JSON.stringify(msgId)}`);
      bytes[at++] = unit;
    }
    bytes[at++] = QUOTE;
    return at;
  }

  end(): void {
    this.#reserve(ELEMENT_OVERHEAD_BYTES);
    if (this.length === 0) this.bytes[this.length++] = 0x5b;
    this.bytes[this.length++] = 0x5d;
  }

  #reserve(more: number): void {
    if (this.length + more <= this.bytes.length) return;
    const larger = new Uint8Array(Math.max(this.length + more, this.bytes.length * 2));
    larger.set(this.bytes.subarray(0, this.length));
    this.bytes = larger;
  }
}

/** The part of a pushed message that is the same for all from one sender to one receiver. */
export function pushHead(from: string, to: string): string {
  return `{"from":${JSON.stringify(from)},"to":${JSON.stringify(to)},"msg":`;
}
