/**
 * `npm run docs`: writes what the documents say of the code anew from the code: the tables of refusals, closings and
 * limits in `docs/protocol.md` and `docs/protocol.zh.md`, the limits of delivery in `docs/delivery.md`, and the table of
 * settings in `README.md`. Each stands between
 * `<!-- NAME:start -->` and `<!-- NAME:end -->`. `test/docs.test.ts` fails when a document and the code differ.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { closings, type Refusal, refusals, serverLimits, wireLimits } from '@hawser/protocol';
import { optionOf, type Setting, settingNames, settings, variableOf } from '@hawser/server';
import { deliveryLimits } from './delivery-limits.ts';
import { closingReasons, limitReasons, sentFirst } from './protocol-zh.ts';

const root = join(import.meta.dirname, '..');
const LIMITS_SOURCE = 'packages/protocol/src/limits.ts';

type Row = readonly string[];

/** What the protocol pages say in their tables and around them; the text of refusals is what is sent. */
interface Words {
  readonly refusals: string;
  readonly refusalHead: Row;
  readonly permanent: string;
  readonly temporary: string;
  readonly closings: string;
  readonly closingHead: Row;
  readonly closing: (name: keyof typeof closings) => Row;
  readonly limits: string;
  readonly limitHead: Row;
  readonly limit: (name: keyof typeof wireLimits) => string;
}

const english: Words = {
  refusals: `Answers that refuse one request; the connection goes on, unless the next table says otherwise. Rely on the code: the
text is for people and may change. Where a body is at fault, it may name the field instead. What may go away by itself
says so; of a message (cmd 200) such a refusal is told only to clients that sent \`"nack":true\`.`,
  refusalHead: ['reason', 'code', '`msg`', 'again later?'],
  permanent: 'no',
  temporary: 'yes',
  closings: 'What ends a connection from the side of the server, and what it sends first:',
  closingHead: ['reason', 'when', 'sent first'],
  closing: (name) => [closings[name].reason, closings[name].says],
  limits: 'What both ends of a connection must keep to:',
  limitHead: ['limit', 'value', 'what it bounds'],
  limit: (name) => readReasons().get(name) ?? '',
};

const chinese: Words = {
  refusals:
    '下表是对单个请求的拒绝响应；除下一张表另有说明外，连接保持不变。请以 code 为准：`msg` 是给人看的文本，可能改变；请求体有错时，它也可能指出是哪个字段。表中注明可稍后重试的拒绝，若针对的是消息（cmd 200），只告知发送过 `"nack":true` 的客户端。',
  refusalHead: ['原因', 'code', '`msg`', '可稍后重试'],
  permanent: '否',
  temporary: '是',
  closings: '服务器在下列情况下关闭连接，关闭之前先发送的内容如下：',
  closingHead: ['原因', '情况', '先发送'],
  closing: (name) => [closingReasons[name], sentFirst[closings[name].says]],
  limits: '连接双方都必须遵守的限制：',
  limitHead: ['限制', '值', '含义'],
  limit: (name) => limitReasons[name],
};

function errorTables(words: Words): string {
  const refused = Object.entries<Refusal>(refusals).map(([name, { code, msg, retry }]) => [
    `\`${name}\``,
    String(code),
    msg,
    retry ? words.temporary : words.permanent,
  ]);
  const closed = (Object.keys(closings) as (keyof typeof closings)[]).map((name) => [
    `\`${name}\``,
    ...words.closing(name),
  ]);
  return [words.refusals, table(words.refusalHead, refused), words.closings, table(words.closingHead, closed)].join(
    '\n\n',
  );
}

function limitTable(words: Words): string {
  const rows = (Object.keys(wireLimits) as (keyof typeof wireLimits)[]).map((name) => [
    `\`${name}\``,
    withUnit(name, wireLimits[name]),
    words.limit(name),
  ]);
  return `${words.limits}\n\n${table(words.limitHead, rows)}`;
}

/** The comment above each limit; one that has none shares that of the limit before it. */
function readReasons(): Map<string, string> {
  const reasons = new Map<string, string>();
  let reason = '';
  for (const line of readFileSync(join(root, LIMITS_SOURCE), 'utf8').split('\n')) {
    const comment = /^ {2,4}\/\*\* (.*) \*\/$/.exec(line)?.[1];
    const name = /^ {2,4}(\w+): /.exec(line)?.[1];
    if (name !== undefined) reasons.set(name, reason);
    else reason = comment ?? '';
  }
  for (const name of Object.keys({ ...wireLimits, ...serverLimits })) {
    if (!reasons.has(name)) throw new Error(`${LIMITS_SOURCE} is not written as expected: ${name} was not found`);
  }
  return reasons;
}

