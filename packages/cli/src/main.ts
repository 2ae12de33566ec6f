#!/usr/bin/env node
/** The `hawser` command. */

import { OperatorError, SettingError, StartError } from '@hawser/server';
import { Command } from 'commander';
import { backup, restore } from './commands/backup.ts';
import { damaged } from './commands/damaged.ts';
import { device } from './commands/device.ts';
import { doctor } from './commands/doctor.ts';
import { inbox } from './commands/inbox.ts';
import { serve } from './commands/serve.ts';
import { user } from './commands/user.ts';
import { fail, watchOutput } from './output.ts';
import { version } from './version.ts';

const program = new Command('hawser')
  .description('Keeps apps and devices connected, and loses nothing between them.')
  .version(version)
  .configureOutput({ outputError: (text) => fail(`${text.replace(/^error: /, '').trim()} (see hawser --help)`) })
  .addCommand(serve())
  .addCommand(user())
  .addCommand(device())
  .addCommand(inbox())
  .addCommand(damaged())
  .addCommand(backup())
  .addCommand(restore())
  .addCommand(doctor());

inheritSettings(program);
watchOutput();
try {
  await program.parseAsync();
} catch (error) {
  const isExpected = error instanceof SettingError || error instanceof StartError || error instanceof OperatorError;
  if (isExpected || !(error instanceof Error)) fail(error);
  else {
    // A defect: whoever reports it needs to say where it is.
    process.stderr.write(`hawser: ${error.stack ?? error.message}\n`);
    process.exitCode = 1;
  }
}

/** Commands made apart from their parent have none of its settings. */
function inheritSettings(parent: Command): void {
  for (const command of parent.commands) {
    command.copyInheritedSettings(parent);
    inheritSettings(command);
  }
}
