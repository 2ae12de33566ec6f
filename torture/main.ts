/**
 * Torture: a real server over real sockets, flooded through a hostile proxy, killed, frozen and out of disk.
 *
 *     npm run torture                        twenty rounds of everything
 *     npm run torture -- --seed 7            the same decisions again; what they meet differs with the machine's pace
 *     npm run torture -- --rounds 100 --faults kill,recovery
 */
import { parseArgs } from 'node:util';
import { bugNamed, bugs } from '../sim/bugs.ts';
import { Campaign } from './campaign.ts';
import { type Fault, faults } from './plan.ts';
import { Totals } from './totals.ts';

const USAGE = `npm run torture -- [options]
  --seed N       of the first campaign; a fresh one when not given
  --rounds N     how many rounds (20); every ten on a fresh server
  --minutes M    no round begins after this
  --clients C    how many clients (40)
  --faults LIST  what happens, in turn (${faults.join(',')})
  --bug NAME     with a deliberate bug: ${Object.keys(bugs).join(', ')}`;
const CAMPAIGN_ROUNDS = 10;

function usage(problem?: string): never {
  if (problem === undefined) console.log(USAGE);
  else console.error(`torture: ${problem}\n\n${USAGE}`);
  process.exit(problem === undefined ? 0 : 2);
}

function read() {
  try {
    return parseArgs({
      options: {
        seed: { type: 'string' },
        rounds: { type: 'string', default: '20' },
        minutes: { type: 'string', default: 'Infinity' },
        clients: { type: 'string', default: '40' },
        faults: { type: 'string', default: faults.join(',') },
        bug: { type: 'string' },
        help: { type: 'boolean', default: false },
      },
    }).values;
  } catch (error) {
    return usage(error instanceof Error ? error.message : String(error));
  }
}

const values = read();
if (values.help) usage();

function count(name: 'seed' | 'rounds' | 'minutes' | 'clients', least: number): number {
  const value = Number(values[name]);
  if (values[name] === '' || !(value >= least)) usage(`--${name} must be a number from ${least} on`);
  return value;
}

const chosen = values.faults.split(',');
for (const fault of chosen) if (!faults.some((known) => known === fault)) usage(`there is no fault ${fault}`);
if (values.bug !== undefined && bugNamed(values.bug)?.store !== undefined)
  usage(`${values.bug} needs a store of its own`);
if (values.bug !== undefined && bugNamed(values.bug) === undefined) usage(`there is no bug ${values.bug}`);

const first = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : count('seed', 0);
const rounds = count('rounds', 1);
const clients = count('clients', 2);
const until = performance.now() + count('minutes', 0) * 60_000;
const totals = new Totals();

let current: Campaign | undefined;

// Also when it is interrupted.
process.on('exit', () => {
  if (current !== undefined) totals.add(current);
  console.log(`\n${totals.text()}`);
});

/** Returns whether all went well. */
async function campaign(seed: number, most: number): Promise<boolean> {
  const run = new Campaign({ seed, clients, faults: chosen as Fault[], bug: values.bug });
  current = run;
  try {
    await run.open();
    for (let round = 0; round < most && performance.now() < until; round++) {
      const began = performance.now();
      const before = totals.seen(run);
      const what = await run.round(round);
      totals.rounds++;
      const line = totals.line(run, before);
      console.log(`round ${totals.rounds}: ${what}; ${line}; ${((performance.now() - began) / 1000).toFixed(1)} s`);
      if (run.witness.hasFailed) break;
    }
    await run.close();
    totals.add(run);
    current = undefined;
    if (!run.witness.hasFailed) return true;
    const bug = values.bug === undefined ? '' : ` --bug '${values.bug}'`;
    console.log(`\n${run.explain()}`);
    console.log(
      `  again: npm run torture -- --seed ${seed} --rounds ${most} --clients ${clients} --faults ${values.faults}${bug}`,
    );
    return false;
  } finally {
    run.remove();
  }
}

let isWell = true;
for (let seed = first; isWell && totals.rounds < rounds && performance.now() < until; seed++) {
  console.log(`seed ${seed}`);
  isWell = await campaign(seed, Math.min(CAMPAIGN_ROUNDS, rounds - totals.rounds));
}
process.exit(isWell ? 0 : 1);
