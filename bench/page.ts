// The report as one page that needs nothing else: charts of what tells most, and the whole table.
import { type Block, cellsOf, fixed, headerOf, type Line, type Summary } from './report.ts';

export type Report = {
  facts: readonly string[];
  durability: readonly string[];
  /** Cautions, and promises seen broken. */
  notes: readonly string[];
  targets: readonly string[];
  blocks: readonly Block[];
};

/** Figures that get a chart, by their names in report.ts. */
const CHARTED = new Set([
  'deliveredPerSecond',
  'cpuUsPerMessage',
  'deliveryP50Ms',
  'deliveryP95Ms',
  'deliveryP99Ms',
  'loginsPerSecond',
  'cpuUsPerLogin',
  'residentKiBPerConnection',
  'syncedPerSecond',
  'cpuUsPerSynced',
  'drainedPerSecond',
  'pairsPercent',
  'floodP95Times',
  'readyMs',
]);

const LABEL_WIDTH = 90;
const BARS_WIDTH = 250;
const VALUE_WIDTH = 90;
const BAR_HEIGHT = 16;
const BAR_STEP = 24;

const STYLE = `
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #667; --paper: #fff; --line: #d8dbe0; --own: #0b6bcb; --other: #9aa7b8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --soft: #9aa3ad; --paper: #16181b; --line: #34383e; --own: #4ea1f3; --other: #66717f; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto; padding: 0 1rem; max-width: 1100px; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p, li { color: var(--soft); }
.charts { display: flex; flex-wrap: wrap; gap: 1rem 2rem; }
figure { margin: 0; }
figcaption { font-weight: 600; font-size: .9rem; }
svg text { font-size: 12px; fill: var(--ink); }
.own { fill: var(--own); }
.other { fill: var(--other); }
.spread { stroke: var(--ink); stroke-width: 1.5; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: .15rem .6rem; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
tbody th { padding-top: .9rem; }
`;

const ESCAPES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

function escaped(text: string): string {
  return text.replace(/[&<>"]/g, (found) => ESCAPES[found]!);
}

/** One target's median as a bar, its smallest and largest run as a line across the end. */
function bar(target: string, found: Summary, top: number, scale: number, digits: number, isOwn: boolean): string {
  const middle = top + BAR_HEIGHT / 2;
  const [x1, x2] = [found.min, found.max].map((value) => (LABEL_WIDTH + value * scale).toFixed(1));
  return [
    `<text x="${LABEL_WIDTH - 8}" y="${middle + 4}" text-anchor="end">${escaped(target)}</text>`,
    `<rect class="${isOwn ? 'own' : 'other'}" x="${LABEL_WIDTH}" y="${top}" width="${(found.median * scale).toFixed(1)}" height="${BAR_HEIGHT}"/>`,
    `<line class="spread" x1="${x1}" x2="${x2}" y1="${middle}" y2="${middle}"/>`,
    `<text x="${LABEL_WIDTH + found.max * scale + 6}" y="${middle + 4}">${fixed(found.median, digits)}</text>`,
  ].join('');
}

function chart({ text, digits, found }: Line, targets: readonly string[]): string {
  const most = Math.max(...found.map((it) => it?.max ?? 0));
  const scale = most > 0 ? BARS_WIDTH / most : 0;
  const shown = found.flatMap((it, i) => (it === null ? [] : [{ target: targets[i]!, it, isOwn: i === 0 }]));
  const [width, height] = [LABEL_WIDTH + BARS_WIDTH + VALUE_WIDTH, shown.length * BAR_STEP];
  const bars = shown.map(({ target, it, isOwn }, i) => bar(target, it, i * BAR_STEP + 4, scale, digits, isOwn));
  return `<figure><figcaption>${escaped(text)}</figcaption>
<svg width="${width}" height="${height}" role="img" aria-label="${escaped(text)}">${bars.join('')}</svg></figure>`;
}

function charts({ scenario, lines }: Block, targets: readonly string[]): string {
  const charted = lines.filter(({ name }) => CHARTED.has(name));
  if (charted.length === 0) return '';
  const figures = charted.map((line) => chart(line, targets));
  return `<h2>${escaped(scenario)}</h2>\n<div class="charts">\n${figures.join('\n')}\n</div>`;
}

function tableRow(cells: readonly string[], tag: 'td' | 'th'): string {
  return `<tr>${cells.map((cell) => `<${tag}>${escaped(cell)}</${tag}>`).join('')}</tr>`;
}

function list(items: readonly string[]): string {
  return items.length === 0 ? '' : `<ul>${items.map((item) => `<li>${escaped(item)}</li>`).join('')}</ul>`;
}

export function page({ facts, durability, notes, targets, blocks }: Report): string {
  const header = headerOf(targets);
  const rows = blocks.flatMap(({ scenario, lines }) => [
    `<tr><th colspan="${header.length}">${escaped(scenario)}</th></tr>`,
    ...lines.map((line) => tableRow(cellsOf(line), 'td')),
  ]);
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Hawser benchmark</title>
<style>${STYLE}</style>
<h1>Hawser benchmark</h1>
<p>${escaped(facts.join(' · '))}</p>
${list(durability)}
<p>Bars are medians of the runs; the line across a bar's end goes from the smallest to the largest.</p>
${blocks.map((block) => charts(block, targets)).join('\n')}
<h2>All figures</h2>
<div class="scroll"><table>
<thead>${tableRow(header, 'th')}</thead>
<tbody>
${rows.join('\n')}
</tbody>
</table></div>
${notes.length === 0 ? '' : `<h2>Cautions</h2>\n${list(notes)}`}
</html>
`;
}
