/**
 * The settings of a server: one table of what can be set, how it is read, what it is when unset. Each is an option of
 * `hawser serve` and an environment variable.
 */

import { isIP } from 'node:net';
import { serverLimits } from '@hawser/protocol';
import { parseRedisAddress, type RedisAddress } from './cluster/redis/address.ts';
import { devicesModes } from './core/identity.ts';
import { pairingModes } from './core/pairing.ts';
import { isLoopback, type Network, networksOf } from './gateway/networks.ts';

/** A setting has an impossible value; the message says which and why, for the operator. */
export class SettingError extends Error {}

export interface Setting<Value> {
  /** What the value is called in the help text; `undefined` for a switch. */
  readonly placeholder: string | undefined;
  readonly help: string;
  /** As it would be written; `undefined` when there is none. */
  readonly fallback: string | undefined;
  /** There may be a password in it: it is shown to nobody, not when it is wrong either. */
  readonly isSecret?: boolean;
  /** Throws an `Error` that says what a value must be. */
  parse(text: string): Value;
}

function setting<Value>(
  placeholder: string,
  fallback: string,
  help: string,
  parse: (text: string) => Value,
): Setting<Value> {
  return { placeholder, fallback, help, parse };
}

/** One without a default. */
function optional<Value>(
  placeholder: string,
  help: string,
  parse: (text: string) => Value,
): Setting<Value> & { readonly fallback: undefined } {
  return { placeholder, fallback: undefined, help, parse };
}

function flag(help: string): Setting<boolean> {
  return { placeholder: undefined, fallback: 'false', help, parse: readFlag };
}

const second = 1000;
const day = 24 * 60 * 60 * second;

