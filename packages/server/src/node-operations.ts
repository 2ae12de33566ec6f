import { setTimeout as sleep } from 'node:timers/promises';
import { serverLimits } from '@hawser/protocol';
import type { NodeOffer } from './cluster/node-state.ts';
import type { RedisAddress } from './cluster/redis/address.ts';
import { Watcher } from './cluster/redis/watcher.ts';
import { ClusterAway } from './core/ports.ts';
import { OperatorError } from './operator.ts';
import { systemTime } from './time.ts';

export interface NodeRow {
  readonly node: string;
  readonly run: string;
  readonly version: string;
  readonly address: string;
  readonly sessions: number;
  readonly connections: number;
  readonly connectionsMax: number;
  readonly messagesPerSecond: number;
  readonly lagMs: number;
  readonly isDraining: boolean;
}

/** What operators see of the nodes of a cluster, and tell them, by way of Redis. Rejects with `OperatorError`. */
export interface Nodes extends Disposable {
  /** Those that live; takes as long as they need to show it. */
  list(): Promise<readonly NodeRow[]>;
  /** A node does it within a second or two; to be repeated until it shows. */
  order(run: string, order: { readonly drainPerSecond: number } | 'undo'): Promise<void>;
}

const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const TRY_AGAIN_MS = 50;
const LOOK_MS = 400;

/** Reaches Redis, or rejects with `OperatorError`. */
export async function watchNodes(address: RedisAddress): Promise<Nodes> {
  const watcher = new Watcher({ address, time: systemTime(0), log: quiet });
  const until = performance.now() + serverLimits.directoryTimeoutMs;
  for (;;) {
    try {
      await watcher.look();
      break;
    } catch (error) {
      if (performance.now() < until) {
        await sleep(TRY_AGAIN_MS);
        continue;
      }
      watcher.close();
      throw new OperatorError('--redis: Redis cannot be reached', { cause: error });
    }
  }
  // A node that lives renews its lease in that time, though it may be late; one that has died does not.
  const showsWithinMs = 2 * serverLimits.leaseRenewMs;
  const since = performance.now();
  return {
    async list() {
      do {
        await sleep(LOOK_MS);
        await asOperator(watcher.look());
      } while (performance.now() - since < showsWithinMs + LOOK_MS);
      return watcher
        .fresh(showsWithinMs)
        .map(rowOf)
        .toSorted((one, other) => (one.node < other.node ? -1 : one.node > other.node ? 1 : 0));
    },
    order: (run, order) => asOperator(watcher.order(run, order === 'undo' ? order : `drain ${order.drainPerSecond}`)),
    [Symbol.dispose]: () => watcher.close(),
  };
}

function rowOf({ run, node, state }: NodeOffer): NodeRow {
  const { version, tcp, messages, ...counts } = state;
  const host = tcp.ip.includes(':') ? `[${tcp.ip}]` : tcp.ip;
  const { sessions, connections, connectionsMax, lagMs, isDraining } = counts;
  return {
    ...{ node, run, version, address: `${host}:${tcp.port}`, sessions, connections, connectionsMax },
    ...{ messagesPerSecond: messages, lagMs, isDraining },
  };
}

async function asOperator<Result>(work: Promise<Result>): Promise<Result> {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof ClusterAway)) throw error;
    throw new OperatorError(`--redis: ${error.message}`, { cause: error });
  }
}
