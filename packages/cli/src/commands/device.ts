import type { DeviceRow } from '@hawser/server';
import { Command } from 'commander';
import { print, time, visible } from '../output.ts';
import { type Listing, list } from './list.ts';
import { addSettings, folderOf, type GivenOptions, operationsOn } from './options.ts';

const devices: Listing<DeviceRow> = {
  operation: 'listDevices',
  pageRows: 500,
  head: ['ID', 'USERS', 'ONLINE', 'LAST LOGIN (UTC)', 'FIRST KNOWN (UTC)'],
  key: (row) => row.id,
  cells: (row) => [row.id, String(row.users), row.online ? 'yes' : 'no', time(row.lastSeenAt), time(row.createdAt)],
};

/** `hawser device …` */
export function device(): Command {
  return new Command('device')
    .description('devices: list, remove')
    .addCommand(list(devices, 'list devices'))
    .addCommand(remove());
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
