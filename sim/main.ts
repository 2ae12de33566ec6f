/**
 * The simulator: whole servers, many clients, and everything that can go wrong, under a seed.
 *
 *     npm run sim -- --seed 7                one seed, with its figures
 *     npm run sim -- --seed 7 --seeds 1000   a thousand of them from 7 on
 *     npm run sim -- --for 30                fresh seeds for half an hour
 */
import { parseArgs } from 'node:util';
import { bugNamed, bugs } from './bugs.ts';
import { rules } from './checker.ts';
import { Crew } from './crew.ts';
import { Figures, type RunSummary, summary } from './figures.ts';
import { simulate } from './simulation.ts';
import type { Job } from './worker.ts';

const USAGE = `npm run sim -- [options]
  --seed N       the first seed; a fresh one when not given
  --seeds COUNT  how many seeds (1)
  --for MINUTES  as many seeds as fit into this time
  --minutes M    how long the trouble lasts, simulated; drawn from the seed when not given
  --clients C    how many clients; drawn from the seed when not given
  --nodes K      how many servers (1); more than one are a cluster
  --sdk          some of the clients are the client's package
  --war          each name has two clients that take it from one another
  --bug NAME     with a deliberate bug: ${Object.keys(bugs).join(', ')}
  --trace LINES  lines of the trace to print of a failing seed (80); --trace all for the whole
  --message ID   print the trace of this message instead of the one that failed, or of all`;
/** Entries of the trace that are kept when a failing seed is run again. */
const TRACED = 2_000_000;
const FAILED_SHOWN = 5;

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    seeds: { type: 'string' },
    for: { type: 'string' },
    minutes: { type: 'string' },
    clients: { type: 'string' },
    nodes: { type: 'string' },
    sdk: { type: 'boolean' },
    war: { type: 'boolean' },
    bug: { type: 'string' },
    trace: { type: 'string' },
    message: { type: 'string' },
    help: { type: 'boolean' },
  },
});

function number(name: 'seed' | 'seeds' | 'for' | 'minutes' | 'clients' | 'nodes' | 'message'): number | undefined {
  const text = values[name];
  if (text === undefined) return undefined;
  const value = Number(text);
  if (text !== '' && value >= 0) return value;
  console.error(`sim: --${name} must be a number, not ${text}\n\n${USAGE}`);
  process.exit(2);
}

const minutes = number('minutes');
const clients = number('clients');
const nodes = number('nodes');
const { sdk, war, bug } = values;
if (values.help === true || (bug !== undefined && bugNamed(bug) === undefined)) {
  console.log(USAGE);
  process.exit(values.help === true ? 0 : 2);
}
const first = number('seed') ?? Math.floor(Math.random() * 2 ** 31);
const count = number('for') !== undefined ? Number.POSITIVE_INFINITY : (number('seeds') ?? 1);

function replay(seed: number): string {
  const options = Object.entries({ minutes, clients, nodes, bug: bug && `'${bug}'` });
  const given = options.map(([name, value]) => (value === undefined ? '' : ` --${name} ${value}`));
  return `npm run sim -- --seed ${seed}${given.join('')}${sdk === true ? ' --sdk' : ''}${war === true ? ' --war' : ''}`;
}

/** Runs a seed again, with its trace, and prints what went wrong. */
async function explain(seed: number): Promise<RunSummary> {
  const outcome = await simulate({
    seed,
    minutes,
    clients,
    nodes,
    sdk,
    war,
    bug: bug === undefined ? undefined : bugNamed(bug),
    traced: TRACED,
  });
  const run = summary(outcome);
  const [violation] = outcome.violations;
  if (violation === undefined) return run;
  const lines = values.trace === 'all' ? Number.POSITIVE_INFINITY : Number(values.trace ?? 80);
  const message = values.message === 'all' ? undefined : (number('message') ?? violation.message?.id);
  console.log(`\nseed ${seed} failed`);
  for (const line of outcome.trace.lines(lines, message)) console.log(line);
  for (const text of run.violations.slice(0, FAILED_SHOWN)) console.log(`✖ ${text}`);
  console.log(`  the page says: ${rules[violation.rule]}`);
  console.log(`  again: ${replay(seed)}`);
  return run;
}

async function many(): Promise<number> {
  const figures = new Figures();
  const began = performance.now();
  const until = began + (number('for') ?? Number.POSITIVE_INFINITY) * 60_000;
  let seed = first;
  const next = (): Job | undefined =>
    seed - first >= count || performance.now() > until
      ? undefined
      : { seed: seed++, minutes, clients, nodes, sdk, war, bug };
  const failed: number[] = [];
  const crew = new Crew();
  await crew.run(next, (run) => {
    figures.add(run);
    if (run.violations.length > 0) {
      failed.push(run.seed);
      console.log(`✖ seed ${run.seed}: ${run.violations[0]}\n  again: ${replay(run.seed)}`);
    }
    if (figures.seeds % 1000 === 0) console.log(`… ${figures.seeds} seeds, ${figures.failed} failed`);
    return undefined;
  });
  await crew.close();
  console.log(`\nfrom seed ${first} on\n${figures.text((performance.now() - began) / 1000)}`);
  if (failed.length > 0) await explain(Math.min(...failed));
  return failed.length;
}

async function one(): Promise<number> {
  const began = performance.now();
  const run = await explain(first);
  const figures = new Figures();
  figures.add(run);
  console.log(`\nseed ${first}, trace ${run.hash}\n${figures.text((performance.now() - began) / 1000)}`);
  return run.violations.length;
}

process.exitCode = (await (count === 1 ? one() : many())) > 0 ? 1 : 0;
