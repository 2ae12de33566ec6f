import type { Random } from '../sim/random.ts';

/** How one client behaves in one round. Times in ms; `Infinity` is never. */
export interface Habits {
  /** How many of the messages are its own, compared with others. */
  readonly sends: number;
  readonly windowMessages: number;
  /** `counter` takes the same ids as other senders. */
  readonly ids: 'unique' | 'counter';
  readonly bytesMax: number;
  readonly ttl: number;
  /** A message to somebody it may not write to. */
  readonly stray: number;
  readonly ack: 'at once' | 'late' | 'some' | 'twice' | 'never';
  readonly fetches: boolean;
  readonly resend: 'yes' | 'later';
  readonly nack: boolean;
  readonly encrypts: boolean;
  readonly pipelines: boolean;
  /** It is not there for the whole round. */
  readonly isAway: boolean;
  readonly leaveEveryMs: number;
  /** How it leaves: it may log in anew while the older connection is open. */
  readonly leave: 'fin' | 'reset' | 'takeover' | 'log out';
  readonly awayMs: number;
  /** It stops reading now and then. */
  readonly freezeEveryMs: number;
  /** A server that says nothing for so long is given up. */
  readonly patienceMs: number;
}

export function drawHabits(random: Random): Habits {
  return {
    sends: random.chance(0.3) ? 0 : random.magnitude(0.2, 5),
    windowMessages: Math.round(random.magnitude(8, 600)),
    ids: random.pick(['unique', 'counter']),
    bytesMax: random.pick([60, 60, 60, 60, 60, 60, 4000, 4000, 60_000, 900_000]),
    ttl: random.chance(0.15) ? 0.2 : 0,
    stray: random.chance(0.2) ? 0.02 : 0,
    ack: random.weighted({ 'at once': 10, late: 4, some: 3, twice: 2, never: 2 }),
    fetches: random.chance(0.8),
    resend: random.chance(0.85) ? 'yes' : 'later',
    nack: random.chance(0.4),
    encrypts: random.chance(0.4),
    pipelines: random.chance(0.4),
    isAway: random.chance(0.15),
    leaveEveryMs: random.chance(0.35) ? random.magnitude(100, 3000) : Number.POSITIVE_INFINITY,
    leave: random.pick(['fin', 'reset', 'takeover', 'takeover', 'log out']),
    awayMs: random.magnitude(1, 1500),
    freezeEveryMs: random.chance(0.15) ? random.magnitude(300, 3000) : Number.POSITIVE_INFINITY,
    patienceMs: random.magnitude(2000, 8000),
  };
}

/** Everybody is there, takes what comes, and repeats what was not answered. */
export function mended(habits: Habits): Habits {
  return {
    ...habits,
    sends: 0,
    ack: 'at once',
    fetches: true,
    resend: 'yes',
    isAway: false,
    leaveEveryMs: Number.POSITIVE_INFINITY,
    freezeEveryMs: Number.POSITIVE_INFINITY,
    patienceMs: 20_000,
  };
}
