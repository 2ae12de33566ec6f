import { serverLimits } from '@hawser/protocol';
import type { Message } from './message.ts';
import type { Time } from './ports.ts';
import type { Session } from './session.ts';

/** As many ids as in so many full generations are kept when another node's are added. */
const INHERITED_GENERATIONS = 4;

/**
 * What is kept of a sender: its messages on their way, and the ids of those settled, to recognise a resend.
 *
 * Ids lie in two generations; an id leads to its message while that is on its way, then to the hash of its content.
 * When the newer generation has `rememberedIdsPerSender` ids or is `rememberedForMs` old, it becomes the older, and what
 * was the older is dropped whole: between one and two times as much is remembered as the protocol asks, and forgetting
 * costs nothing per id. Messages on their way are never forgotten.
 */
export class Sender {
  readonly name: string;
  /** The sender's present session: where acks go. */
  session: Session | undefined;
  /** Accepted, neither acked nor refused. */
  pendingMessages = 0;
  pendingBytes = 0;
  #newer = new Map<string, Message | number>();
  #older = new Map<string, Message | number>();
  #newerSince = 0;
  /** In a cluster: the receivers that the present session has written to. */
  #writtenTo = new Set<string>();
  /** In a cluster: the name is being given up, so whatever is on its way is to end soon. */
  #isLeaving = false;
  #quiet: (() => void)[] = [];
  /** Messages of which it is not known yet whether they may be accepted. */
  #undecided = 0;

  constructor(name: string) {
    this.name = name;
  }

  /** The message under this id if it is on its way, the hash of its content if it is settled. */
  find(msgId: string): Message | number | undefined {
    return this.#newer.get(msgId) ?? this.#older.get(msgId);
  }

  /** A message is on its way. Returns by how much the number of ids changed. */
  expect(message: Message, time: Time): number {
    let change = 1;
    if (this.#newer.size >= serverLimits.rememberedIdsPerSender) change -= this.#retire(time.now());
    else if (this.#newer.size === 0) this.#newerSince = time.now();
    this.#newer.set(message.msgId, message);
    this.pendingMessages++;
    this.pendingBytes += message.size;
    return change;
  }

  /** A message was acked: its id is remembered. */
  settle(message: Message): void {
    this.#notPending(message);
    const generation = this.#newer.has(message.msgId) ? this.#newer : this.#older;
    generation.set(message.msgId, message.hash);
  }

  /** A message was refused: its id is forgotten, and may come again. */
  drop(message: Message): void {
    this.#notPending(message);
    if (!this.#newer.delete(message.msgId)) this.#older.delete(message.msgId);
  }

  #notPending(message: Message): void {
    this.pendingMessages--;
    this.pendingBytes -= message.size;
    this.#tellIfQuiet();
  }

  #tellIfQuiet(): void {
    if (this.#quiet.length === 0 || !this.#isQuiet) return;
    for (const resolve of this.#quiet.splice(0)) resolve();
  }

  get #isQuiet(): boolean {
    return this.pendingMessages === 0 && this.#undecided === 0;
  }

  /** A message has come of which it is found out whether it may be accepted: until `done` it is on its way, too. */
  begin(): void {
    this.#undecided++;
  }

  done(): void {
    this.#undecided--;
    this.#tellIfQuiet();
  }

  /** Retires generations past their age; returns how many ids were forgotten. */
  age(now: number): number {
    return now - this.#newerSince >= serverLimits.rememberedForMs ? this.#retire(now) : 0;
  }

  /** Forgets everything settled; returns how many ids. */
  forget(now: number): number {
    return this.#retire(now) + this.#retire(now);
  }

  #retire(now: number): number {
    const forgotten = this.#older;
    this.#older = this.#newer;
    this.#newer = new Map();
    this.#newerSince = now;
    let kept = 0;
    if (this.pendingMessages > 0) {
      for (const [msgId, content] of forgotten) {
        if (typeof content === 'number') continue;
        this.#newer.set(msgId, content);
        kept++;
      }
    }
    return forgotten.size - kept;
  }

  // ---- in a cluster

  /** A session of this name begins here. */
  arrive(): void {
    this.#isLeaving = false;
    this.#writtenTo.clear();
  }

  /** Whether the present session has not written to this receiver yet. */
  isFirstTo(receiver: string): boolean {
    return !this.#writtenTo.has(receiver);
  }

  hasWrittenTo(receiver: string): void {
    if (this.#writtenTo.size >= serverLimits.receiversPerSenderMax) this.#writtenTo.clear();
    this.#writtenTo.add(receiver);
  }

  /** The session has ended. */
  leave(): void {
    this.#isLeaving = true;
  }

  /** What is on its way, in the order accepted. */
  pending(): Message[] {
    const pending: Message[] = [];
    for (const generation of [this.#older, this.#newer]) {
      for (const content of generation.values()) if (typeof content !== 'number') pending.push(content);
    }
    return pending;
  }

  get isLeaving(): boolean {
    return this.#isLeaving;
  }

  /** Resolves when nothing is on its way. */
  whenQuiet(): Promise<void> {
    return this.#isQuiet ? Promise.resolve() : new Promise((resolve) => this.#quiet.push(resolve));
  }

  settledIds(): [msgId: string, hash: number][] {
    const ids: [string, number][] = [];
    for (const generation of [this.#older, this.#newer]) {
      for (const [msgId, content] of generation) if (typeof content === 'number') ids.push([msgId, content]);
    }
    return ids;
  }

  /**
   * Remembers ids that another node knew; returns by how much the number of ids changed. Which of all are the newer ones
   * cannot be told: so they are all kept until so many more have come, or their time is up, but not without end.
   */
  inherit(settled: readonly (readonly [msgId: string, hash: number])[], now: number): number {
    const before = this.ids;
    if (before === 0) this.#newerSince = now;
    const all = this.#older;
    for (const [msgId, content] of this.#newer) all.set(msgId, content);
    for (const [msgId, hash] of settled) if (!all.has(msgId)) all.set(msgId, hash);
    for (const [msgId, content] of all) {
      if (all.size <= INHERITED_GENERATIONS * serverLimits.rememberedIdsPerSender) break;
      if (typeof content === 'number') all.delete(msgId);
    }
    this.#newer = new Map();
    return this.ids - before;
  }

  get ids(): number {
    return this.#newer.size + this.#older.size;
  }

  get isIdle(): boolean {
    return this.session === undefined && this.ids === 0 && this.#undecided === 0;
  }

  /** Whether reading from this sender may go on after it was full: at half, so that it does not stutter. */
  get hasRoom(): boolean {
    return (
      this.pendingMessages <= serverLimits.senderPendingMessagesMax / 2 &&
      this.pendingBytes <= serverLimits.senderPendingBytesMax / 2
    );
  }

  /** Whether reading from this sender should pause. */
  get isFull(): boolean {
    return (
      this.pendingMessages >= serverLimits.senderPendingMessagesMax ||
      this.pendingBytes >= serverLimits.senderPendingBytesMax
    );
  }
}
