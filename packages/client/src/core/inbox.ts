import { clientLimits, cmd, encodeText, isMsgId, isName, type PushedMessage, readPush } from '@hawser/protocol';
import { HawserError, StateError } from './errors.ts';
import { Message, type MessageOwner } from './message.ts';
import type { Write } from './outbox.ts';
import type { Ports } from './ports.ts';

/**
 * Deals with a message. When what it returns has resolved, the message is acked. When it throws or rejects, the message
 * is not: the server will push it again.
 */
export type Handler<T> = (message: Message<T>) => unknown;

/** How messages are taken out of the inbox: by a handler or an iterator, one of them at a time. */
export interface Consumer {
  /** Whether it takes a message now. */
  readonly isReady: boolean;
  take(message: Message<never>): void;
  /** The login has ended, because of `error` or in good order: no more messages come until there is another. */
  end(error: Error | undefined): void;
}

function keyOf(message: { readonly from: string; readonly msgId: string }): string {
  // No name has a control character in it.
  return `${message.from}\n${message.msgId}`;
}

/**
 * Messages that were received: handed out once each, in order, acked when they are done. A message that comes again is
 * acked again if it is done, and otherwise ignored, for it is in hand.
 */
export class Inbox implements MessageOwner {
  readonly #ports: Ports;
  /** Received and not handed out, in order; those that are given out are not in it. */
  readonly #queue = new Map<string, Message<never>>();
  #queueBytes = 0;
  /** Handed out, and neither acked nor released. */
  readonly #inHand = new Map<string, Message<never>>();
  /** Acked, in two generations: when the newer is full it becomes the older, and what was that is forgotten whole. */
  #handled = new Set<string>();
  #handledBefore = new Set<string>();
  /**
   * What each msgId stands for on the connection of now, until it is acked. An ack names the msgId alone: one for what
   * was pushed on an earlier connection would count for another sender's message with the same id.
   */
  readonly #pushed = new Map<string, string>();
  #consumer: Consumer | undefined;
  #isHandingOut = false;
  #acks: string[] = [];
  #willAck = false;
  #write: Write | undefined;

  constructor(ports: Ports) {
    this.#ports = ports;
  }

  // ---- consumers

  /** Gives all messages to the consumer, until `unset`. */
  set(consumer: Consumer): void {
    if (this.#consumer !== undefined) throw new StateError('messages already have a handler or an iterator');
    this.#consumer = consumer;
    this.handOut();
  }

  unset(consumer: Consumer): void {
    if (this.#consumer === consumer) this.#consumer = undefined;
  }

  /** Hands out what the consumer takes. */
  handOut(): void {
    // A handler may ack, release, or take itself away while it runs.
    if (this.#isHandingOut) return;
    this.#isHandingOut = true;
    for (const [key, message] of this.#queue) {
      if (this.#consumer?.isReady !== true) break;
      this.#queue.delete(key);
      this.#queueBytes -= message.json.length;
      this.#inHand.set(key, message);
      this.#consumer.take(message);
    }
    this.#isHandingOut = false;
  }

  // ---- the connection

  online(write: Write): void {
    this.#write = write;
  }

  /** Acks count only for what was pushed on the connection; what is pushed again on the next is acked there. */
  offline(): void {
    this.#write = undefined;
    this.#pushed.clear();
  }

  /** The login has ended: drops what was not handed out, which the server keeps, and tells the consumer. */
  end(error: Error | undefined): void {
    this.#drop();
    this.#consumer?.end(error);
  }

  /** Another name logs in: what was handled under the old one says nothing of its messages. */
  forget(): void {
    this.#drop();
    this.#inHand.clear();
    this.#handled.clear();
    this.#handledBefore.clear();
  }

  #drop(): void {
    this.#queue.clear();
    this.#queueBytes = 0;
  }

  /** A push (cmd 201). Its names and ids are what is remembered of it, so that none may be longer than the protocol has. */
  received(data: Uint8Array): void {
    const messages = readPush(data);
    if (!messages?.every(({ from, to, msgId }) => isName(from) && isName(to) && isMsgId(msgId))) {
      this.#ports.report(new HawserError('a push of the server makes no sense; it is not acked'));
      return;
    }
    for (const message of messages) this.#add(message);
    this.handOut();
  }

  /** Whether there is no room for a message of so many bytes; one always has room. */
  #isFull(bytes: number): boolean {
    const { size } = this.#queue;
    if (size >= clientLimits.unhandledMessagesMax) return true;
    return size > 0 && this.#queueBytes + bytes > clientLimits.unhandledBytesMax;
  }

  #add(pushed: PushedMessage): void {
    const { msgId } = pushed;
    const key = keyOf(pushed);
    const isHandled = this.#handled.has(key) || this.#handledBefore.has(key);
    const isHere = isHandled || this.#queue.has(key) || this.#inHand.has(key);
    if (!isHere && this.#isFull(pushed.msg.length)) {
      // Left to a redelivery. What had its msgId before is the server's no more.
      this.#pushed.delete(msgId);
      return;
    }
    this.#pushed.set(msgId, key);
    if (isHandled) this.#ack(msgId, key);
    else if (!isHere) {
      const message = new Message<never>(pushed, this);
      this.#queue.set(key, message);
      this.#queueBytes += message.json.length;
    }
  }

  // ---- acks

  done(message: Message<never>): void {
    const key = keyOf(message);
    if (this.#inHand.get(key) !== message) return;
    this.#inHand.delete(key);
    if (this.#handled.size >= clientLimits.handledIdsMax) {
      this.#handledBefore = this.#handled;
      this.#handled = new Set();
    }
    this.#handled.add(key);
    this.#ack(message.msgId, key);
  }

  released(message: Message<never>): void {
    const key = keyOf(message);
    if (this.#inHand.get(key) !== message) return;
    this.#inHand.delete(key);
    if (this.#pushed.get(message.msgId) === key) this.#pushed.delete(message.msgId);
  }

  #ack(msgId: string, key: string): void {
    if (this.#write === undefined || this.#pushed.get(msgId) !== key) return;
    this.#pushed.delete(msgId);
    this.#acks.push(msgId);
    if (this.#willAck) return;
    this.#willAck = true;
    this.#ports.time.endOfTurn(() => this.flush());
  }

  /** Sends the acks of this turn. */
  flush(): void {
    this.#willAck = false;
    const ids = this.#acks;
    this.#acks = [];
    for (let at = 0; at < ids.length; at += clientLimits.ackIdsMax) {
      const some = ids.slice(at, at + clientLimits.ackIdsMax).map((msgid) => ({ msgid }));
      this.#write?.(cmd.push, '', encodeText(JSON.stringify(some)));
    }
  }
}
