import type { Socket } from 'node:net';
import type { Random } from '../sim/random.ts';

/** What passes in one direction waits for more than this no longer: its sender has to. */
const HELD_BYTES_MAX = 256 * 1024;
/** Largest number of pieces that one chunk is split into. */
const PIECES_MAX = 6;

/** How one direction of a connection treats its bytes. */
export type Manner = 'plain' | 'late' | 'split' | 'merged' | 'narrow';

interface Held {
  readonly bytes: Buffer;
  readonly at: number;
}

/** One direction of a connection. */
export class Pipe {
  isHole = false;
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #random: Random;
  readonly #delayMs: number;
  readonly #bytesPerMs: number;
  #manner: Manner;
  #held: Held[] = [];
  #heldBytes = 0;
  #lastAt = 0;
  #timer: NodeJS.Timeout | undefined;
  #cutLeft = Number.POSITIVE_INFINITY;
  #cut: (() => void) | undefined;
  #ending: 'fin' | 'reset' | undefined;
  #isStopped = false;

  constructor(from: Socket, to: Socket, random: Random, manner: Manner) {
    this.#from = from;
    this.#to = to;
    this.#random = random;
    this.#manner = manner;
    this.#delayMs = random.magnitude(1, 200);
    this.#bytesPerMs = random.magnitude(20, 2000);
    from.on('data', (chunk: Buffer) => this.#take(chunk));
    from.on('end', () => {
      if (!this.isHole) this.finish('fin');
    });
    to.on('drain', () => this.#flow());
  }

  /** After so many more bytes. */
  cutAfter(bytes: number, cut: () => void): void {
    this.#cutLeft = bytes;
    this.#cut = cut;
  }

  stallFor(ms: number): void {
    this.#lastAt = Math.max(this.#lastAt, performance.now() + ms);
    if (this.#held.length === 0) this.#held.push({ bytes: Buffer.alloc(0), at: this.#lastAt });
    this.#pump();
  }

  /** Ends behind what is under way. */
  finish(how: 'fin' | 'reset', afterMs = 0): void {
    if (afterMs > 0 && this.#ending === undefined) {
      this.#lastAt = Math.max(this.#lastAt, performance.now() + afterMs);
      this.#held.push({ bytes: Buffer.alloc(0), at: this.#lastAt });
    }
    this.#ending ??= how;
    this.#pump();
  }

  heal(): void {
    this.#manner = 'plain';
    this.#cut = undefined;
    this.#cutLeft = Number.POSITIVE_INFINITY;
    this.#lastAt = 0;
    this.#held = this.#held.map(({ bytes }) => ({ bytes, at: 0 }));
    this.#pump();
  }

  stop(): void {
    this.#isStopped = true;
    this.#held = [];
    clearTimeout(this.#timer);
    // What still comes is read away, so that its end is seen.
    this.isHole = true;
    this.#from.resume();
  }

  #take(chunk: Buffer): void {
    if (this.isHole || this.#isStopped) return;
    const now = performance.now();
    switch (this.#manner) {
      case 'plain':
        this.#hold(chunk, now);
        break;
      case 'late':
        this.#hold(chunk, now + this.#delayMs * this.#random.between(0.5, 1.5));
        break;
      case 'split': {
        let at = 0;
        for (let left = this.#random.below(PIECES_MAX); left > 0 && at < chunk.length - 1; left--) {
          const end = at + 1 + this.#random.below(Math.min(chunk.length - at - 1, 3000));
          this.#hold(chunk.subarray(at, end), now + this.#random.between(0, 4));
          at = end;
        }
        this.#hold(chunk.subarray(at), now + this.#random.between(0, 4));
        break;
      }
      case 'merged':
        // All of the same slice of time leaves together.
        this.#hold(chunk, Math.ceil(now / this.#delayMs) * this.#delayMs);
        break;
      case 'narrow':
        this.#hold(chunk, Math.max(now, this.#lastAt) + chunk.length / this.#bytesPerMs);
        break;
    }
    this.#pump();
    this.#flow();
  }

  #hold(bytes: Buffer, at: number): void {
    this.#lastAt = Math.max(this.#lastAt, at);
    this.#held.push({ bytes, at: this.#lastAt });
    this.#heldBytes += bytes.length;
  }

  /** Reads on when there is room, and not before. */
  #flow(): void {
    if (this.#isStopped || this.isHole) return;
    if (this.#heldBytes > HELD_BYTES_MAX || this.#to.writableNeedDrain) this.#from.pause();
    else this.#from.resume();
  }

  #pump(): void {
    clearTimeout(this.#timer);
    if (this.#isStopped) return;
    const now = performance.now();
    const due: Buffer[] = [];
    while (this.#held.length > 0 && this.#held[0]!.at <= now) {
      const { bytes } = this.#held.shift()!;
      this.#heldBytes -= bytes.length;
      due.push(bytes);
      // Pieces are to arrive as such.
      if (this.#manner === 'split') break;
    }
    for (const bytes of due) if (!this.#write(bytes)) return;
    this.#flow();
    if (this.#held.length > 0) {
      this.#timer = setTimeout(() => this.#pump(), Math.max(0, this.#held[0]!.at - performance.now()));
    } else if (this.#ending === 'fin') this.#to.end();
    else if (this.#ending === 'reset') {
      if (this.#to.connecting) this.#to.destroy();
      else this.#to.resetAndDestroy();
    }
  }

  /** False when this was the last. */
  #write(bytes: Buffer): boolean {
    if (this.#to.destroyed) return false;
    if (this.#cutLeft >= bytes.length) {
      this.#cutLeft -= bytes.length;
      if (bytes.length > 0) this.#to.write(bytes);
      return true;
    }
    this.#isStopped = true;
    const cut = this.#cut;
    this.#to.write(bytes.subarray(0, this.#cutLeft), () => cut?.());
    return false;
  }
}
