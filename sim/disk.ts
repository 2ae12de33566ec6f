import type { StoredMessage } from '@hawser/server/core/ports';
import { type Change, Contents } from './contents.ts';
import type { Random } from './random.ts';

/** What is wrong with a disk. */
export type DiskTrouble = 'none' | 'slow' | 'failing' | 'full' | 'away';

/** What becomes of writes that were not synced: a process that dies leaves them all, a machine without power not. */
export type CrashKind = 'process' | 'power';

/** A write failed, and not only for a while: the server must end. */
export class DiskError extends Error {}

/**
 * What outlives the server. Writes go to a log in order; a sync makes all of the log durable; a crash leaves what is
 * durable and a prefix of the rest.
 */
export class Disk {
  readonly #random: Random;
  /** What a crash cannot take. */
  durable = new Contents();
  /** What readers see. */
  seen = new Contents();
  /** Told of each message that a crash cannot take from now on. */
  onDurable: (message: StoredMessage) => void = () => {};
  /** Written and not synced: each entry is there whole or not at all. */
  #log: (readonly Change[])[] = [];
  position = 0;
  /** How long the store has been in service, as last noted. */
  ran = 0;
  #trouble: DiskTrouble = 'none';
  /** All that is asked of it may have taken a second. */
  hasBeenSlow = false;
  /** Bindings being changed, by how many calls; and when each last changed. */
  readonly #changing = new Map<string, number>();
  readonly #changedAt = new Map<string, number>();
  readonly #removing = new Map<string, number>();
  readonly #nameChangedAt = new Map<string, number>();

  constructor(random: Random) {
    this.#random = random;
  }

  get trouble(): DiskTrouble {
    return this.#trouble;
  }

  set trouble(trouble: DiskTrouble) {
    this.#trouble = trouble;
    if (trouble === 'slow') this.hasBeenSlow = true;
  }

  /** As it is before the first server starts. */
  prepare(changes: readonly Change[]): void {
    for (const change of changes) {
      this.durable.apply(change);
      this.seen.apply(change);
    }
  }

  write(changes: readonly Change[]): void {
    this.#log.push(changes);
  }

  sync(): void {
    const log = this.#log;
    this.#log = [];
    for (const changes of log) {
      for (const change of changes) {
        this.durable.apply(change);
        if (change.type === 'put') this.onDurable(change.message);
      }
    }
  }

  /** Returns how many writes were lost. */
  crash(kind: CrashKind, now: number): number {
    const left = kind === 'process' ? this.#log.length : this.#random.below(this.#log.length + 1);
    const lost = this.#log.length - left;
    this.#log.length = left;
    this.sync();
    this.seen = this.durable.copy();
    for (const pair of this.#changing.keys()) this.#changedAt.set(pair, now);
    this.#changing.clear();
    return lost;
  }

  readMs(): number {
    return this.trouble === 'slow' ? this.#random.magnitude(1, 1000) : this.#random.magnitude(0.05, 5);
  }

  writeMs(): number {
    return this.trouble === 'slow' ? this.#random.magnitude(5, 1000) : this.#random.magnitude(0.05, 2);
  }

  syncMs(): number {
    return this.trouble === 'slow' ? this.#random.magnitude(10, 3000) : this.#random.magnitude(0.2, 20);
  }

  // ---- bindings, for the checker

  beginChange(user: string, device: string): void {
    const pair = `${user}\n${device}`;
    this.#changing.set(pair, (this.#changing.get(pair) ?? 0) + 1);
  }

  endChange(user: string, device: string, now: number): void {
    const pair = `${user}\n${device}`;
    const left = (this.#changing.get(pair) ?? 0) - 1;
    if (left > 0) this.#changing.set(pair, left);
    else this.#changing.delete(pair);
    this.#changedAt.set(pair, now);
  }

  /** A name is being removed, or made: messages to it may be refused, and what is known of it may be old. */
  beginRemoval(name: string): void {
    this.#removing.set(name, (this.#removing.get(name) ?? 0) + 1);
  }

  endRemoval(name: string, now: number): void {
    const left = (this.#removing.get(name) ?? 0) - 1;
    if (left > 0) this.#removing.set(name, left);
    else this.#removing.delete(name);
    this.#nameChangedAt.set(name, now);
  }

  nameChanged(name: string, now: number): void {
    this.#nameChangedAt.set(name, now);
  }

  /** Whether this name has neither come nor gone after `since`, nor is about to. */
  isNameSettled(name: string, since: number): boolean {
    return !this.#removing.has(name) && (this.#nameChangedAt.get(name) ?? -1e9) < since;
  }

  /** It changed just now, whoever asked for that. */
  changed(user: string, device: string, now: number): void {
    this.#changedAt.set(`${user}\n${device}`, now);
  }

  /** Whether nothing has changed this binding after `since`, nor is about to. */
  isSettled(user: string, device: string, since: number): boolean {
    const pair = `${user}\n${device}`;
    return !this.#changing.has(pair) && (this.#changedAt.get(pair) ?? -1) < since;
  }
}
