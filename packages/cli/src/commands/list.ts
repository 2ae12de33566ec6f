import type { Operations, StoreState } from '@hawser/server';
import { Command } from 'commander';
import { damagedRecords, print, table, warn } from '../output.ts';
import { Progress } from '../progress.ts';
import { addSettings, folderOf, type GivenOptions, operationsOn } from './options.ts';

/** What an operator's list shows, and how to fetch and write a row. */
export interface Listing<Row> {
  readonly operation: 'listUsers' | 'listDevices' | 'listInboxes' | 'showInbox' | 'listDamaged';
  /** Fewer rows than these are the last ones. */
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
  await using operations = await operationsOn(data);
  // Rows on a terminal show by themselves how far it is.
  const progress = new Progress('list', process.stdout.isTTY ? 'silent' : 'rows');
  let after = '';
  let printed = 0;
  try {
    for (let isFirst = true; !process.stdout.destroyed; isFirst = false) {
      const rows = (await operations.run(listing.operation, { ...argument, after })) as Row[];
      const last = rows.at(-1);
      if (asJson) for (const row of rows) print(JSON.stringify(row));
      else if (isFirst || last !== undefined) print(table(listing.head, rows.map(listing.cells)));
      printed += rows.length;
      progress.count(printed);
      if (last === undefined || rows.length < listing.pageRows) break;
      after = listing.key(last);
    }
  } finally {
    progress.end();
  }
  if (listing.operation !== 'listDamaged') await warnOfDamage(operations);
}

async function warnOfDamage(operations: Operations): Promise<void> {
  const { damaged } = (await operations.run('storeState', {})) as StoreState;
  if (damaged > 0) warn(`${damagedRecords(damaged)} set aside, and not shown here: see "hawser damaged list"`);
}