export const settings = {
  host: setting('ADDRESS', '127.0.0.1', 'listen for clients here (0.0.0.0 or :: is everywhere)', readHost),
  port: setting('PORT', '8888', 'TCP port for clients; 0 takes a free one', readPort),
  httpPort: setting('PORT', '9999', 'HTTP port of the dispatcher', readPort),
  adminHost: setting(
    'ADDRESS',
    '127.0.0.1',
    "listen for operators here; nobody's password protects this port",
    readHost,
  ),
  adminPort: setting('PORT', '9998', 'HTTP port for operators: health and metrics', readPort),
  advertise: optional(
    'HOST[:PORT]',
    'what the dispatcher tells clients; needed when the host is not loopback',
    readAdvertise,
  ),
  tlsPort: optional('PORT', 'TLS port for clients; 0 takes a free one', readPort),
  httpsPort: optional('PORT', 'HTTPS port of the dispatcher', readPort),
  tlsCert: optional('FILE', 'certificate for both, with its chain, in PEM; looked at for a new one', readFile),
  tlsKey: optional('FILE', 'the key of it, in PEM', readFile),
  tlsClientCa: optional(
    'FILE',
    'clients may show certificates that these (PEM) have signed: CN is who they are',
    readFile,
  ),
  tlsClientCert: setting('WHETHER', 'optional', 'optional or required: whether they must', readWhether),
  advertiseTls: optional('HOST[:PORT]', 'what the dispatcher tells clients that ask for TLS', readAdvertise),
  proxyFrom: optional('CIDR[,CIDR]', 'proxies that send a PROXY v2 header, which names the client', readNetworks),
  postgres: {
    ...optional('URL', 'store everything in this PostgreSQL database, not in the folder', readPostgres),
    isSecret: true,
  },
  data: setting('FOLDER', './hawser-data', 'where everything is stored', readFolder),
  logLevel: setting('LEVEL', 'info', 'trace, debug, info, warn, error or silent', readLogLevel),
  maxConnections: setting('COUNT', String(serverLimits.connectionsMax), 'connections in all', readCount),
  connectionsPerAddress: setting(
    'COUNT',
    String(serverLimits.connectionsPerAddressMax),
    'connections of one address (of one /64 for IPv6)',
    readCount,
  ),
  handshakesPerAddress: setting(
    'COUNT',
    String(serverLimits.handshakesPerAddressPerSecondMax),
    'new connections, and key exchanges, of one address a second',
    readCount,
  ),
  loginFailuresPerAddress: setting(
    'COUNT',
    String(serverLimits.loginFailuresPerAddressPerHourMax),
    'failed logins an hour that do not hold up others of the same address',
    readCount,
  ),
  registration: setting('MODE', 'open', 'open: anyone may register; closed: the operator adds users', readRegistration),
  registrationsPerAddress: setting(
    'COUNT',
    String(serverLimits.registrationsPerAddressPerHourMax),
    'registrations that one address may try an hour',
    readCount,
  ),
  newDevicesPerAddress: setting(
    'COUNT',
    String(serverLimits.newNamesPerAddressPerMinuteMax),
    'device ids not known yet of one address a minute, after the first thousands',
    readCount,
  ),
  sessionFrames: setting(
    'COUNT',
    String(serverLimits.sessionFramesPerSecondMax),
    'frames read of one connection a second; more of them wait',
    readCount,
  ),
  sessionBytes: setting(
    'BYTES',
    String(serverLimits.sessionBytesPerSecondMax),
    'bytes read of one connection a second; more of them wait',
    readCount,
  ),
  allowPlainLogin: flag('let users log in without encryption from other machines'),
  devices: setting('MODE', 'tofu', 'which devices may come: open, tofu or provisioned', readOneOf(devicesModes)),
  pairing: setting('MODE', 'open', 'who may add a device: open, or code', readOneOf(pairingModes)),
  deviceAge: setting(
    'DAYS',
    '30',
    'forget a device that nobody added when it stays away for so long',
    readMs(day, 3650),
  ),
  requireEncryption: flag('without TLS, refuse every frame in the clear but heartbeats and key agreement'),
  loginTimeout: setting('SECONDS', '60', 'close a connection that has not logged in by then', readMs(second, 3600)),
  idleTimeout: setting('SECONDS', '150', 'close a connection that sends nothing for so long', readMs(second, 86_400)),
  persistAfter: setting('MS', '25', 'store a message that is not acked by then', readMs(1, 60_000)),
  redeliveryAfter: setting('SECONDS', '60', 'push again what is not acked by then', readMs(second, 3600)),
  backlogAfter: setting('SECONDS', '1', 'push a backlog that is not asked for by then', readMs(second, 3600)),
  inboxMessages: setting('COUNT', String(serverLimits.inboxMessagesMax), 'messages an inbox may hold', readCount),
  inboxBytes: setting('BYTES', String(serverLimits.inboxBytesMax), 'bytes an inbox may hold', readCount),
  inboxAge: setting('DAYS', '30', 'drop messages that nobody fetched for so long', readMs(day, 3650)),
  redis: {
    placeholder: 'URL',
    fallback: undefined,
    isSecret: true,
    help: 'where the nodes of a cluster find each other',
    parse: parseRedisAddress,
  } satisfies Setting<RedisAddress>,
  node: {
    placeholder: 'NAME',
    fallback: undefined,
    help: 'what this node of a cluster is called, like no other',
    parse: readNode,
  } satisfies Setting<string>,
  drainWithin: setting(
    'SECONDS',
    '20',
    'a node of a cluster that is to stop gives its sessions to others within so long',
    readMs(second, 3600),
  ),
} as const;

export type SettingName = keyof typeof settings;
export const settingNames = Object.keys(settings) as SettingName[];

export type Settings = {
  readonly [Name in SettingName]: (typeof settings)[Name] extends { fallback: undefined }
    ? ReturnType<(typeof settings)[Name]['parse']> | undefined
    : ReturnType<(typeof settings)[Name]['parse']>;
};

export interface Advertise {
  readonly host: string;
  readonly port: number | undefined;
}

/** `httpPort` is `--http-port`. */
export function optionOf(name: SettingName): string {
  return `--${name.replace(/[A-Z]/g, (capital) => `-${capital.toLowerCase()}`)}`;
}

/** `httpPort` is `HAWSER_HTTP_PORT`. */
export function variableOf(name: SettingName): string {
  return `HAWSER_${name.replace(/[A-Z]/g, '_$&').toUpperCase()}`;
}

/** Options as they were written. */
export type GivenSettings = Readonly<Partial<Record<SettingName, string>>>;
/** As `process.env`. */
export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Reads settings from options, then the environment, then their defaults. Throws `SettingError` for an impossible
 * value, and for a HAWSER_ variable that there is not.
 */
