import { accessSync, constants, existsSync, statfsSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { serverLimits } from '@hawser/protocol';
import {
  certificateExpiry,
  connectionsWithin,
  dataPath,
  descriptorLimit,
  examineStore,
  OperatorError,
  rsaSelfTest,
  type Settings,
  StartError,
  serverRuns,
  storePath,
  watchNodes,
} from '@hawser/server';
import { Command } from 'commander';
import { damagedRecords, print, time, visible } from '../output.ts';
import { addSettings, type GivenOptions, settingsOf } from './options.ts';

/** One thing looked at: what was found, and what to do about it when it is not well. */
interface Finding {
  readonly subject: string;
  readonly found: string;
  /** Not set when all is well. */
  readonly advice?: string;
  /** The server would not start, or not work. */
  readonly isFatal?: boolean;
}

const NODE_LEAST = [24, 12] as const;
const DESCRIPTORS_LEAST = 10_000;
const DISK_FREE_LEAST_BYTES = 1024 ** 3;

/** `hawser doctor` */
export function doctor(): Command {
  const command = new Command('doctor').description(
    'check whether this machine is ready to run a server, and say what to do about each fault',
  );
  return addSettings(command, [
    ...(['host', 'port', 'httpPort', 'adminHost', 'adminPort', 'advertise', 'data'] as const),
    ...(['tlsPort', 'httpsPort', 'tlsCert', 'tlsKey', 'tlsClientCa', 'tlsClientCert', 'advertiseTls'] as const),
    ...(['postgres', 'redis', 'node'] as const),
  ]).action(async (options: GivenOptions) => {
    const findings = await examine(settingsOf(options));
    for (const { subject, found, advice, isFatal } of findings) {
      print(`${advice === undefined ? 'ok  ' : isFatal ? 'FAIL' : 'warn'}  ${subject.padEnd(12)}  ${visible(found)}`);
      if (advice !== undefined) print(`${' '.repeat(20)}→ ${advice}`);
    }
    if (findings.some((finding) => finding.isFatal)) process.exitCode = 1;
  });
}

async function examine(settings: Settings): Promise<Finding[]> {
  const running = await serverRuns(settings.data);
  return [
    checkNode(),
    checkRsa(),
    checkDescriptors(),
    checkFolder(settings.data, running),
    await checkStore(settings.data),
    checkDisk(settings.data),
    ...(await checkPorts(settings, running)),
    ...checkCertificate(settings),
    ...(await checkRedis(settings)),
  ];
}

function checkNode(): Finding {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const found = `${process.version}, ${availableParallelism()} cores`;
  if (major > NODE_LEAST[0] || (major === NODE_LEAST[0] && minor >= NODE_LEAST[1])) return { subject: 'Node', found };
  return {
    subject: 'Node',
    found,
    advice: `needs ${NODE_LEAST.join('.')} or newer: run it by "npx hawser" in the repository, which brings its own`,
    isFatal: true,
  };
}

function checkRsa(): Finding {
  const flaw = rsaSelfTest();
  if (flaw === undefined) return { subject: 'RSA', found: `works, OpenSSL ${process.versions.openssl}` };
  return { subject: 'RSA', found: flaw, advice: 'use Node 24.12 or newer with its own OpenSSL 3.2+', isFatal: true };
}

function checkDescriptors(): Finding {
  const limit = descriptorLimit();
  if (limit === undefined) return { subject: 'descriptors', found: 'no limit found' };
  const finding: Finding = { subject: 'descriptors', found: `${limit} files and connections at once` };
  if (limit >= DESCRIPTORS_LEAST) return finding;
  const advice = 'raise it for more connections: "ulimit -n 100000", or LimitNOFILE= in systemd';
  return { ...finding, advice, isFatal: connectionsWithin(limit) <= 0 };
}

function checkFolder(folder: string, running: boolean): Finding {
  const subject = 'data folder';
  const path = dataPath(folder);
  if (running) return { subject, found: `${path}, a server is running on it` };
  const nearest = nearestExisting(path);
  if (!statSync(nearest).isDirectory()) {
    return { subject, found: `${nearest} is not a folder`, advice: 'choose another with --data', isFatal: true };
  }
  const refused = [nearest, storePath(path), join(storePath(path), 'LOCK')].find(
    (each) => existsSync(each) && !mayUse(each),
  );
  if (refused !== undefined) {
    const advice = 'choose another with --data, or change its owner';
    return { subject, found: `${refused} cannot be written by this user`, advice, isFatal: true };
  }
  return { subject, found: nearest === path ? path : `${path} (will be made)` };
}

/** Only its owner opens it: files that another user made in it would keep the server out. */
async function checkStore(folder: string): Promise<Finding> {
  const subject = 'store';
  const path = storePath(dataPath(folder));
  if (existsSync(path) && statSync(path).uid !== (process.getuid?.() ?? statSync(path).uid)) {
    return { subject, found: `${path} belongs to another user, so it was not looked into` };
  }
  try {
    const state = await examineStore(folder);
    if (state === undefined) return { subject, found: 'none yet' };
    if (state.damaged > 0) {
      const found = `${damagedRecords(state.damaged)} set aside`;
      const advice = 'see "hawser damaged list", check the disk and memory of this machine, keep a backup';
      return { subject, found, advice };
    }
    if (!state.willBeMigrated) return { subject, found: 'no damaged record was found so far' };
    const advice = 'make a backup with the older version first: it cannot use the store any more after that';
    return { subject, found: 'of an older version: it is migrated when it is next opened', advice };
  } catch (error) {
    if (!(error instanceof OperatorError)) throw error;
    return { subject, found: error.message, advice: 'nothing can be served from it as it is', isFatal: true };
  }
}

async function checkRedis({ redis: address }: Settings): Promise<Finding[]> {
  if (address === undefined) return [];
  const subject = 'Redis';
  try {
    using nodes = await watchNodes(address);
    const policy = await nodes.eviction();
    if (policy === undefined) return [{ subject, found: 'answers, and forgets nothing when its memory is full' }];
    const advice = 'set "maxmemory-policy noeviction": evicted are claims of names and leases of nodes';
    return [{ subject, found: `its maxmemory-policy is ${policy}`, advice }];
  } catch (error) {
    if (!(error instanceof OperatorError)) throw error;
    return [{ subject, found: error.message, advice: 'a node cannot start without it', isFatal: true }];
  }
}

function mayUse(path: string): boolean {
  const { R_OK, W_OK, X_OK } = constants;
  try {
    accessSync(path, statSync(path).isDirectory() ? R_OK | W_OK | X_OK : R_OK | W_OK);
    return true;
  } catch {
    return false;
  }
}

function checkDisk(folder: string): Finding {
  const { bavail, bsize } = statfsSync(nearestExisting(dataPath(folder)));
  const free = bavail * bsize;
  const finding: Finding = { subject: 'disk', found: `${(free / 1024 ** 3).toFixed(1)} GiB free` };
  return free >= DISK_FREE_LEAST_BYTES ? finding : { ...finding, advice: 'make room: a full disk stops the server' };
}

function nearestExisting(path: string): string {
  let nearest = path;
  while (!existsSync(nearest)) nearest = dirname(nearest);
  return nearest;
}

async function checkPorts(settings: Settings, running: boolean): Promise<Finding[]> {
  const { tlsPort, httpsPort } = settings;
  const ports = [
    ['TCP port', '--host', settings.host, '--port', settings.port],
    ['HTTP port', '--host', settings.host, '--http-port', settings.httpPort],
    ['admin port', '--admin-host', settings.adminHost, '--admin-port', settings.adminPort],
    ...(tlsPort === undefined ? [] : [['TLS port', '--host', settings.host, '--tls-port', tlsPort] as const]),
    ...(httpsPort === undefined ? [] : [['HTTPS port', '--host', settings.host, '--https-port', httpsPort] as const]),
  ] as const;
  return Promise.all(
    ports.map(async ([subject, hostOption, host, portOption, port]): Promise<Finding> => {
      const where = `${host} ${port}`;
      switch (await tryPort(host, port)) {
        case undefined:
          return { subject, found: port === 0 ? `${host}, any that is free` : `${where} is free` };
        case 'EADDRINUSE':
          if (running) return { subject, found: `${where} is in use, and a server is running on the data folder` };
          return {
            subject,
            found: `${where} is in use by another program`,
            advice: `free it, or choose another with ${portOption}`,
            isFatal: true,
          };
        case 'EACCES':
          return {
            subject,
            found: `${where} needs more rights than this user has`,
            advice: `choose one from 1024 up with ${portOption}`,
            isFatal: true,
          };
        default:
          return {
            subject,
            found: `${host} is not an address of this machine`,
            advice: `choose another with ${hostOption}`,
            isFatal: true,
          };
      }
    }),
  );
}

function checkCertificate({ tlsCert, tlsKey, tlsClientCa }: Settings): Finding[] {
  const subject = 'certificate';
  if (tlsCert === undefined || tlsKey === undefined) return [];
  try {
    const expiresAt = certificateExpiry({ cert: tlsCert, key: tlsKey, ca: tlsClientCa });
    const found = `of ${tlsCert}, until ${time(expiresAt)}`;
    if (expiresAt - Date.now() > serverLimits.certificateExpiryWarnMs) return [{ subject, found }];
    return [{ subject, found, advice: 'renew it: the files are taken up by a running server, too' }];
  } catch (error) {
    if (!(error instanceof StartError)) throw error;
    return [{ subject, found: error.message, advice: 'give files that fit each other', isFatal: true }];
  }
}

/** Why it cannot be listened on. */
function tryPort(host: string, port: number): Promise<string | undefined> {
  return new Promise((done) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) => done(error.code ?? error.message));
    server.listen({ host, port, exclusive: true }, () => server.close(() => done(undefined)));
  });
}
