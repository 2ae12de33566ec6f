import type { Random } from './random.ts';

/** How one client behaves. Times are means, in ms; `Infinity` is never. */
export interface Habits {
  /** Between messages. */
  readonly sendEveryMs: number;
  /** How likely a message is the first of many, sent at once. */
  readonly burst: number;
  readonly burstMessages: number;
  readonly bytesMax: number;
  readonly ttl: number;
  /** How it names messages: `counter` collides with other senders, `reset` also with itself after a crash. */
  readonly ids: 'unique' | 'counter' | 'reset';
  /** A message to somebody it may not write to. */
  readonly stray: number;
  readonly ack: 'at once' | 'late' | 'twice' | 'some' | 'foreign' | 'never';
  readonly fetch: 'at login' | 'often' | 'never';
  readonly resend: 'yes' | 'no' | 'other content';
  readonly nack: boolean;
  readonly encrypt: boolean;
  readonly pipelines: boolean;
  readonly crashEveryMs: number;
  readonly reconnectEveryMs: number;
  readonly logoutEveryMs: number;
  readonly halfCloseEveryMs: number;
  readonly malformedEveryMs: number;
  readonly bindEveryMs: number;
  readonly loginAgainEveryMs: number;
  /** After 103 it logs in again: so does the other. */
  readonly fights: boolean;
  /** A device shows a secret, the same one for all clients of its name. */
  readonly sendsSecret: boolean;
  /** Stays away so long before it comes back. */
  readonly awayMs: number;
  readonly latencyMs: number;
}

/** Of clients at war: what keeps them from one another's throat is left out. */
export const warlike = {
  fights: true,
  sendsSecret: true,
  awayMs: 50,
  resend: 'yes',
  crashEveryMs: Infinity,
  logoutEveryMs: Infinity,
} as const satisfies Partial<Habits>;

/** How busy a whole simulation is. */
export interface Pace {
  readonly sendEveryMs: number;
  readonly restlessness: number;
  readonly bursts: boolean;
}

export function drawPace(random: Random, clients: number): Pace {
  return {
    sendEveryMs: random.magnitude(100, 3000) * Math.max(1, clients / 10),
    restlessness: random.pick([0, 0.5, 1, 2]),
    bursts: random.chance(0.4),
  };
}

export function drawHabits(random: Random, pace: Pace): Habits {
  const seldom = (mean: number, probability: number): number =>
    random.chance(probability * pace.restlessness) ? random.magnitude(mean / 5, mean * 5) : Infinity;
  return {
    sendEveryMs: random.chance(0.15) ? Infinity : pace.sendEveryMs * random.magnitude(0.3, 5),
    burst: pace.bursts && random.chance(0.3) ? 0.03 : 0,
    burstMessages: random.chance(0.3) ? 700 : 40,
    bytesMax: random.chance(0.05) ? 60_000 : random.chance(0.3) ? 2000 : 60,
    ttl: random.chance(0.25) ? random.between(0.05, 0.6) : 0,
    ids: random.weighted({ unique: 3, counter: 5, reset: 2 }),
    stray: random.chance(0.2) ? 0.05 : 0,
    ack: random.weighted({ 'at once': 10, late: 4, twice: 2, some: 3, foreign: 2, never: 2 }),
    fetch: random.weighted({ 'at login': 6, often: 2, never: 2 }),
    resend: random.weighted({ yes: 8, no: 1, 'other content': 1 }),
    nack: random.chance(0.4),
    encrypt: random.chance(0.2),
    pipelines: random.chance(0.4),
    crashEveryMs: seldom(20_000, 0.4),
    reconnectEveryMs: seldom(15_000, 0.5),
    logoutEveryMs: seldom(30_000, 0.2),
    halfCloseEveryMs: seldom(30_000, 0.2),
    malformedEveryMs: seldom(30_000, 0.1),
    bindEveryMs: seldom(8000, 0.3),
    loginAgainEveryMs: seldom(20_000, 0.1),
    fights: random.chance(0.5),
    sendsSecret: false,
    awayMs: random.magnitude(50, 20_000),
    latencyMs: random.magnitude(0.1, 150),
  };
}
