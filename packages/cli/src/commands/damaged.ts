import type { DamagedRow } from '@hawser/server';
import { Command } from 'commander';
import { print } from '../output.ts';
import { type Listing, list } from './list.ts';
import { addSettings, folderOf, type GivenOptions, operationsOn } from './options.ts';

const records: Listing<DamagedRow> = {
  operation: 'listDamaged',
  pageRows: 500,
  head: ['RECORD', 'OF', 'BYTES'],
  key: (row) => row.key,
  cells: (row) => [row.record, row.name, String(row.bytes)],
};

/** `hawser damaged …` */
export function damaged(): Command {
  return new Command('damaged')
    .description('records that were set aside because they are damaged: list, forget')
    .addCommand(list(records, 'list what was set aside'))
    .addCommand(forget());
}

function forget(): Command {
  const command = new Command('forget').description('delete what was set aside, once it has been seen to');
  return addSettings(command, ['data']).action(async (options: GivenOptions) => {
    await using operations = await operationsOn(folderOf(options));
    const forgotten = (await operations.run('forgetDamaged', {})) as number;
    print(`${forgotten} damaged record${forgotten === 1 ? ' is' : 's are'} forgotten.`);
  });
}
