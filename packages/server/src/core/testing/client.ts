import { cmd, decodeEnvelope, decodeText, encodeFrame, encodeText, FrameCutter, wireLimits } from '@hawser/protocol';
import type { Core } from '../core.ts';
import type { Time, Wire } from '../ports.ts';
import type { Session } from '../session.ts';

/** A message as it was pushed; `ts` where the session asked for it. */
export interface Pushed {
  readonly from: string;
  readonly to: string;
  readonly msg: unknown;
  readonly msgid: string;
  readonly ts?: number;
}

/** A client on a wire that never leaves the process, and what it was sent, by kind. */
export class BenchClient implements Wire {
  readonly address: string;
  readonly secure = true;
  unsentBytes = 0;
  wroteAt = 0;
  /** The server does not read from it for now. */
  isPaused = false;
  /** The server has ended the connection. */
  isEnded = false;
  readonly pushes: Pushed[] = [];
  /** How many messages each frame of pushes had. */
  readonly pushFrames: number[] = [];
  /** The msgIds of acks of messages, in order. */
  readonly acks: string[] = [];
  /** Answers to messages that are no acks, by msgId. */
  readonly refusals = new Map<string, unknown>();
  /** Answers to all other commands. */
  readonly answers: { readonly cmd: number; readonly msgId: string; readonly body: unknown }[] = [];
  readonly session: Session;
  readonly #time: Pick<Time, 'now' | 'endOfTurn'>;
  readonly #cutter = new FrameCutter();
  #isReading = true;
  #sentWhilePaused: Uint8Array[] = [];

  constructor(core: Core, time: Pick<Time, 'now' | 'endOfTurn'>, address: string) {
    this.address = address;
    this.#time = time;
    this.session = core.connect(this);
  }

  // ---- the wire, as the server sees it

  write(bytes: Uint8Array): void {
    if (this.#isReading) this.wroteAt = this.#time.now();
    else this.unsentBytes += bytes.length;
    this.#cutter.push(bytes.slice());
    for (;;) {
      const body = this.#cutter.next(wireLimits.frameBytesMax);
      if (body === undefined) return;
      if (body === 'too long') throw new Error('the server wrote a frame that is too long');
      this.#received(body);
    }
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
    const waiting = this.#sentWhilePaused;
    this.#sentWhilePaused = [];
    this.#time.endOfTurn(() => {
      for (const bytes of waiting) this.sendBytes(bytes);
    });
  }

  end(): void {
    this.isEnded = true;
  }

  destroy(): void {
    this.isEnded = true;
  }

  #received(body: Uint8Array): void {
    const frame = decodeEnvelope(body);
    if (frame === undefined) throw new Error('the server wrote what is no envelope');
    if (frame.cmd === cmd.serverKey) return;
    const answer: unknown = frame.data.length === 0 ? undefined : JSON.parse(decodeText(frame.data) ?? '');
    if (frame.cmd === cmd.push) {
      this.pushFrames.push((answer as Pushed[]).length);
      this.pushes.push(...(answer as Pushed[]));
    } else if (frame.cmd !== cmd.message) this.answers.push({ cmd: frame.cmd, msgId: frame.msgId, body: answer });
    else if (answer === undefined) this.acks.push(frame.msgId);
    else this.refusals.set(frame.msgId, answer);
  }

  // ---- what a client does

  sendBytes(bytes: Uint8Array): void {
    if (this.isPaused) this.#sentWhilePaused.push(bytes);
    else this.session.receive(bytes);
  }

  request(number: number, body?: object, msgId = ''): void {
    const data = body === undefined ? new Uint8Array(0) : encodeText(JSON.stringify(body));
    this.sendBytes(encodeFrame(number, msgId, false, data));
  }

  /** Sends a message; its content is its msgId unless it is given. */
  post(to: string, msgId: string, msg: unknown = msgId, more: object = {}): void {
    this.request(cmd.message, { to, msg, ...more }, msgId);
  }

  ack(...msgIds: string[]): void {
    this.request(
      cmd.push,
      msgIds.map((msgid) => ({ msgid })),
    );
  }

  fetch(): void {
    this.request(cmd.fetch);
  }

  /** Takes nothing more of what it is sent. */
  stopReading(): void {
    this.#isReading = false;
  }

  /** Takes everything that waits. */
  readOn(): void {
    this.#isReading = true;
    this.unsentBytes = 0;
    this.wroteAt = this.#time.now();
    this.session.drained();
  }

  /** The connection breaks. */
  vanish(): void {
    this.session.gone();
  }

  get pushedIds(): string[] {
    return this.pushes.map((message) => message.msgid);
  }
}
