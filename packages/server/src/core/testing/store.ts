import { MemoryStore } from '../../store/memory.ts';
import type { NewMessage, Page, StoredMessage } from '../ports.ts';

type Call = 'append' | 'page' | 'read' | 'hasBacklog' | 'name' | 'names' | 'peers';

/** The store for tests, with calls that a test can hold up or have fail. */
export class BenchStore extends MemoryStore {
  /** What was appended, call by call. */
  readonly commits: string[][] = [];
  readonly #held = new Map<Call, PromiseWithResolvers<void>>();
  readonly #failing = new Map<Call, Error>();

  /** Calls of this kind wait, and take no effect, until `release`. */
  hold(call: Call): void {
    this.#held.set(call, Promise.withResolvers());
  }

  release(call: Call): void {
    this.#held.get(call)?.resolve();
    this.#held.delete(call);
  }

  /** Calls of this kind reject until `mend`. */
  fail(call: Call, error: Error): void {
    this.#failing.set(call, error);
  }

  mend(call: Call): void {
    this.#failing.delete(call);
  }

  async #gate(call: Call): Promise<void> {
    await this.#held.get(call)?.promise;
    const error = this.#failing.get(call);
    if (error !== undefined) throw error;
  }

  override async append(messages: readonly NewMessage[]): Promise<readonly number[]> {
    this.commits.push(messages.map((message) => message.msgId));
    await this.#gate('append');
    return await super.append(messages);
  }

  override async page(receiver: string, after: number, count: number, bytes: number): Promise<Page> {
    await this.#gate('page');
    return await super.page(receiver, after, count, bytes);
  }

  override async read(receiver: string, positions: readonly number[]): Promise<readonly StoredMessage[]> {
    await this.#gate('read');
    return await super.read(receiver, positions);
  }

  override async hasBacklog(receiver: string): Promise<boolean> {
    await this.#gate('hasBacklog');
    return await super.hasBacklog(receiver);
  }

  override async name(name: string): ReturnType<MemoryStore['name']> {
    await this.#gate('name');
    return await super.name(name);
  }

  /** What it answers is as old as the question. */
  override async peers(...asked: Parameters<MemoryStore['peers']>): ReturnType<MemoryStore['peers']> {
    const peers = await super.peers(...asked);
    await this.#gate('peers');
    return peers;
  }

  override async names(names: readonly string[]): ReturnType<MemoryStore['names']> {
    await this.#gate('names');
    return await super.names(names);
  }
}
