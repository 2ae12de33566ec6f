// A sender and its receiver: templates of what they send, and the books that prove nothing was lost or doubled.
import { DIGITS, readNumber, writeNumber } from './digits.ts';
import type { Histogram } from './histogram.ts';
import type { Link } from './link.ts';
import type { LoadPair } from './load.ts';
import { CMD, frameSize, padded, writeHead } from './wire.ts';

const ID_PREFIX_SIZE = 24;
const ID_SIZE = ID_PREFIX_SIZE + DIGITS;
/** The first digits of an id, in hex: this and the pair's index. */
const FIRST_INDEX = 0x10000000;
const INDEX_DIGITS = 8;
const FIRST_BOOKS_SIZE = 1 << 15;
const SENT = 1;
const DELIVERED = 2;
const ACKED = 4;
const MSGID_KEY = '"msgid":"';
const QUOTE = 0x22;
const COMMA = 0x2c;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACKET = 0x5d;
const ACK_OPENING = Buffer.from('{"msgid":"');
/** Every so many pushes one is parsed as JSON and compared whole; the others are checked where they vary. */
const WHOLE_CHECK_EVERY = 64;

/** The index of the pair that made this id; negative or NaN when none did. */
export function pairIndexOf(bytes: Buffer, idStart: number): number {
  return Number.parseInt(bytes.toString('latin1', idStart, idStart + INDEX_DIGITS), 16) - FIRST_INDEX;
}

export function pairIndexOfId(id: string): number {
  return Number.parseInt(id.slice(0, INDEX_DIGITS), 16) - FIRST_INDEX;
}

/** Where things lie in one element of a push: learned from the first one, since all of a pair's are of one length. */
type Layout = { elementSize: number; idAt: number; numberAt: number };

export class Pair implements LoadPair {
  /** Several pairs may share one. None where all has been sent before: see `sentBefore`. */
  readonly sender: Link | null;
  window: number;
  /** How many messages to send in all. */
  limit: number;
  sent = 0;
  acked = 0;
  delivered = 0;
  duplicates = 0;
  outOfOrder = 0;
  /** Pushes that did not have the learned layout and were parsed instead: right, but dear. */
  parsed = 0;
  queued = false;
  /** Where messages are sent by a schedule: when the next one is due. Their latencies count from then. */
  dueAtMs: (() => number) | null = null;
  /** Times from sent (or due) to delivered go here while it is not null. */
  deliveries: Histogram | null = null;
  /** The encrypted part of a message, padded, with a number to be written in. */
  readonly plain: Buffer;
  readonly head: Buffer;
  readonly frameSize: number;
  readonly #from: string;
  readonly #to: string;
  readonly #payload: string;
  readonly #idPrefix: string;
  readonly #idPrefixBytes: Buffer;
  readonly #ackOpening: Buffer;
  readonly #plainNumberAt: number;
  readonly #headNumberAt: number;
  #layout: Layout | null = null;
  #state: Uint8Array;
  #sentAtMs: Float64Array;
  #newest = -1;
  #pushes = 0;

