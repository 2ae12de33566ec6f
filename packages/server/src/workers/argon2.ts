import { argon2Sync, randomBytes, timingSafeEqual } from 'node:crypto';

/** OWASP's recommendation for argon2id: 19 MiB, two passes, one lane. */
const MEMORY_KIB = 19 * 1024;
const PASSES = 2;
const LANES = 1;
const SALT_BYTES = 16;
const TAG_BYTES = 32;

/** The password under argon2id with a salt of its own, as a PHC string. About 30 ms of one core. */
export function hashPassword(password: string): string {
  const salt = randomBytes(SALT_BYTES);
  const tag = argon2id(password, salt, MEMORY_KIB, PASSES, LANES, TAG_BYTES);
  return `$argon2id$v=19$m=${MEMORY_KIB},t=${PASSES},p=${LANES}$${base64(salt)}$${base64(tag)}`;
}

const PHC = /^\$argon2id\$v=19\$m=(\d+),t=(\d+),p=(\d+)\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)$/;

/** Whether the password is the one hashed; the cost is that of the parameters in the hash. */
export function verifyPassword(password: string, hash: string): boolean {
  const parts = PHC.exec(hash);
  if (parts === null) throw new Error('not a password hash');
  const [, memory, passes, lanes, salt, tag] = parts;
  const expected = Buffer.from(tag!, 'base64');
  const actual = argon2id(
    password,
    Buffer.from(salt!, 'base64'),
    Number(memory),
    Number(passes),
    Number(lanes),
    expected.length,
  );
  return timingSafeEqual(actual, expected);
}

function argon2id(
  password: string,
  nonce: Uint8Array,
  memory: number,
  passes: number,
  parallelism: number,
  tagLength: number,
): Buffer {
  return argon2Sync('argon2id', { message: Buffer.from(password), nonce, memory, passes, parallelism, tagLength });
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64').replace(/=+$/, '');
}
