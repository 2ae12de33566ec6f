import { terminalLimits } from '@hawser/protocol';
import { Command, Option } from 'commander';
import { Answers } from '../talk/answer.ts';
import { Ending } from '../talk/ending.ts';
import { ExitError, exitCode, exitCodesHelp, UsageError } from '../talk/exit.ts';
import { Fleet, fleetIds } from '../talk/fleet.ts';
import {
  abilitiesOption,
  caOption,
  connectionOf,
  countOption,
  type DeviceOptions,
  durationOption,
  fileOption,
  namesOption,
  refuseUnknownVariables,
  serverOption,
  timeoutOption,
} from '../talk/options.ts';
import { Outgoing } from '../talk/outgoing.ts';
import { repeat } from '../talk/repeat.ts';
import { plainScreen, Report } from '../talk/report.ts';
import { readSecrets } from '../talk/secrets.ts';

const TIMES_MAX = 1e9;

/** `hawser device ID`, or, for an id that is the name of a command, `hawser device run ID` */
export function runDevice(): Command {
  return new Command('run')
    .argument('<id>', 'who it is; with --count the first of several, which are numbered from it')
    .argument('[message]', 'what to send with --send-to: JSON if it is JSON, otherwise text')
    .description('be a device; "run" is only needed for an id such as "list"')
    .addOption(serverOption())
    .addOption(caOption())
    .addOption(fileOption('--cert <file>', 'show the server this certificate (PEM), which is for the id'))
    .addOption(fileOption('--key <file>', 'the key of it (PEM)'))
    .option('--echo', 'send each message back')
    .option(
      '--exec <command>',
      'answer with what a shell command prints: the message is on its standard input, and HAWSER_FROM, HAWSER_TO and ' +
        'HAWSER_MSGID are set; without output there is no answer; if it fails, the message is not acked and comes again',
    )
    .addOption(
      countOption(
        '--jobs <count>',
        'commands at once; with more than one, order is lost',
        terminalLimits.execJobsMax,
      ).default(1),
    )
    .addOption(
      durationOption('--exec-timeout <time>', 'kill a command after so long').default(
        terminalLimits.execTimeoutMs,
        '30s',
      ),
    )
    .addOption(namesOption('--send-to <user>', 'send the message, once it is online; may be repeated'))
    .addOption(durationOption('--every <time>', 'send it again every so often'))
    .addOption(countOption('--times <count>', 'end after so many sends, when all are acked', TIMES_MAX))
    .addOption(countOption('--count <count>', 'be so many devices: lamp-1, lamp-2, …', terminalLimits.fleetDevicesMax))
    .option('--device-version <text>', 'the version of its software that it reports')
    .addOption(abilitiesOption())
    .addOption(
      new Option(
        '--secret-file <file>',
        'its first line is the secret of the device, or it is what "hawser device add --csv" printed; HAWSER_SECRET is the ' +
          'secret itself',
      ).env('HAWSER_SECRET_FILE'),
    )
    .option('--secret-stdin', 'the first line of standard input is the secret')
    .option('--code <code>', 'the pairing code that a person must know to add it from now on')
    .option('--json', 'what is printed is one JSON object a line; commands get and print JSON')
    .addOption(timeoutOption())
    .addHelpText('after', exitCodesHelp)
    .action(run);
}

async function run(id: string, message: string | undefined, options: DeviceOptions): Promise<void> {
  refuseUnknownVariables();
  const report = new Report(plainScreen, options.json === true, 'a device may write to users that have added it');
  checkTogether(message, options);
  const ending = new Ending();
  const answers = new Answers(options, report, ending.signal);
  const fleet = new Fleet(options, await readSecrets(options), report, ending);
  const outgoing = new Outgoing(report, options.timeout);
  try {
    await ending.over(fleet.connect(fleetIds(id, options.count), answers));
    if (message !== undefined) {
      await ending.over(repeat(fleet.devices, message, options, outgoing, ending.signal));
      if (options.times !== undefined) {
        if (outgoing.failedCount > 0) throw new ExitError(exitCode.failed);
        fleet.check();
        return;
      }
    }
    await ending.promise;
  } finally {
    fleet.leave();
    // What is not acked is told, whatever has ended it.
    await Promise.all([outgoing.settled(), answers.settled()]);
  }
}

function checkTogether(message: string | undefined, options: DeviceOptions): void {
  const { echo, exec, sendTo, every, times, cert, count } = options;
  connectionOf(options);
  if (cert !== undefined && count !== undefined) {
    throw new UsageError('--cert and --count: a certificate is for one device');
  }
  if (echo && exec !== undefined) throw new UsageError('--echo and --exec: a message has one answer');
  if (message === undefined && (sendTo.length > 0 || every !== undefined || times !== undefined)) {
    throw new UsageError('there is nothing to send: give the message behind the id');
  }
  if (message !== undefined && sendTo.length === 0) throw new UsageError('who is the message for? Give --send-to');
}
