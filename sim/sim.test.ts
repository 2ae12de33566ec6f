// Runs of the simulator, on threads of their own: the test runner's hooks would slow every promise of them down.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { type Bug, type BugName, bugs } from './bugs.ts';
import { rules } from './checker.ts';
import { Crew } from './crew.ts';
import type { RunSummary } from './figures.ts';
import { sdkBugs } from './sdk-bugs.ts';
import { keptSeeds } from './seeds.ts';
import type { Job } from './worker.ts';

const FIXED_SEEDS = 40;
const FRESH_SEEDS = 40;
/** Of clusters, of each size. */
const CLUSTER_SEEDS = 16;
const CLUSTER_SIZES = [2, 3, 5];
const WARS = 3;
const LONG_SEEDS = 3;
const LONG_MINUTES = 6;
/** With the client's package, of each size. */
const SDK_SEEDS = 16;
const SDK_SIZES = [1, 3];

const crew = new Crew();
after(() => crew.close());

async function runAll(
  seeds: readonly number[],
  { nodes, minutes, sdk, clients, war }: Partial<Pick<Job, 'nodes' | 'minutes' | 'sdk' | 'clients' | 'war'>> = {},
): Promise<RunSummary[]> {
  const runs: RunSummary[] = [];
  const left = [...seeds];
  await crew.run(
    () => {
      const seed = left.shift();
      return seed === undefined ? undefined : { seed, minutes, clients, nodes, sdk, war, bug: undefined };
    },
    (run) => {
      runs.push(run);
      return undefined;
    },
  );
  return runs.sort((a, b) => a.seed - b.seed);
}

function assertClean(runs: readonly RunSummary[], options = ''): void {
  const failed = runs.filter((run) => run.violations.length > 0);
  const text = failed.map(({ seed, violations }) => `npm run sim -- --seed ${seed}${options}: ${violations[0]}`);
  assert.deepEqual(text, [], 'each of these seeds broke a rule');
}

test('fixed seeds, and all that ever failed, keep every rule', async () => {
  const seeds = Array.from({ length: FIXED_SEEDS }, (_, i) => i + 1);
  assertClean(
    await runAll([
      ...new Set([
        ...seeds,
        ...keptSeeds.filter((each) => each.nodes === undefined && each.sdk !== true).map(({ seed }) => seed),
      ]),
    ]),
  );
});

test('fresh seeds keep every rule', async (t) => {
  const first = Math.floor(Math.random() * 2 ** 31);
  t.diagnostic(`npm run sim -- --seed ${first} --seeds ${FRESH_SEEDS}`);
  assertClean(await runAll(Array.from({ length: FRESH_SEEDS }, (_, i) => first + i)));
});

for (const nodes of CLUSTER_SIZES) {
  test(`a cluster of ${nodes} nodes keeps every rule`, async (t) => {
    const first = Math.floor(Math.random() * 2 ** 31);
    t.diagnostic(`npm run sim -- --seed ${first} --seeds ${CLUSTER_SEEDS} --nodes ${nodes}`);
    const isPlain = (each: (typeof keptSeeds)[number]): boolean => each.minutes === undefined && each.sdk !== true;
    const kept = keptSeeds.filter((each) => each.nodes === nodes && isPlain(each)).map(({ seed }) => seed);
    const fixed = Array.from({ length: CLUSTER_SEEDS }, (_, i) => i + 1);
    const fresh = Array.from({ length: CLUSTER_SEEDS }, (_, i) => first + i);
    assertClean(await runAll([...new Set([...fixed, ...kept, ...fresh])], { nodes }), ` --nodes ${nodes}`);
  });
}

test('long trouble: what is remembered for minutes is forgotten in time, and not before', async (t) => {
  const first = Math.floor(Math.random() * 2 ** 31);
  for (const nodes of [1, 3]) {
    t.diagnostic(`npm run sim -- --seed ${first} --seeds ${LONG_SEEDS} --nodes ${nodes} --minutes ${LONG_MINUTES}`);
    const kept = keptSeeds.filter((each) => each.minutes !== undefined && each.nodes === nodes).map(({ seed }) => seed);
    const seeds = [...kept, ...Array.from({ length: LONG_SEEDS }, (_, i) => first + i)];
    assertClean(await runAll(seeds, { nodes, minutes: LONG_MINUTES }), ` --nodes ${nodes} --minutes ${LONG_MINUTES}`);
  }
});

