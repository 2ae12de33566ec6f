// Device logins, many at a time: each on a new connection, with an AES key of its own and an id never seen before.
import type { Histogram } from './histogram.ts';
import { codeOf, type Endpoint, Link, type LinkOwner, textOf } from './link.ts';
import { CMD, type Envelope, type Keys } from './wire.ts';

const FAILURES_KEPT = 10;
const FAILURES_MAX = 1000;
const HEARTBEAT = Buffer.alloc(4);

type CrowdOptions = {
  endpoint: Endpoint;
  keys: Keys;
  /** Connections that are not closed, logging in or (unless kept) logging out, at any time. */
  parallel: number;
  /** Loopback addresses to come from: 127.0.0.2 and following. */
  sources: number;
  /** Keep the connections open once logged in. */
  keep: boolean;
};

export class Crowd implements LinkOwner {
  readonly failures: string[] = [];
  /** Times from connecting to the answer to cmd 101, in ms, go here while it is not null. */
  latencies: Histogram | null = null;
  loggedIn = 0;
  heartbeats = 0;
  readonly #options: CrowdOptions;
  readonly #startedAtMs: number[] = [];
  readonly #kept: Link[] = [];
  #goal = 0;
  #open = 0;
  #failed = 0;

  constructor(options: CrowdOptions) {
    this.#options = options;
  }

  /** Starts logins until there were `goal` in all. */
  run(goal: number): void {
    this.#goal = goal;
    for (let free = this.#options.parallel - this.#open; free > 0; free--) this.#next();
  }

  stop(): void {
    this.#goal = 0;
  }

  get idle(): boolean {
    return this.#open === 0;
  }

  #next(): void {
    const number = this.#startedAtMs.length;
    if (number >= this.#goal || this.#failed > FAILURES_MAX) return;
    const { endpoint, keys, sources } = this.#options;
    this.#open++;
    this.#startedAtMs.push(performance.now());
    new Link(endpoint, keys.fresh(), this, number, `127.0.0.${2 + (number % sources)}`);
  }

  #fail(text: string): void {
    this.#failed++;
    if (this.failures.length < FAILURES_KEPT) this.failures.push(text);
  }

  ready(link: Link): void {
    link.send(CMD.auth, 'auth', { version: '1', id: `crowd-${link.slot}`, abilities: ['bench'] });
  }

  frame(link: Link, bytes: Buffer, envelope: Envelope): void {
    if (envelope.cmd === CMD.heartbeat) {
      this.heartbeats++;
      return;
    }
    const text = textOf(link, bytes, envelope);
    if (envelope.cmd !== CMD.auth || codeOf(text) !== 100) {
      this.#fail(`login ${link.slot}: cmd ${envelope.cmd} answered ${text}`);
      link.close();
      return;
    }
    this.loggedIn++;
    this.latencies?.record(performance.now() - this.#startedAtMs[link.slot]!);
    if (this.#options.keep) {
      this.#kept.push(link);
      this.#open--;
      this.#next();
    } else link.close();
  }

  closed(link: Link, reason: string): void {
    if (reason !== '') this.#fail(`login ${link.slot}: ${reason}`);
    if (this.#options.keep) return;
    this.#open--;
    this.#next();
  }

  sendHeartbeats(): void {
    for (const link of this.#kept) link.write(HEARTBEAT);
  }

  closeAll(): void {
    for (const link of this.#kept) link.close();
  }
}
