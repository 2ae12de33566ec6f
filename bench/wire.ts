// The benchmark's own codec: independent of packages/protocol, so that neither side's cost or mistakes hide in the other.
import {
  type Cipheriv,
  constants,
  createCipheriv,
  createDecipheriv,
  createPublicKey,
  type Decipheriv,
  type KeyObject,
  publicEncrypt,
  randomBytes,
} from 'node:crypto';

export const CMD = {
  heartbeat: 0,
  publicKey: 1,
  negotiate: 2,
  error: 3,
  login: 100,
  auth: 101,
  register: 102,
  conflict: 103,
  logout: 104,
  message: 200,
  push: 201,
  fetch: 202,
  addDevice: 203,
} as const;

export const AES_BLOCK = 16;

/** Where the fields of one frame lie in the buffer that was read; one object is reused for all frames. */
export type Envelope = {
  cmd: number;
  idStart: number;
  idEnd: number;
  encrypted: boolean;
  dataStart: number;
  dataEnd: number;
};

export function emptyEnvelope(): Envelope {
  return { cmd: 0, idStart: 0, idEnd: 0, encrypted: false, dataStart: 0, dataEnd: 0 };
}

/** Reads the protobuf body in [start, end) into `out`. False when it is not one. */
export function readEnvelope(bytes: Buffer, start: number, end: number, out: Envelope): boolean {
  out.cmd = 0;
  out.idStart = out.idEnd = start;
  out.encrypted = false;
  out.dataStart = out.dataEnd = start;
  let at = start;
  while (at < end) {
    const key = bytes[at++]!;
    if (key > 127) return false;
    const kind = key & 7;
    if (kind !== 0 && kind !== 2) return false;
    let value = 0;
    let scale = 1;
    for (;;) {
      if (at >= end || scale > 2 ** 28) return false;
      const byte = bytes[at++]!;
      value += (byte & 127) * scale;
      if (byte < 128) break;
      scale *= 128;
    }
    if (kind === 0) {
      if (key === 0x08) out.cmd = value;
      else if (key === 0x18) out.encrypted = value !== 0;
      continue;
    }
    if (at + value > end) return false;
    if (key === 0x12) {
      out.idStart = at;
      out.idEnd = at + value;
    } else if (key === 0x22) {
      out.dataStart = at;
      out.dataEnd = at + value;
    }
    at += value;
  }
  return true;
}

function varintSize(value: number): number {
  let size = 1;
  for (let rest = value; rest > 127; rest = Math.floor(rest / 128)) size++;
  return size;
}

function writeVarint(target: Buffer, start: number, value: number): number {
  let at = start;
  let rest = value;
  while (rest > 127) {
    target[at++] = (rest & 127) | 128;
    rest = Math.floor(rest / 128);
  }
  target[at++] = rest;
  return at;
}

/** Bytes of a whole frame, its four-byte length included. `idSize` counts UTF-8 bytes. */
export function frameSize(cmd: number, idSize: number, encrypted: boolean, dataSize: number): number {
  let size = 4;
  if (cmd !== 0) size += 1 + varintSize(cmd);
  if (idSize > 0) size += 1 + varintSize(idSize) + idSize;
  if (encrypted) size += 2;
  if (dataSize > 0) size += 1 + varintSize(dataSize) + dataSize;
  return size;
}

/** Writes all of a frame but its data; returns where the data go. The id must be ASCII. */
export function writeHead(
  target: Buffer,
  start: number,
  cmd: number,
  id: string,
  encrypted: boolean,
  dataSize: number,
): number {
  const idSize = id.length;
  let at = target.writeUInt32BE(frameSize(cmd, idSize, encrypted, dataSize) - 4, start);
  if (cmd !== 0) {
    target[at++] = 0x08;
    at = writeVarint(target, at, cmd);
  }
  if (idSize > 0) {
    target[at++] = 0x12;
    at = writeVarint(target, at, idSize);
    at += target.write(id, at, 'latin1');
  }
  if (encrypted) {
    target[at++] = 0x18;
    target[at++] = 1;
  }
  if (dataSize > 0) {
    target[at++] = 0x22;
    at = writeVarint(target, at, dataSize);
  }
  return at;
}

export function frame(cmd: number, id: string, encrypted: boolean, data: Buffer | null): Buffer {
  const dataSize = data === null ? 0 : data.length;
  const target = Buffer.allocUnsafe(frameSize(cmd, id.length, encrypted, dataSize));
  const at = writeHead(target, 0, cmd, id, encrypted, dataSize);
  if (data !== null) data.copy(target, at);
  return target;
}

/** What a plaintext of `size` bytes comes to with PKCS#7 padding. */
export function paddedSize(size: number): number {
  return size - (size % AES_BLOCK) + AES_BLOCK;
}

/** UTF-8 of `text` with PKCS#7 padding. */
export function padded(text: string): Buffer {
  const size = Buffer.byteLength(text);
  const total = paddedSize(size);
  const target = Buffer.allocUnsafe(total);
  target.write(text, 0);
  target.fill(total - size, size);
  return target;
}

/** AES-ECB has no state between blocks: one pair of objects serves for good, by `update` alone. */
export class Ecb {
  readonly #cipher: Cipheriv;
  readonly #decipher: Decipheriv;

  constructor(key: Buffer) {
    const name = `aes-${key.length * 8}-ecb`;
    this.#cipher = createCipheriv(name, key, null).setAutoPadding(false);
    this.#decipher = createDecipheriv(name, key, null).setAutoPadding(false);
  }

  /** Whole blocks, already padded. */
  encrypt(blocks: Buffer): Buffer {
    return this.#cipher.update(blocks);
  }

  decrypt(blocks: Buffer): Buffer {
    return this.#decipher.update(blocks);
  }

  seal(text: string): Buffer {
    return this.#cipher.update(padded(text));
  }

  /** The plaintext, unpadded; null when it does not decrypt. */
  open(data: Buffer): Buffer | null {
    if (data.length === 0 || data.length % AES_BLOCK !== 0) return null;
    const plain = this.#decipher.update(data);
    const pad = plain[plain.length - 1]!;
    return pad >= 1 && pad <= AES_BLOCK ? plain.subarray(0, plain.length - pad) : null;
  }
}

/** The server's public key, made of its bytes once. */
class ServerKey {
  #der: Buffer = Buffer.alloc(0);
  #rsa: KeyObject | null = null;

  of(der: Buffer): KeyObject {
    if (this.#rsa === null || !der.equals(this.#der)) {
      this.#der = Buffer.from(der);
      this.#rsa = createPublicKey({ key: this.#der, format: 'der', type: 'spki' });
    }
    return this.#rsa;
  }
}

/**
 * What connections share: an AES key, so that one cipher call serves all frames of a turn, and the server's public key.
 * Each negotiation is still a fresh PKCS#1 ciphertext.
 */
export class Keys {
  readonly ecb: Ecb;
  readonly #aes: Buffer;
  readonly #serverKey: ServerKey;

  constructor(aes: Buffer, serverKey: ServerKey = new ServerKey()) {
    this.#aes = aes;
    this.#serverKey = serverKey;
    this.ecb = new Ecb(aes);
  }

  /** With an AES key of their own. */
  fresh(): Keys {
    return new Keys(randomBytes(this.#aes.length), this.#serverKey);
  }

  sealedFor(der: Buffer): Buffer {
    const key = this.#serverKey.of(der);
    return publicEncrypt({ key, padding: constants.RSA_PKCS1_PADDING }, this.#aes);
  }
}
