import { type Cipher, decodeEnvelope, type Envelope, FrameCutter, serverLimits } from '@hawser/protocol';

/** Frames cut ahead of being handled, at most. */
const AHEAD_MAX = 64;
/** Data that may be decrypted together; a larger piece goes alone. */
const TOGETHER_BYTES_MAX = 16 * 1024;

/** Stands for data that could not be decrypted. */
export const UNDECRYPTABLE: Uint8Array = new Uint8Array(0);

export type Inbound = Envelope | 'not protobuf' | 'too long';

/**
 * Bytes to requests: cuts frames, decodes envelopes, decrypts.
 *
 * Once there is a cipher the frames that lie whole in what was received are cut ahead and decrypted in one call: per
 * message that costs a third. They are still handed out one by one, so a command that waits holds those behind it.
 */
export class InboundFrames {
  readonly #cutter = new FrameCutter();
  /** Cut ahead; those before `#at` are handed out. */
  #ready: Inbound[] = NONE;
  #at = 0;
  /** What was received while there was input still to be taken. The session pauses its wire before it is much. */
  #later: Uint8Array[] = [];

  push(chunk: Uint8Array): void {
    if (this.#cutter.hasInput || this.#later.length > 0) this.#later.push(chunk);
    else this.#cutter.push(chunk);
  }

  /**
   * The next request, its data decrypted if it was encrypted; `undefined` when more bytes are needed.
   *
   * @param isSettled limit and cipher stay what they are for all frames to come, so that some may be cut ahead
   */
  next(bodyBytesMax: number, cipher: Cipher | undefined, isSettled: boolean): Inbound | undefined {
    if (this.#at < this.#ready.length) return this.#ready[this.#at++];
    const first = this.#cut(bodyBytesMax);
    if (typeof first !== 'object' || cipher === undefined) return first;
    const second = isSettled && this.#cutter.hasInput ? this.#cut(bodyBytesMax) : undefined;
    if (second === undefined) {
      if (first.isEncrypt && first.data.length > 0) decrypt(first, cipher);
      return first;
    }
    const ready: Inbound[] = [first, second];
    while (ready.length < AHEAD_MAX && typeof ready.at(-1) === 'object') {
      const next = this.#cut(bodyBytesMax);
      if (next === undefined) break;
      ready.push(next);
    }
    decryptTogether(ready, cipher);
    this.#ready = ready;
    this.#at = 1;
    return first;
  }

  /** Nothing waits but some heartbeats, which are zeros. More is not looked at: a thousand clients may be asked this in a turn. */
  get isSilent(): boolean {
    if (this.#at < this.#ready.length) return false;
    let bytes = this.#cutter.inputBytes;
    for (const chunk of this.#later) bytes += chunk.length;
    if (bytes > serverLimits.keptBytesFree) return false;
    return this.#cutter.isSilent && this.#later.every((chunk) => chunk.every((byte) => byte === 0));
  }

  /** Whether a frame has begun and not ended. */
  get midFrame(): boolean {
    return this.#cutter.midFrame;
  }

  /** Room taken for a frame that has not arrived whole. */
  get unfinishedBytes(): number {
    return this.#cutter.unfinishedBytes;
  }

  #cut(bodyBytesMax: number): Inbound | undefined {
    for (;;) {
      const body = this.#cutter.next(bodyBytesMax);
      if (body === 'too long') return body;
      if (body !== undefined) return decodeEnvelope(body) ?? 'not protobuf';
      const chunk = this.#later.shift();
      if (chunk === undefined) return undefined;
      this.#cutter.push(chunk);
    }
  }
}

const NONE: Inbound[] = [];

/** Replaces the data of encrypted requests by what it says. */
function decryptTogether(requests: readonly Inbound[], cipher: Cipher): void {
  let together: Envelope[] = [];
  let bytes = 0;
  for (const request of requests) {
    if (typeof request !== 'object' || !request.isEncrypt || request.data.length === 0) continue;
    if (bytes + request.data.length > TOGETHER_BYTES_MAX && together.length > 0) {
      decryptAll(together, cipher);
      together = [];
      bytes = 0;
    }
    together.push(request);
    bytes += request.data.length;
  }
  if (together.length > 0) decryptAll(together, cipher);
}

function decrypt(request: Envelope, cipher: Cipher): void {
  request.data = cipher.decrypt(request.data) ?? UNDECRYPTABLE;
}

function decryptAll(requests: readonly Envelope[], cipher: Cipher): void {
  if (requests.length === 1) {
    decrypt(requests[0]!, cipher);
    return;
  }
  const plain = cipher.decryptAll(requests.map((request) => request.data));
  for (let i = 0; i < requests.length; i++) requests[i]!.data = plain[i] ?? UNDECRYPTABLE;
}
