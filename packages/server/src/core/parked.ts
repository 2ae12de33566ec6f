import { digest } from './digest.ts';
import type { Mailbox } from './mailbox.ts';
import { Message, stage } from './message.ts';

const FIRST_ROWS = 16;
const INTS = 6;
const DOUBLES = 4;

/**
 * Pushes of one session that its receiver has not acked for some time. They are in the store, so that their msgIds and some
 * numbers are enough: 64 bytes each and the msgId, where a `Message` takes about 400 that V8 looks through each time it
 * collects. A thousand receivers that never ack hold a quarter of a million of them.
 */
export class Parked {
  readonly #mailbox: Mailbox;
  /** Of each: the digest of its msgId (2), hash, bytes of content, pushes, `ttl`. */
  #ints = new Int32Array(FIRST_ROWS * INTS);
  /** Of each: position, when it was pushed, `wall`, `ran`. */
  #doubles = new Float64Array(FIRST_ROWS * DOUBLES);
  #from: string[] = [];
  /** A digest alone would not do: they are of many senders, and one could make an id that looks like another's. */
  #msgIds: string[] = [];
  /** Bytes of content of all. */
  bytes = 0;

  constructor(mailbox: Mailbox) {
    this.#mailbox = mailbox;
  }

  get size(): number {
    return this.#from.length;
  }

  /** Whether a message of the window can be known by its numbers: nobody waits for it, and the store has it. */
  static takes(message: Message): boolean {
    const { acked, sender, hop, msg, pushedAt } = message;
    const isSettled = message.stage === stage.stored && sender === undefined && hop === undefined;
    return isSettled && !acked && msg === undefined && pushedAt > 0;
  }

  add(message: Message): void {
    const row = this.size;
    if ((row + 1) * INTS > this.#ints.length) this.#grow();
    const { idLow, idHigh, hash, size, pushes, ttl, position, pushedAt, wall, ran } = message;
    this.#ints.set([idLow, idHigh, hash, size, pushes, ttl], row * INTS);
    this.#doubles.set([position, pushedAt, wall, ran], row * DOUBLES);
    this.#from.push(message.from);
    this.#msgIds.push(message.msgId);
    this.bytes += size;
  }

  #grow(): void {
    const [ints, doubles] = [this.#ints, this.#doubles];
    this.#ints = new Int32Array(ints.length * 2);
    this.#ints.set(ints);
    this.#doubles = new Float64Array(doubles.length * 2);
    this.#doubles.set(doubles);
  }

  has(msgId: string): boolean {
    return this.#rowOf(msgId) >= 0;
  }

  #rowOf(msgId: string): number {
    const rows = this.size;
    if (rows === 0) return -1;
    digest.of(msgId);
    const { low, high } = digest;
    const ints = this.#ints;
    for (let row = 0, at = 0; row < rows; row++, at += INTS) {
      if (ints[at] === low && ints[at + 1] === high && this.#msgIds[row] === msgId) return row;
    }
    return -1;
  }

  /** Takes the message with this msgId out; `undefined` when there is none. */
  take(msgId: string): Message | undefined {
    const row = this.#rowOf(msgId);
    return row < 0 ? undefined : this.#takeRow(row);
  }

  /** The same by its position. */
  takeAt(position: number): Message | undefined {
    const row = this.#rowAt(position);
    return row < 0 ? undefined : this.#takeRow(row);
  }

  #rowAt(position: number): number {
    for (let row = 0; row < this.size; row++) if (this.#doubles[row * DOUBLES] === position) return row;
    return -1;
  }

  #takeRow(row: number): Message {
    const [hash, size, pushes, ttl] = this.#ints.subarray(row * INTS + 2, (row + 1) * INTS);
    const [position, pushedAt, wall, ran] = this.#doubles.subarray(row * DOUBLES, (row + 1) * DOUBLES);
    const [from, msgId] = [this.#from[row]!, this.#msgIds[row]!];
    const message = new Message(this.#mailbox, from, msgId, undefined, hash!, wall!, ran!, ttl!, size!);
    message.stage = stage.stored;
    message.position = position!;
    message.pushedAt = pushedAt!;
    message.pushes = pushes!;
    message.inWindow = true;
    this.#remove(row);
    return message;
  }

  /** The last one takes its place. */
  #remove(row: number): void {
    const last = this.size - 1;
    this.bytes -= this.#ints[row * INTS + 3]!;
    this.#ints.copyWithin(row * INTS, last * INTS, (last + 1) * INTS);
    this.#doubles.copyWithin(row * DOUBLES, last * DOUBLES, (last + 1) * DOUBLES);
    this.#from[row] = this.#from[last]!;
    this.#from.pop();
    this.#msgIds[row] = this.#msgIds[last]!;
    this.#msgIds.pop();
  }

  /** Calls with when each was pushed last, how often it was, and its bytes; one for which `isDue` is true is listed. */
  due(isDue: (pushedAt: number, pushes: number, bytes: number) => boolean): number[] {
    const positions: number[] = [];
    for (let row = 0; row < this.size; row++) {
      const pushedAt = this.#doubles[row * DOUBLES + 1]!;
      const [, , , size, pushes] = this.#ints.subarray(row * INTS, row * INTS + INTS);
      if (isDue(pushedAt, pushes!, size!)) positions.push(this.#doubles[row * DOUBLES]!);
    }
    return positions.sort((one, other) => one - other);
  }

  /** They are about to be pushed again. */
  pushed(positions: readonly number[], now: number): void {
    for (const position of positions) {
      const row = this.#rowAt(position);
      if (row >= 0) this.#doubles[row * DOUBLES + 1] = now;
    }
  }
}
