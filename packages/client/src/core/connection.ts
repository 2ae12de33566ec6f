import {
  BLOCK_BYTES,
  type Cipher,
  clientLimits,
  cmd,
  code,
  decodeEnvelope,
  type Envelope,
  FrameCutter,
  FrameWriter,
  isNeverEncrypted,
  wireLimits,
} from '@hawser/protocol';
import { readAnswer } from './answer.ts';
import { CertificateError, ConnectionError, ProtocolError } from './errors.ts';
import type { SessionOptions } from './options.ts';
import type { Address, Ports, Timer, Wire } from './ports.ts';

const EMPTY: Uint8Array = new Uint8Array(0);
const WRITE_BUFFER_KEPT_BYTES = 64 * 1024;

/** `ready` once at most, then `received`; `lost` once, from when on the connection is nobody's. */
export interface ConnectionEvents {
  /** Connected, and a key agreed on where the transport wants one: a login may be sent. */
  ready(): void;
  /** A frame, decrypted; its data is valid during the call. */
  received(frame: Envelope): void;
  lost(error: Error): void;
  /** Whether an answer is awaited, so that heartbeats come more often. */
  isAwaiting(): boolean;
}

/** One connection: frames, encryption, heartbeats, and the deadline until it is ready. */
export class Connection {
  readonly #ports: Ports;
  readonly #options: SessionOptions;
  readonly #events: ConnectionEvents;
  readonly #cutter = new FrameCutter();
  readonly #writer = new FrameWriter();
  #wire: Wire | undefined;
  #cipher: Cipher | undefined;
  #secretId = '';
  #isReady = false;
  #isGone = false;
  #willFlush = false;

  #deadline: Timer;
  #heartbeat: Timer | undefined;
  #heartbeatAt = Number.POSITIVE_INFINITY;
  #unanswered = 0;
  #readAt: number;
  #wroteAt: number;
  /** When something that awaits an answer was first written after the last read. */
  #askedAt: number | undefined;
  #beatAt = 0;

