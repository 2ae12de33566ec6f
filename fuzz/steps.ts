/** What the clients of one sequence do, step by step: all of it can be written down, changed and taken away. */

import { cmd } from '@hawser/protocol';
import type { Random } from '../sim/random.ts';
import { anyObject, anyValue, objectOf } from './json-grammar.ts';

/** A frame as it is to be sent. */
export interface FrameStep {
  readonly cmd: number;
  readonly id: string;
  /** Its data: text, or bytes in hexadecimal; none when both are missing. */
  readonly text?: string;
  readonly hex?: string;
  /** Data under the key of the connection; where there is none, it only says so. */
  readonly secret?: boolean;
}

/** `on` is the number of the connection. What cannot be done, as on a connection that is none, is left out. */
export type Step =
  | { readonly do: 'connect'; readonly on: number; readonly isPlain?: boolean }
  /** A key under the server's (cmd 2). */
  | { readonly do: 'key'; readonly on: number; readonly id: string }
  /** Several frames in one piece, or in two that are parted behind so many bytes. */
  | { readonly do: 'send'; readonly on: number; readonly frames: readonly FrameStep[]; readonly split?: number }
  | { readonly do: 'raw'; readonly on: number; readonly hex: string }
  /** Ends its side; the connection breaks; it reads no more; it reads again. */
  | { readonly do: 'end' | 'gone' | 'stall' | 'read'; readonly on: number }
  /** Lets time pass; 0 is until nothing more happens by itself. */
  | { readonly do: 'pass'; readonly ms: number };

const CONNECTIONS = 4;
const STEPS_MAX = 60;

/** Users with their passwords, who are registered from the start. */
export const USERS = { u1: 'a1', u2: 'b2' } as const;
/** Honest users, whose password nobody else knows. */
export const HONEST = ['ann', 'bea'] as const;

const USER_NAMES = ['u1', 'u1', 'u2', 'u2', 'u3', 'ann', 'd1', '__proto__', ''];
const DEVICE_NAMES = ['d1', 'd1', 'd1', 'd2', 'd2', 'u1', 'ann', 'constructor', 'x'.repeat(129), 'a\nb', 'é'];
const NAMES = ['u1', 'u2', 'd1', 'd2', 'ann', 'nobody', ''];
const PASSWORDS = ['a1', 'A1', '0a1', 'b2', 'x', ''];
const IDS = ['1', '2', '3', '3', '4', '5', '6', '', 'x'.repeat(128), 'x'.repeat(129), 'é'.repeat(64), '__proto__'];
const CMDS = [...Object.values(cmd), -1, 4, 99, 105, 199, 206, 2 ** 31 - 1, -(2 ** 31)];

export function createSteps(random: Random): Step[] {
  const steps: Step[] = [];
  for (let left = 1 + random.below(4); left > 0; left--) begin(steps, random, random.below(CONNECTIONS));
  const count = 4 + random.below(30);
  while (steps.length < count) steps.push(...anySteps(random));
  return steps.slice(0, STEPS_MAX);
}

/** A connection that comes as far as to be somebody, mostly. */
function begin(steps: Step[], random: Random, on: number): void {
  const isPlain = random.chance(0.15);
  steps.push({ do: 'connect', on, ...(isPlain && { isPlain }) });
  if (random.chance(0.4)) steps.push({ do: 'key', on, id: random.pick(IDS) });
  const secret = random.chance(0.4);
  const frame = random.chance(0.5) ? loginFrame(random) : authenticateFrame(random);
  steps.push({ do: 'send', on, frames: [{ ...frame, ...(secret && { secret }) }] });
  if (random.chance(0.7)) steps.push({ do: 'pass', ms: 0 });
}

