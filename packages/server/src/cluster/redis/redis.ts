import { ClusterAway, type Time, type Timer } from '../../core/ports.ts';
import type { Script } from './scripts.ts';

/** What the cluster needs of Redis, be it one server, the master that sentinels name, or a Redis Cluster. */
export interface Redis {
  /** Rejects with `ClusterAway` within `directoryTimeoutMs`, and then may have been done all the same. */
  run(script: Script, key: string, args: readonly string[]): Promise<unknown>;
  /** False when it was not taken, being too much; what was taken may be lost, too. */
  publish(channel: string, payload: Buffer): boolean;
  /** The processes that names may be on, where they are more than the one that has the table of nodes. */
  servers(): Promise<readonly string[]>;
  /** What each process that names may be on says of its memory. Rejects with `ClusterAway`. */
  memory(): Promise<readonly string[]>;
  /** What was heard of the channel stays away for too long: it is subscribed to anew. */
  listenAnew(): void;
  close(): void;
}

export interface RedisEvents {
  /** The one channel that is listened to. */
  readonly channel: string;
  readonly onMessage: (payload: Buffer) => void;
  /** Not more than once a second. */
  readonly onTrouble: (error: Error) => void;
}

export function away(error: unknown): ClusterAway {
  return error instanceof ClusterAway ? error : new ClusterAway('Redis does not answer', { cause: error });
}

/** By what policy a server forgets names and leases when its memory is full, if there is one that does. */
export async function evictionOf(redis: Pick<Redis, 'memory'>): Promise<string | undefined> {
  const policies = (await redis.memory()).flatMap((text) => /^maxmemory_policy:(\S+)/m.exec(text)?.[1] ?? []);
  return policies.find((policy) => policy !== 'noeviction');
}

/** What timers and deadlines go by. */
export type Clock = Pick<Time, 'now' | 'after' | 'endOfTurn'>;

/** Calls again and again, first after so long. */
export function every(clock: Clock, ms: number, call: () => void): Timer {
  let timer: Timer;
  const next = (): void => {
    timer = clock.after(ms, () => {
      next();
      call();
    });
  };
  next();
  return { cancel: () => timer.cancel() };
}

/** Settles as the promise does, or rejects when that takes too long. */
export function within<Value>(
  clock: Clock,
  ms: number,
  promise: Promise<Value>,
  onLate: () => void = () => {},
): Promise<Value> {
  return new Promise((resolve, reject) => {
    let isSettled = false;
    const late = (): void => {
      if (isSettled) return;
      onLate();
      reject(new ClusterAway(`no answer within ${ms} ms`));
    };
    // An answer that came while this process was busy is read first.
    const timer = clock.after(ms, () => clock.endOfTurn(late));
    promise.then(resolve, reject).finally(() => {
      isSettled = true;
      timer.cancel();
    });
  });
}

/** Bytes that were published and not answered: Redis, or the way to it, does not keep up beyond a bound. */
export class Outstanding {
  readonly #bytesMax: number;
  #bytes = 0;
  /** When what is not answered was published; nothing of a publish that takes its turn is ever answered before it. */
  readonly #since: number[] = [];

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Whether it may be published. */
  take(bytes: number, now: number): boolean {
    if (this.#bytes > 0 && this.#bytes + bytes > this.#bytesMax) return false;
    this.#bytes += bytes;
    this.#since.push(now);
    return true;
  }

  settle(bytes: number): void {
    this.#bytes -= bytes;
    this.#since.shift();
  }

  /** How long the oldest has not been answered. */
  age(now: number): number {
    const [oldest = now] = this.#since;
    return now - oldest;
  }
}
