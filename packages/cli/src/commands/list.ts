import { operate } from '@hawser/server';
import { print, table } from '../output.ts';

/** What an operator's list shows, and how to fetch and write a row. */
export interface Listing<Row> {
  readonly operation: 'listUsers' | 'listDevices';
  readonly head: readonly string[];
  key(row: Row): string;
  cells(row: Row): readonly string[];
}

/** Prints a list, page by page: as columns, or one JSON object a line. */
export async function printList<Row>(listing: Listing<Row>, data: string, asJson: boolean): Promise<void> {
  let after = '';
  let isFirst = true;
  for (;;) {
    const rows = (await operate(data, listing.operation, { after })) as Row[];
    const last = rows.at(-1);
    if (asJson) for (const row of rows) print(JSON.stringify(row));
    else if (isFirst || last !== undefined) print(table(listing.head, rows.map(listing.cells)));
    if (last === undefined || rows.length < PAGE_ROWS) return;
    after = listing.key(last);
    isFirst = false;
  }
}

/** As many as the server gives at once. */
const PAGE_ROWS = 500;
