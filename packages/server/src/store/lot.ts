/** What is moved from one store to another: everything, in lots that fit into memory, in an order that both ends have. */

import { createHash, hash } from 'node:crypto';
import type { NameRecord, StoredMessage } from '../core/ports.ts';

/** Records of one kind that follow one another. */
export type Lot =
  | { readonly kind: 'names'; readonly names: readonly (readonly [string, NameRecord])[] }
  | { readonly kind: 'bindings'; readonly bindings: readonly (readonly [user: string, device: string])[] }
  | { readonly kind: 'messages'; readonly messages: readonly StoredMessage[] };

export function sizeOf(lot: Lot): number {
  if (lot.kind === 'names') return lot.names.length;
  return lot.kind === 'bindings' ? lot.bindings.length : lot.messages.length;
}

/** A message without its content, of which there is the SHA-256 in hex, and its length. */
export type Digested = Omit<StoredMessage, 'msg' | 'position'> & { readonly sha256: string; readonly size: number };

/** What a store holds: two that hold the same, each inbox in the same order, have the same. */
export interface Contents {
  readonly users: number;
  readonly devices: number;
  readonly bindings: number;
  readonly messages: number;
  /** Of the messages' contents. */
  readonly bytes: number;
  /** SHA-256 over every field of all of them but the positions of messages, in hex. */
  readonly digest: string;
}

export function recordsIn({ users, devices, bindings, messages }: Omit<Contents, 'digest'>): number {
  return users + devices + bindings + messages;
}

/**
 * Takes the contents of a store: names, then bindings, then messages, each in the order of their bytes, the messages of
 * a receiver in the order of its inbox.
 */
export class Census {
  readonly #digest = createHash('sha256');
  #users = 0;
  #devices = 0;
  #bindings = 0;
  #messages = 0;
  #bytes = 0;

  add(lot: Lot): void {
    if (lot.kind === 'names') for (const [name, record] of lot.names) this.name(name, record);
    else if (lot.kind === 'bindings') for (const [user, device] of lot.bindings) this.binding(user, device);
    else for (const message of lot.messages) this.message(digested(message));
  }

  /** All fields that a record has, whichever they are. */
  name(name: string, record: NameRecord): void {
    if (record.kind === 'user') this.#users++;
    else this.#devices++;
    const fields = Object.entries(record).filter(([field, value]) => value !== undefined && !isOfFolder(field));
    this.#take(
      'name',
      name,
      fields.sort(([one], [other]) => (one < other ? -1 : 1)),
    );
  }

  binding(user: string, device: string): void {
    this.#bindings++;
    this.#take('binding', user, device);
  }

  message({ to, from, msgId, wall, ran, ttl, sha256, size }: Digested): void {
    this.#messages++;
    this.#bytes += size;
    this.#take('message', to, from, msgId, wall, ran, ttl, sha256);
  }

  /** As JSON, in which nothing of one field can be taken for another's. */
  #take(...fields: readonly unknown[]): void {
    this.#digest.update(`${JSON.stringify(fields)}\n`);
  }

  get records(): number {
    return this.#users + this.#devices + this.#bindings + this.#messages;
  }

  contents(): Contents {
    return {
      users: this.#users,
      devices: this.#devices,
      bindings: this.#bindings,
      messages: this.#messages,
      bytes: this.#bytes,
      digest: this.#digest.copy().digest('hex'),
    };
  }
}

/** That a user is locked is told by its password, which nobody knows; the mark is the embedded store's own. */
function isOfFolder(field: string): boolean {
  return field === 'locked';
}

function digested({ msg, ...message }: StoredMessage): Digested {
  return { ...message, sha256: hash('sha256', msg, 'hex'), size: msg.length };
}
