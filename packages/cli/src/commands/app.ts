import { Command, Option } from 'commander';
import { chat } from '../talk/chat.ts';
import { Ending } from '../talk/ending.ts';
import { exitCodesHelp, UsageError } from '../talk/exit.ts';
import { Lines } from '../talk/lines.ts';
import { changeDevices, leave, logIn } from '../talk/login.ts';
import {
  type AppOptions,
  caOption,
  connectionOf,
  countOption,
  namesOption,
  refuseUnknownVariables,
  serverOption,
  timeoutOption,
} from '../talk/options.ts';
import { pipe } from '../talk/pipe.ts';
import { plainScreen, Report } from '../talk/report.ts';

const ANSWERS_MAX = 1e9;

/** `hawser app` */
export function app(): Command {
  return new Command('app')
    .description("be a person's app: chat on a terminal, or send each line of a pipe as a message")
    .addOption(serverOption())
    .addOption(caOption())
    .addOption(new Option('--user <name>', 'who it is').env('HAWSER_USER'))
    .option('--register', 'register first, if the name is not taken')
    .option('--password-stdin', 'the first line of standard input is the password')
    .addOption(new Option('--password-file <file>', 'its first line is the password').env('HAWSER_PASSWORD_FILE'))
    .addOption(namesOption('--add <id>', 'add a device first; may be repeated'))
    .option('--code <code>', 'the pairing code of the devices that are added')
    .addOption(namesOption('--remove <id>', 'remove a device first; may be repeated'))
    .addOption(namesOption('--to <name>', 'a receiver, device or user; may be repeated'))
    .addOption(countOption('--answers <count>', 'no chat: print what comes, until so many messages came', ANSWERS_MAX))
    .option('--listen', 'no chat: print what comes, until it is stopped')
    .option('--json', 'lines are JSON values; what is printed is one JSON object a line')
    .addOption(timeoutOption())
    .addHelpText('after', exitCodesHelp)
    .action(run);
}

async function run(options: AppOptions): Promise<void> {
  refuseUnknownVariables();
  connectionOf(options);
  const ending = new Ending();
  const { passwordStdin, listen, answers } = options;
  const isChat = process.stdin.isTTY && !passwordStdin && !listen && answers === undefined;
  try {
    if (isChat) await chat(options, ending);
    else await runPipe(options, ending);
  } finally {
    // Nothing is read any more, also where a pipe is still open.
    process.stdin.destroy();
  }
}

async function runPipe(options: AppOptions, ending: Ending): Promise<void> {
  const { to, add, remove, answers, listen } = options;
  if (to.length + add.length + remove.length === 0 && answers === undefined && !listen) {
    throw new UsageError('there is no terminal to chat on: say with --to who the lines of standard input are for');
  }
  const lines = new Lines(process.stdin);
  const report = new Report(plainScreen, options.json === true, 'add devices with --add');
  const login = await ending.over(logIn(options, lines, report, ending));
  try {
    await ending.over(changeDevices(login, add, remove, options));
    await pipe(login, lines, options, report, ending);
  } finally {
    leave(login.app);
  }
}
