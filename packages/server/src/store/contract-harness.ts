/** What an adapter of the Store port gives its contract suite, and what the parts of the suite share. */

import { setImmediate } from 'node:timers/promises';
import { encodeText } from '@hawser/protocol';
import type { NewMessage, Store, StoredMessage } from '../core/ports.ts';
import type { InboxLimits } from './inbox.ts';

/** A store of its own, empty at first. */
export interface Harness {
  /** The one that is open now. */
  readonly store: Store;
  /** Ends it in good order and opens it again. */
  reopen(): Promise<void>;
  /** Ends it as `kill -9` would, at once, whatever is under way, and opens it again. */
  crash(): Promise<void>;
  close(): Promise<void>;
}

export interface Adapter {
  open(limits?: InboxLimits): Promise<Harness>;
}

/** Declares a test that is given a harness, which is closed afterwards. */
export type Check = (sentence: string, check: (harness: Harness) => Promise<void>, limits?: InboxLimits) => void;

/** Far more than any inbox holds here. */
export const ALL = 1_000_000;

export type WholeMessage = NewMessage & { readonly msg: Uint8Array };

export function newMessage(to: string, from: string, msgId: string, content: unknown = msgId): WholeMessage {
  return { to, from, msgId, msg: encodeText(JSON.stringify(content)), wall: 1_700_000_000_123.5, ran: 42.25, ttl: 60 };
}

/** A message whose JSON text has exactly this many bytes. */
export function messageOf(bytes: number, to: string, from: string, msgId: string): WholeMessage {
  return newMessage(to, from, msgId, 'x'.repeat(bytes - 2));
}

/** `count` messages from `from` to `to`, whose ids begin with `prefix`. */
export function newMessages(count: number, to: string, from = 'sender', prefix = 'm'): WholeMessage[] {
  return Array.from({ length: count }, (_, i) => newMessage(to, from, `${prefix}${i}`));
}

/** Appends messages that must all be taken, and says what they are as stored. */
export async function store(harness: Harness, messages: readonly WholeMessage[]): Promise<StoredMessage[]> {
  const positions = await harness.store.append(messages);
  return messages.map((message, i) => {
    const position = positions[i];
    if (position === undefined || position <= 0) throw new Error(`${message.msgId} was not stored: ${position}`);
    return { ...message, position };
  });
}

export function remove(harness: Harness, messages: readonly StoredMessage[]): void {
  for (const message of messages) {
    const { to, from, msgId, position } = message;
    harness.store.remove({ to, from, msgId, position, size: message.msg.length });
  }
}

/** All of an inbox. */
export async function inboxOf(harness: Harness, receiver: string): Promise<readonly StoredMessage[]> {
  const { messages, end } = await harness.store.page(receiver, 0, ALL, ALL * 1000);
  if (!end) throw new Error('a page of everything does not reach the end');
  return messages;
}

export function ids(messages: readonly Pick<NewMessage, 'msgId'>[]): string[] {
  return messages.map((message) => message.msgId);
}

/** Messages as they can be compared: with plain bytes, whatever kind of array holds them. */
export function plain(messages: readonly StoredMessage[]): object[] {
  return messages.map((message) => ({ ...message, msg: Buffer.from(message.msg).toString('latin1') }));
}

/** Lets go of this turn `turns` times: 0 none, then microtasks, then turns of the event loop. */
export async function lag(turns: number): Promise<void> {
  for (let i = 0; i < turns; i++) await (i < 3 ? undefined : setImmediate());
}

/** Numbers from 0 up to 1, the same ones for the same seed (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
