import { serverLimits } from '@hawser/protocol';
import { type Store, StoreAway, type Timer } from '../../core/ports.ts';
import { int4s, int8s, texts } from './arrays.ts';
import type { Connections } from './connections.ts';

/** Positions of messages that are removed and may still be in the database, with their sizes. */
export type Gone = Map<number, number>;
type Layer = Map<string, Gone>;

const REMOVE = {
  name: 'remove',
  text: 'SELECT remove_messages($1::text[], $2::integer[], $3::bigint[])',
} as const;

/**
 * Removals on their way to the database, some milliseconds together. Reads are told what to leave out: a read that was
 * called when a removal was not yet written knows of it to its end, whenever the removal is.
 */
export class Removals {
  readonly #connections: Connections;
  readonly #onError: (error: unknown) => void;
  #waiting: Layer = new Map();
  #waitingCount = 0;
  /** What is being written now, here or by an append. */
  readonly #writing = new Set<Layer>();
  #timer: Timer | undefined;
  #flushing: Promise<void> | undefined;
  #settled: (() => void)[] = [];
  #isOver = false;

  constructor(connections: Connections, onError: (error: unknown) => void) {
    this.#connections = connections;
    this.#onError = onError;
  }

  add({ to, position, size }: Parameters<Store['remove']>[0]): void {
    this.#put(to, position, size);
    this.#writeLater(serverLimits.postgresLazyMs);
  }

  #put(to: string, position: number, size: number): void {
    let gone = this.#waiting.get(to);
    if (gone === undefined) {
      gone = new Map();
      this.#waiting.set(to, gone);
    }
    if (!gone.has(position)) this.#waitingCount++;
    gone.set(position, size);
  }

  /** What is removed of an inbox, as of now. */
  goneOf(receiver: string): readonly Gone[] {
    const found: Gone[] = [];
    for (const layer of [this.#waiting, ...this.#writing]) {
      const gone = layer.get(receiver);
      if (gone !== undefined) found.push(gone);
    }
    return found;
  }

  /** The same of all inboxes. */
  gone(): (receiver: string) => readonly Gone[] {
    const layers = [this.#waiting, ...this.#writing].map((layer) => new Map(layer));
    return (receiver) => layers.flatMap((layer) => layer.get(receiver) ?? []);
  }

  /** Takes out what concerns these receivers, for an append to write along; `settle` says what came of it. */
  take(receivers: Iterable<string>): Layer {
    const taken: Layer = new Map();
    for (const receiver of receivers) {
      for (const gone of this.goneOf(receiver)) {
        const before = taken.get(receiver);
        taken.set(receiver, before === undefined ? gone : new Map([...before, ...gone]));
      }
      const waiting = this.#waiting.get(receiver);
      if (waiting === undefined) continue;
      this.#waiting.delete(receiver);
      this.#waitingCount -= waiting.size;
    }
    if (taken.size > 0) this.#writing.add(taken);
    return taken;
  }

  settle(taken: Layer, isWritten: boolean): void {
    if (!this.#writing.delete(taken)) return;
    if (!isWritten) {
      for (const [receiver, gone] of taken) for (const [position, size] of gone) this.#put(receiver, position, size);
      this.#writeLater(serverLimits.postgresAgainMs);
    }
    this.#tell();
  }

  whenWritten(): Promise<void> {
    if (this.#isQuiet) return Promise.resolve();
    this.#writeLater(0);
    return new Promise((resolve) => this.#settled.push(resolve));
  }

  get #isQuiet(): boolean {
    return this.#waiting.size === 0 && this.#writing.size === 0;
  }

  #tell(): void {
    if (this.#isQuiet) for (const resolve of this.#settled.splice(0)) resolve();
  }

  #writeLater(ms: number): void {
    if (this.#isOver || this.#flushing !== undefined) return;
    if (this.#timer !== undefined && ms > 0 && this.#waitingCount < serverLimits.postgresRemovalsMax) return;
    this.#timer?.cancel();
    this.#timer = this.#connections.clock.after(ms, () => {
      this.#timer = undefined;
      this.#flushing = this.#flush().finally(() => {
        this.#flushing = undefined;
        if (this.#waiting.size > 0) this.#writeLater(serverLimits.postgresLazyMs);
      });
    });
  }

  async #flush(): Promise<void> {
    const layer = this.#next();
    if (layer.size === 0) return;
    this.#writing.add(layer);
    try {
      await this.#write(layer);
      this.settle(layer, true);
    } catch (error) {
      if (this.#isOver) return;
      this.settle(layer, false);
      if (error instanceof StoreAway)
        await new Promise<void>((resolve) => this.#connections.clock.afterIdle(serverLimits.postgresAgainMs, resolve));
      else this.#onError(error);
    }
  }

  /** All that waits, or as much of it as goes into one statement. */
  #next(): Layer {
    const layer: Layer = new Map();
    let count = 0;
    for (const [receiver, gone] of this.#waiting) {
      if (count >= serverLimits.postgresRemovalsMax) break;
      layer.set(receiver, gone);
      this.#waiting.delete(receiver);
      count += gone.size;
    }
    this.#waitingCount -= count;
    return layer;
  }

  async #write(layer: Layer): Promise<void> {
    const of: number[] = [];
    const positions: number[] = [];
    let number = 0;
    for (const gone of layer.values()) {
      number++;
      for (const position of gone.keys()) {
        of.push(number);
        positions.push(position);
      }
    }
    await this.#connections.query(REMOVE, [texts([...layer.keys()]), int4s(of), int8s(positions)]);
  }

  /** Writes what waits, if it can be; then no more. */
  async close(): Promise<void> {
    this.#timer?.cancel();
    await this.#flushing;
    this.#timer?.cancel();
    try {
      while (!this.#isOver && this.#waiting.size > 0) await this.#write(this.#next());
    } finally {
      this.#isOver = true;
    }
  }

  drop(): void {
    this.#timer?.cancel();
    this.#isOver = true;
  }
}
