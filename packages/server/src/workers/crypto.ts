import { availableParallelism } from 'node:os';
import { serverLimits } from '@hawser/protocol';
import type { Asker, Passwords, Rsa, RsaKey } from '../core/ports.ts';
import { Pool } from './pool.ts';
import type { KeyPair } from './protocol.ts';

/** One core is the event loop's. */
function threadCount(): number {
  return Math.max(1, availableParallelism() - 1);
}

/** Where they have a low priority they may have what the event loop leaves of its core, too. */
function rsaThreadCount(): number {
  return process.platform === 'linux' ? availableParallelism() : threadCount();
}

/** About 3 ms of work. */
const RSA_JOBS_PER_MESSAGE = 8;

/** RSA on threads of its own. */
export class WorkerRsa implements Rsa {
  readonly #pool = new Pool(rsaThreadCount(), serverLimits.rsaQueueMax, RSA_JOBS_PER_MESSAGE);
  #nextKey = 1;

  async generate(): Promise<RsaKey> {
    const pair = (await this.#pool.run({ kind: 'generate' })) as KeyPair;
    const key = this.#nextKey++;
    await this.#pool.runOnAll({ kind: 'key', key, privateDer: pair.privateDer });
    const pool = this.#pool;
    return {
      publicDer: pair.publicDer,
      async decrypt(ciphertext, asker) {
        // A copy: what was received may share its buffer with much else, and would be sent along whole.
        return (await pool.run({ kind: 'decrypt', key, ciphertext: ciphertext.slice() }, asker)) as Uint8Array;
      },
    };
  }

  close(): Promise<void> {
    return this.#pool.close();
  }
}

/** argon2id on threads of its own. */
export class WorkerPasswords implements Passwords {
  readonly #pool = new Pool(threadCount(), serverLimits.passwordQueueMax, 1);
  /** Verified in place of a hash that does not exist, so that the answer takes as long. */
  readonly #decoy: Promise<string>;

  constructor() {
    this.#decoy = this.hash('');
    // Closed before it was made: nobody is waiting for it.
    this.#decoy.catch(() => {});
  }

  async hash(password: string, asker?: Asker): Promise<string> {
    return (await this.#pool.run({ kind: 'hash', password }, asker)) as string;
  }

  async verify(password: string, hash: string | undefined, asker?: Asker): Promise<boolean> {
    const stored = hash ?? (await this.#decoy);
    const isSame = (await this.#pool.run({ kind: 'verify', password, hash: stored }, asker)) as boolean;
    return isSame && hash !== undefined;
  }

  close(): Promise<void> {
    return this.#pool.close();
  }
}
