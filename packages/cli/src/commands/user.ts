import type { UserRow } from '@hawser/server';
import { Command } from 'commander';
import { print, time, visible } from '../output.ts';
import { readPassword } from '../password.ts';
import { type Listing, list } from './list.ts';
import { addSettings, folderOf, type GivenOptions, operationsOn } from './options.ts';

type PasswordOptions = GivenOptions & { readonly passwordStdin?: true };

const users: Listing<UserRow> = {
  operation: 'listUsers',
  pageRows: 500,
  head: ['NAME', 'DEVICES', 'ONLINE', 'CREATED (UTC)'],
  key: (row) => row.name,
  cells: (row) => [
    row.name,
    String(row.devices),
    row.locked ? 'locked' : row.online ? 'yes' : 'no',
    time(row.createdAt),
  ],
};

/** `hawser user …` */
export function user(): Command {
  return new Command('user')
    .description('people: add, list, remove, change a password')
    .addCommand(add())
    .addCommand(passwd())
    .addCommand(list(users, 'list people'))
    .addCommand(remove());
}

function add(): Command {
  const command = new Command('add').argument('<name>').description('add a person; asks for the password');
  return withPassword(command).action(async (name: string, options: PasswordOptions) => {
    const folder = folderOf(options);
    const password = await readPassword(`Password for ${visible(name)}`, options.passwordStdin === true);
    // People may be added before the first start.
    await using operations = await operationsOn(folder, { makes: true });
    await operations.run('addUser', { name, password });
    if (operations.isNew) print(`A new data folder is made: ${visible(operations.data)}`);
    print(`${visible(name)} can log in now.`);
  });
}

function passwd(): Command {
  const command = new Command('passwd')
    .argument('<name>')
    .description('change the password of a person; sessions that are open go on');
  return withPassword(command).action(async (name: string, options: PasswordOptions) => {
    const folder = folderOf(options);
    const password = await readPassword(`New password for ${visible(name)}`, options.passwordStdin === true);
    await using operations = await operationsOn(folder);
    await operations.run('setPassword', { name, password });
    print(`The password of ${visible(name)} is changed.`);
  });
}

function remove(): Command {
  const command = new Command('remove')
    .argument('<name>')
    .description('remove a person: the session, the devices added, the messages waiting');
  return addSettings(command, ['data']).action(async (name: string, options: GivenOptions) => {
    await using operations = await operationsOn(folderOf(options));
    await operations.run('removeUser', { name });
    print(`${visible(name)} is removed.`);
  });
}

function withPassword(command: Command): Command {
  return addSettings(command.option('--password-stdin', 'read the password from standard input'), ['data']);
}
