import type { InboxRow, MessageRow, PurgeState } from '@hawser/server';
import { Command } from 'commander';
import { print, time, visible } from '../output.ts';
import { Progress } from '../progress.ts';
import { type Listing, list, printList } from './list.ts';
import { addSettings, folderOf, type GivenOptions, operationsOn } from './options.ts';

const inboxes: Listing<InboxRow> = {
  operation: 'listInboxes',
  // As many as were counted in time.
  pageRows: 1,
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
    await using operations = await operationsOn(folderOf(options));
    const progress = new Progress('purge', 'messages');
    let state: PurgeState = { purged: 0, after: '', end: false };
    let purged = 0;
    try {
      while (!state.end) {
        state = (await operations.run('purgeInbox', { name, after: state.after })) as PurgeState;
        purged += state.purged;
        progress.count(purged);
      }
    } finally {
      progress.end();
    }
    print(purged === 0 ? `Nothing waits for ${visible(name)}.` : `${purgedMessages(purged, visible(name))} deleted.`);
  });
}

function purgedMessages(count: number, name: string): string {
  return count === 1 ? `1 message for ${name} is` : `${count} messages for ${name} are`;
}
