import { accessSync, constants, existsSync, statfsSync } from 'node:fs';
import { createServer } from 'node:net';
import { availableParallelism } from 'node:os';
import { dirname, resolve } from 'node:path';
import { descriptorLimit, readSettings, rsaSelfTest, type Settings, serverAnswers } from '@hawser/server';
import { Command } from 'commander';
import { print } from '../output.ts';
import { type FolderOption, folderOption } from './folder.ts';

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
  return new Command('doctor')
    .description('check whether this machine is ready to run a server, and say what to do about each fault')
    .addOption(folderOption())
    .action(async (options: FolderOption) => {
      const settings = readSettings({ data: options.data }, withoutData(process.env));
      const running = await serverAnswers(settings.data);
      const findings = [
        checkNode(),
        checkRsa(),
        checkDescriptors(),
        checkFolder(settings.data, running),
        checkDisk(settings.data),
        ...(await checkPorts(settings, running)),
      ];
      for (const { subject, found, advice, isFatal } of findings) {
        print(`${advice === undefined ? 'ok  ' : isFatal ? 'FAIL' : 'warn'}  ${subject.padEnd(12)}  ${found}`);
        if (advice !== undefined) print(`${' '.repeat(20)}→ ${advice}`);
      }
      if (findings.some((finding) => finding.isFatal)) process.exitCode = 1;
    });
}

/** The option has read that variable already. */
function withoutData(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const { HAWSER_DATA: _, ...rest } = environment;
  return rest;
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
  return { ...finding, advice: 'raise it for more connections: "ulimit -n 100000", or LimitNOFILE= in systemd' };
}

function checkFolder(folder: string, running: boolean): Finding {
  const path = resolve(folder);
  if (running) return { subject: 'data folder', found: `${path}, a server is running on it` };
  const nearest = nearestExisting(path);
  try {
    accessSync(nearest, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch {
    const found = `${nearest} cannot be written`;
    return { subject: 'data folder', found, advice: 'choose another with --data, or change its owner', isFatal: true };
  }
  return { subject: 'data folder', found: nearest === path ? path : `${path} (will be made)` };
}

function checkDisk(folder: string): Finding {
  const { bavail, bsize } = statfsSync(nearestExisting(resolve(folder)));
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
  const ports = [
    ['TCP port', settings.host, settings.port, '--port'],
    ['HTTP port', settings.host, settings.httpPort, '--http-port'],
    ['admin port', settings.adminHost, settings.adminPort, '--admin-port'],
  ] as const;
  return Promise.all(
    ports.map(async ([subject, host, port, option]) => {
      const error = await tryPort(host, port);
      if (error === undefined) return { subject, found: `${host} ${port} is free` };
      if (running) return { subject, found: `${host} ${port} is in use: a server is running` };
      const advice = `free it, or choose another with ${option}`;
      return { subject, found: `${host} ${port}: ${error}`, advice, isFatal: true };
    }),
  );
}

function tryPort(host: string, port: number): Promise<string | undefined> {
  return new Promise((done) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) => {
      done(error.code === 'EADDRINUSE' ? 'in use by another program' : error.message);
    });
    server.listen({ host, port, exclusive: true }, () => server.close(() => done(undefined)));
  });
}
