// One TCP connection of a client: cuts frames, encrypts, and gathers what a turn of the event loop sends.
import { connect, type Socket } from 'node:net';
import { CMD, emptyEnvelope, frame, type Keys, readEnvelope } from '../bench/wire.ts';
import type { Connection } from '../sim/connection.ts';
import type { SentMessage } from '../sim/message.ts';

const NOTHING = Buffer.alloc(0);
const ENVELOPE = emptyEnvelope();

export interface LineOwner {
  /** `data` is decrypted, and valid during the call. */
  frame(line: Line, cmd: number, msgId: string, data: Buffer): void;
  /** The server sent what cannot be read. */
  unreadable(line: Line, what: string): void;
  /** Once, when neither side can send any more. */
  closed(line: Line): void;
}

export type LineState = 'connected' | 'keying' | 'logging in' | 'online' | 'closed';

/** A heartbeat that waits for its answer, and the acks that were sent before it. */
interface Fence {
  readonly sentAt: number;
  readonly acked: readonly SentMessage[];
}

export class Line {
  readonly connection: Connection;
  state: LineState = 'connected';
  /** When its login was sent, and when anything last came. */
  loginAt = 0;
  heardAt = performance.now();
  fencedAt = 0;
  readonly fences: Fence[] = [];
  /** Acked since the last heartbeat. */
  unfenced: SentMessage[] = [];
  readonly #socket: Socket;
  readonly #owner: LineOwner;
  readonly #keys: Keys | undefined;
  #isKeyed = false;
  #rest: Buffer = NOTHING;
  #out: Buffer[] = [];

  /** @param keys when it is to encrypt */
  constructor(port: number, connection: Connection, keys: Keys | undefined, owner: LineOwner) {
    this.connection = connection;
    this.#owner = owner;
    this.#keys = keys;
    this.#socket = connect({ port, host: '127.0.0.1', noDelay: true });
    this.#socket.on('data', (chunk: Buffer) => this.#read(chunk));
    this.#socket.on('error', () => {});
    this.#socket.on('close', () => {
      if (this.state === 'closed') return;
      this.state = 'closed';
      this.#owner.closed(this);
    });
  }

  get encrypts(): boolean {
    return this.#keys !== undefined;
  }

  get isOpen(): boolean {
    return this.state !== 'closed';
  }

  /** Bytes that the socket has not taken. */
  get unsentBytes(): number {
    return this.#socket.writableLength;
  }

  send(cmd: number, msgId: string, text: string, isSecret = this.#isKeyed): void {
    if (!this.isOpen) return;
    const isEncrypted = isSecret && text.length > 0 && this.#keys !== undefined;
    const data = isEncrypted ? this.#keys.ecb.seal(text) : text.length === 0 ? null : Buffer.from(text);
    this.#sendBytes(frame(cmd, msgId, isEncrypted, data));
  }

  /** Answers the server's key with ours. */
  agree(der: Buffer): void {
    if (this.#keys === undefined) return;
    this.state = 'keying';
    this.#sendBytes(frame(CMD.negotiate, 'key', false, this.#keys.sealedFor(der)));
  }

  /** The server has taken our key. */
  keyed(): void {
    this.#isKeyed = true;
  }

  #sendBytes(bytes: Buffer): void {
    if (this.#out.length === 0) setImmediate(() => this.#flush());
    this.#out.push(bytes);
  }

  #flush(): void {
    const out = this.#out;
    this.#out = [];
    if (this.isOpen) this.#socket.write(out.length === 1 ? out[0]! : Buffer.concat(out));
  }

  /** Stops reading for a while. */
  pauseFor(ms: number): void {
    this.#socket.pause();
    setTimeout(() => this.#socket.resume(), ms);
  }

  close(how: 'fin' | 'reset'): void {
    if (how === 'fin') {
      this.#flush();
      this.#socket.end();
    } else if (this.#socket.connecting) this.#socket.destroy();
    else this.#socket.resetAndDestroy();
  }

  #read(chunk: Buffer): void {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    let at = 0;
    while (bytes.length - at >= 4) {
      const end = at + 4 + bytes.readUInt32BE(at);
      if (end > bytes.length) break;
      if (!readEnvelope(bytes, at + 4, end, ENVELOPE)) {
        this.#fail('a frame that is not protobuf');
        return;
      }
      at = end;
      const { cmd, encrypted, idStart, idEnd, dataStart, dataEnd } = ENVELOPE;
      const data = bytes.subarray(dataStart, dataEnd);
      const isSecret = encrypted && data.length > 0;
      const plain = isSecret ? this.#keys?.ecb.open(data) : data;
      if (plain === undefined || plain === null) {
        this.#fail(`a frame of cmd ${cmd} that does not decrypt`);
        return;
      }
      this.heardAt = performance.now();
      if (this.isOpen) this.#owner.frame(this, cmd, bytes.toString('latin1', idStart, idEnd), plain);
    }
    this.#rest = at < bytes.length ? bytes.subarray(at) : NOTHING;
  }

  #fail(what: string): void {
    this.#owner.unreadable(this, what);
    this.#socket.destroy();
  }
}
