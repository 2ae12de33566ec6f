import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { test } from 'node:test';

const root = resolve(import.meta.dirname, '..');

test('what is run keeps its compiled code beside the installed packages, or where it is told to', () => {
  const folder = mkdtempSync(join(tmpdir(), 'hawser-run-'));
  try {
    const program = join(folder, 'program.mjs');
    writeFileSync(program, "import { getCompileCacheDir } from 'node:module';\nconsole.log(getCompileCacheDir());\n");
    const cacheOf = (more: NodeJS.ProcessEnv): string => {
      const { NODE_COMPILE_CACHE, ...env } = process.env;
      const args = [join(root, 'scripts', 'run.mjs'), program];
      const { status, stdout, stderr } = spawnSync(process.execPath, args, {
        encoding: 'utf8',
        env: { ...env, ...more },
      });
      assert.equal(status, 0, stderr);
      return stdout.trim();
    };
    assert.ok(cacheOf({}).startsWith(join(root, 'node_modules', '.cache', 'compiled')));
    assert.ok(cacheOf({ NODE_COMPILE_CACHE: folder }).startsWith(folder));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
