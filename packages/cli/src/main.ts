#!/usr/bin/env node
/** The `hawser` command. */

import { OperatorError, SettingError, StartError } from '@hawser/server';
import { Command } from 'commander';
import { app } from './commands/app.ts';
import { backup, restore } from './commands/backup.ts';
import { damaged } from './commands/damaged.ts';
import { device } from './commands/device.ts';
import { dispatch } from './commands/dispatch.ts';
import { doctor } from './commands/doctor.ts';
import { inbox } from './commands/inbox.ts';
import { migrate } from './commands/migrate.ts';
import { node } from './commands/node.ts';
import { serve } from './commands/serve.ts';
import { user } from './commands/user.ts';
import { fail, watchOutput } from './output.ts';
import { ExitError, exitCode, failWith } from './talk/exit.ts';
import { version } from './version.ts';

const program = new Command('hawser')
  .description('Keeps apps and devices connected, and loses nothing between them.')
  .version(version)
  .configureOutput({ outputError: (text) => fail(`${text.replace(/^error: /, '').trim()} (see hawser --help)`) })
  .addCommand(serve())
  .addCommand(app())
  .addCommand(user())
  .addCommand(device())
  .addCommand(inbox())
  .addCommand(damaged())
  .addCommand(node())
  .addCommand(dispatch())
  .addCommand(backup())
  .addCommand(restore())
  .addCommand(migrate())
  .addCommand(doctor());

inheritSettings(program);
for (const command of program.commands) if (command.name() === 'app' || command.name() === 'device') tellUsage(command);
watchOutput();
try {
  await program.parseAsync();
} catch (error) {
  const isExpected = error instanceof SettingError || error instanceof StartError || error instanceof OperatorError;
  if (error instanceof ExitError) failWith(error);
  else if (isExpected || !(error instanceof Error)) fail(error);
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

/** For scripts a command line that makes no sense has an exit code of its own here, as --help says. */
function tellUsage(command: Command): void {
  const clients = [command, ...command.commands.filter((each) => each.name() === 'run')];
  for (const each of clients) each.exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : exitCode.usage));
}
