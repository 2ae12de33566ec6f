import { Random } from '../sim/random.ts';
import { Coverage } from './coverage.ts';
import type { Counts, Target } from './target.ts';

/** Inputs that reached what none before did, at most. */
const POOL_MAX = 4_000;
/** Looks in a row that found nothing new, after which nobody looks any more. */
const LOOKS_IN_VAIN_MAX = 300;
const MUTATED_SHARE = 0.6;
const SMALLER_TRIED_MAX = 20_000;
const SMALLER_FOR_MS = 20_000;
/** What somebody of a batch reached is looked for in so many parts of it first. */
const PARTS = 32;
/** The clock is looked at once in so many inputs, and after each that takes its time. */
const CLOCK_EVERY = 256;

export interface RunOptions {
  readonly seed: number;
  /** It ends after so many inputs, or so many seconds. */
  readonly inputs: number;
  readonly seconds: number;
  readonly isGuided: boolean;
  /** What is found is made as small as it gets. */
  readonly isShrunk: boolean;
  /** Inputs that are kept: tried first, every check of them, and then changed. */
  readonly corpus: readonly string[];
}

export interface FoundBy {
  readonly error: Error;
  readonly input: string;
  /** How many inputs it took. */
  readonly after: number;
}

export interface RunResult {
  readonly inputs: number;
  readonly seconds: number;
  readonly pool: number;
  /** Those of the pool that are not of the corpus, as they are written. */
  readonly kept: readonly string[];
  /** Characters of the sources that were reached while somebody looked; 0 when nobody did. */
  readonly reached: number;
  readonly counts: Counts;
  readonly found: FoundBy | undefined;
}

/** Feeds a target until it finds something, or has had enough. */
export async function run<Input>(target: Target<Input>, options: RunOptions): Promise<RunResult> {
  const random = new Random(options.seed);
  const pool = options.corpus.map((text) => target.read(text));
  const coverage = options.isGuided ? new Coverage(target.guidedBy) : undefined;
  const began = performance.now();
  const until = began + options.seconds * 1000;
  let isSlow = false;
  let isLooking = coverage !== undefined;
  let inVain = 0;
  let inputs = 0;
  let found: FoundBy | undefined;
  const batch: Input[] = [];

  /** What is wrong with the code that this input shows. */
  const fault = (input: Input, isThorough: boolean): Promise<Error | undefined> | Error | undefined => {
    try {
      const checked = target.check(input, isThorough);
      return checked?.then(() => undefined, asError);
    } catch (error) {
      return asError(error);
    }
  };
  const tell = async (input: Input, error: Error): Promise<void> => {
    const after = inputs;
    const kept = { input: target.keep(input), error };
    const { input: least, error: last } = options.isShrunk ? await smallest(target, kept.input, error, fault) : kept;
    found = { error: last, input: target.write(least), after };
  };

  for (const input of [...pool]) {
    inputs++;
    const error = await fault(input, true);
    if (error !== undefined) {
      await tell(input, error);
      break;
    }
  }
  coverage?.look();

  while (found === undefined && inputs < options.inputs) {
    if ((isSlow || inputs % CLOCK_EVERY === 0) && performance.now() >= until) break;
    const isMutated = pool.length > 0 && random.next() < MUTATED_SHARE;
    const input = isMutated
      ? target.mutate(pool[random.below(pool.length)]!, pool[random.below(pool.length)]!, random)
      : target.create(random);
    inputs++;
    const kept = isLooking ? target.keep(input) : input;
    const checking = fault(kept, false);
    isSlow = checking instanceof Promise;
    const error = isSlow ? await checking : (checking as Error | undefined);
    if (error !== undefined) {
      await tell(kept, error);
      break;
    }
    if (!isLooking || coverage === undefined) continue;
    batch.push(kept);
    if (batch.length < target.lookEvery) continue;
    if (coverage.look()) {
      inVain = 0;
      for (const each of await whoReached(batch, coverage, fault)) if (pool.length < POOL_MAX) pool.push(each);
    } else if (++inVain >= LOOKS_IN_VAIN_MAX) isLooking = false;
    batch.length = 0;
  }
  const reached = coverage?.size ?? 0;
  coverage?.close();
  if (found === undefined) {
    try {
      await target.finish?.();
    } catch (error) {
      found = { error: asError(error), input: '', after: inputs };
    }
  }
  return {
    inputs,
    seconds: (performance.now() - began) / 1000,
    pool: pool.length,
    kept: pool.slice(options.corpus.length).map((each) => target.write(each)),
    reached,
    counts: { ...target.counts },
    found,
  };
}

/** Those inputs of a batch that reached what was new in it, as far as each does so again. */
async function whoReached<Input>(
  batch: readonly Input[],
  coverage: Coverage,
  fault: (input: Input, isThorough: boolean) => unknown,
): Promise<readonly Input[]> {
  const good: Input[] = [];
  const part = Math.ceil(batch.length / PARTS);
  for (let at = 0; at < batch.length && !coverage.isClaimed; at += part) {
    const some = batch.slice(at, at + part);
    for (const input of some) await fault(input, false);
    if (!coverage.sees()) continue;
    for (const input of some) {
      await fault(input, false);
      if (coverage.claim()) good.push(input);
    }
  }
  return good;
}

/** Takes away from an input what it does not need to show a fault. */
async function smallest<Input>(
  target: Target<Input>,
  input: Input,
  error: Error,
  fault: (input: Input, isThorough: boolean) => Promise<Error | undefined> | Error | undefined,
): Promise<{ input: Input; error: Error }> {
  const again = await fault(input, true);
  // What only happened once is told of as it was.
  if (again === undefined) return { input, error };
  let [least, shown] = [input, again];
  const until = performance.now() + SMALLER_FOR_MS;
  for (let tried = 0, isSmaller = true; isSmaller; ) {
    isSmaller = false;
    for (const candidate of target.smaller(least)) {
      if (++tried > SMALLER_TRIED_MAX || performance.now() > until) break;
      const its = await fault(candidate, true);
      if (its === undefined) continue;
      [least, shown, isSmaller] = [target.keep(candidate), its, true];
      break;
    }
  }
  return { input: least, error: shown };
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error), { cause: error });
}
