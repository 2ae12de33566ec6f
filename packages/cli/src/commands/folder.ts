import { settings, variableOf } from '@hawser/server';
import { Option } from 'commander';

/** The data folder that an operator's command works on. */
export interface FolderOption {
  readonly data: string;
}

/** `--data`, the same as `hawser serve` has. */
export function folderOption(): Option {
  return new Option('--data <FOLDER>', 'the data folder of the server')
    .env(variableOf('data'))
    .default(settings.data.fallback);
}
