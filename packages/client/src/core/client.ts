import { encodeText, isMsgId, isName, utf8Length, wireLimits } from '@hawser/protocol';
import { HandlerConsumer, IteratorConsumer } from './consumers.ts';
import { InvalidError } from './errors.ts';
import type { Handler } from './inbox.ts';
import type { Message } from './message.ts';
import { optionsWith, type SessionOptions } from './options.ts';
import type { WaitOptions } from './pending.ts';
import type { Ports } from './ports.ts';
import { Session } from './session.ts';
import type { State } from './state.ts';

export interface SendOptions extends WaitOptions {
  /** Whole seconds, 1 to 2,592,000 (30 days), after which the server drops the message if it is not delivered. */
  readonly ttl?: number;
  /**
   * The message's id, 1 to 128 bytes. Default: a fresh one. Give the id of an earlier attempt whose outcome is unknown,
   * also one of an earlier run of the program, and the receiver gets the message once.
   */
  readonly msgId?: string;
}

/** The ack of a message: its receiver has acknowledged it, or it is synced to the server's disk. */
export interface Receipt {
  readonly msgId: string;
}

export interface MessageOptions {
  /**
   * `'done'`, the default: a message is acked when the handler is done with it. `'by hand'`: the handler, or whoever it
   * gives the message to, calls `message.ack()`; the next message does not wait for it.
   */
  readonly ack?: 'done' | 'by hand';
}

/** What apps and devices have in common. */
export class Client {
  protected readonly session: Session;
  readonly #ports: Ports;
  readonly #observers = new Set<(state: State) => void>();

  constructor(ports: Ports, options: Partial<SessionOptions>) {
    this.#ports = ports;
    this.session = new Session(ports, optionsWith(options), (state) => this.#changed(state));
  }

  /** What the client is doing now. */
  get state(): State {
    return this.session.state;
  }

  /** Calls the observer after each change of `state`. Returns what ends that. */
  onState(observer: (state: State) => void): () => void {
    this.#observers.add(observer);
    return () => {
      this.#observers.delete(observer);
    };
  }

  /**
   * Sends a message. The promise settles once, with what is so:
   *
   * - it resolves when the server has acked: the receiver has acknowledged the message, or it is on the server's disk;
   * - `RefusedError`: the server does not take it. With `retry` true it was the time that ended the attempts;
   * - `TimeoutError`, `AbortedError`, `ClosedError`: no ack came; `outcome` says whether it may still arrive;
   * - `OverloadedError`, `InvalidError`, `StateError`: it was not sent.
   *
   * Without a connection, and beyond 256 outstanding messages or 2 MiB, it waits, and the time counts. Messages to one
   * receiver arrive in the order of the calls; only one that was refused for now (`retry`) may come after some that
   * were on their way already.
   *
   * @param to the name of a user or a device: an app sends to devices that it has added and to users, a device to users
   *   that have added it
   * @param msg any JSON value, up to 1,044,480 bytes as JSON
   */
  send<T>(to: string, msg: T, options: SendOptions = {}): Promise<Receipt> {
    const fault = this.session.fault() ?? messageFault(to, options);
    if (fault !== undefined) return Promise.reject(fault);
    const data = messageData(to, msg, options.ttl);
    if (data instanceof InvalidError) return Promise.reject(data);
    const msgId = options.msgId ?? this.#ports.random.id();
    const timeoutMs = options.timeoutMs ?? this.session.options.timeoutMs;
    return this.session.outbox.send(msgId, to, data, timeoutMs, options.signal).then(() => ({ msgId }));
  }

  /**
   * Gives all incoming messages to `handler`, one after the other, in order. When what it returns has resolved, the
   * message is acked. When it throws, the error is reported (`onError`), the message is not acked, and the server pushes
   * it again after a minute, or on the next connection; later ones are handled meanwhile.
   *
   * Returns what takes the handler away. Without a handler messages wait, here and on the server.
   *
   * @throws StateError when there is a handler or an iterator already
   */
  onMessage<T = unknown>(handler: Handler<T>, options: MessageOptions = {}): () => void {
    const { inbox } = this.session;
    const consumer = new HandlerConsumer(inbox, handler, options.ack !== 'by hand', this.#ports.report);
    inbox.set(consumer);
    return () => inbox.unset(consumer);
  }

  /**
   * Incoming messages, in order, to be used in a `for await`. A message is acked when the next is asked for, that is, at
   * the end of the loop's body. When the body throws or breaks it is not, and the server pushes it again: call
   * `message.ack()` before a `break` if it was dealt with.
   *
   * The loop ends with the signal, `logout` and `close`; a conflict or a refusal is thrown in it.
   *
   * @throws StateError when there is a handler or an iterator already
   */
  messages<T = unknown>(options: { readonly signal?: AbortSignal } = {}): AsyncIterableIterator<Message<T>, undefined> {
    const { inbox } = this.session;
    const consumer = new IteratorConsumer<T>(inbox, options.signal);
    if (options.signal?.aborted !== true) inbox.set(consumer);
    return consumer;
  }

  /**
   * Leaves in good order: the server knows at once that this client is away. Sends that are not settled are rejected
   * with `ClosedError`, so await them first. The client may log in again.
   */
  logout(): void {
    this.session.logout();
  }

  /** Closes the connection, and the client for good. Sends that are not settled are rejected with `ClosedError`. */
  close(): void {
    this.session.close();
  }

  #changed(state: State): void {
    for (const observer of [...this.#observers]) {
      try {
        observer(state);
      } catch (cause) {
        this.#ports.report(new Error('an observer of the state threw', { cause }));
      }
    }
  }
}

/** A rejection for what is no name. */
export function nameFault(name: string): Promise<never> | undefined {
  if (isName(name)) return undefined;
  return Promise.reject(new InvalidError('a name is 1 to 128 bytes of UTF-8 without control characters'));
}

function messageFault(to: string, { ttl, msgId }: SendOptions): InvalidError | undefined {
  if (!isName(to)) return new InvalidError('`to` is no name: 1 to 128 bytes of UTF-8 without control characters');
  if (msgId !== undefined && !isMsgId(msgId)) return new InvalidError('a msgId is 1 to 128 bytes of UTF-8');
  if (ttl !== undefined && !(Number.isInteger(ttl) && ttl >= 1 && ttl <= wireLimits.ttlSecondsMax)) {
    return new InvalidError(`ttl is a whole number of seconds from 1 to ${wireLimits.ttlSecondsMax}`);
  }
  return undefined;
}

function messageData(to: string, msg: unknown, ttl: number | undefined): Uint8Array | InvalidError {
  let json: string | undefined;
  try {
    json = JSON.stringify(msg);
  } catch (cause) {
    return new InvalidError('msg cannot be written as JSON', { cause });
  }
  if (json === undefined) return new InvalidError(`${typeof msg} is not a JSON value`);
  if (json.length * 3 > wireLimits.msgBytesMax && utf8Length(json) > wireLimits.msgBytesMax) {
    return new InvalidError(`msg has more than ${wireLimits.msgBytesMax} bytes as JSON`);
  }
  const end = ttl === undefined ? '}' : `,"ttl":${ttl}}`;
  return encodeText(`{"to":${JSON.stringify(to)},"msg":${json}${end}`);
}
