import { constants, createPublicKey, publicEncrypt, randomBytes } from 'node:crypto';
import { NodeCipher } from '@hawser/protocol/cipher-node';
import type { KeyExchange } from './core/index.ts';

const KEY_BYTES = 16;

/** A key exchange on node:crypto, with AES keys of 128 bits, which every server of the protocol takes. */
export const nodeKeys: KeyExchange = {
  agree(serverKey) {
    const key = createPublicKey({ key: Buffer.from(serverKey), format: 'der', type: 'spki' });
    const secret = randomBytes(KEY_BYTES);
    return {
      secret: publicEncrypt({ key, padding: constants.RSA_PKCS1_PADDING }, secret),
      cipher: new NodeCipher(secret),
    };
  },
};
