#!/usr/bin/env node
/** The `hawser` command. */

import { OperatorError, SettingError, StartError } from '@hawser/server';
import { Command } from 'commander';
import { device } from './commands/device.ts';
import { doctor } from './commands/doctor.ts';
import { serve } from './commands/serve.ts';
import { user } from './commands/user.ts';
import { fail } from './output.ts';
import { version } from './version.ts';

const program = new Command('hawser')
  .description('Keeps apps and devices connected, and loses nothing between them.')
  .version(version)
  .showHelpAfterError('(hawser --help lists the commands)')
  .addCommand(serve())
  .addCommand(user())
  .addCommand(device())
  .addCommand(doctor());

try {
  await program.parseAsync();
} catch (error) {
  const isExpected = error instanceof SettingError || error instanceof StartError || error instanceof OperatorError;
  fail(isExpected || !(error instanceof Error) ? error : (error.stack ?? error.message));
}
