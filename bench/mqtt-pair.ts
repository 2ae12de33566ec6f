// A publisher, its subscriber, and the books between them.
import { DIGITS, readNumber, writeNumber } from './digits.ts';
import type { Histogram } from './histogram.ts';
import type { LoadPair } from './load.ts';
import type { MqttLink } from './mqtt-link.ts';
import { PACKET_ID_MAX, publishTemplate } from './mqtt-wire.ts';

const ACKED = 1;
const DELIVERED = 2;
const BOTH = ACKED | DELIVERED;

export class MqttPair implements LoadPair {
  /** Null where only the books are wanted. */
  readonly publisher: MqttLink | null;
  readonly subscriber: MqttLink | null;
  window: number;
  limit: number;
  sent = 0;
  /** Delivered and acked: only then is a message out of its window, as on our own wire. */
  #completed = 0;
  #expected = 0;
  duplicates = 0;
  lost = 0;
  queued = false;
  dueAtMs: (() => number) | null = null;
  deliveries: Histogram | null = null;
  readonly size: number;
  /** Packet ids of messages to ack at the end of this turn. */
  readonly unacked: number[] = [];
  readonly #template: Buffer;
  readonly #idAt: number;
  readonly #topic: Buffer;
  readonly #payload: Buffer;
  /** Of the message with the number n at n modulo `PACKET_ID_MAX`: more are never in flight. */
  readonly #state = new Uint8Array(PACKET_ID_MAX).fill(BOTH);
  readonly #sentAtMs = new Float64Array(PACKET_ID_MAX);

  constructor(
    publisher: MqttLink | null,
    subscriber: MqttLink | null,
    topic: string,
    payloadSize: number,
    window: number,
  ) {
    this.publisher = publisher;
    this.subscriber = subscriber;
    this.window = window;
    this.limit = Infinity;
    const words = 'temperature and so on '.repeat(1 + payloadSize / 20).slice(0, payloadSize - DIGITS);
    this.#payload = Buffer.from(words + '0'.repeat(DIGITS));
    this.#topic = Buffer.from(topic);
    const { bytes, idAt } = publishTemplate(topic, this.#payload);
    this.#template = bytes;
    this.#idAt = idAt;
    this.size = bytes.length;
  }

  get wantsToSend(): boolean {
    const inFlight = this.sent - this.#completed;
    return inFlight < this.window && inFlight < PACKET_ID_MAX && this.sent < this.limit;
  }

  /** Books the next message and writes it into `target`. */
  next(target: Buffer, at: number, nowMs: number): void {
    const number = this.sent++;
    const place = number % PACKET_ID_MAX;
    this.#state[place] = 0;
    this.#sentAtMs[place] = this.dueAtMs === null ? nowMs : this.dueAtMs();
    writeNumber(this.#template, this.size - DIGITS, number);
    this.#template.writeUInt16BE(place + 1, this.#idAt);
    this.#template.copy(target, at);
  }

  /** The packet id of a PUBACK; returns when its message was sent, -1 when none waits for it. */
  ack(packetId: number): number {
    const place = packetId - 1;
    if (!(place >= 0 && place < this.sent) || (this.#state[place]! & ACKED) !== 0) return -1;
    this.#book(place, ACKED);
    return this.#sentAtMs[place]!;
  }

  #book(place: number, what: number): void {
    this.#state[place]! |= what;
    if (this.#state[place] === BOTH) this.#completed++;
  }

  /** A PUBLISH with QoS 1 in [start, end) behind its length; false when it is not what was sent. */
  receive(bytes: Buffer, start: number, end: number, nowMs: number): boolean {
    const payloadAt = start + 2 + this.#topic.length + 2;
    if (end - payloadAt !== this.#payload.length) return false;
    if (this.#topic.compare(bytes, start + 2, payloadAt - 2) !== 0) return false;
    const digitsAt = end - DIGITS;
    const words = this.#payload.length - DIGITS;
    if (this.#payload.compare(bytes, payloadAt, digitsAt, 0, words) !== 0) return false;
    const number = readNumber(bytes, digitsAt);
    if (number < 0 || number >= this.sent) return false;
    this.unacked.push(bytes.readUInt16BE(payloadAt - 2));
    if (number < this.#expected) {
      this.duplicates++;
      return true;
    }
    this.lost += number - this.#expected;
    this.#expected = number + 1;
    const place = number % PACKET_ID_MAX;
    this.deliveries?.record(nowMs - this.#sentAtMs[place]!);
    this.#book(place, DELIVERED);
    return true;
  }
}