for (const nodes of [1, 3]) {
  test(`two clients take a name from one another for ten minutes, and nothing is lost, with ${nodes} nodes`, async (t) => {
    const first = Math.floor(Math.random() * 2 ** 31);
    t.diagnostic(`npm run sim -- --seed ${first} --seeds ${WARS} --nodes ${nodes} --minutes 10 --clients 6 --war`);
    const seeds = [
      ...Array.from({ length: WARS }, (_, i) => i + 1),
      ...Array.from({ length: WARS }, (_, i) => first + i),
    ];
    const runs = await runAll(seeds, { nodes, minutes: 10, clients: 6, war: true });
    assertClean(runs, ` --nodes ${nodes} --minutes 10 --clients 6 --war`);
    for (const { seed, conflicts, acked } of runs) {
      assert.ok(conflicts > 100, `seed ${seed}: only ${conflicts} takeovers`);
      assert.ok(acked > 0, `seed ${seed}: nothing was acked`);
    }
  });
}

for (const nodes of SDK_SIZES) {
  test(`clients that are the package keep every rule, with ${nodes} nodes`, async (t) => {
    const kept = keptSeeds.filter((each) => each.sdk === true && (each.nodes ?? 1) === nodes).map(({ seed }) => seed);
    const fixed = Array.from({ length: SDK_SEEDS }, (_, i) => i + 1);
    const first = Math.floor(Math.random() * 2 ** 31);
    // Of clusters fresh seeds are what the tests above are for.
    const fresh = nodes > 1 ? [] : Array.from({ length: SDK_SEEDS }, (_, i) => first + i);
    if (nodes === 1) t.diagnostic(`npm run sim -- --seed ${first} --seeds ${SDK_SEEDS} --sdk`);
    assertClean(
      await runAll([...new Set([...fixed, ...kept, ...fresh])], { nodes, sdk: true }),
      ` --nodes ${nodes} --sdk`,
    );
  });

  test(`the same seed goes the same way with the package, with ${nodes} nodes, and another than without`, async () => {
    const seeds = [1, 2, 3];
    const [first, second] = [
      await runAll(seeds, { nodes, sdk: true }),
      await runAll(seeds.toReversed(), { nodes, sdk: true }),
    ];
    const without = await runAll(seeds, { nodes });
    const hashes = (runs: readonly RunSummary[]): string[] => runs.map(({ hash }) => hash);
    assert.deepEqual(hashes(first), hashes(second));
    assert.equal(new Set([...hashes(first), ...hashes(without)]).size, 2 * seeds.length);
  });
}

for (const nodes of [1, 3]) {
  test(`the same seed goes the same way, with ${nodes} nodes`, async () => {
    const seeds = [1, 2, 3, 4, 5, 6];
    const [first, second] = [await runAll(seeds, { nodes }), await runAll(seeds.toReversed(), { nodes })];
    assert.deepEqual(
      first.map(({ seed, hash }) => [seed, hash]),
      second.map(({ seed, hash }) => [seed, hash]),
    );
    assert.equal(new Set(first.map(({ hash }) => hash)).size, seeds.length, 'and each seed another');
  });
}

test('a run has messages, crashes and stops', async () => {
  const runs = await runAll([1, 2, 3, 4, 5, 6, 7, 8]);
  for (const what of ['messages', 'acked', 'pushed', 'crashes', 'stops'] as const) {
    assert.ok(
      runs.some((run) => run[what] > 0),
      what,
    );
  }
  assert.ok(Object.keys(rules).length > 0);
});

interface Deliberate {
  readonly bug: BugName;
  readonly within: number;
  readonly nodes: number | undefined;
  readonly sdk: boolean;
}

const deliberate: Deliberate[] = (Object.entries(bugs) as [BugName, Bug][]).map(([bug, { within, nodes }]) => {
  return { bug, within, nodes, sdk: false };
});
for (const [bug, { within }] of Object.entries(sdkBugs) as [BugName, Bug][]) {
  for (const nodes of SDK_SIZES) deliberate.push({ bug, within, nodes, sdk: true });
}

for (const { bug, within, nodes, sdk } of deliberate) {
  test(`a deliberate bug is caught within ${within} seeds${sdk ? ` with ${nodes} nodes` : ''}: ${bug}`, async () => {
    let seed = 1;
    const caught: RunSummary[] = [];
    await crew.run(
      () => (seed > within ? undefined : { seed: seed++, minutes: undefined, clients: undefined, nodes, sdk, bug }),
      (run) => {
        if (run.violations.length === 0) return undefined;
        caught.push(run);
        return 'stop';
      },
    );
    assert.ok(caught.length > 0, `${bug} was not caught`);
  });
}