  constructor(ports: Ports, options: SessionOptions, address: Address, events: ConnectionEvents) {
    this.#ports = ports;
    this.#options = options;
    this.#events = events;
    this.#readAt = this.#wroteAt = ports.time.now();
    this.#deadline = ports.time.after(options.connectTimeoutMs, () => {
      this.#lose(new ConnectionError(`not connected within ${options.connectTimeoutMs} ms`));
    });
    try {
      this.#wire = ports.transport.connect(address, {
        opened: () => this.#opened(),
        received: (bytes) => this.#received(bytes),
        closed: (cause) => {
          const isTold = cause instanceof CertificateError;
          this.#lose(isTold ? cause : new ConnectionError('the connection was closed', cause && { cause }));
        },
      });
    } catch (cause) {
      // As for a port that is none. Told later, like everything that ends a connection.
      ports.time.endOfTurn(() => this.#lose(new ConnectionError('the connection cannot be made', { cause })));
    }
  }

  /** Sends a frame, together with all others of this turn. */
  send(number: number, msgId: string, data: Uint8Array): void {
    if (this.#isGone) return;
    const isEncrypt = this.#cipher !== undefined && data.length > 0 && !isNeverEncrypted(number);
    this.#writer.frame(number, msgId, isEncrypt, isEncrypt ? this.#encrypted(data) : data);
    const now = this.#ports.time.now();
    this.#wroteAt = now;
    if (number !== cmd.push && number !== cmd.fetch) this.#askedAt ??= now;
    this.#planHeartbeat();
    if (this.#willFlush) return;
    this.#willFlush = true;
    this.#ports.time.endOfTurn(() => this.#flush());
  }

  /** Sends what is left, then closes. Nothing more is heard of it. */
  end(): void {
    if (this.#isGone) return;
    this.#flush();
    this.#leave();
    this.#wire?.end();
  }

  /** Closes at once. Nothing more is heard of it. */
  destroy(): void {
    if (this.#isGone) return;
    this.#leave();
    this.#wire?.destroy();
  }

  #flush(): void {
    this.#willFlush = false;
    if (this.#isGone || this.#writer.length === 0) return;
    this.#wire?.write(this.#writer.bytes.slice(0, this.#writer.length));
    this.#writer.clear();
    this.#writer.shrink(WRITE_BUFFER_KEPT_BYTES);
  }

  #encrypted(data: Uint8Array): Uint8Array {
    const space = new Uint8Array(data.length + BLOCK_BYTES);
    space.set(data);
    return this.#cipher!.encrypt(space, 0, data.length);
  }

  // ---- what comes in

  #opened(): void {
    if (this.#isGone) return;
    this.#readAt = this.#wroteAt = this.#ports.time.now();
    this.#planHeartbeat();
    if (!this.#ports.transport.agreesOnKey) this.#ready();
  }

  #received(bytes: Uint8Array): void {
    if (this.#isGone) return;
    this.#readAt = this.#ports.time.now();
    this.#askedAt = undefined;
    this.#unanswered = 0;
    this.#cutter.push(bytes);
    while (!this.#isGone) {
      const body = this.#cutter.next(wireLimits.frameBytesMax);
      if (body === undefined) return;
      const frame = body === 'too long' ? undefined : decodeEnvelope(body);
      if (frame === undefined) this.#lose(new ProtocolError('the server sent what is not a frame'));
      else this.#handle(frame);
    }
  }

  #handle(frame: Envelope): void {
    if (frame.isEncrypt && frame.data.length > 0) {
      const plain = this.#cipher?.decrypt(frame.data);
      if (plain === undefined) {
        this.#lose(new ProtocolError(`a frame of the server cannot be decrypted (cmd ${frame.cmd})`));
        return;
      }
      frame.data = plain;
    }
    if (frame.cmd === cmd.heartbeat) return;
    if (frame.cmd === cmd.serverKey) this.#agree(frame.data);
    else if (frame.cmd === cmd.clientKey) this.#agreed(frame);
    else this.#events.received(frame);
  }

  /** The server's RSA key, its first frame: answered with a fresh AES key under it. */
  #agree(serverKey: Uint8Array): void {
    if (!this.#ports.transport.agreesOnKey || this.#isReady || this.#secretId !== '') return;
    try {
      const { secret, cipher } = this.#ports.keys!.agree(serverKey);
      this.#secretId = this.#ports.random.id();
      this.send(cmd.clientKey, this.#secretId, secret);
      this.#cipher = cipher;
    } catch (cause) {
      this.#lose(new ProtocolError("the server's key cannot be used", { cause }));
    }
  }

  #agreed(frame: Envelope): void {
    if (frame.msgId !== this.#secretId || this.#isReady) return;
    const answer = readAnswer(frame.data);
    if (answer.code === code.ok) this.#ready();
    else this.#lose(new ConnectionError(`the server did not take the key: ${answer.msg} (code ${answer.code})`));
  }

  #ready(): void {
    this.#isReady = true;
    this.#deadline.cancel();
    this.#events.ready();
  }

  // ---- heartbeats

  /**
   * When the next one is due: after `heartbeatMs` without reading or writing; while an answer is awaited, earlier.
   * What is written says nothing of whether the server still hears it, so that it does not put the earlier one off.
   */
  #heartbeatDue(): number {
    const idle = Math.max(this.#readAt, this.#wroteAt) + this.#options.heartbeatMs;
    if (!this.#events.isAwaiting()) return idle;
    const quietSince = Math.max(this.#readAt, this.#beatAt, this.#askedAt ?? 0);
    return Math.min(idle, quietSince + this.#options.awaitingHeartbeatMs);
  }

  /** One timer, moved only to an earlier time: when it goes off too early it is set anew. */
  #planHeartbeat(): void {
    const due = this.#heartbeatDue();
    if (this.#heartbeat !== undefined && this.#heartbeatAt <= due) return;
    this.#heartbeat?.cancel();
    this.#heartbeatAt = due;
    this.#heartbeat = this.#ports.time.after(Math.max(0, due - this.#ports.time.now()), () => {
      this.#heartbeat = undefined;
      this.#beatIfDue();
    });
  }

  #beatIfDue(): void {
    const now = this.#ports.time.now();
    if (now >= this.#heartbeatDue()) {
      if (this.#unanswered >= clientLimits.heartbeatsUnansweredMax) {
        this.#lose(new ConnectionError(`${this.#unanswered} heartbeats were not answered`));
        return;
      }
      this.#unanswered++;
      this.#beatAt = now;
      this.send(cmd.heartbeat, '', EMPTY);
    }
    this.#planHeartbeat();
  }

  // ---- the end

  #lose(error: Error): void {
    if (this.#isGone) return;
    this.#leave();
    this.#wire?.destroy();
    this.#events.lost(error);
  }

  #leave(): void {
    this.#isGone = true;
    this.#deadline.cancel();
    this.#heartbeat?.cancel();
  }
}
