import { monitorEventLoopDelay } from 'node:perf_hooks';
import { serverLimits } from '@hawser/protocol';
import type { NodeAddress, NodeOffer, NodeState } from './cluster/node-state.ts';
import type { RedisCluster } from './cluster/redis/cluster.ts';
import type { Core } from './core/core.ts';
import type { Log } from './core/ports.ts';
import type { Choose } from './dispatcher/http.ts';
import { Drain } from './drain.ts';
import { chooseAmong } from './fleet.ts';
import { version } from './version.ts';

export interface NodeOptions {
  readonly core: Core;
  readonly cluster: RedisCluster;
  readonly tcp: NodeAddress;
  readonly tls: NodeAddress | undefined;
  readonly connectionsMax: number;
  readonly log: Log;
}

/** Rates are of this long at least: of the last renewals, where there are several in a moment. */
const RATE_MS = 900;
const LOOP_DELAY_RESOLUTION_MS = 10;

/** A server as one of several: says what it is, sends clients to the others, and gives them its sessions when told to. */
export class ClusterNode {
  readonly choose: Choose;
  readonly #options: NodeOptions;
  readonly #drain: Drain;
  readonly #loop: ReturnType<typeof monitorEventLoopDelay>;
  #isStopping = false;
  #rated = { at: performance.now(), accepted: 0, messages: 0, lagMs: 0 };

  constructor(options: NodeOptions) {
    const { core, cluster, log } = options;
    this.#options = options;
    this.#loop = monitorEventLoopDelay({ resolution: LOOP_DELAY_RESOLUTION_MS });
    this.#loop.enable();
    this.#drain = new Drain(core, () => cluster.announceNow());
    this.choose = chooseAmong(
      () => cluster.offers,
      () => performance.now(),
      (run) => run === cluster.self && this.#isGoing,
    );
    cluster.announce(
      () => this.#state(),
      (order) => this.#obey(order, log),
    );
  }

  get #isGoing(): boolean {
    return this.#isStopping || this.#drain.isOn;
  }

  get isDraining(): boolean {
    return this.#drain.isOn;
  }

  #state(): NodeState {
    const { core, tcp, tls, connectionsMax } = this.#options;
    const { messages, lagMs } = this.#rates();
    const { sessions, connections } = core;
    const counts = { sessions, connections, connectionsMax, messages, lagMs };
    return { version, tcp, tls, ...counts, isDraining: this.#isGoing };
  }

  #rates(): { messages: number; lagMs: number } {
    const { accepted } = this.#options.core.counters;
    const at = performance.now();
    const passedMs = at - this.#rated.at;
    if (passedMs >= RATE_MS) {
      const messages = Math.round(((accepted - this.#rated.accepted) * 1000) / passedMs);
      const lagMs = Math.max(0, Math.round(this.#loop.percentile(99) / 1e6) - LOOP_DELAY_RESOLUTION_MS);
      this.#loop.reset();
      this.#rated = { at, accepted, messages, lagMs };
    }
    return this.#rated;
  }

  /** `drain RATE` or `undo`, as an operator has left it for this run. */
  #obey(order: string, log: Log): void {
    if (this.#isStopping) return;
    const perSecond = Number(/^drain (\d{1,9})$/.exec(order)?.[1] ?? 0);
    if (perSecond > 0) {
      if (!this.#drain.isOn) log.info({ perSecond }, 'this node is drained: others take its clients');
      this.#drain.begin(perSecond);
    } else if (order === 'undo') {
      if (this.#drain.isOn) log.info({}, 'this node is drained no longer');
      this.#drain.undo();
    } else log.warn({ order: order.slice(0, 100) }, 'an order that this version does not know is left');
  }

  #isTaker({ run, state }: NodeOffer): boolean {
    return run !== this.#options.cluster.self && !state.isDraining;
  }

  /** Before it stops: gives its sessions to others, where there are any. */
  async giveAway(withinMs: number): Promise<void> {
    const { cluster, core, log } = this.#options;
    this.#isStopping = true;
    if (!cluster.offers.some((offer) => this.#isTaker(offer))) return;
    log.info({ sessions: core.sessions }, 'its sessions go to other nodes');
    await this.#drain.finish(Math.max(withinMs, serverLimits.drainAfterMs));
  }

  close(): void {
    this.#drain.close();
    this.#loop.disable();
  }
}
