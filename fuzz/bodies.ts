import {
  type AddDeviceBody,
  type AuthenticateBody,
  type DeviceBody,
  type DevicesBody,
  type DevicesPage,
  Fault,
  isJson,
  type LoginBody,
  type RefusalName,
  type RegisterBody,
  readAcks,
  readAddDevice,
  readAuthenticate,
  readDevice,
  readDevices,
  readDevicesPage,
  readLogin,
  readMessage,
  readPush,
  readRegister,
  wireLimits,
} from '@hawser/protocol';
import type { Random } from '../sim/random.ts';
import { Mutator, readBytes, smallerBytes, writeBytes } from './bytes.ts';
import { anyValue, bytesOf, JSON_WORDS, objectOf, space } from './json-grammar.ts';
import { hasSafeKeys, type Json, parseStrictly, textOf } from './json-model.ts';
import { expect, type Target } from './target.ts';

const BODY_BYTES_MAX = 16 * 1024;

/** A refusal by name, or what was read. */
type Reading = RefusalName | object | undefined;

/** A body as the model has it: the text, and the object that it is. */
interface Body {
  readonly text: string;
  readonly members: ReadonlyMap<string, Json>;
}

/** The text of a member; `undefined` when it is absent. */
function raw({ text, members }: Body, name: string): string | undefined {
  const value = members.get(name);
  return value && text.slice(value.from, value.to);
}

/** What a string member says; `undefined` when it is absent or no string. */
function string(body: Body, name: string): string | undefined {
  return body.members.get(name)?.kind === 'string' ? (JSON.parse(raw(body, name) ?? '') as string) : undefined;
}

/** The text of a member that may be left out, or null. */
function optional(body: Body, name: string): string | undefined {
  const text = raw(body, name);
  return text === 'null' ? undefined : text;
}

function flag(body: Body, name: string): boolean | undefined {
  const text = optional(body, name) ?? 'false';
  return text === 'true' || text === 'false' ? text === 'true' : undefined;
}

function isVersion(body: Body): boolean {
  const kind = body.members.get('version')?.kind;
  return optional(body, 'version') === undefined || kind === 'string' || kind === 'number';
}

function login(body: Body): Reading {
  const [username, password, nack] = [string(body, 'username'), string(body, 'password'), flag(body, 'nack')];
  if (username === undefined || password === undefined || nack === undefined || !isVersion(body)) return 'badBody';
  return { username, password, nack } satisfies LoginBody;
}

function register(body: Body): Reading {
  const [username, password] = [string(body, 'username'), string(body, 'password')];
  if (username === undefined || password === undefined) return 'badBody';
  return { username, password } satisfies RegisterBody;
}

function authenticate(body: Body): Reading {
  const [id, nack] = [string(body, 'id'), flag(body, 'nack')];
  const abilities = optional(body, 'abilities');
  const isArray = abilities === undefined || body.members.get('abilities')?.kind === 'array';
  if (id === undefined || nack === undefined || !isVersion(body) || !isArray) return 'badBody';
  const [secret, code] = [optionalString(body, 'secret'), optionalString(body, 'code')];
  const { secretBytesMax, codeBytesMin, codeBytesMax } = wireLimits;
  if (!isWithin(secret, 1, secretBytesMax) || !isWithin(code, codeBytesMin, codeBytesMax)) return 'badBody';
  return { id, version: optional(body, 'version'), abilities, nack, secret, code } satisfies AuthenticateBody;
}

/** `null` for what is there and no string. */
function optionalString(body: Body, name: string): string | undefined | null {
  return optional(body, name) === undefined ? undefined : (string(body, name) ?? null);
}

function isWithin(text: string | undefined | null, bytesMin: number, bytesMax: number): text is string | undefined {
  const bytes = Buffer.byteLength(text ?? '');
  return text === undefined || (text !== null && bytes >= bytesMin && bytes <= bytesMax);
}

function addDevice(body: Body): Reading {
  const [deviceId, code] = [string(body, 'deviceId'), optionalString(body, 'code')];
  return deviceId === undefined || code === null ? 'badBody' : ({ deviceId, code } satisfies AddDeviceBody);
}

function device(body: Body): Reading {
  const deviceId = string(body, 'deviceId');
  return deviceId === undefined ? 'badBody' : ({ deviceId } satisfies DeviceBody);
}

function devices(body: Body): Reading {
  if (optional(body, 'after') === undefined) return { after: undefined } satisfies DevicesBody;
  const after = string(body, 'after');
  return after === undefined ? 'badBody' : ({ after } satisfies DevicesBody);
}

