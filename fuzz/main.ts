/**
 * `npm run fuzz`: feeds the decoder, the bodies, the client's package and whole servers with input that nobody sends who
 * means well. See docs/testing.md.
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { bugs, isBug, load } from './bugs.ts';
import { addToCorpus, corpusOf } from './corpus.ts';
import { type FoundBy, type RunResult, run } from './run.ts';
import { isTarget, type TargetName, targets } from './targets.ts';

const SECONDS = 20;
/** A longer input is told of by a file. */
const COMMAND_CHARS_MAX = 4_000;

const USAGE = `npm run fuzz -- [options] [target…]

  Without a target: all of them, one after the other: ${Object.keys(targets).join(', ')}.

  --seconds S     how long each may take (${SECONDS})
  --inputs N      how many inputs each is fed; without --seconds, however long it takes
  --seed N        the first of its chances; drawn when not given
  --input TEXT    only this input, with every check
  --file PATH     the same, from a file
  --as-found      do not make smaller what was found
  --plain         do not look at what is reached of the sources
  --no-corpus     begin with nothing that is kept
  --grow          keep in fuzz/corpus what reached something new
  --bug NAME      with a deliberate bug: ${Object.keys(bugs).join('; ')}`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: 'string' },
    inputs: { type: 'string' },
    seed: { type: 'string' },
    input: { type: 'string' },
    file: { type: 'string' },
    'as-found': { type: 'boolean' },
    plain: { type: 'boolean' },
    'no-corpus': { type: 'boolean' },
    grow: { type: 'boolean' },
    bug: { type: 'string' },
    help: { type: 'boolean' },
  },
});

function number(name: 'seconds' | 'inputs' | 'seed'): number | undefined {
  const text = values[name];
  if (text === undefined) return undefined;
  const value = Number(text);
  if (text !== '' && value >= 0) return value;
  console.error(`fuzz: --${name} must be a number, not ${text}\n\n${USAGE}`);
  process.exit(2);
}

const given = { seconds: number('seconds'), inputs: number('inputs'), seed: number('seed') };
const { bug } = values;
const names = (positionals.length > 0 ? positionals : Object.keys(targets)).filter(isTarget);
const isWrong = names.length < positionals.length || (bug !== undefined && !isBug(bug));
if (values.help === true || isWrong) {
  console.log(USAGE);
  process.exit(values.help === true ? 0 : 2);
}
if (bug !== undefined && isBug(bug)) load(bug);

const seed = given.seed ?? Math.floor(Math.random() * 2 ** 31);

function replay(name: TargetName, { input }: FoundBy): string {
  const withBug = bug === undefined ? '' : ` --bug '${bug}'`;
  if (input.length > COMMAND_CHARS_MAX) return `npm run fuzz -- ${name}${withBug} --file FILE, with that input in it`;
  return `npm run fuzz -- ${name}${withBug} --input '${input.replaceAll("'", "'\\''")}'`;
}

function tell(name: TargetName, { found, inputs, seconds, pool, reached, counts }: RunResult): void {
  const figures = Object.entries(counts).map(([what, count]) => `${count.toLocaleString('en')} ${what}`);
  const rate = Math.round(inputs / seconds).toLocaleString('en');
  console.log(`${name}: ${inputs.toLocaleString('en')} inputs in ${seconds.toFixed(1)} s, ${rate} a second`);
  console.log(
    `  ${[...figures, ...(reached > 0 ? [`${reached} characters of source reached, by ${pool} kept`] : [])].join(', ')}`,
  );
  if (found === undefined) return;
  console.log(`✖ ${name}: ${found.error.stack ?? found.error.message}`);
  console.log(`  found by input ${found.after.toLocaleString('en')} of seed ${seed}:`);
  console.log(`  ${found.input}`);
  console.log(`  again: ${replay(name, found)}`);
}

async function one(name: TargetName): Promise<boolean> {
  const target = await targets[name]();
  const alone = values.file === undefined ? values.input : readFileSync(values.file, 'utf8').trim();
  const result = await run(target, {
    seed,
    inputs: alone !== undefined ? 1 : (given.inputs ?? Number.POSITIVE_INFINITY),
    seconds: given.seconds ?? (given.inputs === undefined ? SECONDS : Number.POSITIVE_INFINITY),
    isGuided: values.plain !== true && alone === undefined && Number.isFinite(target.lookEvery),
    isShrunk: values['as-found'] !== true,
    corpus: alone !== undefined ? [alone] : values['no-corpus'] === true ? [] : corpusOf(name),
  });
  tell(name, result);
  if (values.grow === true) console.log(`  ${addToCorpus(name, result.kept)} inputs are kept from now on`);
  return result.found === undefined;
}

console.log(`seed ${seed}`);
for (const name of names) if (!(await one(name))) process.exitCode = 1;
