import { wireLimits } from './limits.ts';
import { utf8Length } from './text.ts';

/** Unicode category Cc, and halves of surrogate pairs, which no UTF-8 can carry. */
const FORBIDDEN = /[\p{Cc}\p{Cs}]/u;

/** Whether `name` may name a user or a device: 1 to 128 bytes of UTF-8 without control characters. */
export function isName(name: string): boolean {
  if (name.length === 0 || name.length > wireLimits.nameBytesMax) return false;
  return utf8Length(name) <= wireLimits.nameBytesMax && !FORBIDDEN.test(name);
}

/** Whether `msgId` may identify a message: 1 to 128 bytes of UTF-8. */
export function isMsgId(msgId: string): boolean {
  if (msgId.length === 0 || msgId.length > wireLimits.msgIdBytesMax) return false;
  return msgId.length * 3 <= wireLimits.msgIdBytesMax || utf8Length(msgId) <= wireLimits.msgIdBytesMax;
}

const HALF_PAIR = /\p{Surrogate}/u;

/** Whether a text has so many bytes of UTF-8, and no half of a surrogate pair, for which there are none. */
export function isWithin(text: string, bytesMin: number, bytesMax: number): boolean {
  if (text.length > bytesMax || HALF_PAIR.test(text)) return false;
  const bytes = utf8Length(text);
  return bytes >= bytesMin && bytes <= bytesMax;
}

/** Whether `secret` may be the secret of a device. */
export function isSecret(secret: string): boolean {
  return isWithin(secret, 1, wireLimits.secretBytesMax);
}

/** Whether `code` may be the pairing code of a device. */
export function isPairingCode(code: string): boolean {
  return isWithin(code, wireLimits.codeBytesMin, wireLimits.codeBytesMax);
}

/**
 * The password as it is hashed. Clients send the hex MD5 of what was typed, and some drop its leading zeros or write
 * it in capitals, so 1 to 32 hex digits are brought to one form; anything else is opaque.
 */
export function normalPassword(password: string): string {
  return /^[0-9a-f]{1,32}$/i.test(password) ? password.toLowerCase().replace(/^0+/, '') : password;
}
