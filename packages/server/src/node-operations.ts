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
  /** By what policy Redis forgets who is where when its memory is full, if it does. */
  eviction(): Promise<string | undefined>;
  /** A node does it within a second or two; to be repeated until it shows. */
  order(run: string, order: { readonly drainPerSecond: number } | 'undo'): Promise<void>;
}

const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const TRY_AGAIN_MS = 50;
const LOOK_MS = 200;

/** Reaches Redis, or rejects with `OperatorError`. */
export async function watchNodes(address: RedisAddress): Promise<Nodes> {
  const watcher = new Watcher({ address, time: systemTime(0), log: quiet });
  const firstAt = await reach(watcher);
  // A node that lives renews its lease in that time, though it may be late; one that has died does not.
  const showsWithinMs = 2 * serverLimits.leaseRenewMs;
  return {
    async list() {
      for (;;) {
        await sleep(LOOK_MS);
        const at = await asOperator(watcher.look());
        const { renewed, silent } = watcher.renewedAfter(Math.max(firstAt, at - showsWithinMs));
        if (silent === 0 || at - firstAt > showsWithinMs) return rowsOf(renewed);
      }
    },
    order: (run, order) => asOperator(watcher.order(run, order === 'undo' ? order : `drain ${order.drainPerSecond}`)),
    eviction: () => asOperator(watcher.eviction()),
    [Symbol.dispose]: () => watcher.close(),
  };
}

async function reach(watcher: Watcher): Promise<number> {
  for (const until = performance.now() + serverLimits.directoryTimeoutMs; ; ) {
    try {
      return await watcher.look();
    } catch (error) {
      if (performance.now() >= until) {
        watcher.close();
        throw new OperatorError('--redis: Redis cannot be reached', { cause: error });
      }
      await sleep(TRY_AGAIN_MS);
    }
  }
}

function rowsOf(offers: readonly NodeOffer[]): NodeRow[] {
  const byName = offers.toSorted((one, other) => (one.node < other.node ? -1 : one.node > other.node ? 1 : 0));
  return byName.map(rowOf);
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
