// What the scenarios need of whatever makes the load: our own wire (traffic.ts) and MQTT (mqtt-traffic.ts) are both measured
// by the same code.
import type { Histogram } from './histogram.ts';

export interface LoadPair {
  /** Messages in flight at most. */
  window: number;
  /** How many messages to send in all. */
  limit: number;
  sent: number;
  /** When the next message is due, where they are sent by a schedule; asked when it is booked as sent. */
  dueAtMs: (() => number) | null;
  deliveries: Histogram | null;
}

export interface Load<P extends LoadPair = LoadPair> {
  readonly pairs: readonly P[];
  readonly sent: number;
  readonly acked: number;
  readonly delivered: number;
  /** Ack latencies in ms go here while it is not null. */
  latencies: Histogram | null;
  start(): void;
  /** One more message from this pair, as soon as its window has room. */
  offer(pair: P): void;
  /** No new messages; what is in flight is still received and acked. */
  stop(): void;
  /** What the books say is wrong, after everything was given its time. */
  audit(): string[];
  close(): void;
}
