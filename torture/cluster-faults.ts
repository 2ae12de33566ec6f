import { setTimeout as sleep } from 'node:timers/promises';
import type { RedisServer } from '@hawser/server/cluster/redis/server-harness';
import type { Postgres } from '../scripts/postgres.ts';
import type { Random } from '../sim/random.ts';
import type { ClusterWitness } from './cluster-witness.ts';
import type { Network } from './network.ts';
import type { Node } from './node.ts';

/** kill -9 of a node, Redis or PostgreSQL; SIGSTOP of each; one direction between a node and others cut. */
export const faults = [
  'node',
  'node-freeze',
  'redis',
  'redis-freeze',
  'postgres',
  'postgres-freeze',
  'cut-redis',
  'cut-postgres',
  'cut-clients',
] as const;
export type Fault = (typeof faults)[number];

/** Those that need a network. */
export function isCut(fault: Fault): boolean {
  return fault.startsWith('cut-');
}

/** What befalls a cluster. */
export interface Victims {
  readonly nodes: readonly Node[];
  readonly redis: RedisServer;
  readonly postgres: Postgres;
  readonly network: Network | undefined;
  readonly witness: ClusterWitness;
}

/** A fault that is over when this resolves. Returns what happened. */
export async function suffer(fault: Fault, random: Random, victims: Victims): Promise<string> {
  const { witness } = victims;
  if (!fault.includes('postgres')) return await befall(fault, random, victims);
  witness.storeGoes();
  const what = await befall(fault, random, victims);
  witness.storeIsBack();
  return what;
}

async function befall(fault: Fault, random: Random, victims: Victims): Promise<string> {
  const { nodes, redis, postgres, witness } = victims;
  const node = random.pick([...nodes]);
  const ms = random.magnitude(50, 6000);
  const forMs = `for ${Math.round(ms)} ms`;
  switch (fault) {
    case 'node':
      await node.kill();
      return `node ${node.name} killed`;
    case 'node-freeze':
      await node.freeze(ms);
      return `node ${node.name} frozen ${forMs}`;
    case 'redis':
      await redis.kill();
      await sleep(ms);
      await redis.start();
      return `Redis killed, away ${forMs}`;
    case 'redis-freeze':
      redis.freeze();
      await sleep(ms);
      redis.thaw();
      return `Redis frozen ${forMs}`;
    case 'postgres':
      witness.storeCrashed();
      await postgres.kill9();
      await sleep(ms);
      await postgres.start();
      return `PostgreSQL killed, away ${forMs}`;
    case 'postgres-freeze':
      postgres.pause();
      await sleep(ms);
      postgres.resume();
      return `PostgreSQL frozen ${forMs}`;
    case 'cut-redis':
    case 'cut-postgres':
    case 'cut-clients':
      return `${await cut(fault, node, random, victims, ms)} ${forMs}`;
  }
}

/** Of one node, or now and then of all. */
async function cut(fault: Fault, node: Node, random: Random, { nodes, network }: Victims, ms: number): Promise<string> {
  if (network === undefined) throw new Error('there is no network to cut');
  const other = fault === 'cut-clients' ? undefined : fault.slice('cut-'.length);
  const isOutward = random.chance(0.5);
  const concerned = random.chance(0.2) ? nodes : [node];
  for (const { name } of concerned) {
    if (isOutward) network.cut(name, other);
    else network.cut(other, name);
  }
  await sleep(ms);
  network.heal();
  const names = concerned.map(({ name }) => name).join(', ');
  return `cut from ${isOutward ? names : (other ?? 'clients')} to ${isOutward ? (other ?? 'clients') : names}`;
}
