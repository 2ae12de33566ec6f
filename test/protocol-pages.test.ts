// The protocol's page in Chinese says what the English one says, as far as a program can tell.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

/** What stands between two headings, with what is the same in all languages. */
interface Section {
  readonly heading: string;
  readonly level: number;
  readonly items: number;
  readonly rows: number;
  readonly blocks: readonly string[];
  readonly code: ReadonlySet<string>;
  readonly numbers: ReadonlySet<string>;
  readonly choices: number;
}

function sectionsOf(page: string, end: string): Section[] {
  const [text = ''] = readFileSync(join(import.meta.dirname, '..', 'docs', page), 'utf8').split(end);
  const blocks: string[] = [];
  const prose = text.replaceAll(/^```[\s\S]*?^```/gm, (block) => `\0${blocks.push(block) - 1}\0`);
  return prose
    .split(/^(?=#+ )/m)
    .slice(1)
    .map((part) => {
      const [heading = '', ...lines] = part.split('\n');
      const body = lines.join('\n');
      const code = [...body.matchAll(/`([^`\n]+)`/g)].map(([, each = '']) => each.replace('客户端 id', 'client id'));
      return {
        heading,
        level: heading.indexOf(' '),
        items: lines.filter((line) => /^(?:-|\d+\.) /.test(line)).length,
        rows: lines.filter((line) => line.startsWith('|')).length,
        blocks: [...body.matchAll(/\0(\d+)\0/g)].map(([, at]) => bare(blocks[Number(at)] ?? '')),
        code: new Set(code.filter((each) => !each.startsWith('protocol.'))),
        numbers: new Set(body.replaceAll(/`[^`\n]*`|\0\d+\0/g, '').match(/\d+(?:,\d{3})*/g)),
        choices: body.match(/Hawser's choice|Hawser 的选择/g)?.length ?? 0,
      };
    });
}

/** A block without its words: bytes, JSON, and drawings stay. */
function bare(block: string): string {
  return block
    .split('\n')
    .map((line) => /^(?:(?:[0-9a-f]{2}|\.\.)(?: +|$))+/.exec(line)?.[0].trim() ?? /\{.*$/.exec(line)?.[0] ?? '')
    .filter((line) => line !== '')
    .join('\n');
}

const english = sectionsOf('protocol.md', '\0');
const chinese = sectionsOf('protocol.zh.md', '\n## 附录');

test('both have the same sections', () => {
  assert.ok(english.length > 20);
  const levels = (sections: readonly Section[]) => sections.map(({ level }) => level);
  assert.deepEqual(levels(chinese), levels(english));
});

for (const [i, { heading, ...section }] of english.entries()) {
  const { heading: other = '', ...same } = chinese[i] ?? ({} as Partial<Section>);
  test(`${heading} and ${other} have the same points, rows, bytes, codes and numbers`, () => {
    const { numbers, ...rest } = section;
    const { numbers: its, ...restOfIt } = same;
    assert.deepEqual(restOfIt, rest);
    // English has words for some of them.
    assert.deepEqual(
      [...numbers].filter((each) => its?.has(each) !== true),
      [],
    );
  });
}
