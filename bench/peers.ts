// Other servers that are installed on the machine, to be measured in turn with ours: how each is found and started, and what
// it holds of a message when it acks it.
import { spawnSync } from 'node:child_process';
import { globSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { type AddressInfo, createServer } from 'node:net';
import { dirname, join, resolve } from 'node:path';

export type Peer = {
  name: string;
  version: string;
  /** What an acknowledged message survives, as it is set up here. */
  durability: string;
  command: (data: string) => Promise<Command>;
};

export type Command = {
  file: string;
  args: string[];
  /** Where it will listen; null when it tells, as our own server does. */
  port: number | null;
  env?: Record<string, string>;
};

export const PEER_NAMES = ['mosquitto', 'aedes', 'nats', 'ejabberd'] as const;

/** A port that was free just now. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done) => server.listen({ host: '127.0.0.1', port: 0 }, done));
  const { port } = server.address() as AddressInfo;
  await new Promise((done) => server.close(done));
  return port;
}

/** For the programs: servers lie in sbin, which is not in everybody's path. */
export const PEER_ENV = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/usr/local/sbin` };

/** The first version number that a program prints; null when it does not run. */
function versionOf(file: string, args: string[]): string | null {
  const { error, stdout, stderr } = spawnSync(file, args, { encoding: 'utf8', env: PEER_ENV });
  return error === undefined ? (/\d+\.\d+[.\d]*/.exec(stdout + stderr)?.[0] ?? 'of unknown version') : null;
}

function mosquitto(): Peer | string {
  const version = versionOf('mosquitto', ['-h']);
  if (version === null) return 'is not installed (no program mosquitto)';
  return {
    name: 'mosquitto',
    version,
    durability: 'memory, saved every 30 minutes and at its end (what Debian sets); nothing synced before the ack',
    command: async (data) => {
      const port = await freePort();
      const config = join(data, 'mosquitto.conf');
      const lines = [
        `listener ${port} 127.0.0.1`,
        'allow_anonymous true',
        'set_tcp_nodelay true',
        'persistence true',
        `persistence_location ${resolve(data)}/`,
        'log_type error',
      ];
      // As root it would become a user who may not write there.
      if (process.getuid?.() === 0) lines.push('user root');
      writeFileSync(config, `${lines.join('\n')}\n`);
      return { file: 'mosquitto', args: ['-c', config], port };
    },
  };
}

function nats(): Peer | string {
  const version = versionOf('nats-server', ['-v']);
  if (version === null) return 'is not installed (no program nats-server)';
  return {
    name: 'nats',
    version,
    durability: 'a file of JetStream, not synced before the ack',
    command: async (data) => {
      const port = await freePort();
      const config = join(data, 'nats.conf');
      writeFileSync(
        config,
        `server_name: bench
listen: "127.0.0.1:${await freePort()}"
jetstream { store_dir: "${resolve(data)}" }
mqtt { listen: "127.0.0.1:${port}" }
`,
      );
      return { file: 'nats-server', args: ['-c', config], port };
    },
  };
}

function aedes(modules: string): Peer | string {
  let file: string;
  try {
    file = createRequire(join(resolve(modules), 'package.json')).resolve('aedes');
  } catch {
    return `is not installed (no module aedes in ${modules}; see --modules)`;
  }
  const { version } = JSON.parse(readFileSync(join(dirname(file), 'package.json'), 'utf8'));
  return {
    name: 'aedes',
    version: String(version),
    durability: 'memory alone',
    command: async () => ({
      file: process.execPath,
      args: [join(import.meta.dirname, 'aedes.ts'), file],
      port: null,
    }),
  };
}

/** Debian's package: its command changes to a user of its own, so Erlang is started as that would. */
function ejabberd(): Peer | string {
  const [folder] = globSync('/usr/lib/*/ejabberd-*/ebin');
  if (folder === undefined || versionOf('erl', ['-version']) === null) return "is not installed (Debian's, and erl)";
  return {
    name: 'ejabberd',
    version: /ejabberd-([\d.]+)/.exec(folder)?.[1] ?? 'of unknown version',
    durability: 'mod_mqtt with queues in memory',
    command: async (data) => {
      const port = await freePort();
      const config = join(data, 'ejabberd.yml');
      writeFileSync(
        config,
        `hosts: [localhost]
loglevel: error
listen: [{ port: ${port}, ip: "127.0.0.1", module: mod_mqtt, backlog: 1000 }]
auth_method: anonymous
anonymous_protocol: both
allow_multiple_connections: true
shaper_rules: {}
modules:
  mod_mqtt:
    access_publish: { "#": [{ allow: all }] }
    access_subscribe: { "#": [{ allow: all }] }
`,
      );
      const env = { EJABBERD_CONFIG_PATH: resolve(config), EJABBERD_LOG_PATH: resolve(data, 'ejabberd.log') };
      const args = ['-noinput', '-pa', folder, '-mnesia', 'dir', `"${resolve(data)}"`, '-s', 'ejabberd'];
      return { file: 'erl', args, port, env };
    },
  };
}

/** The peer by this name; or why it cannot be measured, as the end of a sentence. */
export function findPeer(name: string, modules: string): Peer | string {
  if (name === 'mosquitto') return mosquitto();
  if (name === 'nats') return nats();
  if (name === 'aedes') return aedes(modules);
  if (name === 'ejabberd') return ejabberd();
  return 'is not known here: nobody has written how to start it (bench/peers.ts)';
}
