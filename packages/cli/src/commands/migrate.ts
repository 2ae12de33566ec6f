import { type Moved, type MoveStep, moveToPostgres, OperatorError, SettingError, settings } from '@hawser/server';
import { Command } from 'commander';
import { damagedRecords, print, visible, warn } from '../output.ts';
import { Progress } from '../progress.ts';
import { databaseOf, folderOf } from './options.ts';

const steps = {
  read: { what: 'read', unit: 'rows' },
  copy: { what: 'copy', unit: 'records' },
  verify: { what: 'verify', unit: 'records' },
} as const satisfies Record<MoveStep, object>;

/** `hawser migrate` */
export function migrate(): Command {
  return new Command('migrate')
    .description('copy all that is stored in a data folder into a PostgreSQL database, while no server runs')
    .option(
      '--from <folder>',
      `the data folder, which is not changed (default: ${settings.data.fallback}) [HAWSER_DATA]`,
    )
    .option('--to <url>', 'the database, which must have nothing yet [HAWSER_POSTGRES]')
    .addHelpText('after', '\nWhat was broken off goes on when the same command is given again.')
    .action(async ({ from, to }: { from?: string; to?: string }) => {
      const folder = folderOf(from === undefined ? {} : { data: from });
      const url = to === undefined ? databaseOf() : read(to);
      if (url === undefined) throw new OperatorError('say with --to or HAWSER_POSTGRES which database');
      tell(await move(folder, url), folder);
    });
}

/** Without the URL itself, which may hold a password. */
function read(to: string): string {
  try {
    return settings.postgres.parse(to);
  } catch (error) {
    throw new SettingError(`--to ${(error as Error).message}`);
  }
}

async function move(folder: string, url: string): Promise<Moved> {
  let shown: MoveStep | undefined;
  let progress = new Progress('', 'silent');
  try {
    return await moveToPostgres(folder, url, (step, done, total) => {
      if (step !== shown) {
        progress.end();
        progress = new Progress(steps[step].what, steps[step].unit);
        shown = step;
      }
      progress.count(done, total);
    });
  } finally {
    progress.end();
  }
}

function tell(moved: Moved, folder: string): void {
  const { users, devices, bindings, messages, bytes, digest, before, damaged, locked } = moved;
  const size = (bytes / 1024 ** 2).toFixed(1);
  const held = `${users} users, ${devices} devices, ${bindings} bindings, ${messages} messages (${size} MiB)`;
  if (before !== undefined) {
    print(`All that ${visible(folder)} holds was moved on ${before.toISOString()}: ${held}.`);
    return;
  }
  print(`The database holds what ${visible(folder)} holds, which is as it was: ${held}.`);
  print(`Counts and checksums agree (SHA-256 ${digest}).`);
  if (damaged > 0) warn(`${damagedRecords(damaged)} set aside before, and stay in the folder`);
  if (locked > 0)
    warn(`users whose records were damaged are still locked: ${locked}; see "hawser user list" on the folder`);
}
