import { type DispatcherSettings, dispatcherSettings, startDispatcher } from '@hawser/server';
import { Command } from 'commander';
import { makeLog } from '../log.ts';
import { print } from '../output.ts';
import { version } from '../version.ts';
import { addSettings, type GivenOptions, readOneOf } from './options.ts';

/** `hawser dispatch` */
export function dispatch(): Command {
  const command = new Command('dispatch').description('tell clients which node of a cluster to use, and be none');
  return addSettings(command, dispatcherSettings).action(async (options: GivenOptions) => {
    const values = dispatcherSettings.map((name) => [name, readOneOf(name, options)]);
    const settings = Object.fromEntries(values) as DispatcherSettings;
    const log = makeLog(settings.logLevel);
    const dispatcher = await startDispatcher(settings, log);
    const stop = (signal: NodeJS.Signals): void => {
      log.info({ signal }, 'stopping');
      void dispatcher.close().then(() => process.exit(0));
    };
    process.on('SIGTERM', stop);
    process.on('SIGINT', stop);
    const { http, https, admin } = dispatcher;
    log.info({ version, http, https, admin }, 'ready');
    const urls = [urlOf('http', http), ...(https === undefined ? [] : [urlOf('https', https)])];
    print(`Hawser ${version} tells clients of nodes at ${urls.map((url) => `${url}/?id=<client id>`).join(' and ')}`);
  });
}

function urlOf(scheme: string, { host, port }: { readonly host: string; readonly port: number }): string {
  return `${scheme}://${host.includes(':') ? `[${host}]` : host}:${port}`;
}
