import { existsSync, readFileSync, writeFileSync } from 'node:fs';

const INPUT_CHARS_MAX = 1_500;
const ADDED_MAX = 40;

function fileOf(target: string): URL {
  return new URL(`corpus/${target}.txt`, import.meta.url);
}

/** The inputs that are kept for a target: one a line, `#` begins a comment. */
export function corpusOf(target: string): string[] {
  // What goes over sockets is what goes to the core.
  const file = fileOf(target === 'server' ? 'stateful' : target);
  if (!existsSync(file)) return [];
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'));
}

/** Keeps inputs that reached what none before did. Returns how many. */
export function addToCorpus(target: string, inputs: readonly string[]): number {
  const file = fileOf(target);
  const before = existsSync(file) ? readFileSync(file, 'utf8') : '';
  const known = new Set(before.split('\n'));
  const added = inputs.filter((each) => each.length <= INPUT_CHARS_MAX && !known.has(each)).slice(0, ADDED_MAX);
  if (added.length > 0) writeFileSync(file, `${before}${added.join('\n')}\n`);
  return added.length;
}
