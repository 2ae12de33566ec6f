import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import type { Digests } from './core/ports.ts';

const SCHEME = 'hmac-sha256';
const SALT_BYTES = 16;
/** What is compared when there is no digest, in the same time. */
const NONE = randomBytes(32);

/** HMAC-SHA-256 under a salt, as `hmac-sha256$salt$digest`. */
export function systemDigests(): Digests {
  const key = randomBytes(SALT_BYTES);
  return {
    digest(text) {
      const salt = randomBytes(SALT_BYTES);
      return [SCHEME, salt.toString('base64url'), hmac(salt, text).toString('base64url')].join('$');
    },
    matches(text, digest) {
      const [scheme, salt = '', expected = ''] = digest?.split('$') ?? [];
      const bytes = Buffer.from(expected, 'base64url');
      const isDigest = scheme === SCHEME && bytes.length === NONE.length;
      const isSame = timingSafeEqual(hmac(Buffer.from(salt, 'base64url'), text), isDigest ? bytes : NONE);
      return isSame && isDigest;
    },
    hash: (name) => hmac(key, name).readUInt32BE(0),
  };
}

function hmac(key: Uint8Array, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest();
}
