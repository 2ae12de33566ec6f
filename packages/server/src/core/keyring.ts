import { serverLimits } from '@hawser/protocol';
import type { Asker, Log, Rsa, RsaKey, Time } from './ports.ts';

/** Bytes of a ciphertext kept to recognise it: as many as make a chance match out of the question. */
const FINGERPRINT_BYTES = 12;

/** A key pair as connections were sent it. */
export class ServerKey {
  readonly #key: RsaKey;
  readonly createdAt: number;
  /** When another took its place; 0 while it is current. */
  retiredAt = 0;
  uses = 0;
  /** Ciphertexts that were accepted, so that a recorded session cannot be replayed. */
  readonly #accepted = new Set<string>();

  constructor(key: RsaKey, createdAt: number) {
    this.#key = key;
    this.createdAt = createdAt;
  }

  get publicDer(): Uint8Array {
    return this.#key.publicDer;
  }

  decrypt(ciphertext: Uint8Array, asker: Asker): Promise<Uint8Array> {
    this.uses++;
    return this.#key.decrypt(ciphertext, asker);
  }

  /** It serves nobody any more: forgets the ciphertexts. */
  retire(): void {
    this.#accepted.clear();
  }

  /** False when this ciphertext was accepted before. */
  acceptOnce(ciphertext: Uint8Array): boolean {
    const fingerprint = fingerprintOf(ciphertext);
    if (this.#accepted.has(fingerprint)) return false;
    this.#accepted.add(fingerprint);
    return true;
  }
}

/** Two bytes to a unit. */
function fingerprintOf(ciphertext: Uint8Array): string {
  let text = '';
  for (let at = ciphertext.length - FINGERPRINT_BYTES; at < ciphertext.length; at += 2) {
    text += String.fromCharCode((ciphertext[at]! << 8) | ciphertext[at + 1]!);
  }
  return text;
}

/** The server's RSA key pairs: fresh at every start, replaced by age and use (PROTOCOL, "Encryption"). */
export class Keyring {
  readonly #rsa: Rsa;
  readonly #time: Time;
  readonly #log: Log;
  #current: ServerKey;
  #generating = false;

  private constructor(rsa: Rsa, time: Time, log: Log, first: RsaKey) {
    this.#rsa = rsa;
    this.#time = time;
    this.#log = log;
    this.#current = new ServerKey(first, time.now());
  }

  static async open(rsa: Rsa, time: Time, log: Log): Promise<Keyring> {
    return new Keyring(rsa, time, log, await rsa.generate());
  }

  /** The key to send to a new connection. */
  get current(): ServerKey {
    const key = this.#current;
    const isSpent =
      key.uses >= serverLimits.rsaKeyUsesMax || this.#time.now() - key.createdAt >= serverLimits.rsaKeyAgeMsMax;
    if (isSpent && !this.#generating) void this.#replace();
    return key;
  }

  /** Whether a connection that was sent this key may still use it. */
  serves(key: ServerKey): boolean {
    return key.retiredAt === 0 || this.#time.now() - key.retiredAt <= serverLimits.rsaKeyGraceMs;
  }

  async #replace(): Promise<void> {
    this.#generating = true;
    try {
      const next = new ServerKey(await this.#rsa.generate(), this.#time.now());
      const old = this.#current;
      old.retiredAt = this.#time.now();
      this.#current = next;
      // A while later than `serves` says, for what is being decrypted then.
      this.#time.after(2 * serverLimits.rsaKeyGraceMs, () => old.retire());
    } catch (error) {
      this.#log.error({ err: error }, 'no new RSA key could be made; the old one stays in use');
    } finally {
      this.#generating = false;
    }
  }
}
