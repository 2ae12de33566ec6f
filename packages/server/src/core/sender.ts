import { serverLimits } from '@hawser/protocol';
import type { Message } from './message.ts';
import { MessageTable } from './message-table.ts';
import type { Session } from './session.ts';
import { SettledIds } from './settled.ts';

/** What is kept of a sender: its messages on their way, and the ids of those settled, to recognise a resend. */
export class Sender {
  readonly name: string;
  /** The sender's present session: where acks go. */
  session: Session | undefined;
  /** Bytes of those accepted, neither acked nor refused. */
  pendingBytes = 0;
  /** The messages themselves. They are never forgotten. */
  readonly #pending = new MessageTable();
  readonly #settled = new SettledIds();
  /** In a cluster: the receivers that the present session has written to. */
  #writtenTo = new Set<string>();
  /** In a cluster: the claim under which this node, or one that it has inherited from, last served the name; 0 for none. */
  hadUnder = 0;
  /** In a cluster: the name is being given up, so whatever is on its way is to end soon. */
  #isLeaving = false;
  #quiet: (() => void)[] = [];
  /** Messages of which it is not known yet whether they may be accepted. */
  #undecided = 0;

  constructor(name: string) {
    this.name = name;
  }

  get pendingMessages(): number {
    return this.#pending.size;
  }

  /** The message under this id if it is on its way, the hash of its content if it is settled. */
  find(msgId: string): Message | number | undefined {
    return this.#pending.get(msgId) ?? this.#settled.find(msgId);
  }

  /** A message is on its way. */
  expect(message: Message): void {
    this.#pending.add(message);
    this.pendingBytes += message.size;
  }

  /** A message was acked: its id is remembered. Returns by how much the number of ids changed. */
  settle(message: Message, now: number): number {
    this.#notPending(message);
    return this.#settled.add(message, now) - 1;
  }

  /** A message was refused: its id is forgotten, and may come again. */
  drop(message: Message): void {
    this.#notPending(message);
  }

  #notPending(message: Message): void {
    this.#pending.delete(message);
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

  /** Forgets ids past their age; returns how many. */
  age(now: number): number {
    this.#pending.trim();
    return this.#settled.age(now);
  }

  /** Forgets everything settled; returns how many ids. */
  forget(): number {
    return this.#settled.forget();
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
    return this.#pending.inOrder();
  }

  get isLeaving(): boolean {
    return this.#isLeaving;
  }

  /** Resolves when nothing is on its way. */
  whenQuiet(): Promise<void> {
    return this.#isQuiet ? Promise.resolve() : new Promise((resolve) => this.#quiet.push(resolve));
  }

  isSettled(msgId: string): boolean {
    return this.#settled.find(msgId) !== undefined;
  }

  /** What other nodes are told of settled ids. */
  settledIds(): Int32Array {
    return this.#settled.export();
  }

  /** Remembers ids that another node knew, which last had the name by some claim; returns by how much their number changed. */
  inherit(settled: Int32Array, hadUnder: number, now: number): number {
    const areNewer = hadUnder > this.hadUnder;
    if (areNewer) this.hadUnder = hadUnder;
    return this.#settled.inherit(settled, areNewer, now);
  }

  get ids(): number {
    return this.#pending.size + this.#settled.size;
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
