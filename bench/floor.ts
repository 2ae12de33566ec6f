// The real wire with nothing behind it: no store, no accounts, no bindings, no limits. What a message costs here is what
// it costs any Node server to speak this protocol; the server is measured as a multiple of it.
import { constants, generateKeyPairSync, privateDecrypt } from 'node:crypto';
import { createServer, type Socket } from 'node:net';
import { CMD, Ecb, type Envelope, emptyEnvelope, frame, frameSize, padded, readEnvelope, writeHead } from './wire.ts';

const PUSH_BYTES_MAX = 64 * 1024;
const OUT_SIZE = 64 * 1024;
const OK = '{"code":100,"msg":"ok"}';
const NOTHING = Buffer.alloc(0);

const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const publicKeyFrame = frame(CMD.publicKey, '', false, rsa.publicKey.export({ format: 'der', type: 'spki' }));
const sessions = new Map<string, Session>();
const envelope: Envelope = emptyEnvelope();
let dirty: Session[] = [];

type Message = { to: string; msg: unknown };

class Session {
  readonly #socket: Socket;
  #ecb: Ecb | null = null;
  #name = '';
  #rest: Buffer = NOTHING;
  #dirty = false;
  #out: Buffer = NOTHING;
  #outSize = 0;
  #pushes: string[] = [];
  /** Senders of what was pushed and not acked, by msgId. */
  readonly #senders = new Map<string, Session>();

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on('data', (bytes: Buffer) => this.#read(bytes));
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      if (sessions.get(this.#name) === this) sessions.delete(this.#name);
    });
    socket.write(publicKeyFrame);
  }

