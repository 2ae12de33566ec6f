import assert from 'node:assert/strict';
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Log } from '../core/ports.ts';
import { restore } from './backup.ts';
import { ids, newMessage, store } from './contract-harness.ts';
import { LevelStore } from './level.ts';
import { harnessFor } from './level-harness.ts';
import { StoreUnusable } from './unusable.ts';

const quiet: Log = { debug() {}, info() {}, warn() {}, error() {} };

test('a backup of which a file is damaged, cut short or missing is refused, or is whole when it is restored', async (t) => {
  const harness = await harnessFor(t);
  await harness.store.createUser('ann', 'hash', 1);
  // More than one batch of copying and more than a table, so that there are files of each kind.
  const messages = Array.from({ length: 40 }, (_, i) => newMessage('ann', 's', `m${i}`, `${i}`.repeat(60_000)));
  for (let i = 0; i < messages.length; i += 4) await store(harness, messages.slice(i, i + 4));
  const backup = join(harness.folder, '..', 'backup');
  await harness.store.backUp(backup, 1, () => {});
  let refusals = 0;
  for (const file of readdirSync(backup)) {
    const bytes = readFileSync(join(backup, file));
    const ats = [0, 0.25, 0.5, 0.75, 0.999].map((part) => Math.floor(bytes.length * part));
    for (const harm of ['missing', ...ats.map((at) => `cut at ${at}`), ...ats.map((at) => `a bit of ${at}`)]) {
      const at = Number(/\d+/.exec(harm)?.[0]);
      const damaged = join(harness.folder, '..', 'damaged');
      const restored = join(harness.folder, '..', 'restored');
      cpSync(backup, damaged, { recursive: true });
      if (harm === 'missing') rmSync(join(damaged, file));
      else if (harm.startsWith('cut')) writeFileSync(join(damaged, file), bytes.subarray(0, at));
      else if (bytes.length > 0) writeFileSync(join(damaged, file), bytes.with(at, bytes[at]! ^ 0x10));
      const where = `${file}: ${harm}`;
      try {
        await restore(damaged, restored, () => {});
        const whole = await LevelStore.open({
          folder: restored,
          log: quiet,
          onError: (error) => assert.ifError(error),
        });
        assert.deepEqual(ids((await whole.page('ann', 0, 100, 1e9)).messages), ids(messages), where);
        assert.equal((await whole.name('ann'))?.kind, 'user', where);
        assert.equal(whole.stats.damaged, 0, where);
        await whole.close();
      } catch (error) {
        assert.ok(error instanceof StoreUnusable, `${where}: ${String(error)}`);
        assert.ok(error.message.startsWith(damaged) && !error.message.includes('\n'), `${where}: ${error.message}`);
        assert.ok(!existsSync(restored), where);
        refusals++;
      }
      rmSync(damaged, { recursive: true });
      rmSync(restored, { recursive: true, force: true });
    }
  }
  assert.ok(refusals > 10, `${refusals} refusals`);
});
