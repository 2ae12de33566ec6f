/**
 * A thread for RSA and argon2, whose synchronous calls would stop the event loop. They run here and not on libuv's
 * pool, which the store's commits need.
 */

import { constants, createPrivateKey, type KeyObject, privateDecrypt } from 'node:crypto';
import { setPriority } from 'node:os';
import { parentPort } from 'node:worker_threads';
import { hashPassword, verifyPassword } from './argon2.ts';
import type { Job, KeyPair, Result } from './protocol.ts';
import { makeKeyPair, rsaSelfTest } from './self-test.ts';

/**
 * Where the cores do not suffice for all, messages come before logins. Only on Linux is it this thread's priority; elsewhere
 * it would be that of the whole process.
 */
const NICE = 10;
if (process.platform === 'linux') setPriority(NICE);

const keys = new Map<number, KeyObject>();
/** Keys used and not yet replaced twice over. */
const KEYS_KEPT = 4;

function run(job: Job): unknown {
  switch (job.kind) {
    case 'generate':
      return generate();
    case 'key':
      keys.set(job.key, createPrivateKey({ key: Buffer.from(job.privateDer), format: 'der', type: 'pkcs8' }));
      if (keys.size > KEYS_KEPT) keys.delete(Math.min(...keys.keys()));
      return undefined;
    case 'decrypt':
      return decrypt(job.key, job.ciphertext);
    case 'hash':
      return hashPassword(job.password);
    case 'verify':
      return verifyPassword(job.password, job.hash);
  }
}

function generate(): KeyPair {
  const pair = makeKeyPair();
  const flaw = rsaSelfTest(pair);
  if (flaw !== undefined) throw new Error(flaw);
  return {
    publicDer: new Uint8Array(pair.publicKey.export({ type: 'spki', format: 'der' })),
    privateDer: new Uint8Array(pair.privateKey.export({ type: 'pkcs8', format: 'der' })),
  };
}

function decrypt(number: number, ciphertext: Uint8Array): Uint8Array {
  const key = keys.get(number);
  if (key === undefined) throw new Error('no such key');
  return new Uint8Array(privateDecrypt({ key, padding: constants.RSA_PKCS1_PADDING }, ciphertext));
}

parentPort?.on('message', (jobs: Job[]) => {
  const results: Result[] = jobs.map((job) => {
    try {
      return { id: job.id, value: run(job) };
    } catch (error) {
      return { id: job.id, error: error instanceof Error ? error.message : String(error) };
    }
  });
  parentPort?.postMessage(results);
});
