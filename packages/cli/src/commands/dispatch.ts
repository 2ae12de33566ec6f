import { startDispatcher } from '@hawser/server';
import { Command } from 'commander';
import { makeLog } from '../log.ts';
import { print } from '../output.ts';
import { version } from '../version.ts';
import { addSettings, type GivenOptions, readOneOf } from './options.ts';

/** `hawser dispatch` */
export function dispatch(): Command {
  const command = new Command('dispatch').description('tell clients which node of a cluster to use, and be none');
  return addSettings(command, ['redis', 'host', 'httpPort', 'logLevel']).action(async (options: GivenOptions) => {
    const log = makeLog(readOneOf('logLevel', options));
    const redis = readOneOf('redis', options);
    const host = readOneOf('host', options);
    const dispatcher = await startDispatcher({ redis, host, httpPort: readOneOf('httpPort', options) }, log);
    const stop = (signal: NodeJS.Signals): void => {
      log.info({ signal }, 'stopping');
      void dispatcher.close().then(() => process.exit(0));
    };
    process.on('SIGTERM', stop);
    process.on('SIGINT', stop);
    const { http } = dispatcher;
    log.info({ version, http }, 'ready');
    print(`Hawser ${version} tells clients of nodes at http://${http.host}:${http.port}/?id=<client id>`);
  });
}
