// What the documents say of the code is so, what they link to is there, and what they tell to run runs.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { documents } from '../scripts/docs.ts';
import { startServer } from './harness.ts';

const root = join(import.meta.dirname, '..');
const pages = globSync('**/*.md', { cwd: root, exclude: (path) => /node_modules|results|hawser-data/.test(path) });

function read(path: string): string {
  return readFileSync(join(root, path), 'utf8');
}

/** A page without what stands in code, where brackets and marks mean other things. */
function proseOf(path: string): string {
  return read(path)
    .replaceAll(/^( *)(```|~~~)[\s\S]*?^\1\2/gm, '')
    .replaceAll(/`[^`\n]*`/g, '``');
}

/** The anchors that GitHub gives to the headings of a page. */
function anchorsOf(path: string): Set<string> {
  const anchors = new Set<string>();
  for (const [, heading = ''] of read(path)
    .replaceAll(/^```[\s\S]*?^```/gm, '')
    .matchAll(/^#+ (.*)$/gm)) {
    const text = heading.replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1').toLowerCase();
    const anchor = text.replaceAll(/[^\p{L}\p{M}\p{N}\p{Pc} -]/gu, '').replaceAll(' ', '-');
    let name = anchor;
    for (let count = 1; anchors.has(name); count++) name = `${anchor}-${count}`;
    anchors.add(name);
  }
  return anchors;
}

test('the tables in the documents are those of the code', () => {
  for (const { path, text } of documents()) {
    assert.equal(read(path), text, `${path} and the code differ: "npm run docs" writes its tables anew`);
  }
});

for (const page of pages) {
  test(`${page}: each link to a file or a heading leads somewhere`, () => {
    for (const [, target = ''] of proseOf(page).matchAll(/\]\(<?([^)>\s]+)>?\)/g)) {
      if (/^[a-z][a-z+.-]*:/i.test(target)) continue;
      const [file = '', anchor] = decodeURIComponent(target).split('#', 2);
      const path = file === '' ? page : join(dirname(page), file);
      assert.ok(existsSync(join(root, path)), `${target} is not there`);
      if (anchor === undefined || !path.endsWith('.md')) continue;
      assert.ok(anchorsOf(path).has(anchor), `${path} has no heading #${anchor}`);
    }
  });

  test(`${page}: each npm script that it names is there`, () => {
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
    for (const [, name = ''] of read(page).matchAll(/\bnpm run ([\w:-]+)/g)) {
      assert.ok(Object.hasOwn(scripts, name), `npm run ${name}`);
    }
  });
}

test('the metrics that the README names are there', () => {
  const metrics = read('packages/server/src/admin/metrics.ts');
  const names = read('README.md').match(/\bhawser_\w+/g) ?? [];
  assert.ok(names.length > 0);
  for (const name of names) assert.ok(metrics.includes(`'${name}'`), name);
});

test('the decisions are numbered from 0001 without a gap, and dated', () => {
  const files = globSync('docs/decisions/*.md', { cwd: root }).sort();
  for (const [index, file] of files.entries()) {
    const number = String(index + 1).padStart(4, '0');
    assert.match(file, new RegExp(`/${number}-[a-z0-9-]+\\.md$`));
    assert.match(read(file), new RegExp(`^# ${number}\\. .+\\n\\n\\d{4}-\\d{2}-\\d{2}\\n`), file);
  }
});

test("the README's first contact prints what the README says, word for word", async () => {
  const readme = read('README.md');
  const script = /```js\n(\/\/ hello\.mjs[\s\S]*?)```/.exec(readme)?.[1] ?? '';
  const says = /```text\n(lamp-1 [\s\S]*?)```/.exec(readme)?.[1] ?? '';
  await using server = await startServer();
  const folder = mkdtempSync(join(tmpdir(), 'hawser-docs-'));
  try {
    writeFileSync(join(folder, 'hello.mjs'), script);
    const printed = await outputOf([join(folder, 'hello.mjs'), String(server.port)]);
    // Device and app are two connections, whose lines may come in another order; msgIds hold the time.
    assert.deepEqual(linesOf(printed), linesOf(says));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

function linesOf(text: string): string[] {
  return text.replaceAll(/m-\d+/g, 'm-…').trim().split('\n').sort();
}

/** What Node prints that runs this; rejects when it fails. */
function outputOf(args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'], timeout: 10_000 });
    let printed = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      printed += text;
    });
    child.once('error', reject);
    child.once('close', (code, signal) => {
      if (code === 0) resolve(printed);
      else reject(new Error(`ended with ${code ?? signal}, having printed:\n${printed}`));
    });
  });
}
