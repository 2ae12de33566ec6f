import {
  isLoopbackHost,
  optionOf,
  type RunningServer,
  readSettings,
  type SettingName,
  type Settings,
  settings,
  startServer,
  variableOf,
} from '@hawser/server';
import { Command, Option } from 'commander';
import { type Logger, pino } from 'pino';
import pretty from 'pino-pretty';
import { print } from '../output.ts';
import { version } from '../version.ts';

/** `hawser serve` */
export function serve(): Command {
  const command = new Command('serve').description('run a server').action(async (options: GivenOptions) => {
    await run(readSettings(texts(options), process.env));
  });
  for (const name of Object.keys(settings) as SettingName[]) command.addOption(optionFor(name));
  return command;
}

type GivenOptions = Partial<Record<SettingName, string | true>>;

/** The table of settings says what an option is; its value is read there too. */
function optionFor(name: SettingName): Option {
  const { placeholder, help, fallback } = settings[name];
  const flags = placeholder === undefined ? optionOf(name) : `${optionOf(name)} <${placeholder}>`;
  const preset = placeholder === undefined || fallback === undefined ? '' : ` (default: ${fallback})`;
  return new Option(flags, `${help}${preset} [${variableOf(name)}]`);
}

function texts(options: GivenOptions): Partial<Record<SettingName, string>> {
  return Object.fromEntries(Object.entries(options).map(([name, value]) => [name, String(value)]));
}

async function run(values: Settings): Promise<void> {
  const log = makeLog(values.logLevel);
  const server = await startServer(values, log);
  const { tcp, http, admin, advertised, data } = server;
  log.info({ version, pid: process.pid, tcp, http, admin, advertised, data }, 'ready');
  print(welcome(server, values));

  let isStopping = false;
  const stop = (signal: NodeJS.Signals): void => {
    if (isStopping) return;
    isStopping = true;
    log.info({ signal }, 'stopping');
    server.stop().then(
      () => {
        log.info({}, 'stopped');
        process.exit(0);
      },
      (error: unknown) => {
        log.fatal({ err: error }, 'not stopped cleanly');
        process.exit(1);
      },
    );
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
  await server.failed;
  // Nothing may be acked any more, and nothing that is in memory can be saved.
  process.exit(1);
}

/** JSON lines on stderr; for people on a terminal. */
function makeLog(level: string): Logger {
  if (!process.stderr.isTTY) return pino({ level }, pino.destination({ fd: 2, sync: true }));
  return pino({ level }, pretty({ destination: 2, sync: true, colorize: true, ignore: 'pid,hostname' }));
}

function welcome({ tcp, http, admin, advertised, data }: RunningServer, values: Settings): string {
  const dispatcher = `http://${hostPort(http)}`;
  const lines = [
    `Hawser ${version} is running.`,
    '',
    `  clients      tcp://${hostPort(tcp)}`,
    `  dispatcher   ${dispatcher}/?id=<client id>  tells clients ${advertised.ip} port ${advertised.port}`,
    `  operators    http://${hostPort(admin)}/healthz and /metrics`,
    `  data         ${data}`,
    '',
    'Next:',
    `  curl '${dispatcher}/?id=lamp-1'     where a client is sent`,
    '  npx hawser user add ann                  add a person (they can also register themselves)',
    '  npx hawser device list                   see who has come',
    '  docs/protocol.md                         what a client has to say',
    '',
    'Anyone who reaches this server may register, may come as any device id, and may add any device.',
  ];
  if (isLoopbackHost(values.host)) {
    lines.push(
      'Only this machine can reach it. For others: --host 0.0.0.0 --advertise <name or address of this machine>',
    );
  }
  return `${lines.join('\n')}\n`;
}

function hostPort({ host, port }: { host: string; port: number }): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
