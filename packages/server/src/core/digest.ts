/**
 * 64 bits of a msgId, in two halves. Two ids of one sender come out alike once in 2⁶⁴; whoever makes such ids on purpose can
 * only have messages of its own refused, as long as ids of several senders are told apart by more. All nodes compute the
 * same. It keeps what it computed last, so that whoever needs it in the course of one message asks again for nothing.
 */
class Digest {
  low = 0;
  high = 0;
  #of = '';

  of(msgId: string): void {
    if (msgId === this.#of) return;
    let high = 0x811c9dc5 | 0;
    let low = 0x2545f491;
    for (let i = 0; i < msgId.length; i++) {
      const unit = msgId.charCodeAt(i);
      high = Math.imul(high ^ unit, 0x01000193);
      low = Math.imul(low ^ unit, 0x5bd1e995);
      low ^= low >>> 15;
    }
    this.low = low;
    this.high = high;
    this.#of = msgId;
  }
}

export const digest: Digest = new Digest();
digest.of(' ');
