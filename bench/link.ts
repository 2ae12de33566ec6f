// One client connection: cuts frames, negotiates, and hands everything else to its owner.
import { connect, type Socket } from 'node:net';
import { CMD, type Envelope, emptyEnvelope, frame, type Keys, readEnvelope } from './wire.ts';

/** One owner serves many links; it may be exchanged while the link is open. */
export interface LinkOwner {
  /** The AES key is agreed. */
  ready(link: Link): void;
  /** `bytes` and `envelope` are valid only during the call. */
  frame(link: Link, bytes: Buffer, envelope: Envelope): void;
  /** Once per link. `reason` is empty when this side had closed it. */
  closed(link: Link, reason: string): void;
}

export type Endpoint = { host: string; port: number };

// Every socket reads into the same memory: a read is handled before the next one begins.
const READ_BUFFER = Buffer.allocUnsafeSlow(256 * 1024);
const NOTHING = Buffer.alloc(0);
const ENVELOPE = emptyEnvelope();
const NEGOTIATE_ID = 'negotiate';

export class Link {
  readonly keys: Keys;
  owner: LinkOwner;
  /** The owner's own number for this link. */
  slot: number;
  readonly #socket: Socket;
  #rest: Buffer = NOTHING;
  #closing = false;
  #failure = '';

  constructor(endpoint: Endpoint, keys: Keys, owner: LinkOwner, slot: number, source: string) {
    this.keys = keys;
    this.owner = owner;
    this.slot = slot;
    const onread = { buffer: READ_BUFFER, callback: (size: number) => this.#read(size) };
    const { host, port } = endpoint;
    this.#socket = connect({ host, port, noDelay: true, onread, localAddress: source });
    this.#socket.on('error', (error) => {
      this.#failure ||= error.message;
    });
    this.#socket.on('close', () =>
      this.owner.closed(this, this.#closing ? '' : this.#failure || 'closed by the server'),
    );
  }

  write(bytes: Buffer): void {
    this.#socket.write(bytes);
  }

  /** One encrypted frame; for setting up, not for the measured path. */
  send(cmd: number, id: string, body: unknown): void {
    this.#socket.write(frame(cmd, id, true, body === null ? null : this.keys.ecb.seal(JSON.stringify(body))));
  }

  /** Gathers what is written until `uncork`; false when it did already. */
  cork(): boolean {
    if (this.#socket.writableCorked > 0) return false;
    this.#socket.cork();
    return true;
  }

  uncork(): void {
    this.#socket.uncork();
  }

  /** Reads no more, for good. */
  pause(): void {
    this.#socket.pause();
  }

  close(): void {
    this.#closing = true;
    this.#socket.end();
  }

  #fail(reason: string): boolean {
    this.#failure ||= reason;
    this.#socket.destroy();
    return false;
  }

  #read(size: number): boolean {
    let bytes = READ_BUFFER;
    let end = size;
    if (this.#rest.length > 0) {
      bytes = Buffer.concat([this.#rest, READ_BUFFER.subarray(0, size)]);
      end = bytes.length;
      this.#rest = NOTHING;
    }
    let at = 0;
    while (end - at >= 4) {
      const bodyEnd = at + 4 + bytes.readUInt32BE(at);
      if (bodyEnd > end) break;
      if (!readEnvelope(bytes, at + 4, bodyEnd, ENVELOPE)) return this.#fail('a frame that is not protobuf');
      at = bodyEnd;
      if (ENVELOPE.cmd > CMD.negotiate || ENVELOPE.cmd === CMD.heartbeat) {
        this.owner.frame(this, bytes, ENVELOPE);
      } else if (!this.#negotiate(bytes)) return false;
    }
    if (at < end) this.#rest = Buffer.from(bytes.subarray(at, end));
    return true;
  }

  #negotiate(bytes: Buffer): boolean {
    const data = bytes.subarray(ENVELOPE.dataStart, ENVELOPE.dataEnd);
    if (ENVELOPE.cmd === CMD.publicKey) {
      this.#socket.write(frame(CMD.negotiate, NEGOTIATE_ID, false, this.keys.sealedFor(data)));
      return true;
    }
    const text = data.toString();
    if (!text.includes('"code":100')) return this.#fail(`cmd 2 answered ${text}`);
    this.owner.ready(this);
    return true;
  }
}

/** The answer's text, decrypted where it has to be. */
export function textOf(link: Link, bytes: Buffer, envelope: Envelope): string {
  const data = bytes.subarray(envelope.dataStart, envelope.dataEnd);
  const plain = envelope.encrypted && data.length > 0 ? link.keys.ecb.open(data) : data;
  return plain === null ? '(does not decrypt)' : plain.toString();
}

export function codeOf(text: string): number {
  try {
    const answer: unknown = JSON.parse(text);
    if (typeof answer === 'object' && answer !== null && 'code' in answer && typeof answer.code === 'number') {
      return answer.code;
    }
  } catch {
    // not JSON: no code
  }
  return -1;
}
