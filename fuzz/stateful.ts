import { Random } from '../sim/random.ts';
import { CoreWorld } from './core-world.ts';
import { firstOracle, Play } from './play.ts';
import { createSteps, mutateSteps, type Step, smallerSteps } from './steps.ts';
import type { Target } from './target.ts';

/** Chance inside a sequence, as in keys: always the same, so that a sequence goes the same way again. */
const SEED = 1;

/** What targets have in common whose input is a sequence of steps. */
export abstract class SequenceTarget implements Target<readonly Step[]> {
  abstract readonly name: string;
  abstract readonly about: string;
  readonly guidedBy = /server\/src\/core\/(?!testing)[\w/-]+\.ts$/;
  readonly lookEvery: number = 1;
  readonly counts = { steps: 0, frames: 0, logins: 0, takeovers: 0, pushes: 0 };

  abstract check(input: readonly Step[]): Promise<void>;

  create(random: Random): readonly Step[] {
    return createSteps(random);
  }

  mutate(input: readonly Step[], other: readonly Step[], random: Random): readonly Step[] {
    return mutateSteps(input, other, random);
  }

  keep(input: readonly Step[]): readonly Step[] {
    return input;
  }

  smaller(input: readonly Step[]): Iterable<readonly Step[]> {
    return smallerSteps(input);
  }

  write(input: readonly Step[]): string {
    return JSON.stringify(input);
  }

  read(text: string): readonly Step[] {
    return JSON.parse(text) as Step[];
  }

  protected count(input: readonly Step[]): void {
    this.counts.steps += input.length;
    for (const step of input) if (step.do === 'send') this.counts.frames += step.frames.length;
  }
}

/** Sequences of commands on several connections, to the whole core in this process. */
export class StatefulTarget extends SequenceTarget {
  readonly name = 'stateful';
  readonly about = 'sequences of commands on several connections, to the whole core';

  async check(input: readonly Step[]): Promise<void> {
    this.count(input);
    const world = await CoreWorld.open(new Random(SEED));
    await new Play(world, firstOracle(true)).play(input);
    const { appLogins, deviceLogins, pushed, takeovers } = world.counters;
    this.counts.logins += appLogins + deviceLogins;
    this.counts.takeovers += takeovers;
    this.counts.pushes += pushed;
  }
}
