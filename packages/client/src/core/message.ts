import { decodeText, type PushedMessage } from '@hawser/protocol';

/** What a received message tells the inbox. */
export interface MessageOwner {
  done(message: Message<never>): void;
  released(message: Message<never>): void;
}

/** A message that was received. `T` is what you know of its `msg`; nothing checks it. */
export class Message<T = unknown> {
  /** The name of the sender: of a user or a device. */
  readonly from: string;
  /** The name it was sent to: this client's own. */
  readonly to: string;
  /** The sender's id of the message. Together with `from` it is the message's identity. */
  readonly msgId: string;
  /** When the server accepted it, in ms since 1970 by the server's clock; `undefined` when the server does not say. */
  readonly ts: number | undefined;
  /**
   * What was sent, as JSON text, byte for byte. Numbers beyond 2⁵³ lose digits in `msg`; a parser of your own gets
   * them from here.
   */
  readonly json: string;
  readonly #owner: MessageOwner;
  #msg: T | undefined;
  #isParsed = false;

  constructor(pushed: PushedMessage, owner: MessageOwner) {
    this.from = pushed.from;
    this.to = pushed.to;
    this.msgId = pushed.msgId;
    this.ts = pushed.ts === 0 ? undefined : pushed.ts;
    this.json = decodeText(pushed.msg) ?? 'null';
    this.#owner = owner;
  }

  /** What was sent: any JSON value, parsed when first asked for. */
  get msg(): T {
    if (!this.#isParsed) {
      this.#msg = JSON.parse(this.json) as T;
      this.#isParsed = true;
    }
    return this.#msg as T;
  }

  /**
   * Tells the server that the message has been dealt with and need not be kept. Called for you after a handler has
   * returned; calling it earlier, or again, does no harm.
   */
  ack(): void {
    this.#owner.done(this as unknown as Message<never>);
  }

  /**
   * Gives the message back: the server will push it again, after a minute on this connection or on the next one, and it
   * is then handled as if it came for the first time. Does nothing after `ack`.
   */
  release(): void {
    this.#owner.released(this as unknown as Message<never>);
  }
}
