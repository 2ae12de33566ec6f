import type { NameRecord, StoredMessage } from '@hawser/server/core/ports';

/** One change of what is stored. */
export type Change =
  | { readonly type: 'put'; readonly message: StoredMessage }
  | { readonly type: 'delete'; readonly to: string; readonly position: number }
  | { readonly type: 'name'; readonly name: string; readonly record: NameRecord }
  /** With its bindings and its inbox. */
  | { readonly type: 'forget'; readonly name: string }
  | { readonly type: 'bind'; readonly user: string; readonly device: string }
  | { readonly type: 'unbind'; readonly user: string; readonly device: string };

/** What an inbox holds, in order of position. */
export class StoredInbox {
  readonly messages = new Map<number, StoredMessage>();
  readonly positions = new Map<string, number>();
  bytes = 0;
}

/** What is stored: names, bindings, inboxes. */
export class Contents {
  readonly names = new Map<string, NameRecord>();
  /** Devices of users, and users of devices. */
  readonly peers = new Map<string, Set<string>>();
  readonly inboxes = new Map<string, StoredInbox>();

  apply(change: Change): void {
    switch (change.type) {
      case 'put':
        this.#put(change.message);
        break;
      case 'delete':
        this.delete(change.to, change.position);
        break;
      case 'name':
        this.names.set(change.name, change.record);
        break;
      case 'forget':
        this.#forget(change.name);
        break;
      case 'bind':
        this.#peersOf(change.user).add(change.device);
        this.#peersOf(change.device).add(change.user);
        break;
      case 'unbind':
        this.#peersOf(change.user).delete(change.device);
        this.#peersOf(change.device).delete(change.user);
        break;
    }
  }

  #forget(name: string): void {
    this.names.delete(name);
    this.inboxes.delete(name);
    for (const peer of this.peers.get(name) ?? []) this.peers.get(peer)?.delete(name);
    this.peers.delete(name);
  }

  #put(message: StoredMessage): void {
    const inbox = this.inboxes.get(message.to) ?? new StoredInbox();
    this.inboxes.set(message.to, inbox);
    inbox.messages.set(message.position, message);
    inbox.positions.set(idOf(message), message.position);
    inbox.bytes += message.msg.length;
  }

  delete(to: string, position: number): boolean {
    const inbox = this.inboxes.get(to);
    const message = inbox?.messages.get(position);
    if (inbox === undefined || message === undefined) return false;
    inbox.messages.delete(position);
    if (inbox.positions.get(idOf(message)) === position) inbox.positions.delete(idOf(message));
    inbox.bytes -= message.msg.length;
    if (inbox.messages.size === 0) this.inboxes.delete(to);
    return true;
  }

  find(message: { readonly from: string; readonly to: string; readonly msgId: string }): StoredMessage | undefined {
    const inbox = this.inboxes.get(message.to);
    const position = inbox?.positions.get(idOf(message));
    return position === undefined ? undefined : inbox?.messages.get(position);
  }

  areBound(user: string, device: string): boolean {
    return this.peers.get(user)?.has(device) === true;
  }

  isUser(name: string): boolean {
    return this.names.get(name)?.kind === 'user';
  }

  copy(): Contents {
    const copy = new Contents();
    for (const [name, record] of this.names) copy.names.set(name, record);
    for (const [name, peers] of this.peers) copy.peers.set(name, new Set(peers));
    for (const inbox of this.inboxes.values()) for (const message of inbox.messages.values()) copy.#put(message);
    return copy;
  }

  #peersOf(name: string): Set<string> {
    const peers = this.peers.get(name) ?? new Set();
    this.peers.set(name, peers);
    return peers;
  }
}

function idOf(message: { readonly from: string; readonly msgId: string }): string {
  return `${message.from}\n${message.msgId}`;
}
