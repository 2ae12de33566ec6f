import type { Random } from '../random.ts';
import type { Scheduler } from '../scheduler.ts';
import type { Trace } from '../trace.ts';
import { Keys } from './keys.ts';
import { runScript } from './scripts.ts';

/** A connection, as the server sees it. */
export interface Peer {
  /** The server's process has ended. */
  reset(): void;
  message(channel: string, payload: Buffer): void;
}

export type Answer = { readonly value: unknown } | { readonly error: string };

/**
 * A Redis: what all scripts of the adapter do to its keys, one at a time, each of them whole; and its channels. It is
 * frozen for a while, and then does what was sent meanwhile, whoever still waits for that; it is restarted with nothing;
 * or a replica that lags behind takes its place. What is gone for good is never told.
 */
export class RedisServer {
  readonly #scheduler: Scheduler;
  readonly #random: Random;
  readonly #trace: Trace;
  readonly #keys: Keys;
  /** The process: each has a name of its own. */
  #server: string;
  #loaded = new Set<string>();
  #peers = new Set<Peer>();
  #channels = new Map<string, Set<Peer>>();
  /** Something that was published may not have been heard. */
  hasLost = false;
  #frozenTo = 0;
  #waiting: (() => void)[] = [];
  #downTo = 0;
  /** How likely something that is published is not heard: a subscriber that was just being made anew. */
  loss = 0;
  /** Its clock, µs ahead of the simulation's. */
  #aheadUs = 1_790_000_000_000_000;

  constructor(scheduler: Scheduler, random: Random, trace: Trace) {
    this.#scheduler = scheduler;
    this.#random = random;
    this.#trace = trace;
    this.#keys = new Keys(
      () => this.#aheadUs + scheduler.now * 1000,
      () => scheduler.now,
    );
    this.#server = this.nextName();
  }

  /** What the next process is called: none was called so before. */
  nextName(): string {
    return Array.from({ length: 40 }, () => this.#random.below(16).toString(16)).join('');
  }

  get isDown(): boolean {
    return this.#scheduler.now < this.#downTo;
  }

  get isFrozen(): boolean {
    return this.#scheduler.now < this.#frozenTo;
  }

  // ---- what befalls it

  /** Nothing is answered for so long. */
  freeze(ms: number): void {
    this.#frozenTo = Math.max(this.#frozenTo, this.#scheduler.now + ms);
    this.#trace.note('node', Math.round(ms), -1, 'Redis is frozen');
    this.#scheduler.at(this.#frozenTo, () => this.#thaw());
  }

  #thaw(): void {
    if (this.#scheduler.now < this.#frozenTo) return;
    for (const call of this.#waiting.splice(0)) call();
  }

  /**
   * The process ends, and so many ms later there is another.
   *
   * @param lostMs how much of the last writes that one does not have; all of them, without persistence
   */
  replace(downMs: number, lostMs: number): void {
    const name = Number.isFinite(lostMs) ? `lacks the last ${Math.round(lostMs)} ms` : 'has nothing';
    this.hasLost = true;
    this.#trace.note('node', Math.round(downMs), -1, `Redis ends; the next ${name}`);
    if (Number.isFinite(lostMs)) this.#keys.goBack(lostMs);
    else this.#keys.clear();
    this.#server = this.nextName();
    this.#loaded = new Set();
    this.#downTo = this.#scheduler.now + downMs;
    this.#frozenTo = 0;
    this.#waiting = [];
    const peers = this.#peers;
    this.#peers = new Set();
    this.#channels = new Map();
    for (const peer of peers) peer.reset();
  }

  /** Some connections break, on whatever lies between. */
  breakConnections(share: number): void {
    for (const peer of [...this.#peers]) {
      if (!this.#random.chance(share)) continue;
      peer.reset();
      this.left(peer);
    }
  }

  /** Its clock is set. */
  jump(ms: number): void {
    this.#aheadUs += ms * 1000;
  }

  heal(): void {
    this.#frozenTo = 0;
    this.#downTo = 0;
    this.loss = 0;
    this.#thaw();
  }

  // ---- connections

  /** False when nothing listens there. */
  accept(peer: Peer): boolean {
    if (this.isDown) return false;
    this.#peers.add(peer);
    return true;
  }

  left(peer: Peer): void {
    this.hasLost = true;
    this.#peers.delete(peer);
    for (const peers of this.#channels.values()) peers.delete(peer);
  }

  /** Does it when its turn has come, also where nobody waits for the answer any more. */
  execute(peer: Peer, words: readonly (string | Buffer)[], answer: (answer: Answer) => void): void {
    const server = this.#server;
    const run = (): void => {
      // Of the process that has ended nothing is done.
      if (server !== this.#server) return;
      answer(this.#do(peer, words));
    };
    if (this.isFrozen) this.#waiting.push(run);
    else run();
  }

  #publish(channel: string, payload: Buffer): number {
    const peers = this.#channels.get(channel);
    if (peers === undefined || peers.size === 0) this.hasLost = true;
    for (const each of peers ?? []) {
      if (this.#random.chance(this.loss)) this.hasLost = true;
      else each.message(channel, payload);
    }
    return peers?.size ?? 0;
  }

  #do(peer: Peer, words: readonly (string | Buffer)[]): Answer {
    const [command, first = '', second = '', third = ''] = words;
    switch (command) {
      case 'ROLE':
        return { value: ['master', 0, []] };
      case 'SCRIPT':
        this.#loaded.add(String(second));
        return { value: 'OK' };
      case 'EVALSHA': {
        if (!this.#loaded.has(String(first))) return { error: 'NOSCRIPT No matching script. Please use EVAL.' };
        const ran = { keys: this.#keys, server: this.#server };
        return { value: runScript(String(first), ran, String(third), words.slice(4).map(String)) };
      }
      case 'PUBLISH':
        return { value: this.#publish(String(first), second as Buffer) };
      case 'SUBSCRIBE': {
        const peers = this.#channels.get(String(first)) ?? new Set();
        this.#channels.set(String(first), peers.add(peer));
        return { value: 1 };
      }
      default:
        return { error: `ERR unknown command ${command}` };
    }
  }
}