export function readSettings(options: GivenSettings, environment: Environment): Settings {
  refuseUnknown(environment);
  const values = Object.fromEntries(settingNames.map((name) => [name, readOne(name, options, environment)]));
  return checkTogether(values as unknown as Settings);
}

/** The same for one of them, whatever the others are. */
export function readSetting<Name extends SettingName>(
  name: Name,
  options: GivenSettings,
  environment: Environment,
): Settings[Name] {
  refuseUnknown(environment);
  return readOne(name, options, environment) as Settings[Name];
}

function refuseUnknown(environment: Environment): void {
  const variables = new Set(settingNames.map(variableOf));
  for (const variable of Object.keys(environment)) {
    if (!variable.startsWith('HAWSER_') || variables.has(variable)) continue;
    throw new SettingError(`${variable} is not a setting: "hawser serve --help" lists those there are`);
  }
}

function readOne(name: SettingName, options: GivenSettings, environment: Environment): unknown {
  const option = options[name];
  const variable = environment[variableOf(name)];
  const text = option ?? variable ?? settings[name].fallback;
  if (text === undefined) return undefined;
  try {
    return settings[name].parse(text);
  } catch (error) {
    const source = option === undefined ? variableOf(name) : optionOf(name);
    const setting: Setting<unknown> = settings[name];
    const given = setting.isSecret === true ? '' : `, not ${JSON.stringify(text)}`;
    throw new SettingError(`${source} ${(error as Error).message}${given}`);
  }
}

/** Whether only this machine can reach a server that listens on `host`. */
export function isLoopbackHost(host: string): boolean {
  return host === 'localhost' || isLoopback(host);
}

/** Whether it stands for all addresses of a machine: something to listen on, not to connect to. */
const isEverywhere = networksOf([
  { address: '0.0.0.0', bits: 32 },
  { address: '::', bits: 128 },
]);

function checkTogether(values: Settings): Settings {
  if (!isLoopbackHost(values.host) && values.advertise === undefined) {
    throw new SettingError(
      `--host ${values.host} is reachable from other machines: say with --advertise HOST[:PORT] what clients are to be told`,
    );
  }
  if (values.requireEncryption && values.allowPlainLogin) {
    throw new SettingError('--require-encryption and --allow-plain-login contradict each other');
  }
  checkTls(values);
  checkCluster(values);
  return values;
}

function checkCluster(values: Settings): void {
  if (values.redis !== undefined && values.node === undefined) {
    throw new SettingError('--redis is for nodes of a cluster: say with --node NAME what this one is called');
  }
  if (values.node !== undefined && values.redis === undefined) {
    throw new SettingError('--node is for nodes of a cluster: say with --redis URL where they find each other');
  }
  if (values.redis !== undefined && values.postgres === undefined) {
    throw new SettingError('--redis is for nodes of a cluster, which share a database: say with --postgres URL which');
  }
}

function checkTls({ tlsPort, httpsPort, tlsCert, tlsKey, tlsClientCa, tlsClientCert, advertiseTls }: Settings): void {
  const isTls = tlsPort !== undefined || httpsPort !== undefined;
  if (isTls && (tlsCert === undefined || tlsKey === undefined)) {
    throw new SettingError('--tls-port and --https-port need --tls-cert and --tls-key');
  }
  if (!isTls && (tlsCert !== undefined || tlsKey !== undefined)) {
    throw new SettingError('--tls-cert and --tls-key have no effect without --tls-port or --https-port');
  }
  if (tlsPort === undefined && (tlsClientCa !== undefined || advertiseTls !== undefined)) {
    throw new SettingError('--tls-client-ca and --advertise-tls have no effect without --tls-port');
  }
  if (tlsClientCert === 'required' && tlsClientCa === undefined) {
    throw new SettingError('--tls-client-cert required needs --tls-client-ca');
  }
}

function readFlag(text: string): boolean {
  if (text === 'true' || text === '1') return true;
  if (text === 'false' || text === '0') return false;
  throw new Error('must be true or false');
}

function readNode(text: string): string {
  if (/^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$/i.test(text)) return text;
  throw new Error('must be up to 32 letters, digits and hyphens, with no hyphen at either end');
}

