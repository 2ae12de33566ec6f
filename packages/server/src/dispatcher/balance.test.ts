import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { serverLimits } from '@hawser/protocol';
import fc from 'fast-check';
import { admittedMax, boundOf, type Candidate, choose, HandedOut } from './balance.ts';

// fast-check prints the seed of a failure; another seed is tried with HAWSER_SEED=<number>.
fc.configureGlobal({ seed: Number(process.env.HAWSER_SEED ?? 1) });

const names = fc.uniqueArray(fc.stringMatching(/^[a-z0-9-]{1,12}$/), { minLength: 1, maxLength: 12 });
const ids = fc.uniqueArray(fc.string({ minLength: 1, maxLength: 20 }), { minLength: 1, maxLength: 100 });

function idle(name: string): Candidate {
  return { name, load: 0, loadMax: 100_000 };
}

/** Sends one client after the other, each of which then counts. */
function place(clients: readonly string[], candidates: readonly Candidate[]): Map<string, string> {
  const loads = new Map(candidates.map(({ name, load }) => [name, load]));
  const placed = new Map<string, string>();
  for (const id of clients) {
    const now = candidates.map((each) => ({ ...each, load: loads.get(each.name)! }));
    const chosen = choose(id, now);
    if (chosen === undefined) continue;
    placed.set(id, chosen.name);
    loads.set(chosen.name, chosen.load + 1);
  }
  return placed;
}

describe('the choice of a server', () => {
  test('is the same whatever order they are told in', () => {
    fc.assert(
      fc.property(names, ids, fc.infiniteStream(fc.nat()), (servers, clients, numbers) => {
        const candidates = servers.map((name) => ({ name, load: numbers.next().value % 500, loadMax: 1000 }));
        const other = candidates.toSorted(() => (numbers.next().value % 2 === 0 ? 1 : -1));
        for (const id of clients) assert.equal(choose(id, candidates)?.name, choose(id, other)?.name);
      }),
    );
  });

  test('a server that comes takes clients only for itself, and one that goes gives away only its own', () => {
    fc.assert(
      fc.property(names, ids, (servers, clients) => {
        const all = servers.map(idle);
        const [newest, ...others] = all;
        if (others.length === 0) return;
        for (const id of clients) {
          const before = choose(id, others)?.name;
          const after = choose(id, all)?.name;
          assert.ok(after === before || after === newest?.name);
        }
      }),
    );
  });

  test('a server that comes to ten takes about a tenth, evenly from the others', () => {
    const ten = Array.from({ length: 10 }, (_, i) => idle(`n${i}`));
    const clients = Array.from({ length: 20_000 }, (_, i) => `lamp-${i}`);
    const moved = clients.filter((id) => choose(id, [...ten, idle('n10')])?.name === 'n10');
    assert.ok(Math.abs(moved.length - 20_000 / 11) < 200, `${moved.length}`);
    for (const { name } of ten) {
      const count = moved.filter((id) => choose(id, ten)?.name === name).length;
      assert.ok(Math.abs(count - moved.length / 10) < 60, `${count} from ${name}`);
    }
  });

  test('no server gets more than its bound, however it began and however different they are', () => {
    const servers = fc.uniqueArray(
      fc.record({
        name: fc.stringMatching(/^[a-z]{1,8}$/),
        load: fc.nat(300),
        loadMax: fc.integer({ min: 400, max: 9000 }),
      }),
      { minLength: 1, maxLength: 8, selector: ({ name }) => name },
    );
    fc.assert(
      fc.property(servers, ids, (candidates, clients) => {
        const placed = place(clients, candidates);
        assert.equal(placed.size, clients.length, 'there is room for all');
        const total = candidates.reduce((sum, { load }) => sum + load, placed.size);
        const loadMax = candidates.reduce((sum, each) => sum + each.loadMax, 0);
        for (const each of candidates) {
          const got = [...placed.values()].filter((name) => name === each.name).length;
          if (got > 0) assert.ok(each.load + got <= boundOf(each, total / loadMax), each.name);
        }
      }),
    );
  });

  test('a storm of those whose server died, and of one id again and again, is spread over the others', () => {
    const three = ['a', 'b', 'c'].map((name) => ({ name, load: 3000, loadMax: 100_000 }));
    for (const clients of [
      Array.from({ length: 3000 }, (_, i) => `lamp-${i}`),
      Array.from({ length: 3000 }, () => 'lamp'),
    ]) {
      const loads = new Map(three.map(({ name, load }) => [name, load]));
      for (const id of clients) {
        const chosen = choose(
          id,
          three.map((each) => ({ ...each, load: loads.get(each.name)! })),
        )!;
        loads.set(chosen.name, chosen.load + 1);
      }
      const bound = 1.25 * 4000 + serverLimits.dispatcherLoadFree + 1;
      for (const [name, load] of loads) assert.ok(load <= bound, `${name}: ${load}`);
    }
  });

  test('there is none when there is no server, and when each has reached what is admitted', () => {
    assert.equal(choose('lamp', []), undefined);
    const full = { name: 'a', load: 95, loadMax: 100 };
    assert.equal(admittedMax(full), 95);
    assert.equal(choose('lamp', [full]), undefined);
    assert.equal(choose('lamp', [{ ...full, load: 94 }])?.name, 'a');
    assert.equal(choose('lamp', [full, { name: 'b', load: 94, loadMax: 100 }])?.name, 'b');
  });
});

test('what was handed out counts for its time, and is then forgotten', () => {
  const { dispatcherHandedOutMs } = serverLimits;
  const handed = new HandedOut();
  for (let i = 0; i < 1000; i++) handed.add(i % 4 === 0 ? 'a' : 'b', i);
  assert.equal(handed.count('a', 1000), 250);
  assert.equal(handed.count('b', 1000), 750);
  assert.equal(handed.count('c', 1000), 0);
  assert.ok(handed.count('b', dispatcherHandedOutMs + 500) < 750);
  assert.equal(handed.count('b', dispatcherHandedOutMs + 1000), 0);
});
