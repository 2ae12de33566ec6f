import assert from 'node:assert/strict';
import { test } from 'node:test';
import { completions, quoted, words } from './names.ts';

test('names are words, or JSON strings where they have spaces or quotes in them', () => {
  for (const name of ['lamp-1', 'my lamp', 'say "hi"', '消 息', '\\']) assert.deepEqual(words(quoted(name)), [name]);
  assert.deepEqual(words(' a  "b c" d'), ['a', 'b c', 'd']);
  assert.deepEqual(words('"open end'), ['"open', 'end']);
});

test('a slash completes commands, and names behind them; text completes nothing', () => {
  const commands = ['/add', '/quit'];
  const names = ['lamp-2', 'lamp-1', 'my lamp'];
  assert.deepEqual(completions('/a', commands, names), [['/add '], '/a']);
  assert.deepEqual(completions('/to la', commands, names), [['lamp-1 ', 'lamp-2 '], 'la']);
  assert.deepEqual(completions('/to lamp-1 "my l', commands, names), [['"my lamp" '], '"my l']);
  assert.deepEqual(completions('la', commands, names), [[], 'la']);
});