function readFolder(text: string): string {
  if (text === '') throw new Error('must be the path of a folder');
  return text;
}

/** What more it holds is the driver's business. */
function readPostgres(text: string): string {
  if (/^postgres(ql)?:\/\/\S+$/.test(text) && URL.canParse(text.replace('@/', '@localhost/'))) return text;
  throw new Error('must be a URL such as postgres://user:password@host:5432/database');
}

/** Addresses, each with or without how many of its bits count: `10.0.0.0/8,192.0.2.7,2001:db8::/32`. */
function readNetworks(text: string): readonly Network[] {
  return text.split(',').map((part) => {
    const [, address = '', bits] = /^([^/]*)(?:\/(\d{1,3}))?$/.exec(part) ?? [];
    const most = isIP(address) === 6 ? 128 : 32;
    if (isIP(address) === 0 || address.includes('%') || Number(bits ?? most) > most) {
      throw new Error('must be addresses or networks such as 10.0.0.0/8, with commas between them');
    }
    return { address, bits: Number(bits ?? most) };
  });
}

function readFile(text: string): string {
  if (text === '') throw new Error('must be the path of a file');
  return text;
}

function readWhether(text: string): 'optional' | 'required' {
  if (text === 'optional' || text === 'required') return text;
  throw new Error('must be optional or required');
}

function readHost(text: string): string {
  if (isIP(text) !== 0 || text === 'localhost') return text;
  throw new Error('must be an IP address of this machine, or localhost');
}

function readPort(text: string): number {
  const port = Number(text);
  if (/^\d{1,5}$/.test(text) && port <= 65_535) return port;
  throw new Error('must be a port from 0 to 65535');
}

function readCount(text: string): number {
  const count = Number(text);
  if (/^\d{1,15}$/.test(text) && count >= 1) return count;
  throw new Error('must be a whole number of at least 1');
}

const REGISTRATION = ['open', 'closed'] as const;

function readRegistration(text: string): (typeof REGISTRATION)[number] {
  const mode = REGISTRATION.find((each) => each === text);
  if (mode === undefined) throw new Error('must be open or closed');
  return mode;
}

function readMs(unitMs: number, unitsMax: number): (text: string) => number {
  return (text) => {
    const units = Number(text);
    if (/^\d{1,9}(\.\d{1,6})?$/.test(text) && units > 0 && units <= unitsMax) return units * unitMs;
    throw new Error(`must be a number above 0 and at most ${unitsMax}`);
  };
}

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

function readLogLevel(text: string): LogLevel {
  return readOneOf(LOG_LEVELS)(text);
}

function readOneOf<Value extends string>(values: readonly Value[]): (text: string) => Value {
  return (text) => {
    const found = values.find((each) => each === text);
    if (found === undefined) throw new Error(`must be one of ${values.join(', ')}`);
    return found;
  };
}

/** A host name or address, IPv6 in brackets when a port follows. */
function readAdvertise(text: string): Advertise {
  const bad = new Error('must be HOST, HOST:PORT or [IPV6]:PORT that clients can connect to');
  // An IPv6 address without brackets has no port behind it.
  const bracketed = isIP(text) === 6 ? `[${text}]` : text;
  const parts = /^(?:\[([^\]]+)\]|([^:[\]\s]+))(?::(\d{1,5}))?$/.exec(bracketed);
  if (parts === null) throw bad;
  const [, ipv6, name, port] = parts;
  const host = ipv6 ?? name ?? '';
  if (ipv6 === undefined ? !isHostName(host) : isIP(ipv6) !== 6) throw bad;
  if (isEverywhere(host)) throw bad;
  const number = port === undefined ? undefined : Number(port);
  if (number !== undefined && (number < 1 || number > 65_535)) throw bad;
  return { host, port: number };
}

/** A name as DNS has them, or an IPv4 address. What looks like an address and is none is a slip. */
function isHostName(text: string): boolean {
  if (isIP(text) === 4) return true;
  if (text.length > 253 || /^[\d.]+$/.test(text)) return false;
  const labels = text.replace(/\.$/, '').split('.');
  return labels.every((label) => /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/i.test(label));
}