function anySteps(random: Random): Step[] {
  const on = random.below(CONNECTIONS);
  const steps: Step[] = [];
  switch (random.weighted(WEIGHTS)) {
    case 'begin':
      begin(steps, random, on);
      break;
    case 'send':
      steps.push(anySend(random, on));
      break;
    case 'key':
      steps.push({ do: 'key', on, id: random.pick(IDS) });
      break;
    case 'raw':
      steps.push({ do: 'raw', on, hex: random.pick(RAW) });
      break;
    case 'end':
      steps.push({ do: random.pick(['end', 'end', 'gone', 'stall', 'read']), on });
      break;
    case 'pass':
      steps.push({ do: 'pass', ms: random.pick([0, 0, 0, 1, 10, 30, 300, 1_500, 6_000, 61_000, 151_000]) });
      break;
  }
  return steps;
}

const WEIGHTS = { begin: 2, send: 12, key: 0.5, raw: 0.7, end: 1.2, pass: 4 };

/** The first bytes of an HTTP request and of a TLS hello; lengths; a frame that is begun; groups; half a varint. */
const RAW = [
  '474554202f20485454502f312e310d0a',
  '16030100c8010000c40303',
  '00000000',
  '00100001',
  '00004001',
  'ffffffff',
  '00000a',
  '00000010aabb',
  '000000020b0c',
  '0000000208ff',
  '0000000310e0a0',
  '000000021800',
];

function anySend(random: Random, on: number): Step {
  const frames = Array.from({ length: random.chance(0.6) ? 1 : 1 + random.below(5) }, () => anyFrame(random));
  return { do: 'send', on, frames, ...(random.chance(0.3) && { split: random.below(60) }) };
}

function anyFrame(random: Random): FrameStep {
  const frame = wellFormed(random);
  const secret = random.chance(0.25);
  const spoiled = random.chance(0.9) ? frame : spoil(frame, random);
  return { ...spoiled, ...(secret && { secret }) };
}

function wellFormed(random: Random): FrameStep {
  const id = random.pick(IDS);
  switch (random.weighted(FRAMES)) {
    case 'message':
      return {
        cmd: cmd.message,
        id,
        text: bodyOf(
          [
            ['to', quoted(NAMES, random)],
            ['msg', anyValue(random, 2)],
          ],
          random,
        ),
      };
    case 'ttl':
      return {
        cmd: cmd.message,
        id,
        text: bodyOf(
          [
            ['to', quoted(NAMES, random)],
            ['msg', '1'],
            ['ttl', random.pick(['1', '2', '60', '0'])],
          ],
          random,
        ),
      };
    case 'ack': {
      const acks = Array.from({ length: random.below(4) }, () => `{"msgid":${quoted(IDS, random)}}`);
      return { cmd: cmd.push, id: '', text: `[${acks.join(',')}]` };
    }
    case 'fetch':
      return { cmd: cmd.fetch, id: '' };
    case 'device':
      return {
        cmd: random.pick([cmd.addDevice, cmd.addDevice, cmd.removeDevice]),
        id,
        text: bodyOf([['deviceId', quoted(DEVICE_NAMES, random)]], random),
      };
    case 'devices':
      return { cmd: cmd.devices, id, ...(random.chance(0.5) && { text: '{"after":"d1"}' }) };
    case 'login':
      return random.chance(0.5) ? loginFrame(random) : authenticateFrame(random);
    case 'register': {
      const members: [string, string][] = [
        ['username', quoted(USER_NAMES, random)],
        ['password', quoted(PASSWORDS, random)],
      ];
      return { cmd: cmd.register, id, text: bodyOf(members, random) };
    }
    case 'logout':
      return { cmd: cmd.logout, id };
    default:
      return { cmd: cmd.heartbeat, id };
  }
}

const FRAMES = {
  message: 8,
  ttl: 1,
  ack: 4,
  fetch: 1.5,
  device: 3,
  devices: 1,
  login: 1.5,
  register: 1,
  logout: 0.4,
  beat: 1,
};

function loginFrame(random: Random): FrameStep {
  const username = random.pick(USER_NAMES);
  const right = username === 'u1' || username === 'u2' ? USERS[username] : 'x';
  const password = random.chance(0.85) ? right : random.pick(PASSWORDS);
  const members: [string, string][] = [
    ['username', JSON.stringify(username)],
    ['password', JSON.stringify(password)],
  ];
  if (random.chance(0.4)) members.push(['nack', 'true']);
  return { cmd: cmd.login, id: random.pick(IDS), text: bodyOf(members, random) };
}

