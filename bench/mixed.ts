// Pushes that bring messages of many pairs to one receiver. Their elements differ in length, so each is parsed and compared
// whole: dearer for the generator than a pair's own pushes, and it has less to do than the server still.
import { type Pair, pairIndexOfId } from './pair.ts';

export class Mixed {
  readonly #pairs: readonly Pair[];
  /** Elements booked so far. */
  received = 0;

  constructor(pairs: readonly Pair[]) {
    this.#pairs = pairs;
  }

  /** Books all elements and writes their ack, unpadded, into `target`; returns where it ends, -1 when one was never sent. */
  receive(text: string, target: Buffer, start: number): number {
    const elements = parsed(text);
    if (elements === null) return -1;
    const acks: { msgid: string }[] = [];
    for (const element of elements) {
      const msgid = String(element.msgid);
      if (!this.#pairs[pairIndexOfId(msgid)]?.receiveOne(element)) return -1;
      acks.push({ msgid });
    }
    this.received += acks.length;
    return start + target.write(JSON.stringify(acks), start, 'latin1');
  }
}

function parsed(text: string): Record<string, unknown>[] | null {
  try {
    const elements: unknown = JSON.parse(text);
    return Array.isArray(elements) && elements.length > 0 ? elements : null;
  } catch {
    return null;
  }
}
