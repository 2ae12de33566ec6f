import { isIP } from 'node:net';

/** Where Redis is, and how it is reached. */
export interface RedisAddress {
  readonly kind: 'single' | 'sentinel' | 'cluster';
  /** One for `single`; the sentinels; some of the cluster's servers. */
  readonly hosts: readonly { readonly host: string; readonly port: number }[];
  /** A unix socket, in place of the host. */
  readonly path: string | undefined;
  /** What the sentinels call the master. */
  readonly master: string | undefined;
  readonly tls: boolean;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly database: number;
}

const FORM =
  'must be redis://HOST:PORT, redis+sentinel://HOST:PORT,HOST:PORT/MASTER, redis+cluster://HOST:PORT,HOST:PORT or ' +
  'unix:///PATH, with rediss for TLS and USER:PASSWORD@ before the first host';

const DEFAULT_PORT = 6379;
const SENTINEL_PORT = 26_379;

/** Throws an `Error` that says what it must be, and nothing of what it is: there may be a password in it. */
export function parseRedisAddress(text: string): RedisAddress {
  const parts = /^(redis|rediss)(\+sentinel|\+cluster)?:\/\/(?:([^@/]*)@)?([^@/?#]+)(?:\/([^/?#]*))?$/.exec(text);
  if (parts === null) return parseSocket(text);
  const [, scheme, form = '', login, list = '', rest = ''] = parts;
  const kind = form === '+sentinel' ? 'sentinel' : form === '+cluster' ? 'cluster' : 'single';
  const hosts = list.split(',').map((each) => parseHost(each, kind === 'sentinel' ? SENTINEL_PORT : DEFAULT_PORT));
  if (kind === 'single' && hosts.length > 1) throw new Error(FORM);
  if (kind === 'sentinel' ? !/^[\w.-]+$/.test(rest) : kind === 'cluster' ? rest !== '' : !/^\d{0,5}$/.test(rest)) {
    throw new Error(FORM);
  }
  return {
    kind,
    hosts,
    path: undefined,
    master: kind === 'sentinel' ? rest : undefined,
    tls: scheme === 'rediss',
    ...parseLogin(login),
    database: kind === 'single' ? Number(rest) : 0,
  };
}

function parseSocket(text: string): RedisAddress {
  const parts = /^unix:\/\/(?:([^@/]*)@)?(\/[^?#]+)$/.exec(text);
  if (parts === null) throw new Error(FORM);
  const [, login, path] = parts;
  return { kind: 'single', hosts: [], path, master: undefined, tls: false, ...parseLogin(login), database: 0 };
}

function parseHost(text: string, defaultPort: number): { host: string; port: number } {
  const parts = /^(?:\[([^\]]+)\]|([^:[\]\s]+))(?::(\d{1,5}))?$/.exec(text);
  const [, ipv6, name, port = String(defaultPort)] = parts ?? [];
  const host = ipv6 ?? name;
  const isGood = host !== undefined && (ipv6 === undefined || isIP(ipv6) === 6);
  if (!isGood || Number(port) < 1 || Number(port) > 65_535) throw new Error(FORM);
  return { host, port: Number(port) };
}

function parseLogin(login: string | undefined): Pick<RedisAddress, 'username' | 'password'> {
  if (login === undefined || login === '') return { username: undefined, password: undefined };
  const [username = '', ...password] = login.split(':');
  try {
    return {
      username: username === '' ? undefined : decodeURIComponent(username),
      password: password.length === 0 ? undefined : decodeURIComponent(password.join(':')),
    };
  } catch {
    throw new Error(FORM);
  }
}
