import { randomUUID } from 'node:crypto';
import type { App, Device } from '@hawser/client';
import { clientLimits } from '@hawser/protocol';
import type { Report, Sent } from './report.ts';

/** What a command sends, until each message is acked or known not to be. */
export class Outgoing {
  readonly #report: Report;
  readonly #timeoutMs: number;
  readonly #open = new Set<Promise<void>>();
  #openBytes = 0;
  ackedCount = 0;
  failedCount = 0;

  constructor(report: Report, timeoutMs: number) {
    this.#report = report;
    this.#timeoutMs = timeoutMs;
  }

  /**
   * Sends; reports the ack, or why there is none, and resolves then.
   *
   * @param bytes about how many the value takes
   */
  send(client: App | Device, value: unknown, bytes: number, to: Omit<Sent, 'msgId'>): Promise<void> {
    const sent: Sent = { ...to, msgId: randomUUID() };
    const settled = client.send(sent.to, value, { msgId: sent.msgId, timeoutMs: this.#timeoutMs }).then(
      () => {
        this.ackedCount++;
        this.#report.acked(sent);
      },
      (error: unknown) => {
        this.failedCount++;
        this.#report.failed(sent, error);
      },
    );
    const open = settled.then(() => {
      this.#open.delete(open);
      this.#openBytes -= bytes;
    });
    this.#open.add(open);
    this.#openBytes += bytes;
    return open;
  }

  get openCount(): number {
    return this.#open.size;
  }

  /** Resolves when there is room for one more, so that what is read from a pipe does not pile up here. */
  async room(): Promise<void> {
    const { outstandingMessagesMax, outstandingBytesMax } = clientLimits;
    while (this.#open.size >= outstandingMessagesMax || this.#openBytes >= outstandingBytesMax) {
      await Promise.race(this.#open);
    }
  }

  /** Resolves when all is acked or known not to be. */
  async settled(): Promise<void> {
    await Promise.all(this.#open);
  }
}
