// What an ack is worth when the server dies or runs out of disk: a short run of `npm run torture`.
//
// HAWSER_TORTURE_SEED=n repeats the decisions of a printed seed.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ownEnvironment } from './harness.ts';

const mainFile = join(import.meta.dirname, '..', 'torture', 'main.ts');
const seed = process.env.HAWSER_TORTURE_SEED ?? String(Math.floor(Math.random() * 2 ** 31));
const timeout = { timeout: 180_000 };

/** Runs it to its end. A process of its own: the test runner's hooks would slow its clients down. */
async function torture(...args: string[]): Promise<{ readonly code: number | null; readonly output: string }> {
  // What it keeps of a failure goes as well.
  const folder = await mkdtemp(join(tmpdir(), 'hawser-test-'));
  const child = spawn(process.execPath, [mainFile, '--clients', '24', ...args], {
    env: { ...ownEnvironment(), TMPDIR: folder },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  await rm(folder, { recursive: true, force: true });
  return { code, output };
}

test('no acked message is lost by kill -9 in mid-flood and in recovery, or by a full disk', timeout, async (t) => {
  const { code, output } = await torture('--seed', seed, '--rounds', '3', '--faults', 'recovery,kill,disk');
  t.diagnostic(`HAWSER_TORTURE_SEED=${seed}`);
  assert.equal(code, 0, output);
  assert.match(output, /^lost = 0, out of order = 0, all violations = 0$/m);
});

test('a server that acks too early is found out', timeout, async () => {
  const { code, output } = await torture('--rounds', '10', '--faults', 'kill', '--bug', 'ack before commit');
  assert.equal(code, 1, output);
  assert.match(output, /^✖ .* (lost|order): message \d+ /m);
  assert.match(output, /again: npm run torture -- --seed \d+/);
});
