import { type InboxRow, type MessageRow, openOperations } from '@hawser/server';
import { Command } from 'commander';
import { print, time, visible } from '../output.ts';
import { type Listing, list, printList } from './list.ts';
import { addSettings, folderOf, type GivenOptions } from './options.ts';

const inboxes: Listing<InboxRow> = {
  operation: 'listInboxes',
  pageRows: 50,
  head: ['RECEIVER', 'MESSAGES', 'BYTES', 'ONLINE', 'OLDEST (UTC)'],
  key: (row) => row.receiver,
  cells: (row) => [
    row.receiver,
    String(row.messages),
    String(row.bytes),
    row.online ? 'yes' : 'no',
    time(row.oldestAt),
  ],
};

/** Columns of a message that fit a line. */
const MSG_COLUMNS = 60;

const messages: Listing<MessageRow> = {
  operation: 'showInbox',
  pageRows: 100,
  head: ['FROM', 'ACCEPTED (UTC)', 'BYTES', 'MSGID', 'MSG'],
  key: (row) => String(row.position),
  cells: (row) => [
    row.from,
    time(row.acceptedAt),
    String(row.bytes),
    row.msgId,
    row.msg.length > MSG_COLUMNS ? `${row.msg.slice(0, MSG_COLUMNS - 1)}…` : row.msg,
  ],
};

/** `hawser inbox …` */
export function inbox(): Command {
  return new Command('inbox')
    .description('messages that wait for their receivers: list, show, purge')
    .addCommand(list(inboxes, 'list inboxes that hold something'))
    .addCommand(show())
    .addCommand(purge());
}

function show(): Command {
  const command = new Command('show')
    .argument('<name>')
    .description('show what waits for a receiver, oldest first')
    .option('--json', 'one JSON object a line');
  return addSettings(command, ['data']).action((name: string, options: GivenOptions & { json?: true }) =>
    printList(messages, folderOf(options), options.json === true, { name }),
  );
}

function purge(): Command {
  const command = new Command('purge').argument('<name>').description('delete all that waits for a receiver');
  return addSettings(command, ['data']).action(async (name: string, options: GivenOptions) => {
    await using operations = await openOperations(folderOf(options));
    const purged = (await operations.run('purgeInbox', { name })) as number;
    print(`${purged} messages for ${visible(name)} are deleted.`);
  });
}
