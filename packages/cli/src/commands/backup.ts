import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type BackupSeal, type BackupState, OperatorError, restoreBackup } from '@hawser/server';
import { Command } from 'commander';
import { print, visible } from '../output.ts';
import { Progress } from '../progress.ts';
import { addSettings, folderOf, type GivenOptions, operationsOn } from './options.ts';

const POLL_MS = 100;

/** `hawser backup` */
export function backup(): Command {
  const command = new Command('backup')
    .argument('<folder>')
    .description('copy all that is stored into a new folder, also while the server runs');
  return addSettings(command, ['data']).action(async (folder: string, options: GivenOptions) => {
    await using operations = await operationsOn(folderOf(options));
    await operations.run('startBackup', { folder: resolve(folder) });
    const progress = new Progress('backup', 'MiB');
    try {
      for (;;) {
        const state = (await operations.run('backupState', {})) as BackupState;
        progress.bytes(state.doneBytes, state.totalBytes);
        if (state.error !== null) throw new OperatorError(state.error);
        if (state.seal !== null) {
          progress.end();
          print(`${visible(resolve(folder))} holds ${described(state.seal)}.`);
          return;
        }
        await sleep(POLL_MS);
      }
    } finally {
      progress.end();
    }
  });
}

/** `hawser restore` */
export function restore(): Command {
  const command = new Command('restore')
    .argument('<folder>')
    .description('copy a backup into a data folder that has no store yet, checking that it is whole');
  return addSettings(command, ['data']).action(async (folder: string, options: GivenOptions) => {
    const data = folderOf(options);
    const progress = new Progress('restore', 'MiB');
    try {
      const seal = await restoreBackup(folder, data, (done, total) => progress.bytes(done, total));
      progress.end();
      print(`${visible(data)} holds ${described(seal)}, as of ${new Date(seal.createdAt).toISOString()}.`);
    } finally {
      progress.end();
    }
  });
}

function described({ records, bytes }: BackupSeal): string {
  return `${records} records, ${(bytes / 1024 ** 2).toFixed(1)} MiB`;
}
