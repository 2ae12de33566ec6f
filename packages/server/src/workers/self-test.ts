import { constants, generateKeyPairSync, type KeyObject, privateDecrypt, publicEncrypt } from 'node:crypto';
import { wireLimits } from '@hawser/protocol';

/** A key pair as node:crypto holds it. */
export interface KeyPairObjects {
  readonly publicKey: KeyObject;
  readonly privateKey: KeyObject;
}

/**
 * Whether this Node's RSA does what the protocol needs: decrypts PKCS#1 v1.5, and rejects implicitly (bad padding
 * yields bytes instead of an error, so that an attacker learns nothing: Bleichenbacher, Marvin). Returns what is
 * wrong, or `undefined`. About 1 ms, and 50 more to make a key pair when none is given.
 */
export function rsaSelfTest(pair: KeyPairObjects = makeKeyPair()): string | undefined {
  const padding = constants.RSA_PKCS1_PADDING;
  const secret = Buffer.from('sixteen  letters');
  try {
    const ciphertext = publicEncrypt({ key: pair.publicKey, padding }, secret);
    if (!privateDecrypt({ key: pair.privateKey, padding }, ciphertext).equals(secret)) return 'RSA does not decrypt';
  } catch (error) {
    return `RSA PKCS#1 v1.5 is refused: ${(error as Error).message}`;
  }
  const bytes = wireLimits.rsaModulusBits / 8;
  const wrong = publicEncrypt({ key: pair.publicKey, padding: constants.RSA_NO_PADDING }, Buffer.alloc(bytes, 1));
  try {
    privateDecrypt({ key: pair.privateKey, padding }, wrong);
    return undefined;
  } catch {
    return 'RSA reports bad padding, which tells attackers about keys';
  }
}

/** A fresh RSA key pair of the protocol's size. */
export function makeKeyPair(): KeyPairObjects {
  return generateKeyPairSync('rsa', { modulusLength: wireLimits.rsaModulusBits });
}
