// What the documents say of the code is so, what they link to is there, and what they tell to run runs.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, globSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { documents } from '../scripts/docs.ts';
import { succeed } from './cli.ts';
import { startServer } from './harness.ts';
import { noTerminal, Terminal } from './terminal.ts';

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
  const metrics = ['metrics', 'dispatcher-metrics']
    .map((file) => read(`packages/server/src/admin/${file}.ts`))
    .join('');
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

test('the script of the protocol pages prints what they say, word for word', async () => {
  await using server = await startServer();
  const printed = await outputOf([join(root, 'docs', 'hello.mjs'), String(server.port)]);
  for (const page of ['docs/protocol.md', 'docs/protocol.zh.md']) {
    const says = /```text\n(lamp-1 [\s\S]*?)```/.exec(read(page))?.[1] ?? '';
    // Device and app are two connections, whose lines may come in another order; msgIds hold the time.
    assert.deepEqual(linesOf(printed), linesOf(says));
  }
});

test("the README's first message takes three commands, word for word", { skip: noTerminal }, async () => {
  const readme = sectionOf('README.md', 'Talk to it');
  const [device, app] = [...readme.matchAll(/```sh\n(.*)\n```/g)].map(([, command = '']) => command);
  const [says = ''] = [...readme.matchAll(/```text\n([\s\S]*?)```/g)].map(([, text = '']) => text);
  assert.ok(device !== undefined && app !== undefined);
  // `npm start` comes before them; the test's own server is on other ports.
  await using server = await startServer();
  const variables = { HAWSER_SERVER: `http://127.0.0.1:${server.httpPort}` };
  await using lamp = new Terminal(device, variables, root);
  await lamp.until('lamp-1 is online');
  await using ann = new Terminal(app, variables, root);
  await ann.until('Password for ann');
  ann.type('secret\r');
  await ann.until(/\n(?=lamp-1: )/);
  await ann.until(says.trim());
  assert.equal(await ann.done, 0);
  await lamp.until('ann: light on');
});

test("the README's ten lines print what it says, word for word", async () => {
  const readme = sectionOf('README.md', 'Talk to it');
  const script = /```js\n(\/\/ first\.mjs\n[\s\S]*?)```/.exec(readme)?.[1] ?? '';
  const [, says] = [...readme.matchAll(/```text\n([\s\S]*?)```/g)].map(([, text = '']) => text);
  assert.equal(script.trim().split('\n').length - 1, 10, 'lines');
  await using server = await startServer();
  const folder = mkdtempSync(join(tmpdir(), 'hawser-docs-'));
  try {
    symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
    const file = join(folder, 'first.mjs');
    writeFileSync(file, script.replace('http://127.0.0.1:9999', `http://127.0.0.1:${server.httpPort}`));
    assert.equal(await outputOf([file]), says);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('the exit codes of the clients are those that the README says', async () => {
  const codes = [...(await succeed(['app', '--help'])).matchAll(/^ {2}(\d+) {2,}\S/gm)].map(([, code]) => code);
  assert.ok(codes.length > 5);
  const readme = sectionOf('README.md', 'The command');
  assert.deepEqual(
    [...readme.matchAll(/^\| (\d+) +\| /gm)].map(([, code]) => code),
    codes,
  );
});

/** From a heading of the second level to the next. */
function sectionOf(path: string, heading: string): string {
  const [, section] = read(path).split(`\n## ${heading}\n`);
  assert.ok(section !== undefined, heading);
  return section.split('\n## ')[0] ?? '';
}

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
