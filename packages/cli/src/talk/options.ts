import { readFileSync } from 'node:fs';
import type { ClientOptions } from '@hawser/client';
import { settingNames, variableOf } from '@hawser/server';
import { InvalidArgumentError, Option } from 'commander';
import { readDuration } from './duration.ts';
import { UsageError } from './exit.ts';
import { valueIn } from './json.ts';

/** The variables of `app` and `device`, and those that a command under `--exec` is given. `serve` lets them be. */
export const clientVariables = [
  'HAWSER_SERVER',
  'HAWSER_CA',
  'HAWSER_USER',
  'HAWSER_PASSWORD_FILE',
  'HAWSER_SECRET',
  'HAWSER_SECRET_FILE',
  'HAWSER_FROM',
  'HAWSER_TO',
  'HAWSER_MSGID',
] as const;

/** Where `hawser serve` has its dispatcher by default. */
export const DEFAULT_SERVER = 'http://127.0.0.1:9999';

/** What `app` and `device` have in common. */
export interface TalkOptions {
  readonly ca?: Buffer;
  readonly server: Pick<ClientOptions, 'dispatcher' | 'server'>;
  readonly timeout: number;
  readonly json?: true;
}

export interface AppOptions extends TalkOptions {
  readonly user?: string;
  readonly register?: true;
  readonly passwordStdin?: true;
  readonly passwordFile?: string;
  readonly add: readonly string[];
  readonly code?: string;
  readonly remove: readonly string[];
  readonly to: readonly string[];
  readonly answers?: number;
  readonly listen?: true;
}

export interface DeviceOptions extends TalkOptions {
  readonly cert?: Buffer;
  readonly key?: Buffer;
  readonly echo?: true;
  readonly exec?: string;
  readonly execTimeout: number;
  readonly jobs: number;
  readonly sendTo: readonly string[];
  readonly every?: number;
  readonly times?: number;
  readonly count?: number;
  readonly deviceVersion?: string;
  readonly abilities?: readonly unknown[];
  readonly secretFile?: string;
  readonly secretStdin?: true;
  readonly code?: string;
}

export function serverOption(): Option {
  return new Option('--server <url>', 'the dispatcher (http:, https:), or a server itself (tcp:, tls:, ws:, wss:)')
    .env('HAWSER_SERVER')
    .default(readServer(DEFAULT_SERVER), DEFAULT_SERVER)
    .argParser(parser(readServer));
}

export function caOption(): Option {
  return fileOption('--ca <file>', 'accept certificates of this authority only (PEM), not those of the system').env(
    'HAWSER_CA',
  );
}

/** An option whose value is what a file holds. */
export function fileOption(flags: string, description: string): Option {
  return new Option(flags, description).argParser(
    parser((file): Buffer => {
      try {
        return readFileSync(file);
      } catch (error) {
        throw new Error(`must be a file that can be read: ${(error as Error).message}`);
      }
    }),
  );
}

/** How to reach the server, for a client. */
export function connectionOf(options: TalkOptions & Pick<DeviceOptions, 'cert' | 'key'>): ClientOptions {
  const { server, ca, cert, key } = options;
  const tls = { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) };
  const { protocol } = new URL(String(server.dispatcher ?? server.server));
  if (Object.keys(tls).length > 0 && protocol !== 'https:' && protocol !== 'tls:') {
    throw new UsageError('--ca, --cert and --key are for https: and tls:, which the URL of the server is not');
  }
  if ((cert === undefined) !== (key === undefined)) throw new UsageError('--cert and --key go together');
  return { ...server, tls };
}

export function timeoutOption(): Option {
  return new Option('--timeout <time>', 'how long to try to log in, and to have each message acked; or "never"')
    .default(30_000, '30s')
    .argParser(parser((text) => (text === 'never' ? Number.POSITIVE_INFINITY : readDuration(text))));
}

export function durationOption(flags: string, description: string): Option {
  return new Option(flags, description).argParser(parser(readDuration));
}

export function countOption(flags: string, description: string, max: number): Option {
  return new Option(flags, description).argParser(
    parser((text) => {
      const count = Number(text);
      if (/^\d{1,15}$/.test(text) && count >= 1 && count <= max) return count;
      throw new Error(`must be a whole number from 1 to ${max}`);
    }),
  );
}

export function abilitiesOption(): Option {
  return new Option('--abilities <json>', 'what it says it can do: a JSON array').argParser(
    parser((text): readonly unknown[] => {
      const value = valueIn(text);
      if (Array.isArray(value)) return value;
      throw new Error('must be a JSON array');
    }),
  );
}

/** An option that may be given several times. */
export function namesOption(flags: string, description: string): Option {
  return new Option(flags, description)
    .default([], 'none')
    .argParser((name: string, before: readonly string[]) => [...before, name]);
}

function parser<Value>(read: (text: string) => Value): (text: string) => Value {
  return (text) => {
    try {
      return read(text);
    } catch (error) {
      throw new InvalidArgumentError(`It ${(error as Error).message}.`);
    }
  };
}

function readServer(text: string): TalkOptions['server'] {
  const url = URL.parse(text);
  if (url !== null && url.hostname !== '') {
    if (url.protocol === 'http:' || url.protocol === 'https:') return { dispatcher: url };
    if (['tcp:', 'tls:', 'ws:', 'wss:'].includes(url.protocol)) return { server: url };
  }
  throw new Error('must be a URL such as http://127.0.0.1:9999, tcp://127.0.0.1:8888 or tls://hawser.example.org:8889');
}

/** A variable that is misspelt would have no effect, and nobody would know. */
export function refuseUnknownVariables(): void {
  const known = new Set<string>([...clientVariables, ...settingNames.map(variableOf)]);
  for (const variable of Object.keys(process.env)) {
    if (variable.startsWith('HAWSER_') && !known.has(variable)) {
      throw new UsageError(`${variable} is not a setting: --help lists those there are`);
    }
  }
}
