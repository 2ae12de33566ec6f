import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Numbered } from './numbered.ts';

/** What it is told apart from: a map in which the numbers are sorted whenever it is asked. */
class Model {
  items = new Map<number, string>();
  first = 0;
  end = 0;

  put(number: number, item: string): void {
    this.items.set(number, item);
    this.end = Math.max(this.end, number + 1);
  }

  take(number: number): string | undefined {
    const item = this.items.get(number);
    this.items.delete(number);
    if (item !== undefined) while (this.first < this.end && !this.items.has(this.first)) this.first++;
    return item;
  }

  takeBelow(number: number): string[] {
    const below = this.inOrder().filter((each) => each < number);
    this.first = Math.max(this.first, number);
    this.end = Math.max(this.end, number);
    const taken = below.map((each) => this.items.get(each)!);
    for (const each of below) this.items.delete(each);
    return taken;
  }

  inOrder(): number[] {
    return [...this.items.keys()].sort((one, other) => one - other);
  }
}

type Step = readonly ['put' | 'next' | 'take' | 'takeBelow', number];

test('is a map of numbers that grow, whatever is put and taken in whatever order', () => {
  const kind = fc.constantFrom('put', 'next', 'next', 'take', 'take', 'takeBelow');
  fc.assert(
    fc.property(fc.array(fc.tuple(kind, fc.nat(300)) as fc.Arbitrary<Step>, { maxLength: 300 }), (steps) => {
      const numbered = new Numbered<string>();
      const model = new Model();
      for (const [step, offset] of steps) {
        const number = model.first + (step === 'next' ? model.end - model.first : offset % 150);
        if (step === 'take') assert.equal(numbered.take(number), model.take(number));
        else if (step === 'takeBelow') {
          const below: string[] = [];
          numbered.takeBelow(model.first + (offset % 12), (item) => below.push(item));
          assert.deepEqual(below, model.takeBelow(model.first + (offset % 12)));
        } else {
          numbered.put(number, `at ${number}`);
          model.put(number, `at ${number}`);
        }
        assert.equal(numbered.size, model.items.size);
        assert.equal(numbered.first, model.first);
        assert.equal(numbered.span, model.end - model.first);
        assert.deepEqual(
          numbered.inOrder(),
          model.inOrder().map((each) => `at ${each}`),
        );
      }
    }),
  );
});

test('numbers beyond 32 bits are told apart', () => {
  const numbered = new Numbered<string>();
  const far = 2 ** 40;
  numbered.takeBelow(far, () => {});
  for (let i = 0; i < 5; i++) numbered.put(far + i, `${i}`);
  assert.equal(numbered.get(far + 3), '3');
  assert.equal(numbered.get(3), undefined);
  assert.equal(numbered.take(far), '0');
  assert.equal(numbered.first, far + 1);
});
