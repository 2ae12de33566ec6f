import { boundGarbage, isLoopbackHost, type RunningServer, type Settings, settings, startServer } from '@hawser/server';
import { Command } from 'commander';
import { makeLog } from '../log.ts';
import { print } from '../output.ts';
import { SAME_SIGNAL_MS } from '../signals.ts';
import { DEFAULT_SERVER } from '../talk/options.ts';
import { version } from '../version.ts';
import { addSettings, type GivenOptions, settingsOf } from './options.ts';

/** `hawser serve` */
export function serve(): Command {
  return addSettings(new Command('serve').description('run a server')).action((options: GivenOptions) =>
    run(settingsOf(options)),
  );
}

async function run(values: Settings): Promise<void> {
  boundGarbage();
  const log = makeLog(values.logLevel);
  const server = await startServer(values, log);
  let stoppingSince: number | undefined;
  const stop = (signal: NodeJS.Signals): void => {
    if (stoppingSince !== undefined) {
      if (performance.now() - stoppingSince < SAME_SIGNAL_MS) return;
      log.fatal({ signal }, 'asked again to stop: not stopped cleanly');
      process.exit(1);
    }
    stoppingSince = performance.now();
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

  // Whoever reads this may send a signal at once.
  const { tcp, tls, http, https, admin, advertised, data } = server;
  log.info({ version, tcp, tls, http, https, admin, advertised, data }, 'ready');
  print(welcome(server, values));
  await server.failed;
  // Nothing may be acked any more, and nothing that is in memory can be saved.
  process.exit(1);
}

function welcome({ tcp, tls, http, https, admin, advertised, data }: RunningServer, values: Settings): string {
  const dispatcher = `http://${hostPort(http)}`;
  const folder = values.data === settings.data.fallback ? '' : ` --data ${quoted(data)}`;
  const where = dispatcher === DEFAULT_SERVER ? '' : ` --server ${dispatcher}`;
  const isOpen = values.registration === 'open';
  const lines = [
    `Hawser ${version} is running.`,
    '',
    `  clients      tcp://${hostPort(tcp)}`,
    ...(tls === undefined ? [] : [`               tls://${hostPort(tls)}`]),
    `  dispatcher   ${dispatcher}/?id=<client id>  tells clients ${advertised.ip} port ${advertised.port}`,
    ...(https === undefined ? [] : [`               https://${hostPort(https)}/?id=<client id>`]),
    `  operators    http://${hostPort(admin)}/healthz and /metrics`,
    `  data         ${data}`,
    '',
    'Next, in other terminals:',
    ...columns([
      [`npx hawser device lamp-1 --echo${where}`, 'be a device that sends back what it gets'],
      ...(isOpen ? [] : [[`npx hawser user add ann${folder}`, 'add a person'] as const]),
      [
        `npx hawser app ${isOpen ? '--register ' : ''}--user ann --add lamp-1 --to lamp-1${where}`,
        'be ann, and talk to it',
      ],
      ...(isOpen
        ? [[`npx hawser user add bea${folder}`, 'add a person (they can also register themselves)'] as const]
        : []),
      [`npx hawser device list${folder}`, 'see who has come'],
      ['docs/protocol.md, packages/client/README.md', 'what a client has to say; a client that does'],
    ]),
    '',
    whoMayCome(values),
  ];
  if (isLoopbackHost(values.host)) {
    lines.push(
      'Only this machine can reach it. For others: --host 0.0.0.0 --advertise <name or address of this machine>',
    );
  }
  return `${lines.join('\n')}\n`;
}

const mayComeAs: Record<Settings['devices'], string> = {
  open: 'may come as any device id that has no secret',
  tofu: 'may come as any device id that has no secret, or is the first to give it one',
  provisioned: 'may come as a device only with a secret from "hawser device add"',
};

const mayAdd: Record<Settings['pairing'], string> = {
  open: 'may add any device, or, where it has a pairing code, only with that',
  code: 'may add a device only with its pairing code',
};

const mayRegister: Record<Settings['registration'], string> = {
  open: 'may register',
  closed: 'may log in only as a user that "hawser user add" made',
};

function whoMayCome({ registration, devices, pairing, tlsClientCa }: Settings): string {
  const byCertificate = tlsClientCa === undefined ? '' : ' A device may also come by a certificate that names it.';
  return (
    `Anyone who reaches this server ${mayRegister[registration]}, ${mayComeAs[devices]}, ` +
    `and ${mayAdd[pairing]}.${byCertificate}`
  );
}

function hostPort({ host, port }: { host: string; port: number }): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

function columns(rows: readonly (readonly [string, string])[]): string[] {
  const width = Math.max(...rows.map(([first]) => first.length));
  return rows.map(([first, second]) => `  ${first.padEnd(width)}   ${second}`);
}

/** A path as a shell takes it. */
function quoted(path: string): string {
  return /^[\w./-]+$/.test(path) ? path : `'${path.replaceAll("'", `'\\''`)}'`;
}
