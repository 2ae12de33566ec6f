import { openOperations } from '@hawser/server';
import { Command } from 'commander';
import { print, table } from '../output.ts';
import { addSettings, folderOf, type GivenOptions } from './options.ts';

/** What an operator's list shows, and how to fetch and write a row. */
export interface Listing<Row> {
  readonly operation: 'listUsers' | 'listDevices' | 'listInboxes' | 'showInbox';
  /** Rows that the server gives at once. */
  readonly pageRows: number;
  readonly head: readonly string[];
  key(row: Row): string;
  cells(row: Row): readonly string[];
}

/** `list` of users, devices or inboxes. */
export function list<Row>(listing: Listing<Row>, description: string): Command {
  const command = new Command('list').description(description).option('--json', 'one JSON object a line');
  return addSettings(command, ['data']).action((options: GivenOptions & { json?: true }) =>
    printList(listing, folderOf(options), options.json === true),
  );
}

/** Prints page by page: as columns, or one JSON object a line. */
export async function printList<Row>(
  listing: Listing<Row>,
  data: string,
  asJson: boolean,
  argument: object = {},
): Promise<void> {
  await using operations = await openOperations(data);
  let after = '';
  for (let isFirst = true; !process.stdout.destroyed; isFirst = false) {
    const rows = (await operations.run(listing.operation, { ...argument, after })) as Row[];
    const last = rows.at(-1);
    if (asJson) for (const row of rows) print(JSON.stringify(row));
    else if (isFirst || last !== undefined) print(table(listing.head, rows.map(listing.cells)));
    if (last === undefined || rows.length < listing.pageRows) return;
    after = listing.key(last);
  }
}
