// About half a minute in all. What is found is a defect, whatever the seed and however far it got: no time decides that.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { after, test } from 'node:test';
import { type Bug, bugs } from './bugs.ts';
import { corpusOf } from './corpus.ts';
import { differences } from './protobuf.ts';
import { run } from './run.ts';
import { type TargetName, targets } from './targets.ts';

/** With the fixed seed, whose inputs are the same every time, and with a fresh one: in seconds. */
const budgets: Record<TargetName, { readonly fixed: number; readonly fresh: number }> = {
  decoder: { fixed: 1, fresh: 1.5 },
  bodies: { fixed: 1, fresh: 1.5 },
  splice: { fixed: 0.5, fresh: 1 },
  client: { fixed: 1, fresh: 1.5 },
  stateful: { fixed: 1, fresh: 2 },
  server: { fixed: 1, fresh: 3 },
};
const FIXED_SEED = 1;

for (const [name, { fixed, fresh }] of Object.entries(budgets) as [TargetName, (typeof budgets)[TargetName]][]) {
  test(`nothing is found by ${name}, nor by what was ever found or kept`, async (t) => {
    const target = await targets[name]();
    const corpus = name === 'server' ? [] : corpusOf(name);
    for (const [seed, seconds] of [
      [FIXED_SEED, fixed],
      [Math.floor(Math.random() * 2 ** 31), fresh],
    ] as const) {
      const options = { seed, seconds, inputs: Number.POSITIVE_INFINITY, isGuided: false, isShrunk: true };
      const { found, inputs } = await run(target, { ...options, corpus: seed === FIXED_SEED ? corpus : [] });
      t.diagnostic(`${inputs} inputs of seed ${seed}`);
      const again = (): string => `npm run fuzz -- ${name} --input '${found?.input}'\n${found?.error.stack}`;
      assert.equal(found, undefined, `seed ${seed}, input ${found?.after}; again: ${again()}`);
    }
  });
}

test('the decoder differs from protobufjs in what the table says, and the table has examples', async () => {
  const target = await targets.decoder();
  const examples: Record<string, string> = {
    'a group': '00000002 0b 0c',
    'a varint of more than ten bytes': '0000000d 28 8080808080808080808000 00',
    'a varint of ten bytes with more than 64 bits': '0000000b 08 ffffffffffffffffff02',
  };
  assert.deepEqual(
    Object.keys(examples),
    differences.map(({ what }) => what),
  );
  for (const text of Object.values(examples)) await target.check(target.read(text), true);
});

// ---- what it is worth: each deliberate bug is a piece of the product's source replaced as it is loaded

const running = new Set<ReturnType<typeof spawn>>();
after(() => {
  for (const child of running) child.kill('SIGKILL');
});

async function isCaught({ bug, target, within }: { bug: string; target: string; within: number }): Promise<string> {
  const options = ['--seed', String(FIXED_SEED), '--inputs', String(within), '--plain', '--as-found', '--no-corpus'];
  const file = new URL('main.ts', import.meta.url).pathname;
  const child = spawn(process.execPath, [file, target, ...options, '--bug', bug], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.add(child);
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (piece) => (text += piece));
  const code = await new Promise((resolve) => child.once('close', resolve));
  running.delete(child);
  return code === 1 && text.includes('found by input') ? 'caught' : `exit code ${code}: ${text}`;
}

test('each deliberate bug is caught within the inputs that are said of it', async (t) => {
  const waiting = (Object.entries(bugs) as [string, Bug][]).map(([bug, { target, within }]) => ({
    bug,
    target,
    within,
  }));
  const missed: string[] = [];
  const work = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const { bug, within } = next;
      const outcome = await isCaught(next);
      if (outcome !== 'caught') missed.push(`${bug}, within ${within}: ${outcome}`);
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, work));
  t.diagnostic(`${Object.keys(bugs).length} bugs`);
  assert.deepEqual(missed, []);
});