function message(body: Body): Reading {
  const [to, msg, ttl] = [string(body, 'to'), raw(body, 'msg'), optional(body, 'ttl')];
  if (to === undefined || msg === undefined) return 'badBody';
  const isNumber = ttl === undefined || body.members.get('ttl')?.kind === 'number';
  const seconds = ttl === undefined ? 1 : Number(ttl);
  if (!isNumber || !Number.isInteger(seconds) || seconds < 1 || seconds > wireLimits.ttlSecondsMax) return 'badBody';
  return { to, msg, ttl: ttl === undefined ? 0 : seconds };
}

/** Of each command whose body is an object: the reader, and the model of it. */
const readers: readonly (readonly [string, (data: Uint8Array) => object, (body: Body) => Reading])[] = [
  ['100 login', readLogin, login],
  ['101 device auth', readAuthenticate, authenticate],
  ['102 register', readRegister, register],
  ['200 message', readMessageText, message],
  ['203 add device', readAddDevice, addDevice],
  ['204 remove device', readDevice, device],
  ['205 devices', readDevices, devices],
];

/** `msg` as text, which is how the model has it. */
function readMessageText(data: Uint8Array): object {
  const body = readMessage(data);
  return body instanceof Fault ? body : { ...body, msg: textOf(body.msg) };
}

function acks(text: string, value: Json): Reading {
  if (value.kind !== 'array') return 'badAck';
  const ids: string[] = [];
  for (const { kind, members } of value.elements) {
    const id = kind === 'object' ? string({ text, members }, 'msgid') : undefined;
    if (id === undefined) return 'badAck';
    ids.push(id);
  }
  return ids;
}

function push(text: string, value: Json): Reading {
  if (value.kind !== 'array') return undefined;
  const messages: object[] = [];
  for (const { kind, members } of value.elements) {
    if (kind !== 'object') return undefined;
    const body = { text, members };
    const [from, to, msg, msgId] = [string(body, 'from'), string(body, 'to'), raw(body, 'msg'), string(body, 'msgid')];
    if (from === undefined || to === undefined || msg === undefined || msgId === undefined) return undefined;
    messages.push({ from, to, msgId, msg, ts: Number(raw(body, 'ts') ?? 0) || 0 });
  }
  return messages;
}

function readPushText(data: Uint8Array): object[] | undefined {
  return readPush(data)?.map((each) => ({ ...each, msg: textOf(each.msg) }));
}

/** The bodies of all commands, in both directions, beside a plain model and JSON.parse. */
export class BodiesTarget implements Target<Uint8Array> {
  readonly name = 'bodies';
  readonly about = 'the JSON of every command, beside JSON.parse and a plain model of the rules';
  readonly guidedBy = /protocol\/src\/(?:json|bodies|push|devices|text)\.ts$/;
  readonly lookEvery = 500;
  readonly counts = { json: 0, read: 0 };
  readonly #mutator = new Mutator(BODY_BYTES_MAX, JSON_WORDS);

  create(random: Random): Uint8Array {
    const members = random.pick(BODIES).map((name): [string, string] => [name, valueFor(name, random)]);
    while (random.chance(0.25)) members.splice(random.below(members.length + 1), random.below(2), anyMember(random));
    const text = random.chance(0.1)
      ? anyValue(random, 4)
      : random.chance(0.7)
        ? objectOf(members, random)
        : `[${Array.from({ length: random.below(4) }, () => space(random) + objectOf(members, random)).join(',')}]`;
    return bytesOf(space(random) + text + space(random), random);
  }

  mutate(input: Uint8Array, other: Uint8Array, random: Random): Uint8Array {
    return this.#mutator.mutate(input, other, random);
  }

  keep(input: Uint8Array): Uint8Array {
    return input.slice();
  }

  check(input: Uint8Array): void {
    const text = textOf(input);
    const value = text === undefined ? undefined : parseStrictly(text);
    expectJson(input, text, value);
    const body = text !== undefined && value?.kind === 'object' ? { text, members: value.members } : undefined;
    for (const [name, reader, model] of readers) {
      const isEmptyList = reader === readDevices && input.length === 0;
      const ours = reader(input);
      expectSame(name, ours, body !== undefined ? model(body) : isEmptyList ? { after: undefined } : 'notJson');
      if (!(ours instanceof Fault)) this.counts.read++;
    }
    expectSame('201 acks', readAcks(input), text === undefined || value === undefined ? 'badAck' : acks(text, value));
    // A push may be one deeper than what was sent: there is an array around it.
    const pushed = text === undefined ? undefined : parseStrictly(text, wireLimits.jsonDepthMax + 1);
    const model = text === undefined || pushed === undefined ? undefined : push(text, pushed);
    expectSame('201 push', readPushText(input), model);
    if (value !== undefined) this.counts.json++;
    expectPage(readDevicesPage(input));
  }

