import type { Device, Message } from '@hawser/client';
import { RefusedError } from '@hawser/client';
import { terminalLimits } from '@hawser/protocol';
import { visible } from '../output.ts';
import { execute } from './exec.ts';
import { parseExactly } from './json.ts';
import type { DeviceOptions } from './options.ts';
import type { Report } from './report.ts';
import { Slots } from './slots.ts';

/**
 * What a device does with each message: prints it, and answers if it is to. A message is acked when it is printed and
 * its answer, if there is one, is acked; otherwise the server gives it again.
 */
export class Answers {
  readonly #options: DeviceOptions;
  readonly #report: Report;
  readonly #signal: AbortSignal;
  readonly #slots: Slots;
  readonly #underWay = new Set<Promise<void>>();

  constructor(options: DeviceOptions, report: Report, signal: AbortSignal) {
    this.#options = options;
    this.#report = report;
    this.#signal = signal;
    this.#slots = new Slots(options.exec === undefined ? terminalLimits.echoesMax : options.jobs);
  }

  /** Takes a message of a client that acks by hand; resolves when the next one may come. */
  take(device: Device, message: Message): Promise<void> {
    return this.#slots.begin(() => {
      const work = this.#deal(device, message);
      this.#underWay.add(work);
      return work.finally(() => this.#underWay.delete(work));
    });
  }

  /** Resolves when no message is being dealt with. */
  async settled(): Promise<void> {
    await Promise.all(this.#underWay);
  }

  async #deal(device: Device, message: Message): Promise<void> {
    try {
      await this.#report.message(message, this.#options.count !== undefined);
      const answer = await this.#answerTo(message);
      if (answer !== undefined) await this.#send(device, message, answer.value);
      message.ack();
    } catch (error) {
      message.release();
      const why = error instanceof Error ? error.message : String(error);
      this.#report.event('unanswered', { from: message.from, to: message.to, msgId: message.msgId, error: why });
      this.#report.screen.note(`the message of ${message.from} is not acked, and will come again: ${why}`);
    }
  }

  async #answerTo(message: Message): Promise<{ readonly value: unknown } | undefined> {
    const { echo, exec, execTimeout, json } = this.#options;
    if (echo) return { value: parseExactly(message.json) };
    if (exec === undefined) return undefined;
    const printed = await execute(exec, message, json === true, execTimeout, this.#signal);
    if (printed === '') return undefined;
    return { value: json ? parseExactly(printed) : printed };
  }

  /** Tries for as long as it takes. An answer that the server will never take leaves the message dealt with. */
  async #send(device: Device, { from, msgId }: Message, value: unknown): Promise<void> {
    try {
      await device.send(from, value, { timeoutMs: Number.POSITIVE_INFINITY });
      this.#report.event('answered', { to: from, msgId });
    } catch (error) {
      if (!(error instanceof RefusedError) || error.retry) throw error;
      this.#report.event('unanswered', { from, msgId, error: error.message });
      this.#report.screen.note(`${visible(from)} got no answer: ${error.message}`);
    }
  }
}
