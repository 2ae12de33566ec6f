import { serverLimits } from '@hawser/protocol';
import type { Log, Time, Timer } from './ports.ts';

interface Count {
  age: number;
  ttl: number;
}

/** Tells the operator of messages that were dropped: in a few lines now and then, however many there are. */
export class Expiries {
  readonly #time: Time;
  readonly #log: Log;
  #byReceiver = new Map<string, Count>();
  #others: Count = { age: 0, ttl: 0 };
  #timer: Timer | undefined;

  constructor(time: Time, log: Log) {
    this.#time = time;
    this.#log = log;
  }

  note(receiver: string, reason: keyof Count, messages: number): void {
    let count = this.#byReceiver.get(receiver);
    if (count === undefined && this.#byReceiver.size < serverLimits.expiryReceiversLoggedMax) {
      count = { age: 0, ttl: 0 };
      this.#byReceiver.set(receiver, count);
    }
    (count ?? this.#others)[reason] += messages;
    this.#timer ??= this.#time.after(serverLimits.expiryLogMs, () => this.tell());
  }

  /** Tells what was noted and not told yet. */
  tell(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    const byReceiver = this.#byReceiver;
    const others = this.#others;
    this.#byReceiver = new Map();
    this.#others = { age: 0, ttl: 0 };
    for (const [receiver, count] of byReceiver) {
      this.#say({ receiver, ...count }, 'messages were dropped: their receiver did not come in time');
    }
    if (others.age + others.ttl > 0) this.#say(others, 'messages for further receivers were dropped');
  }

  /** What its sender gave a `ttl` was meant to go; what is past its age was to be kept as long as there was hope. */
  #say(count: Readonly<Count> & { readonly receiver?: string }, text: string): void {
    if (count.age > 0) this.#log.warn(count, text);
    else this.#log.info(count, text);
  }
}
