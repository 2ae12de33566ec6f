import type { Random } from '../sim/random.ts';
import type { ProxyPlan } from './proxy.ts';

/** What a round may do to the server: kill -9, once and while it recovers; SIGSTOP; a full disk; SIGTERM. */
export const faults = ['kill', 'recovery', 'freeze', 'disk', 'stop'] as const;
export type Fault = (typeof faults)[number];

/** When the server is killed while it recovers from an earlier kill. */
export const moments = ['at its start', 'before it is ready', 'while it pages backlogs'] as const;
export type Moment = (typeof moments)[number];

export interface RoundPlan {
  readonly fault: Fault;
  readonly messagesPerSecond: number;
  readonly floodMs: number;
  readonly proxy: ProxyPlan;
  /** `recovery`: when it is killed again; `after` so many ms, or so much of the time that a start takes. */
  readonly moments: readonly { readonly moment: Moment; readonly after: number }[];
  /** `freeze`: how long, how often, and whether it is killed while it stands. */
  readonly freezes: readonly number[];
  readonly killsFrozen: boolean;
  /** `stop`: killed so long after it was asked to stop; `undefined` when it is given the time that it needs. */
  readonly stopMs: number | undefined;
  /** `disk`: bytes that are left free, and how it is made full. */
  readonly roomBytes: number;
  readonly byLimit: boolean;
}

export function drawPlan(random: Random, fault: Fault): RoundPlan {
  return {
    fault,
    messagesPerSecond: random.magnitude(2000, 25_000),
    floodMs: random.magnitude(150, 2500),
    proxy: drawProxy(random),
    moments: Array.from({ length: 1 + random.below(3) }, () => drawMoment(random)),
    freezes: Array.from({ length: 1 + random.below(2) }, () => random.magnitude(200, 9000)),
    killsFrozen: random.chance(0.3),
    stopMs: random.chance(0.4) ? random.magnitude(1, 300) : undefined,
    roomBytes: Math.round(random.magnitude(4096, 2_000_000)),
    byLimit: random.chance(0.3),
  };
}

function drawMoment(random: Random): RoundPlan['moments'][number] {
  const moment = random.pick(moments);
  switch (moment) {
    case 'at its start':
      return { moment, after: random.between(1, 60) };
    case 'before it is ready':
      return { moment, after: random.between(0.2, 1) };
    case 'while it pages backlogs':
      return { moment, after: random.magnitude(1, 400) };
  }
}

function drawProxy(random: Random): ProxyPlan {
  return {
    manners: {
      plain: 5,
      late: random.pick([0, 2]),
      split: random.pick([0, 3]),
      merged: random.pick([0, 2]),
      narrow: random.pick([0, 1]),
    },
    breakages: {
      reset: 4,
      fin: 3,
      'reset to server': 1,
      'reset to client': 1,
      'hole up': 1,
      'hole down': 1,
      stall: 3,
    },
    breakEveryMs: random.chance(0.3) ? Number.POSITIVE_INFINITY : random.magnitude(10, 500),
  };
}
