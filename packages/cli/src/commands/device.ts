import { type DeviceRow, operate } from '@hawser/server';
import { Command } from 'commander';
import { print, time, visible } from '../output.ts';
import { type FolderOption, folderOption } from './folder.ts';
import { type Listing, printList } from './list.ts';

const devices: Listing<DeviceRow> = {
  operation: 'listDevices',
  head: ['ID', 'USERS', 'ONLINE', 'LAST LOGIN (UTC)', 'FIRST KNOWN (UTC)'],
  key: (row) => row.id,
  cells: (row) => [row.id, String(row.users), row.online ? 'yes' : 'no', time(row.lastSeenAt), time(row.createdAt)],
};

/** `hawser device …` */
export function device(): Command {
  const command = new Command('device').description('devices: list, remove');
  command
    .command('list')
    .description('list devices')
    .addOption(folderOption())
    .option('--json', 'one JSON object a line')
    .action((options: FolderOption & { json?: true }) => printList(devices, options.data, options.json === true));
  command
    .command('remove <id>')
    .description('forget a device: the session, who added it, the messages waiting')
    .addOption(folderOption())
    .action(async (id: string, options: FolderOption) => {
      await operate(options.data, 'removeDevice', { name: id });
      print(`${visible(id)} is removed.`);
    });
  return command;
}