/** `262144` of a limit in bytes is `256 KiB`. */
function withUnit(name: string, value: number): string {
  const unit = /(Bytes|Seconds|Bits)(?=Max|Min|$)/.exec(name)?.[1];
  if (unit !== 'Bytes') return `${grouped(value)}${unit === undefined ? '' : ` ${unit.toLowerCase()}`}`;
  if (value % 1024 ** 2 === 0) return `${grouped(value / 1024 ** 2)} MiB`;
  return value % 1024 === 0 ? `${grouped(value / 1024)} KiB` : `${grouped(value)} bytes`;
}

const TIMES = [
  ['day', 24 * 60 * 60_000],
  ['h', 60 * 60_000],
  ['min', 60_000],
  ['s', 1000],
  ['ms', 1],
] as const;

/** `60000` of a limit in milliseconds is `1 min`; other limits as in the protocol's pages. */
function withUnitOrTime(name: string, value: number): string {
  if (/Percent/.test(name)) return `${value} %`;
  if (name === 'inboxSenderShare') return `1 / ${value}`;
  if (/BytesFree$|BytesPauseReading$/.test(name)) return withUnit('Bytes', value);
  if (!/Ms(?=Max|$)/.test(name)) return withUnit(name, value);
  const [unit, ms] = TIMES.find(([, each]) => value % each === 0) ?? TIMES[4];
  return `${value / ms} ${unit}${unit === 'day' && value > ms ? 's' : ''}`;
}

function deliveryTable(): string {
  const values: Record<string, number> = { ...wireLimits, ...serverLimits };
  const rows = deliveryLimits.map(({ name, setting, happens, sender, metric }) => [
    `\`${name}\``,
    withUnitOrTime(name, values[name]!),
    setting === undefined ? '' : `\`${optionOf(setting)}\`, \`${variableOf(setting)}\``,
    happens,
    sender,
    metric === undefined ? '' : `\`${metric}\``,
  ]);
  return table(
    ['limit', 'value', 'option, variable', 'what happens there', 'the sender sees', 'counted or shown by'],
    rows,
  );
}

function grouped(value: number): string {
  return value.toLocaleString('en-US');
}

function settingTable(): string {
  const rows = settingNames.map((name) => {
    const { placeholder, fallback, help }: Setting<unknown> = settings[name];
    const option = placeholder === undefined ? optionOf(name) : `${optionOf(name)} ${placeholder}`;
    const preset = placeholder === undefined ? 'off' : fallback === undefined ? '' : `\`${fallback}\``;
    return [`\`${option}\``, `\`${variableOf(name)}\``, preset, help];
  });
  return table(['option', 'variable', 'default', 'meaning'], rows);
}

/** A table in Markdown, its columns as wide as they need. */
function table(head: Row, rows: readonly Row[]): string {
  const cells = [head, ...rows].map((row) => row.map((cell) => cell.replaceAll('|', '\\|')));
  const widths = head.map((_, column) => Math.max(...cells.map((row) => widthOf(row[column]!))));
  const lines = cells.map((row) => row.map((cell, column) => cell + ' '.repeat(widths[column]! - widthOf(cell))));
  lines.splice(
    1,
    0,
    widths.map((width) => '-'.repeat(width)),
  );
  return lines.map((line) => `| ${line.join(' | ')} |`).join('\n');
}

/** Chinese takes two columns. */
function widthOf(text: string): number {
  return [...text].reduce((width, character) => width + (character >= '\u2e80' ? 2 : 1), 0);
}

/** Each document that has tables of the code's, with the text that it should have. */
export function documents(): { readonly path: string; readonly text: string }[] {
  const tables = {
    'README.md': { settings: settingTable() },
    'docs/delivery.md': { delivery: deliveryTable() },
    'docs/protocol.md': { errors: errorTables(english), limits: limitTable(english) },
    'docs/protocol.zh.md': { errors: errorTables(chinese), limits: limitTable(chinese) },
  };
  return Object.entries(tables).map(([path, parts]) => {
    const before = readFileSync(join(root, path), 'utf8');
    const text = Object.entries(parts).reduce((all, [name, part]) => replacePart(path, all, name, part), before);
    return { path, text };
  });
}

function replacePart(path: string, text: string, name: string, part: string): string {
  const [start, end] = [`<!-- ${name}:start -->\n`, `<!-- ${name}:end -->`];
  const from = text.indexOf(start);
  const to = text.indexOf(end);
  if (from < 0 || to < from) throw new Error(`${path} has no place for ${name}: ${start.trim()} … ${end}`);
  return `${text.slice(0, from + start.length)}\n${part}\n\n${text.slice(to)}`;
}

if (import.meta.main) {
  for (const { path, text } of documents()) {
    if (readFileSync(join(root, path), 'utf8') === text) continue;
    writeFileSync(join(root, path), text);
    console.log(`${path} is rewritten`);
  }
}