  /** `payloadSize` counts the JSON string with its quotes. */
  constructor(
    index: number,
    sender: Link | null,
    from: string,
    to: string,
    payloadSize: number,
    window: number,
    limit: number,
  ) {
    this.sender = sender;
    this.window = window;
    this.limit = limit;
    const booksSize = Math.min(limit, FIRST_BOOKS_SIZE);
    this.#state = new Uint8Array(booksSize);
    this.#sentAtMs = new Float64Array(booksSize);
    this.#from = from;
    this.#to = to;
    this.#idPrefix = `${(FIRST_INDEX + index).toString(16)}-0be4-4c11-8a5e-`;
    this.#idPrefixBytes = Buffer.from(this.#idPrefix);
    this.#ackOpening = Buffer.concat([ACK_OPENING, this.#idPrefixBytes]);
    this.#payload = 'temperature and so on '.repeat(1 + payloadSize / 20).slice(0, payloadSize - 2 - DIGITS);
    const opening = `{"to":${JSON.stringify(to)},"msg":"${this.#payload}`;
    this.plain = padded(`${opening}${'0'.repeat(DIGITS)}"}`);
    this.#plainNumberAt = Buffer.byteLength(opening);
    this.frameSize = frameSize(CMD.message, ID_SIZE, true, this.plain.length);
    this.head = Buffer.alloc(this.frameSize - this.plain.length);
    writeHead(this.head, 0, CMD.message, this.#idPrefix + '0'.repeat(DIGITS), true, this.plain.length);
    this.#headNumberAt = this.head.indexOf(this.#idPrefixBytes) + ID_PREFIX_SIZE;
  }

  /** Books that a process before this one sent so many, and had them all acked. */
  sentBefore(count: number): void {
    while (this.sent < count) {
      this.next(0);
      this.#state[this.sent - 1] = SENT | ACKED;
    }
    this.acked = count;
  }

  get wantsToSend(): boolean {
    return this.sent - this.acked < this.window && this.sent < this.limit;
  }

  /** Books the next message and writes its number into `plain`. */
  next(nowMs: number): void {
    const number = this.sent++;
    if (number === this.#state.length) this.#grow();
    this.#state[number] = SENT;
    this.#sentAtMs[number] = this.dueAtMs === null ? nowMs : this.dueAtMs();
    writeNumber(this.plain, this.#plainNumberAt, number);
  }

  /** Writes message `number`'s id into `head`. Numbers must come in ascending order. */
  numberHead(number: number): void {
    writeNumber(this.head, this.#headNumberAt, number);
  }

  #grow(): void {
    const state = new Uint8Array(this.#state.length * 2);
    state.set(this.#state);
    this.#state = state;
    const sentAtMs = new Float64Array(state.length);
    sentAtMs.set(this.#sentAtMs);
    this.#sentAtMs = sentAtMs;
  }

  /** The id of an ack that came back; returns when the message was sent, or -1 when the ack is not in order. */
  ack(bytes: Buffer, idStart: number, idEnd: number): number {
    if (idEnd - idStart !== ID_SIZE || !this.#isPrefix(bytes, idStart)) return -1;
    const number = readNumber(bytes, idStart + ID_PREFIX_SIZE);
    if (number < 0 || number >= this.sent || (this.#state[number]! & ACKED) !== 0) return -1;
    this.#state[number]! |= ACKED;
    this.acked++;
    return this.#sentAtMs[number]!;
  }

  #isPrefix(bytes: Buffer, start: number): boolean {
    const prefix = this.#idPrefixBytes;
    for (let at = 0; at < ID_PREFIX_SIZE; at++) if (bytes[start + at] !== prefix[at]) return false;
    return true;
  }

  #deliver(number: number): boolean {
    if (!(number >= 0 && number < this.sent)) return false;
    if ((this.#state[number]! & DELIVERED) !== 0) this.duplicates++;
    else {
      this.#state[number]! |= DELIVERED;
      this.delivered++;
      this.deliveries?.record(performance.now() - this.#sentAtMs[number]!);
      if (number < this.#newest) this.outOfOrder++;
      else this.#newest = number;
    }
    return true;
  }

  /**
   * Books the push in [start, end) of `bytes` and writes its ack, unpadded, into `target`: never more bytes than the push
   * has, since an ack repeats only its msgids.
   * Returns where the ack ends; -1 when the push is not what was sent.
   */
  receive(bytes: Buffer, start: number, end: number, target: Buffer, targetStart: number): number {
    if (this.#layout === null) {
      this.#layout = this.#learn(bytes.toString('utf8', start, end));
      if (this.#layout === null) return -1;
    }
    const { elementSize, idAt, numberAt } = this.#layout;
    const count = (end - start - 1) / (elementSize + 1);
    const whole = this.#pushes++ % WHOLE_CHECK_EVERY === 0;
    if (whole && !this.#check(bytes.toString('utf8', start, end))) return -1;
    if (!Number.isInteger(count) || !this.#fits(bytes, start, count)) {
      return this.#receiveParsed(bytes.toString('utf8', start, end), target, targetStart);
    }
    let at = targetStart;
    target[at++] = 0x5b;
    for (let element = start + 1; element < end; element += elementSize + 1) {
      const number = readNumber(bytes, element + idAt + ID_PREFIX_SIZE);
      if (number !== readNumber(bytes, element + numberAt) || !this.#deliver(number)) return -1;
      at = this.#writeAck(target, at, bytes, element + idAt + ID_PREFIX_SIZE);
    }
    target[at - 1] = CLOSE_BRACKET;
    return at;
  }

  #writeAck(target: Buffer, start: number, bytes: Buffer, digitsAt: number): number {
    const opening = this.#ackOpening;
    let at = start;
    for (let i = 0; i < opening.length; i++) target[at++] = opening[i]!;
    for (let i = 0; i < DIGITS; i++) target[at++] = bytes[digitsAt + i]!;
    target[at++] = QUOTE;
    target[at++] = 0x7d;
    target[at++] = COMMA;
    return at;
  }

  /** Whether all `count` elements have the learned layout. */
  #fits(bytes: Buffer, start: number, count: number): boolean {
    const { elementSize, idAt } = this.#layout!;
    for (let element = start + 1, left = count; left > 0; left--, element += elementSize + 1) {
      if (bytes[element] !== OPEN_BRACE || !this.#isPrefix(bytes, element + idAt)) return false;
      if (bytes[element + idAt + ID_SIZE] !== QUOTE) return false;
      if (bytes[element + elementSize] !== (left === 1 ? CLOSE_BRACKET : COMMA)) return false;
    }
    return true;
  }

  #learn(text: string): Layout | null {
    if (!this.#check(text)) return null;
    const count = text.split(MSGID_KEY).length - 1;
    const elementSize = (text.length - 1) / count - 1;
    const idAt = text.indexOf(MSGID_KEY) + MSGID_KEY.length - 1;
    const numberAt = text.indexOf(this.#payload) + this.#payload.length - 1;
    return Number.isInteger(elementSize) ? { elementSize, idAt, numberAt } : { elementSize: 0, idAt, numberAt };
  }

  #elements(text: string): Record<string, unknown>[] | null {
    try {
      const elements: unknown = JSON.parse(text);
      return Array.isArray(elements) && elements.length > 0 ? elements : null;
    } catch {
      return null;
    }
  }

  /** Whether the push, parsed, has this pair's names and payload in every element. */
  #check(text: string): boolean {
    const elements = this.#elements(text);
    return elements?.every((element) => this.#isOwn(element)) ?? false;
  }

  #isOwn({ from, to, msg, msgid }: Record<string, unknown>): boolean {
    if (from !== this.#from || to !== this.#to || typeof msg !== 'string' || typeof msgid !== 'string') return false;
    return msgid.startsWith(this.#idPrefix) && msg === this.#payload + msgid.slice(ID_PREFIX_SIZE);
  }

  /** Books one element of a push that brings several pairs' messages; false when it is not what was sent. */
  receiveOne(element: Record<string, unknown>): boolean {
    return this.#isOwn(element) && this.#deliver(Number(String(element.msgid).slice(ID_PREFIX_SIZE)));
  }

  #receiveParsed(text: string, target: Buffer, targetStart: number): number {
    const elements = this.#check(text) ? this.#elements(text) : null;
    if (elements === null) return -1;
    this.parsed++;
    let at = targetStart;
    target[at++] = 0x5b;
    for (const { msgid } of elements) {
      const digits = Buffer.from(String(msgid).slice(ID_PREFIX_SIZE));
      if (!this.#deliver(readNumber(digits, 0))) return -1;
      at = this.#writeAck(target, at, digits, 0);
    }
    target[at - 1] = CLOSE_BRACKET;
    return at;
  }
}
