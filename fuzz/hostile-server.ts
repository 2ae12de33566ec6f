/** What a hostile server may write to a client, and what the program that uses the client does meanwhile. */

import { cmd } from '@hawser/protocol';
import type { Random } from '../sim/random.ts';
import { anyObject, anyValue, objectOf } from './json-grammar.ts';

/** A step of a hostile server, or of the program that uses the client. */
export type ServerStep =
  /** `id` beginning with `@` stands for the msgId of the client's last frame of that command. */
  | {
      readonly do: 'frame';
      readonly cmd: number;
      readonly id: string;
      readonly text?: string;
      readonly hex?: string;
      readonly secret?: boolean;
    }
  | { readonly do: 'raw'; readonly hex: string }
  /** So many messages of so many bytes each, in one push. */
  | { readonly do: 'flood'; readonly count: number; readonly bytes: number; readonly id: string }
  | { readonly do: 'call'; readonly what: Call }
  | { readonly do: 'close' }
  | { readonly do: 'pass'; readonly ms: number };

export interface Sequence {
  readonly role: 'app' | 'device';
  readonly hasKey: boolean;
  readonly steps: readonly ServerStep[];
}

const CALLS = ['send', 'send', 'send', 'add', 'remove', 'devices', 'listen', 'stop', 'register'] as const;
const STEPS_MAX = 50;
export type Call = (typeof CALLS)[number];
export const SERVER_KEY_BYTES = 8;

export function createSequence(random: Random): Sequence {
  const steps: ServerStep[] = [];
  if (random.chance(0.9)) steps.push(...greeting(random));
  const count = 3 + random.below(25);
  while (steps.length < count) steps.push(anyStep(random));
  return { role: random.chance(0.6) ? 'app' : 'device', hasKey: random.chance(0.4), steps };
}

export function mutateSequence(input: Sequence, other: Sequence, random: Random): Sequence {
  const steps = [...input.steps];
  for (let left = 1 + random.below(4); left > 0; left--) {
    const at = random.below(steps.length + 1);
    const from = random.below(other.steps.length + 1);
    if (random.chance(0.3)) steps.splice(at, 1 + random.below(2));
    else if (random.chance(0.5)) steps.splice(at, 0, anyStep(random));
    else steps.splice(at, 0, ...other.steps.slice(from, from + 1 + random.below(6)));
  }
  return { ...input, steps: steps.slice(0, STEPS_MAX) };
}

const OK = '{"code":100,"msg":"ok"}';
const ANSWERS = [
  OK,
  OK,
  '{"code":200,"msg":"no"}',
  '{"code":200,"msg":"later","retry":true}',
  '{"code":300,"msg":"who"}',
  '{"code":1002,"msg":"wrong"}',
  '{"code":2001,"msg":"there"}',
  '{"code":1e999}',
  '{"code":"100"}',
  '{"__proto__":{"code":100}}',
  '{"code":100,"msg":"ok","devices":[],"next":"a"}',
  '{"code":100,"msg":"ok","devices":[{"deviceId":"a","online":1,"lastSeen":"x"}],"next":"b"}',
  '{"code":100,"devices":[{"deviceId":1}]}',
  '{"code":100,"devices":{"length":3}}',
  'null',
  '[]',
  '',
  '{"code":100',
];

/** As far as being online, mostly. */
function greeting(random: Random): ServerStep[] {
  const steps: ServerStep[] = [{ do: 'frame', cmd: cmd.serverKey, id: '', hex: '00'.repeat(SERVER_KEY_BYTES) }];
  steps.push({ do: 'frame', cmd: cmd.clientKey, id: '@2', text: OK });
  const secret = random.chance(0.5);
  for (const number of [cmd.login, cmd.authenticate]) {
    steps.push({ do: 'frame', cmd: number, id: `@${number}`, text: OK, ...(secret && { secret }) });
  }
  return steps;
}

function anyStep(random: Random): ServerStep {
  const kind = random.weighted({ answer: 6, push: 5, frame: 3, raw: 1, flood: 0.6, call: 5, close: 0.7, pass: 2 });
  const secret = random.chance(0.3);
  const hidden = secret ? { secret } : {};
  switch (kind) {
    case 'answer': {
      const number = random.pick([2, 100, 101, 102, 200, 200, 200, 203, 204, 205, 205, 3]);
      const text = random.chance(0.85) ? random.pick(ANSWERS) : anyObject(random, 3);
      const asked = number === 3 ? random.pick([100, 102, 200, 203, 205]) : number;
      return { do: 'frame', cmd: number, id: `@${asked}`, text, ...hidden };
    }
    case 'push':
      return { do: 'frame', cmd: cmd.push, id: '', text: `[${messages(random)}]`, ...hidden };
    case 'frame': {
      const number = random.pick([0, 1, 2, 3, 100, 101, 103, 104, 200, 201, 202, 205, 999, -1]);
      const text = random.pick(['', OK, anyValue(random, 3)]);
      return { do: 'frame', cmd: number, id: random.pick(['', 'x', `@${number}`]), text, ...hidden };
    }
    case 'raw':
      return {
        do: 'raw',
        hex: random.pick(['00000000', 'ffffffff', '00100001', '000000020b0c', '00000010aa', '485454502f']),
      };
    case 'flood': {
      const bytes = random.pick([1, 1, 100, 20_000]);
      return {
        do: 'flood',
        count: bytes > 1_000 ? 50 : 1 + random.below(700),
        bytes,
        id: random.pick(['f', 'g', 'h', 'i', 'j']),
      };
    }
    case 'call':
      return { do: 'call', what: random.pick(CALLS) };
    case 'close':
      return { do: 'close' };
    default:
      return { do: 'pass', ms: random.pick([0, 1, 1_000, 11_000, 31_000, 70_000]) };
  }
}

function messages(random: Random): string {
  return Array.from({ length: random.below(5) }, () => {
    const members: [string, string][] = [
      ['from', random.chance(0.95) ? '"ann"' : anyValue(random, 1)],
      ['to', '"me"'],
      ['msg', anyValue(random, 3)],
      ['msgid', JSON.stringify(random.pick(['1', '2', '3', '4', '\ud800', '__proto__', 'x'.repeat(129), '']))],
    ];
    if (random.chance(0.3)) members.push(['ts', random.pick(['1790000000000', '1e999', '"x"', '-1'])]);
    return objectOf(members, random);
  }).join(',');
}
