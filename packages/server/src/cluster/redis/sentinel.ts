import { serverLimits } from '@hawser/protocol';
import { ClusterAway } from '../../core/ports.ts';
import type { RedisAddress } from './address.ts';
import type { Driver } from './line.ts';
import { within } from './redis.ts';

export interface Host {
  readonly host: string;
  readonly port: number;
}

/** Where the master is now, by the first sentinel that knows. Sentinels have no password of their own here. */
export async function askSentinels(
  { hosts, master = '', tls }: RedisAddress,
  { clock, createClient }: Driver,
): Promise<Host> {
  let cause: unknown;
  for (const at of hosts) {
    const { directoryTimeoutMs } = serverLimits;
    const client = await createClient({
      socket: {
        ...at,
        connectTimeout: directoryTimeoutMs / 2,
        reconnectStrategy: false,
        ...(tls && { tls, servername: at.host }),
      },
      disableOfflineQueue: true,
    });
    client.on('error', () => {});
    const ask = async (): Promise<unknown> => {
      await client.connect();
      return client.sendCommand(['SENTINEL', 'GET-MASTER-ADDR-BY-NAME', master]);
    };
    try {
      const answer = await within(clock, directoryTimeoutMs / 2, ask());
      if (Array.isArray(answer)) return { host: String(answer[0]), port: Number(answer[1]) };
    } catch (error) {
      cause = error;
    } finally {
      if (client.isOpen) client.destroy();
    }
  }
  throw new ClusterAway(`no sentinel knows the master ${master}`, { cause });
}
