import type { Cipher } from '@hawser/protocol';
import { BLOCK_BYTES, pad, unpaddedLength } from '@hawser/protocol';
import {
  type Asker,
  Busy,
  type Digests,
  Fenced,
  type Log,
  type Passwords,
  type Rsa,
  type RsaKey,
  StoreAway,
} from '@hawser/server/core/ports';
import { DiskError } from './disk.ts';
import type { Process } from './process.ts';
import type { Random } from './random.ts';

/** Stands in for AES: whole blocks and padding as there, and no mathematics. */
export class FakeCipher implements Cipher {
  readonly #key: number;

  constructor(key: Uint8Array) {
    this.#key = key[0]!;
  }

  encrypt(bytes: Uint8Array, from: number, to: number): Uint8Array {
    const data = bytes.slice(from, pad(bytes, from, to));
    return this.#mix(data);
  }

  decrypt(data: Uint8Array): Uint8Array | undefined {
    if (data.length === 0 || data.length % BLOCK_BYTES !== 0) return undefined;
    const padded = this.#mix(data.slice());
    const length = unpaddedLength(padded);
    return length < 0 ? undefined : padded.subarray(0, length);
  }

  decryptAll(pieces: readonly Uint8Array[]): (Uint8Array | undefined)[] {
    return pieces.map((piece) => this.decrypt(piece));
  }

  #mix(data: Uint8Array): Uint8Array {
    for (let i = 0; i < data.length; i++) data[i]! ^= this.#key;
    return data;
  }
}

const KEY_BYTES = 16;
const CIPHERTEXT_BYTES = 256;

/** Stands in for RSA: the ciphertext is the secret, then chance. */
export function fakeCiphertext(secret: Uint8Array, random: Random): Uint8Array {
  const ciphertext = new Uint8Array(CIPHERTEXT_BYTES);
  ciphertext.set(secret);
  for (let i = CIPHERTEXT_BYTES - 16; i < CIPHERTEXT_BYTES; i++) ciphertext[i] = random.below(256);
  return ciphertext;
}

export function fakeSecret(random: Random): Uint8Array {
  return new Uint8Array(KEY_BYTES).fill(1 + random.below(255));
}

export class FakeRsa implements Rsa {
  readonly #process: Process;
  readonly #random: Random;

  constructor(process: Process, random: Random) {
    this.#process = process;
    this.#random = random;
  }

  generate(): Promise<RsaKey> {
    return this.#process.promise(this.#random.between(10, 200), () => ({
      publicDer: new Uint8Array(8),
      decrypt: (ciphertext: Uint8Array, asker?: Asker) => {
        const secret = ciphertext.slice(0, KEY_BYTES);
        return this.#process.promise(this.#random.between(0.5, 5), () => orBusy(asker, secret));
      },
    }));
  }
}

/** What nobody waits for is not done. */
function orBusy<Result>(asker: Asker | undefined, result: Result): Result {
  if (asker?.isWaiting() === false) throw new Busy('nobody waits for it any more');
  return result;
}

export function fakeHash(password: string): string {
  return `hash of ${password}`;
}

/** Stands in for argon2. */
export class FakePasswords implements Passwords {
  readonly #process: Process;
  readonly #random: Random;

  constructor(process: Process, random: Random) {
    this.#process = process;
    this.#random = random;
  }

  hash(password: string): Promise<string> {
    return this.#process.promise(this.#random.between(5, 50), () => fakeHash(password));
  }

  verify(password: string, hash: string | undefined, asker?: Asker): Promise<boolean> {
    return this.#process.promise(this.#random.between(5, 50), () => orBusy(asker, fakeHash(password) === hash));
  }
}

/** Stands in for HMAC: no salt, and the same in each run. */
export const fakeDigests: Digests = {
  digest: (text) => `digest of ${text}`,
  matches: (text, digest) => digest === `digest of ${text}`,
  hash: (name) => [...name].reduce((hash, character) => (hash * 31 + character.charCodeAt(0)) % 2 ** 32, 7),
};

/** Warnings are expected under trouble; what the server itself calls an error is kept. */
export class QuietLog implements Log {
  readonly errors: string[] = [];

  debug(): void {}
  info(): void {}
  warn(): void {}
  error(fields: object, text: string): void {
    const cause = 'err' in fields ? fields.err : undefined;
    if (cause instanceof StoreAway || cause instanceof Fenced || cause instanceof DiskError) return;
    this.errors.push(`${text}: ${cause instanceof Error ? (cause.stack ?? cause.message) : JSON.stringify(fields)}`);
  }
}
