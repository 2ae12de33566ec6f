import type { DeviceRow } from '@hawser/server';
import { Command } from 'commander';
import { print, time, visible } from '../output.ts';
import { exitCodesHelp } from '../talk/exit.ts';
import { type Listing, list } from './list.ts';
import { addSettings, folderOf, type GivenOptions, operationsOn } from './options.ts';
import { add, code, revoke, secret } from './provision.ts';
import { runDevice } from './run-device.ts';

const devices: Listing<DeviceRow> = {
  operation: 'listDevices',
  pageRows: 500,
  head: ['ID', 'USERS', 'ONLINE', 'SECRET', 'CODE', 'LAST LOGIN (UTC)', 'FIRST KNOWN (UTC)'],
  key: (row) => row.id,
  cells: (row) => [
    row.id,
    String(row.users),
    row.online ? 'yes' : 'no',
    shown(row.secret),
    shown(row.code),
    time(row.lastSeenAt),
    time(row.createdAt),
  ],
};

function shown(state: DeviceRow['secret']): string {
  if (state === 'none') return 'no';
  return state === 'set' ? 'yes' : 'locked';
}

/** `hawser device …` */
export function device(): Command {
  const run = runDevice();
  return new Command('device')
    .usage('ID [options] | add ID | secret ID | revoke ID | code ID | list | remove ID')
    .description(
      'be a device: print what comes, and answer. Or, of those that the server knows: add, secret, revoke, code, list, remove',
    )
    .addCommand(run, { isDefault: true })
    .addCommand(add())
    .addCommand(secret())
    .addCommand(revoke())
    .addCommand(code())
    .addCommand(list(devices, 'list devices'))
    .addCommand(remove())
    .addHelpText('after', () => `\n${run.helpInformation()}${exitCodesHelp}`);
}

function remove(): Command {
  const command = new Command('remove')
    .argument('<id>')
    .description('forget a device: the session, who added it, the messages waiting');
  return addSettings(command, ['data']).action(async (id: string, options: GivenOptions) => {
    await using operations = await operationsOn(folderOf(options));
    await operations.run('removeDevice', { name: id });
    print(`${visible(id)} is removed.`);
  });
}
