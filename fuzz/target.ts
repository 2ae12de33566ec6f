import type { Random } from '../sim/random.ts';

/** What one target counts beside its inputs: what was done to them. */
export type Counts = Record<string, number>;

/**
 * Something that is fed inputs. `check` throws when the code is at fault, and only then: an input that is refused as it
 * should be is no finding.
 */
export interface Target<Input = unknown> {
  readonly name: string;
  readonly about: string;
  /** The sources of the product that it is to reach: what is new in them guides it. */
  readonly guidedBy: RegExp;
  /** Inputs between two looks at what was reached. */
  readonly lookEvery: number;
  readonly counts: Counts;
  /** A fresh input. It may be taken back by the next call. */
  create(random: Random): Input;
  /** One like `input`, perhaps with something of `other` in it. It may be taken back by the next call, too. */
  mutate(input: Input, other: Input, random: Random): Input;
  /** An input of its own, for good. */
  keep(input: Input): Input;
  /** @param isThorough every check, and not only those that each input has time for */
  check(input: Input, isThorough: boolean): void | Promise<void>;
  /** Smaller inputs, the smallest first, one of which may still show what this one does. */
  smaller(input: Input): Iterable<Input>;
  /** As it is printed, given with `--input`, and kept in a file. */
  write(input: Input): string;
  read(text: string): Input;
  /** What is to be looked at when all is done. */
  finish?(): Promise<void>;
}

/** The code is at fault. */
export class Finding extends Error {}

export function expect(condition: boolean, text: () => string): asserts condition {
  if (!condition) throw new Finding(text());
}