  #read(chunk: Buffer): void {
    const bytes = this.#rest.length > 0 ? Buffer.concat([this.#rest, chunk]) : chunk;
    let at = 0;
    while (bytes.length - at >= 4) {
      const end = at + 4 + bytes.readUInt32BE(at);
      if (end > bytes.length) break;
      if (!readEnvelope(bytes, at + 4, end, envelope)) {
        this.#socket.destroy();
        return;
      }
      at = end;
      this.#handle(bytes);
    }
    this.#rest = at < bytes.length ? bytes.subarray(at) : NOTHING;
  }

  #text(bytes: Buffer): string {
    const { dataStart, dataEnd, encrypted } = envelope;
    if (!encrypted || dataStart === dataEnd) return bytes.toString('utf8', dataStart, dataEnd);
    const plain = this.#ecb!.decrypt(bytes.subarray(dataStart, dataEnd));
    return plain.toString('utf8', 0, plain.length - plain[plain.length - 1]!);
  }

  #handle(bytes: Buffer): void {
    const { cmd, encrypted } = envelope;
    const id = bytes.toString('latin1', envelope.idStart, envelope.idEnd);
    switch (cmd) {
      case CMD.message:
        this.#message(id, encrypted, JSON.parse(this.#text(bytes)));
        break;
      case CMD.push:
        for (const { msgid } of JSON.parse(this.#text(bytes))) this.#acked(msgid);
        break;
      case CMD.negotiate: {
        const key = { key: rsa.privateKey, padding: constants.RSA_PKCS1_PADDING };
        this.#ecb = new Ecb(privateDecrypt(key, bytes.subarray(envelope.dataStart, envelope.dataEnd)));
        this.#answer(cmd, id, false, OK);
        break;
      }
      case CMD.login:
      case CMD.auth: {
        const { username, id: device } = JSON.parse(this.#text(bytes));
        this.#name = username ?? device;
        sessions.set(this.#name, this);
        this.#answer(cmd, id, encrypted, OK);
        break;
      }
      case CMD.register:
      case CMD.addDevice:
        this.#answer(cmd, id, encrypted, OK);
        break;
      case CMD.heartbeat:
        this.#answer(cmd, id, false, '');
        break;
      case CMD.logout:
        this.#socket.end();
        break;
      default:
    }
  }

  #message(id: string, encrypted: boolean, { to, msg }: Message): void {
    const receiver = sessions.get(to);
    if (receiver === undefined) this.#answer(CMD.message, id, encrypted, '{"code":200,"msg":"not here"}');
    else receiver.#push(this, to, msg, id);
  }

  #push(sender: Session, to: string, msg: unknown, msgid: string): void {
    this.#senders.set(msgid, sender);
    this.#pushes.push(JSON.stringify({ from: sender.#name, to, msg, msgid }));
    this.#writeSoon();
  }

  #acked(msgid: string): void {
    const sender = this.#senders.get(msgid);
    if (sender === undefined) return;
    this.#senders.delete(msgid);
    sender.#answer(CMD.message, msgid, sender.#ecb !== null, '');
  }

  #answer(cmd: number, id: string, encrypted: boolean, text: string): void {
    const sealed = encrypted && text !== '' ? this.#ecb!.seal(text) : null;
    const size = sealed === null ? text.length : sealed.length;
    const at = writeHead(
      this.#room(frameSize(cmd, id.length, encrypted, size)),
      this.#outSize,
      cmd,
      id,
      encrypted,
      size,
    );
    if (sealed === null) this.#out.write(text, at, 'latin1');
    else sealed.copy(this.#out, at);
    this.#outSize = at + size;
    this.#writeSoon();
  }

  /** `#out` with room for so many more bytes. */
  #room(size: number): Buffer {
    if (this.#outSize + size > this.#out.length) {
      if (this.#outSize > 0) this.#socket.write(this.#out.subarray(0, this.#outSize));
      this.#out = Buffer.allocUnsafe(Math.max(size, Math.min(OUT_SIZE, 2 * this.#out.length + 1024)));
      this.#outSize = 0;
    }
    return this.#out;
  }

  #writeSoon(): void {
    if (this.#dirty) return;
    this.#dirty = true;
    if (dirty.push(this) === 1) setImmediate(writeAll);
  }

  #writePushes(elements: string[]): void {
    const blocks = padded(`[${elements.join(',')}]`);
    const sealed = this.#ecb === null ? blocks.subarray(0, -blocks[blocks.length - 1]!) : this.#ecb.encrypt(blocks);
    const encrypted = this.#ecb !== null;
    const room = this.#room(frameSize(CMD.push, 0, encrypted, sealed.length));
    const at = writeHead(room, this.#outSize, CMD.push, '', encrypted, sealed.length);
    sealed.copy(room, at);
    this.#outSize = at + sealed.length;
  }

  /** Everything of this turn: pushes in as few 201s as may be, one write. */
  writeOut(): void {
    this.#dirty = false;
    if (this.#pushes.length > 0) {
      let batch: string[] = [];
      let size = 0;
      for (const element of this.#pushes) {
        if (size + element.length > PUSH_BYTES_MAX && batch.length > 0) {
          this.#writePushes(batch);
          batch = [];
          size = 0;
        }
        batch.push(element);
        size += element.length + 1;
      }
      this.#writePushes(batch);
      this.#pushes = [];
    }
    if (this.#outSize === 0) return;
    // What was written is the socket's now; the rest of the memory is used on.
    this.#socket.write(this.#out.subarray(0, this.#outSize));
    this.#out = this.#out.subarray(this.#outSize);
    this.#outSize = 0;
  }
}

function writeAll(): void {
  const turn = dirty;
  dirty = [];
  for (const session of turn) session.writeOut();
}

const server = createServer((socket) => new Session(socket));
server.listen({ host: '127.0.0.1', port: 0, backlog: 4096 }, () => {
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('not listening on TCP');
  const tcp = { host: address.address, port: address.port };
  process.stderr.write(`${JSON.stringify({ msg: 'ready', tcp, http: null, admin: null })}\n`);
});
process.on('SIGTERM', () => process.exit());
