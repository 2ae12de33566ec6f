import assert from 'node:assert/strict';
import { argon2Sync } from 'node:crypto';
import { test } from 'node:test';
import { hashPassword, verifyPassword } from './argon2.ts';

/** Parameters that cost nothing, in the form that is stored. The tag is of `password` under `somesalt`. */
function phc(password: string, { m = 64, t = 1, p = 1, length = 32 } = {}): string {
  const tag = argon2Sync('argon2id', {
    message: Buffer.from(password),
    nonce: Buffer.from('somesalt'),
    memory: m,
    passes: t,
    parallelism: p,
    tagLength: length,
  });
  const base64 = (bytes: Buffer): string => bytes.toString('base64').replaceAll('=', '');
  return `$argon2id$v=19$m=${m},t=${t},p=${p}$${base64(Buffer.from('somesalt'))}$${base64(tag)}`;
}

test('a hash is a PHC string of argon2id with 19 MiB, two passes and one lane', () => {
  assert.match(
    hashPassword('correct horse'),
    /^\$argon2id\$v=19\$m=19456,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$/,
  );
});

test('a hash is verified by its password and by no other', () => {
  for (const password of ['correct horse', '', 'é', '密码', '\0', 'a'.repeat(1024)]) {
    const hash = hashPassword(password);
    assert.equal(verifyPassword(password, hash), true, password);
    assert.equal(verifyPassword(`${password} `, hash), false, password);
  }
});

test('the same password has another hash each time', () => {
  assert.notEqual(hashPassword('a'), hashPassword('a'));
});

test('vectors of the reference implementation verify', () => {
  // phc-winner-argon2, src/test.c: argon2id, version 0x13.
  const vectors = [
    ['password', '$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4'],
    ['password', '$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc'],
    ['password', '$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc'],
    ['differentpassword', '$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$C4TWUs9rDEvq7w3+J4umqA32aWKB1+DSiRuBfYxFj94'],
  ] as const;
  for (const [password, hash] of vectors) {
    assert.equal(verifyPassword(password, hash), true, hash);
    assert.equal(verifyPassword(`${password}x`, hash), false, hash);
  }
});

test('a hash made with other parameters is verified by those', () => {
  for (const parameters of [{ m: 64 }, { t: 3 }, { m: 128, p: 4 }, { length: 16 }, { length: 64 }]) {
    assert.equal(verifyPassword('a', phc('a', parameters)), true);
    assert.equal(verifyPassword('b', phc('a', parameters)), false);
  }
});

test('one wrong bit anywhere in salt or tag is another hash', () => {
  const hash = phc('a');
  const from = hash.indexOf('$', 20) + 1;
  for (let at = from; at < hash.length - 1; at++) {
    // The last character of each part carries bits that are no part of it.
    if (hash[at] === '$' || hash[at + 1] === '$') continue;
    const other = hash[at] === 'A' ? 'B' : 'A';
    assert.equal(verifyPassword('a', hash.slice(0, at) + other + hash.slice(at + 1)), false, `at ${at}`);
  }
});

test('what is no hash is a defect, and throws', () => {
  const hash = phc('a');
  for (const bad of [
    ...['', 'a', '$argon2id$', hash.replace('argon2id', 'argon2i'), hash.replace('v=19', 'v=16'), `${hash}$`],
    ...[hash.replace('m=64,', ''), hash.replace('t=1', 't=x'), `x${hash}`, hash.replace('$c29tZXNhbHQ', '$')],
  ]) {
    assert.throws(() => verifyPassword('a', bad), /not a password hash/, bad);
  }
});