function authenticateFrame(random: Random): FrameStep {
  const members: [string, string][] = [['id', quoted(DEVICE_NAMES, random)]];
  if (random.chance(0.3)) members.push(['nack', 'true']);
  if (random.chance(0.3)) members.push(['version', '"1"'], ['abilities', '["a",{"b":[]}]']);
  return { cmd: cmd.authenticate, id: random.pick(IDS), text: bodyOf(members, random) };
}

function quoted(texts: readonly string[], random: Random): string {
  return JSON.stringify(random.pick(texts));
}

function bodyOf(members: readonly (readonly [string, string])[], random: Random): string {
  return random.chance(0.85)
    ? `{${members.map(([key, value]) => `${JSON.stringify(key)}:${value}`).join(',')}}`
    : objectOf([...members, ['x', anyValue(random, 2)]], random);
}

function spoil(frame: FrameStep, random: Random): FrameStep {
  const { text, ...rest } = frame;
  switch (random.below(5)) {
    case 0:
      return { ...frame, cmd: random.pick(CMDS) };
    case 1:
      return rest;
    case 2:
      return { ...frame, text: anyObject(random, 3) };
    case 3:
      return { ...rest, hex: random.pick(['ff', '00', '7b', '5b7b', '22c3', 'efbbbf7b7d', '0'.repeat(64)]) };
    default:
      return { ...frame, text: changed(text ?? '{}', random) };
  }
}

/** The text with some of it gone, doubled or replaced. */
function changed(text: string, random: Random): string {
  const at = random.below(text.length + 1);
  const to = Math.min(text.length, at + random.below(6));
  const put = random.pick(['', '', text.slice(at, to).repeat(2), '"', '}', ']', ',', 'null', '\\', '\ud83d', '\u0000']);
  return text.slice(0, at) + put + text.slice(to);
}

export function mutateSteps(input: readonly Step[], other: readonly Step[], random: Random): Step[] {
  const steps = [...input];
  for (let left = 1 + random.below(4); left > 0; left--) {
    const at = random.below(steps.length + 1);
    const step = steps[at];
    switch (random.below(6)) {
      case 0:
        steps.splice(at, 1 + random.below(3));
        break;
      case 1:
        steps.splice(at, 0, ...anySteps(random));
        break;
      case 2: {
        const from = random.below(other.length + 1);
        steps.splice(at, 0, ...other.slice(from, from + 1 + random.below(8)));
        break;
      }
      case 3:
        if (step !== undefined) steps.splice(random.below(steps.length + 1), 0, step);
        break;
      case 4:
        if (step !== undefined && step.do !== 'pass') steps[at] = { ...step, on: random.below(CONNECTIONS) };
        break;
      default:
        if (step?.do === 'send') {
          const frames = [...step.frames];
          const i = random.below(frames.length);
          const frame = frames[i];
          if (frame !== undefined) frames[i] = spoil(frame, random);
          if (random.chance(0.3)) frames.push(anyFrame(random));
          steps[at] = { ...step, frames };
        }
    }
  }
  return steps.slice(0, STEPS_MAX);
}

/** Fewer steps first, then fewer frames in one. */
export function* smallerSteps(input: readonly Step[]): Generator<Step[]> {
  for (let piece = input.length; piece > 0; piece = Math.floor(piece / 2)) {
    for (let at = 0; at + piece <= input.length; at += Math.max(1, Math.floor(piece / 2))) {
      yield [...input.slice(0, at), ...input.slice(at + piece)];
    }
  }
  for (const [i, step] of input.entries()) {
    if (step.do !== 'send') continue;
    if (step.split !== undefined) yield input.with(i, { do: 'send', on: step.on, frames: step.frames });
    if (step.frames.length < 2) continue;
    for (let k = 0; k < step.frames.length; k++) yield input.with(i, { ...step, frames: step.frames.toSpliced(k, 1) });
  }
}