  *smaller(input: Uint8Array): Iterable<Uint8Array> {
    yield* smallerBytes(input);
  }

  write(input: Uint8Array): string {
    return writeBytes(input);
  }

  read(text: string): Uint8Array {
    return readBytes(text);
  }
}

function expectJson(input: Uint8Array, text: string | undefined, value: Json | undefined): void {
  expect(isJson(input) === (value !== undefined), () => `isJson says ${value === undefined}, the model does not`);
  if (text === undefined || value === undefined) return;
  // The model is not stricter than it says: JSON.parse reads what it reads, and finds as many members.
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    expect(false, () => 'JSON.parse refuses what is read');
  }
  if (!hasSafeKeys(text)) return;
  const [theirs, ours] = [membersIn(parsed), membersOf(value)];
  expect(theirs === ours, () => `JSON.parse finds ${theirs} members, not ${ours}: ${JSON.stringify(parsed)}`);
}

function membersIn(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0;
  const inner = Object.values(value).reduce((sum: number, each) => sum + membersIn(each), 0);
  return inner + (Array.isArray(value) ? 0 : Object.keys(value).length);
}

function membersOf({ members, elements }: Json): number {
  let sum = members.size;
  for (const each of members.values()) sum += membersOf(each);
  for (const each of elements) sum += membersOf(each);
  return sum;
}

function expectSame(name: string, ours: object | undefined, model: Reading): void {
  const mine = ours instanceof Fault ? ours.name : ours;
  const [a, b] = [written(mine), written(model)];
  expect(a === b, () => `cmd ${name} is read as ${a}, by the model as ${b}`);
}

/** With its members in one order, and lone surrogates told apart. */
function written(value: Reading): string {
  return JSON.stringify(value, (_, each: unknown) =>
    typeof each === 'object' && each !== null && !Array.isArray(each)
      ? Object.fromEntries(Object.entries(each).sort(([a], [b]) => (a < b ? -1 : 1)))
      : each,
  );
}

function expectPage(page: DevicesPage | undefined): void {
  for (const { deviceId, online, lastSeen } of page?.devices ?? []) {
    const isRight =
      typeof deviceId === 'string' && typeof lastSeen === 'number' && ['boolean', 'undefined'].includes(typeof online);
    expect(isRight, () => 'a device of a page with fields of a wrong type');
  }
}

const BODIES = [
  ['version', 'username', 'password', 'nack'],
  ['username', 'password'],
  ['version', 'id', 'abilities', 'nack'],
  ['to', 'msg'],
  ['to', 'msg', 'ttl'],
  ['deviceId'],
  ['after'],
  ['msgid'],
  ['from', 'to', 'msg', 'msgid'],
  ['from', 'to', 'msg', 'msgid', 'ts'],
  ['code', 'msg', 'devices', 'next'],
] as const;

const NAMES = [...new Set(BODIES.flat())];

function anyMember(random: Random): [string, string] {
  const name = random.chance(0.5) ? random.pick(NAMES) : 'x';
  return [name, random.chance(0.5) ? valueFor(name, random) : anyValue(random, 3)];
}

function valueFor(name: string, random: Random): string {
  if (random.chance(0.06)) return anyValue(random, 2);
  switch (name) {
    case 'msg':
      return anyValue(random, 4);
    case 'nack':
      return random.pick(['true', 'false', 'null', '1']);
    case 'ttl':
      return random.pick(['1', '0', '60', '2592000', '2592001', '1.5', '1e2', '10e-1', 'null', '"1"', '-1', '1e400']);
    case 'ts':
      return random.pick(['0', '1790000000000', '-1', '1e400', 'null', '"5"', '1.5']);
    case 'version':
      return random.pick(['"1.0"', '2', '-1', 'null', 'true', '[]', '""']);
    case 'abilities':
      return random.pick(['[]', '["a"]', 'null', '{}', '"[]"', '[{"a":[]}]']);
    case 'devices':
      return random.pick(['[]', '[{"deviceId":"a"}]', '[{"deviceId":"a","online":true,"lastSeen":5}]', '[1]', '{}']);
    default:
      return random.pick(['"a"', '""', '"lamp-1"', '"\\u0061"', '"\\ud800"', '"\\u0000"', '"é"', '1', 'null']);
  }
}
