import type { SentMessage } from './message.ts';
import type { Party } from './party.ts';
import type { SimWire } from './wire.ts';

/** A client of a run, as the run and its faults see it. */
export interface Member {
  readonly party: Party;
  /** The connection of now. */
  readonly wire: SimWire | undefined;
  readonly isOnline: boolean;
  /** It has gone for good. */
  readonly hasLeft: boolean;
  /** Sent, and neither acked nor refused. */
  readonly pending: ReadonlyMap<string, { readonly message: SentMessage }>;
  start(): void;
  /** Trouble is over: no more messages, everything acked, what is pending is sent until it is answered. */
  drain(reconnects: boolean): void;
  /** Goes for good. */
  leave(): void;
  /** The network takes its connection away without a word. */
  vanish(): void;
}
