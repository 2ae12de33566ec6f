import { operate, type UserRow } from '@hawser/server';
import { Command } from 'commander';
import { print, time, visible } from '../output.ts';
import { readPassword } from '../password.ts';
import { type FolderOption, folderOption } from './folder.ts';
import { type Listing, printList } from './list.ts';

interface PasswordOptions extends FolderOption {
  readonly passwordStdin?: true;
}

const users: Listing<UserRow> = {
  operation: 'listUsers',
  head: ['NAME', 'DEVICES', 'ONLINE', 'CREATED (UTC)'],
  key: (row) => row.name,
  cells: (row) => [row.name, String(row.devices), row.online ? 'yes' : 'no', time(row.createdAt)],
};

/** `hawser user …` */
export function user(): Command {
  const command = new Command('user').description('people: add, list, remove, change a password');
  command
    .command('add <name>')
    .description('add a person; asks for the password')
    .addOption(folderOption())
    .option('--password-stdin', 'read the password from standard input')
    .action(async (name: string, options: PasswordOptions) => {
      const password = await readPassword(`Password for ${visible(name)}`, options.passwordStdin === true);
      await operate(options.data, 'addUser', { name, password });
      print(`${visible(name)} can log in now.`);
    });
  command
    .command('passwd <name>')
    .description('change the password of a person; sessions that are open go on')
    .addOption(folderOption())
    .option('--password-stdin', 'read the password from standard input')
    .action(async (name: string, options: PasswordOptions) => {
      const password = await readPassword(`New password for ${visible(name)}`, options.passwordStdin === true);
      await operate(options.data, 'setPassword', { name, password });
      print(`The password of ${visible(name)} is changed.`);
    });
  command
    .command('list')
    .description('list people')
    .addOption(folderOption())
    .option('--json', 'one JSON object a line')
    .action((options: FolderOption & { json?: true }) => printList(users, options.data, options.json === true));
  command
    .command('remove <name>')
    .description('remove a person: the session, the devices added, the messages waiting')
    .addOption(folderOption())
    .action(async (name: string, options: FolderOption) => {
      await operate(options.data, 'removeUser', { name });
      print(`${visible(name)} is removed.`);
    });
  return command;
}
