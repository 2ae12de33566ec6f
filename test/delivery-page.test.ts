// What `docs/delivery.md` says of tests and limits is so.

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { deliveryLimits } from '../scripts/delivery-limits.ts';

const root = join(import.meta.dirname, '..');
const page = read('docs/delivery.md');

function read(path: string): string {
  return readFileSync(join(root, path), 'utf8');
}

/** Patterns of the names of the tests in a file. */
function testsOf(path: string): RegExp[] {
  const calls = read(path).matchAll(/\b(?:test|check)\(\s*(['"`])((?:\\.|(?!\1)[^\\])*)\1/g);
  return [...calls].map(([, quote, name = '']) => {
    const pieces = quote === '`' ? name.split(/\$\{(?:[^{}]|\{[^}]*\})*\}/) : [name];
    const escaped = pieces.map((piece) => piece.replaceAll(/\\(.)/g, '$1').replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&'));
    return new RegExp(`^${escaped.join('.+')}$`);
  });
}

const named = [...page.matchAll(/\[[^\]]+\]\(\.\.\/([^)]+\.test\.ts)\) “([^”]+)”/g)];

test('each test that the page names is in the file that it names', () => {
  assert.ok(named.length > 80, `${named.length}`);
  for (const [, path = '', name = ''] of named) {
    assert.ok(existsSync(join(root, path)), path);
    assert.ok(
      testsOf(path).some((pattern) => pattern.test(name)),
      `${path} has no test of this name: ${name}`,
    );
  }
});

/** Sentences without marks, links and line breaks. */
function plain(text: string): string {
  return text
    .replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1')
    .replaceAll(/_\([^)]*\)_/g, '')
    .replaceAll(/[*`_]/g, '')
    .replaceAll(/\s+/g, ' ')
    .trim();
}

test('the list has each sentence of "Delivery" in the protocol, in order, and no other', () => {
  const protocol = read('docs/protocol.md');
  const from = protocol.indexOf('## Delivery\n');
  const section = protocol.slice(from, protocol.indexOf('\n## ', from + 1)).replaceAll(/^#+ .*$|^- /gm, '');
  const list = page.slice(page.indexOf('### Of sending'), page.indexOf('### Of the extensions'));
  const sentences = [...list.matchAll(/^\| (.+?) \| (.+?) \|$/gm)]
    .map(([, sentence = '', tests]) => ({ sentence, tests }))
    .filter(({ sentence }) => sentence.trim() !== 'sentence' && !/^[- ]+$/.test(sentence));
  const words = (text: string): string =>
    plain(text)
      .replaceAll(/\s*([.,;:])\s*/g, '$1 ')
      .trim();
  assert.equal(words(sentences.map(({ sentence }) => sentence).join(' ')), words(section));
  for (const { sentence, tests = '' } of sentences) {
    assert.match(tests, /“|^the client's part *$|^a reason, no promise *$/, sentence);
  }
});

test('the table of limits has each limit of delivery and of inboxes', () => {
  const limits = read('packages/protocol/src/limits.ts');
  for (const section of ['Delivery', 'Inboxes']) {
    const from = limits.indexOf(`  // ${section}\n`);
    const part = limits.slice(from, limits.indexOf('\n\n', from));
    const names = [...part.matchAll(/^ {2,4}(\w+): /gm)].map(([, name]) => name);
    assert.ok(names.length > 5, section);
    for (const name of names) {
      assert.ok(
        deliveryLimits.some((limit) => limit.name === name),
        `scripts/delivery-limits.ts does not say what happens at ${name}`,
      );
    }
  }
});

test('the metrics that the page names are there', () => {
  const metrics = read('packages/server/src/admin/metrics.ts');
  const names = page.match(/\bhawser_\w+/g) ?? [];
  assert.ok(names.length > 20);
  for (const name of names) assert.ok(metrics.includes(`'${name}'`), name);
});
